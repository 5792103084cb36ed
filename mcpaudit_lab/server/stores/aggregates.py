"""Aggregates over events: time series, breakdowns and statistics, computed in Python.

SQL stores compute the same in SQL (:mod:`mcpaudit_lab.server.stores.sql_aggregates`).
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
    "BreakdownRow",
    "Stats",
    "TimeBucket",
    "breakdown_column",
    "bucket_width_us",
    "compute_breakdown",
    "compute_stats",
    "compute_timeseries",
    "stats_from_durations",
    "time_from_us",
]

# Breakdown field -> column. The wire contract has the first four.
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
class TimeBucket:
    """One bucket of a time series.

    Attributes:
        time: start, UTC; a multiple of the bucket width since 1970.
        count: number of events.
        errors: number of failed events.
        avg_duration_ms: mean duration in milliseconds.
    """

    time: datetime
    count: int
    errors: int
    avg_duration_ms: float


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One row of a breakdown.

    Attributes:
        key: the value of the field, ``""`` if missing; ``success`` or ``error`` for ``success``.
        count: number of events.
        errors: number of failed events.
    """

    key: str
    count: int
    errors: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics over events; all zero if there are none.

    Attributes:
        total: number of events.
        errors: number of failed events.
        error_rate: ``errors / total``.
        avg_duration_ms: mean duration in milliseconds.
        p50_duration_ms: median, linearly interpolated as in SQL's ``percentile_cont``.
        p95_duration_ms: 95th percentile, likewise.
        unique_subjects: number of distinct subjects, not counting events without one.
        unique_tools: number of distinct tools; a missing name counts as one, as in the reference
            server.
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
    """The bucket width in microseconds.

    Raises:
        FilterError: the width is not positive.
    """
    width_us = bucket // _US
    if width_us <= 0:
        raise FilterError("the bucket width must be positive")
    return width_us


def time_from_us(microseconds: int) -> datetime:
    """Microseconds since 1970-01-01 UTC as a datetime; times before the year 1 are clamped."""
    return _EPOCH + max(microseconds, _FIRST_US) * _US


def breakdown_column(by: str) -> str:
    """The column of a breakdown field.

    Raises:
        FilterError: ``by`` is unknown; the message lists the choices.
    """
    if by not in BREAKDOWN_COLUMNS:
        raise FilterError(f"by must be one of {', '.join(BREAKDOWN_COLUMNS)}")
    return BREAKDOWN_COLUMNS[by]


def compute_timeseries(events: Iterable[Event], bucket: timedelta) -> list[TimeBucket]:
    """Count events by time; empty buckets are omitted.

    Raises:
        FilterError: the bucket width is not positive.
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
        TimeBucket(time_from_us(start_us), count, errors, duration_ms / count)
        for start_us, (count, errors, duration_ms) in sorted(buckets.items())
    ]


def compute_breakdown(events: Iterable[Event], by: str, limit: int | None) -> list[BreakdownRow]:
    """Count events by a field, most frequent first, ties by key.

    Raises:
        FilterError: ``by`` is unknown.
    """
    column = breakdown_column(by)
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for event in events:
        value: Any = getattr(event, column)
        key = ("success" if value else "error") if column == "success" else value
        counts[key] += 1
        errors[key] += not event.success
    shares = [BreakdownRow(key, count, errors[key]) for key, count in counts.items()]
    return sorted(shares, key=lambda share: (-share.count, share.key))[:limit]


def compute_stats(events: Iterable[Event]) -> Stats:
    """Compute the statistics of events."""
    durations: Counter[int] = Counter()
    subjects: set[str] = set()
    tools: set[str] = set()
    errors = 0
    for event in events:
        durations[event.duration_ms] += 1
        errors += not event.success
        subjects.add(event.user_subject)
        tools.add(event.tool_name)
    return stats_from_durations(durations, errors, len(subjects - {""}), len(tools))


def stats_from_durations(
    durations: Mapping[int, int], errors: int, unique_subjects: int, unique_tools: int
) -> Stats:
    """Compute statistics from a histogram of durations: milliseconds to number of events."""
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
