"""Aggregates over many events: their values, and how Python computes them from events.

Stores that have SQL compute the same there (:mod:`mcpaudit_lab.server.stores.sql_aggregates`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import Any, Final

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record import Event

__all__ = [
    "BREAKDOWN_COLUMNS",
    "Point",
    "Share",
    "Stats",
    "breakdown_column",
    "breakdown_of",
    "bucket_width_us",
    "moment_of_us",
    "stats_of",
    "stats_of_durations",
    "timeseries_of",
]

# The fields of a breakdown, with their columns. The first four are the contract's.
BREAKDOWN_COLUMNS: Final[Mapping[str, str]] = {
    "tool": "tool_name",
    "user": "user_subject",
    "success": "success",
    "auth_type": "auth_type",
    "tool_group": "tool_group",
    "session": "session_id",
    "source": "source",
    "error_category": "error_category",
    "transport": "transport",
    "user_agent": "user_agent",
    "remote_addr": "remote_addr",
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_FIRST_US: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _US


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a time series.

    Attributes:
        time: its beginning, UTC; a whole number of widths from 1970.
        count: how many events.
        errors: how many of them failed.
        avg_duration_ms: their mean duration, milliseconds.
    """

    time: datetime
    count: int
    errors: int
    avg_duration_ms: float


@dataclass(frozen=True, slots=True)
class Share:
    """One line of a breakdown.

    Attributes:
        key: the value; for ``success`` it is ``success`` or ``error``; ``""`` if the field is
            empty.
        count: how many events.
        errors: how many of them failed.
    """

    key: str
    count: int
    errors: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics over the selected events; all zero if there are none.

    Attributes:
        total: how many.
        errors: how many failed.
        error_rate: errors by total.
        avg_duration_ms: mean duration, milliseconds.
        p50_duration_ms: the median, between two events interpolated, as SQL's ``percentile_cont``.
        p95_duration_ms: the 95th percentile, likewise.
        unique_subjects: how many different subjects, events without one not counted.
        unique_tools: how many different tools; no name counts as one, as in the reference server.
    """

    total: int
    errors: int
    error_rate: float
    avg_duration_ms: float
    p50_duration_ms: float
    p95_duration_ms: float
    unique_subjects: int
    unique_tools: int


def bucket_width_us(bucket: timedelta) -> int:
    """The width in microseconds.

    Raises:
        FilterError: it is not longer than nothing.
    """
    width_us = bucket // _US
    if width_us <= 0:
        raise FilterError("a bucket is longer than nothing")
    return width_us


def moment_of_us(microseconds: int) -> datetime:
    """A number of microseconds after 1970-01-01 UTC as a time; before the year 1, its start."""
    return _EPOCH + max(microseconds, _FIRST_US) * _US


def breakdown_column(by: str) -> str:
    """The column of a breakdown.

    Raises:
        FilterError: an unknown breakdown; the message names the choices.
    """
    if by not in BREAKDOWN_COLUMNS:
        raise FilterError(f"by is one of {', '.join(BREAKDOWN_COLUMNS)}")
    return BREAKDOWN_COLUMNS[by]


def timeseries_of(events: Iterable[Event], bucket: timedelta) -> list[Point]:
    """Count events by time; buckets without any are left out.

    Raises:
        FilterError: the bucket is not longer than nothing.
    """
    width_us = bucket_width_us(bucket)
    buckets: dict[int, list[int]] = {}
    for event in events:
        moment_us = (event.timestamp - _EPOCH) // _US
        tally = buckets.setdefault(moment_us - moment_us % width_us, [0, 0, 0])
        tally[0] += 1
        tally[1] += not event.success
        tally[2] += event.duration_ms
    return [
        Point(moment_of_us(start_us), count, errors, duration_ms / count)
        for start_us, (count, errors, duration_ms) in sorted(buckets.items())
    ]


def breakdown_of(events: Iterable[Event], by: str, limit: int | None) -> list[Share]:
    """Count events by a field, the most frequent first, ties by key.

    Raises:
        FilterError: an unknown breakdown.
    """
    column = breakdown_column(by)
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for event in events:
        value: Any = getattr(event, column)
        key = ("success" if value else "error") if column == "success" else value
        counts[key] += 1
        errors[key] += not event.success
    shares = [Share(key, count, errors[key]) for key, count in counts.items()]
    return sorted(shares, key=lambda share: (-share.count, share.key))[:limit]


def stats_of(events: Iterable[Event]) -> Stats:
    """The figures over some events."""
    durations: Counter[int] = Counter()
    subjects: set[str] = set()
    tools: set[str] = set()
    errors = 0
    for event in events:
        durations[event.duration_ms] += 1
        errors += not event.success
        subjects.add(event.user_subject)
        tools.add(event.tool_name)
    return stats_of_durations(durations, errors, len(subjects - {""}), len(tools))


def stats_of_durations(
    durations: Mapping[int, int], errors: int, unique_subjects: int, unique_tools: int
) -> Stats:
    """The figures from how often each duration (milliseconds) came."""
    total = sum(durations.values())
    if not total:
        return Stats(0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    steps = sorted(durations.items())
    return Stats(
        total,
        errors,
        errors / total,
        sum(duration_ms * count for duration_ms, count in steps) / total,
        _percentile(steps, total, 0.5),
        _percentile(steps, total, 0.95),
        unique_subjects,
        unique_tools,
    )


def _percentile(steps: list[tuple[int, int]], total: int, fraction: float) -> float:
    place = fraction * (total - 1)
    low, high = _at(steps, floor(place)), _at(steps, ceil(place))
    return low + (high - low) * (place - floor(place))


def _at(steps: list[tuple[int, int]], place: int) -> int:
    for value, count in steps:
        if place < count:
            return value
        place -= count
    return steps[-1][0]
