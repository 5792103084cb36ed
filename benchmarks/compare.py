"""Comparisons of recorded pairs, beside deepdiff and jsondiff.

Run it from the root of the repository, with the extra ``bench`` installed::

    python benchmarks/compare.py [--comparisons 10000] [--rounds 5]

The pairs are recorded events: originals with their replays, and calls of the same tool with the
call of it that came next. All tools get the same pairs, in turn, in one process; garbage collection
is off while one is measured. A round is an equal part of the comparisons; the seconds are sums over
all rounds, the ratios medians of the rounds.

What is compared with what:

- *results*: ``diff`` on ``response_result``, all tools on the same trees.
- *payloads*: ``diff`` on whole payloads, all tools on the same trees.
- *events*: ``compare`` on two events, against the others on the two events' JSON objects, which is
  what one call of them gives. They then neither read the JSON in text blocks nor leave aside what
  always differs.
- *same job*: ``compare`` on two events, against the others on what ``compare`` looks at: the five
  sections, and the JSON in texts where they differ. Taking these from the record is part of the
  job, and done by the same code.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import deepdiff
import jsondiff

from mcpaudit_lab.comparison.comparison import compare
from mcpaudit_lab.comparison.equality import JsonText
from mcpaudit_lab.comparison.jsondiff import diff
from mcpaudit_lab.comparison.sections import known_sections, open_texts
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.redaction import marks_of

DETAILS = Path(__file__).parent.parent / "tests" / "data" / "upstream" / "details.jsonl"
MARKS = {"deepdiff": 50, "jsondiff": 20}

Pair: TypeAlias = tuple[Any, Any]


def recorded_pairs() -> dict[str, list[tuple[Event, Event]]]:
    events = [Event.from_json(line) for line in DETAILS.read_bytes().splitlines()]
    by_id = {event.id: event for event in events}
    replays, by_tool = [], defaultdict(list)
    for event in events:
        payload = event.payload
        if payload is not None and payload.replayed_from in by_id:
            replays.append((by_id[payload.replayed_from], event))
        by_tool[event.tool_name].append(event)
    calls = [pair for tool in by_tool.values() for pair in pairwise(tool)]
    return {"replays": replays, "calls": calls}


def results(pairs: Iterable[tuple[Event, Event]]) -> list[Pair]:
    found = [tuple(e.payload and e.payload.response_result for e in pair) for pair in pairs]
    return [(left, right) for left, right in found if left and right]


def payloads(pairs: Iterable[tuple[Event, Event]]) -> list[Pair]:
    return [(a.wire["payload"], b.wire["payload"]) for a, b in pairs if a.payload and b.payload]


def made_ready(a: Event, b: Event) -> Pair:
    (left, left_unknown), (right, right_unknown) = known_sections(a), known_sections(b)
    for name in (*left_unknown, *right_unknown):
        left.pop(name, None)
        right.pop(name, None)
    if open_texts(left, right, marks_of()):
        for side in (left, right):
            for block in side["response"]["content"]:
                if isinstance(block["text"], JsonText):
                    block["text"] = block["text"].tree
    return left, right


def measure(function: Callable[[Any, Any], object], pairs: Iterable[Pair]) -> float:
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for left, right in pairs:
        function(left, right)
    elapsed = time.perf_counter() - start
    gc.enable()
    return elapsed


def run(
    name: str,
    *,
    functions: tuple[Callable[[Any, Any], object], ...],
    ours: list[Pair],
    theirs: list[Pair],
    comparisons: int,
    rounds: int,
) -> None:
    own, deep, json = functions
    tools = {"ours": (own, ours), "deepdiff": (deep, theirs), "jsondiff": (json, theirs)}
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    for number in range(rounds):
        # Each round takes up where the last one stopped.
        first = number * (comparisons // rounds)
        for tool, (function, pairs) in tools.items():
            part = islice(
                cycle(pairs), first % len(pairs), first % len(pairs) + comparisons // rounds
            )
            seconds[tool].append(measure(function, list(part)))
    total = sum(seconds["ours"])
    print(f"{name:18} {len(theirs):5} {total:9.3f} s", end="")
    for tool, mark in MARKS.items():
        ratio = statistics.median(
            other / own for own, other in zip(seconds["ours"], seconds[tool], strict=True)
        )
        verdict = "met" if ratio >= mark else "MISSED"
        print(f"   {sum(seconds[tool]):9.3f} s {ratio:7.1f} x ({mark}: {verdict})", end="")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = {"comparisons": options.comparisons, "rounds": options.rounds}
    print(f"{options.comparisons} comparisons in {options.rounds} rounds")
    print(f"{'':18} pairs {'ours':>11}   {'deepdiff':>11}{'':21}   {'jsondiff':>11}")
    plain = diff, deepdiff.DeepDiff, jsondiff.diff
    whole = compare, deepdiff.DeepDiff, jsondiff.diff
    ready = (
        compare,
        lambda a, b: deepdiff.DeepDiff(*made_ready(a, b)),
        lambda a, b: jsondiff.diff(*made_ready(a, b)),
    )
    for kind, pairs in recorded_pairs().items():
        for name, trees in (("results", results(pairs)), ("payloads", payloads(pairs))):
            run(f"{kind}, {name}", functions=plain, ours=trees, theirs=trees, **size)
        wires = [(left.wire, right.wire) for left, right in pairs]
        run(f"{kind}, events", functions=whole, ours=pairs, theirs=wires, **size)
        run(f"{kind}, same job", functions=ready, ours=pairs, theirs=pairs, **size)


if __name__ == "__main__":
    main()
