"""Originals with their replays, if the lab has both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpaudit_lab.comparison import Comparison, Verdict, compare
from mcpaudit_lab.lab.event_set import EventSet

if TYPE_CHECKING:
    from mcpaudit_lab.record import Event
    from mcpaudit_lab.storage import LabFile

__all__ = ["Pair", "ReplayPair", "compare_pairs", "find_pairs"]

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """A replay and its first original; ``depth`` counts the replays between, from 1."""

    original: str
    replay: str
    depth: int


@dataclass(frozen=True, slots=True)
class ReplayPair:
    """A replay beside its original.

    Attributes:
        pair: their ids.
        original: the first call; None if the lab does not have it.
        replay: the replay.
        comparison: what differs; None without the original.
    """

    pair: Pair
    original: Event | None
    replay: Event
    comparison: Comparison | None

    @property
    def verdict(self) -> Verdict:
        """The comparison's; ``unknown`` where there is none."""
        return Verdict.UNKNOWN if self.comparison is None else self.comparison.verdict


def find_pairs(lab: LabFile, events: EventSet | None) -> list[Pair]:
    """The replays in the lab and what each of them goes back to.

    A replay of a replay goes back to the first call, or to the earliest one in the lab.

    Args:
        lab: the lab.
        events: only pairs whose original or replay is in this set; None for all.
    """
    rows = lab.sql(
        "select p.event_id, p.replayed_from from audit_payloads p"
        " join audit_events e on e.id = p.event_id"
        " where p.replayed_from is not null order by e.ts, e.id"
    ).fetchall()
    parents: dict[str, str] = dict(rows)
    pairs = [Pair(*_first(replay, parents)) for replay in parents]
    if events is None:
        return pairs
    chosen = set(events.ids())
    return [pair for pair in pairs if pair.original in chosen or pair.replay in chosen]


def _first(replay: str, parents: dict[str, str]) -> tuple[str, str, int]:
    """Follow a replay to its first original. Rows are hostile: they may form a cycle."""
    seen = {replay}
    event = parents[replay]
    while event in parents and event not in seen:
        seen.add(event)
        event = parents[event]
    return event, replay, len(seen)


def compare_pairs(
    lab: LabFile,
    pairs: Iterable[Pair],
    ignore: Iterable[str],
    noise: Mapping[str, Iterable[str]] | None = None,
) -> Iterator[ReplayPair]:
    """Compare each pair.

    Args:
        lab: the lab.
        pairs: which.
        ignore: paths to ignore.
        noise: more of them for each tool.
    """
    todo, patterns = list(pairs), tuple(ignore)
    for start in range(0, len(todo), _BATCH):
        batch = todo[start : start + _BATCH]
        wanted = {event_id for pair in batch for event_id in (pair.original, pair.replay)}
        events = {event.id: event for event in EventSet(lab, wanted=tuple(wanted))}
        for pair in batch:
            original, replay = events.get(pair.original), events[pair.replay]
            found = None
            if original is not None:
                more = (noise or {}).get(original.tool_name, ())
                found = compare(original, replay, ignore=(*patterns, *more))
            yield ReplayPair(pair, original, replay, found)
