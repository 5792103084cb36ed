"""Search and conditions over many payloads, beside DuckDB's bare scan of the same columns.

    python benchmarks/search.py [--events 1000000] [--runs 5]

Each event has 90 words in its arguments and its result; one has the words that are searched. The
bare scan counts rows that contain the text as it is; ours ignores case and returns paths.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcpaudit_lab import Lab
from mcpaudit_lab.record import dumps, format_time

_COLUMNS = ("request_params", "response_result", "response_error", "notifications")
_START = datetime(2026, 1, 1, tzinfo=UTC)


def lines(count: int) -> Iterator[str]:
    """Events, one of which has the words."""
    chance = random.Random(1)
    words = [f"w{chance.randrange(10**6)}" for _ in range(20_000)]
    for number in range(count):
        told = " disk full" if number == count * 7 // 9 else ""
        text = " ".join(chance.choices(words, k=60)) + told
        yield dumps(
            {
                "id": f"00000000-0000-4000-8000-{number:012x}",
                "timestamp": format_time(_START + timedelta(seconds=number)),
                "duration_ms": 5,
                "tool_name": "find",
                "success": True,
                "transport": "http",
                "source": "mcp",
                "payload": {
                    "jsonrpc_method": "tools/call",
                    "request_params": {"q": " ".join(chance.choices(words, k=30))},
                    "response_result": {"content": [{"type": "text", "text": text}]},
                },
            }
        )


def timed(ask: Callable[[], object], runs: int) -> tuple[float, float]:
    """Milliseconds of the first time, and the median of the others."""
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return taken[0], statistics.median(taken[1:])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "events.jsonl"
        with source.open("w") as file:
            file.writelines(f"{line}\n" for line in lines(options.events))
        with Lab(Path(folder) / "lab.duckdb") as lab:
            lab.load(source, progress=False)
            print(f"{options.events:,} events, {source.stat().st_size / 2**20:,.0f} MiB of JSON")
            source.unlink()
            bare = " or ".join(f"contains({name}::varchar, 'disk full')" for name in _COLUMNS)
            asked: dict[str, Callable[[], object]] = {
                "bare scan": lambda: lab.sql(f"select count(*) from audit_payloads where {bare}"),
                "search, one hit": lambda: lab.search("disk full"),
                "search, none": lambda: lab.search("nowhere at all"),
                "search, many": lambda: lab.search("w1"),
                "condition: contains": lambda: lab.events('param.q ~ "nowhere"').count(),
                "condition: glob": lambda: lab.events('param.q =~ "nowhere*"').count(),
                "condition: not": lambda: lab.events('not param.q ~ "w1"').count(),
            }
            floor = 0.0
            for name, ask in asked.items():
                first, later = timed(ask, options.runs)
                floor = floor or later
                times = f"first {first:7,.0f} ms, then {later:7,.0f} ms"
                print(f"{name:22} {times}, {later / floor:5.1f}x")


if __name__ == "__main__":
    main()
