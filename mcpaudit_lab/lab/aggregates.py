"""Aggregates over a set of events, as a portal computes them, with every filter."""

from __future__ import annotations

import re
from datetime import timedelta

from mcpaudit_lab.errors import FilterError

__all__ = ["BREAKDOWN_COLUMNS", "breakdown_sql", "bucket_of", "stats_sql", "timeseries_sql"]

# What a breakdown may be by, and the column it stands for. The first four are the portal's.
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
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:us|µs|ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|µs|ms|s|m|h|d)")
_UNIT_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}

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
        f'select {column}::varchar as "key", {_STATS} from {rows}'
        ' group by all order by total desc, "key"'
    )


def breakdown_sql(rows: str, by: str) -> str:
    """SQL: key, count and errors; the most frequent first."""
    return (
        f'select {_column(by)}::varchar as "key", count(*) as count, '
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
    """A bucket's width in microseconds.

    Args:
        bucket: a ``timedelta``, or text such as ``5m``, ``90s``, ``1h30m``, ``500ms``, ``1d``.

    Raises:
        FilterError: for what is no width.
    """
    if isinstance(bucket, str):
        if not _DURATION.fullmatch(bucket):
            raise FilterError("bucket is a duration such as 90s, 5m, 1h30m (units us ms s m h d)")
        seconds = sum(float(count) * _UNIT_S[unit] for count, unit in _PART.findall(bucket))
        width_us = round(seconds * 1_000_000)
    else:
        width_us = bucket // timedelta(microseconds=1)
    if width_us <= 0:
        raise FilterError("a bucket is longer than nothing")
    return width_us


def _column(by: str) -> str:
    if by not in BREAKDOWN_COLUMNS:
        raise FilterError(f"by={by!r}: choose from {', '.join(BREAKDOWN_COLUMNS)}")
    return BREAKDOWN_COLUMNS[by]
