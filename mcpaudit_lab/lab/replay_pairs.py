"""Originals with their replays, if the lab has both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.comparison import ChangeKind, Comparison, Verdict, compare, format_path
from mcpaudit_lab.lab.event_set import EventSet

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.record import Event
    from mcpaudit_lab.storage import LabFile

__all__ = ["Pair", "compare_pairs", "find_pairs", "frame_of"]

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """A replay and its first original; ``depth`` counts the replays between, from 1."""

    original: str
    replay: str
    depth: int


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
) -> Iterator[tuple[Pair, Event | None, Event, Comparison | None]]:
    """Compare each pair; None for an original that the lab does not have.

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
            yield pair, original, replay, found


def frame_of(
    compared: Iterable[tuple[Pair, Event | None, Event, Comparison | None]],
) -> pd.DataFrame:
    """One row for each original and replay, as :meth:`Lab.compare_replays` describes it."""
    import pandas as pd

    kinds = [*(str(kind) for kind in ChangeKind), "unknown"]
    rows: list[dict[str, Any]] = []
    for pair, original, replay, found in compared:
        counts = {} if found is None else found.counts()
        rows.append(
            {
                "original": pair.original,
                "replay": pair.replay,
                "tool_name": replay.tool_name,
                "verdict": str(Verdict.UNKNOWN if found is None else found.verdict),
                **{kind: pd.NA if found is None else counts[kind] for kind in kinds},
                "changed": [format_path(c.path) for c in found.changes]
                if found is not None
                else [],
                "original_success": original.success if original else pd.NA,
                "replay_success": replay.success,
                "original_ms": original.duration_ms if original else pd.NA,
                "replay_ms": replay.duration_ms,
                "depth": pair.depth,
            }
        )
    texts = dict.fromkeys(("original", "replay", "tool_name", "verdict"), "str")
    numbers = dict.fromkeys((*kinds, "original_ms", "replay_ms", "depth"), "Int64")
    flags = dict.fromkeys(("original_success", "replay_success"), "boolean")
    columns = [*texts, *kinds, "changed", *flags, "original_ms", "replay_ms", "depth"]
    return pd.DataFrame(rows, columns=columns).astype({**texts, **numbers, **flags})
