"""Aggregates over a set of events, as a portal computes them, with every filter."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from mcpaudit_lab.errors import FilterError

__all__ = [
    "BREAKDOWN_COLUMNS",
    "SHORTEST_BUCKET_US",
    "breakdown_sql",
    "bucket_of",
    "stats_sql",
    "timeseries_sql",
]

# The fields of a breakdown, with their columns. The first four are the portal's.
BREAKDOWN_COLUMNS = {
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

# The syntax of Go's time.ParseDuration, which a portal takes, and days.
_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)"
_UNITS: Final = "ns|us|µs|μs|ms|s|m|h|d"
_DURATION = re.compile(rf"\+?(?:{_NUMBER}(?:{_UNITS}))+", re.ASCII)
_PART = re.compile(rf"({_NUMBER})({_UNITS})", re.ASCII)
_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
# As a portal has it, which answers a shorter bucket with this one.
SHORTEST_BUCKET_US: Final = 1_000_000
# Go's longest duration, some 292 years.
_MAX_NS: Final = 2**63 - 1

_STATS = """
    count(*) as total,
    count(*) filter (not success) as errors,
    coalesce(count(*) filter (not success) / nullif(count(*), 0), 0.0) as error_rate,
    coalesce(avg(duration_ms), 0.0) as avg_duration_ms,
    coalesce(quantile_cont(duration_ms, 0.5), 0.0) as p50_duration_ms,
    coalesce(quantile_cont(duration_ms, 0.95), 0.0) as p95_duration_ms,
    count(distinct nullif(user_subject, '')) as unique_subjects,
    count(distinct tool_name) as unique_tools"""


def stats_sql(rows: str, by: str | None) -> str:
    """SQL: the portal's statistics over rows, in one row, or one for each value of ``by``."""
    if by is None:
        return f"select {_STATS} from {rows}"
    column = _column(by)
    return (
        f'select ({column})::varchar as "key", {_STATS} from {rows}'
        ' group by all order by total desc, "key"'
    )


def breakdown_sql(rows: str, by: str) -> str:
    """SQL: key, count and errors; the most frequent first."""
    return (
        f'select ({_column(by)})::varchar as "key", count(*) as count, '
        f"count(*) filter (not success) as errors from {rows} group by all "
        'order by count desc, "key"'
    )


def timeseries_sql(rows: str) -> str:
    """SQL: time, count, errors, average duration for each bucket of ``$bucket_us`` that has any."""
    return (
        "select make_timestamptz((epoch_us(ts) - ((epoch_us(ts) % $bucket_us) + $bucket_us)"
        " % $bucket_us)::bigint) as time, count(*) as count,"
        " count(*) filter (not success) as errors,"
        f" avg(duration_ms) as avg_duration_ms from {rows} group by time order by time"
    )


def bucket_of(bucket: str | timedelta) -> int:
    """A bucket's width in microseconds; a second where less is asked for, as a portal has it.

    Args:
        bucket: a ``timedelta``, or text such as ``5m``, ``90s``, ``1h30m``, ``1500ms``, ``1d``.

    Raises:
        FilterError: not a width, or longer than 292 years.
    """
    if isinstance(bucket, str):
        if not _DURATION.fullmatch(bucket):
            raise FilterError(
                "bucket is a duration such as 90s, 5m, 1h30m (units ns us ms s m h d)"
            )
        width_ns = sum(
            int(Decimal(count) * _UNIT_NS[unit]) for count, unit in _PART.findall(bucket)
        )
    else:
        width_ns = bucket // timedelta(microseconds=1) * 1000
    if width_ns <= 0:
        raise FilterError("a bucket is longer than nothing")
    if width_ns > _MAX_NS:
        raise FilterError("a bucket is at most 292 years long")
    return max(width_ns // 1000, SHORTEST_BUCKET_US)


def _column(by: str) -> str:
    if by not in BREAKDOWN_COLUMNS:
        raise FilterError(f"by={by!r}: choose from {', '.join(BREAKDOWN_COLUMNS)}")
    if by == "success":
        # The keys that a portal uses.
        return "case when success then 'success' else 'error' end"
    return BREAKDOWN_COLUMNS[by]
