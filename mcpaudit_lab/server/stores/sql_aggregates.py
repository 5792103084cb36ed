"""Time series, breakdowns and statistics in SQL, for SQLite and PostgreSQL.

They use the columns: a text that its column cannot hold counts as stored there, with U+FFFD.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from mcpaudit_lab.filters import Compiled
from mcpaudit_lab.server.stores.aggregates import (
    BreakdownRow,
    Stats,
    TimeBucket,
    breakdown_column,
    bucket_width_us,
    stats_from_durations,
    time_from_us,
)

__all__ = ["breakdown_sql", "stats_sql", "timeseries_sql"]

# Microseconds since 1970. SQLite keeps times as text with six decimals.
_MOMENT_US: Final = {
    "sqlite": (
        "cast(strftime('%s', substr(e.ts, 1, 19)) as integer) * 1000000"
        " + cast(substr(e.ts, 21, 6) as integer)"
    ),
    "postgresql": "cast(extract(epoch from e.ts) * 1000000 as bigint)",
}
_ERRORS: Final = "sum(case when e.success then 0 else 1 end)"


def timeseries_sql(connection: Connection, wanted: Compiled, bucket: timedelta) -> list[TimeBucket]:
    """Count matching events by time.

    Raises:
        FilterError: the bucket width is not positive.
    """
    width_us = bucket_width_us(bucket)
    moment_us = _MOMENT_US[connection.dialect.name]
    # The remainder of a time before 1970 is negative.
    width = "cast(:width_us as bigint)"
    start_us = f"({moment_us}) - ((({moment_us}) % {width}) + {width}) % {width}"
    rows = connection.execute(
        text(
            f"select {start_us} as start_us, count(*), {_ERRORS}, avg(e.duration_ms) "  # noqa: S608 - the condition binds its values
            f"from {wanted.source} where {wanted.where} group by 1 order by 1"
        ),
        {**wanted.params, "width_us": width_us},
    )
    return [
        TimeBucket(time_from_us(start), count, errors, float(duration_ms))
        for start, count, errors, duration_ms in rows
    ]


def breakdown_sql(
    connection: Connection, wanted: Compiled, by: str, limit: int | None
) -> list[BreakdownRow]:
    """Count matching events by a field.

    Raises:
        FilterError: ``by`` is unknown.
    """
    column = breakdown_column(by)
    key = f"coalesce(e.{column}, '')"
    if column == "success":
        key = "case when e.success then 'success' else 'error' end"
    collation = ' collate "C"' if connection.dialect.name == "postgresql" else ""
    rows = connection.execute(
        text(
            f"select {key}{collation} as item, count(*) as times, {_ERRORS} "  # noqa: S608 - as above
            f"from {wanted.source} where {wanted.where} group by 1 order by 2 desc, 1 limit :most"
        ),
        {**wanted.params, "most": 2**31 if limit is None else limit},
    )
    return [BreakdownRow(*row) for row in rows]


def stats_sql(connection: Connection, wanted: Compiled) -> Stats:
    """Compute the statistics of matching events."""
    durations: dict[int, int] = {}
    errors = 0
    for duration_ms, count, failed in _rows(
        connection, wanted, f"e.duration_ms, count(*), {_ERRORS}", "group by 1"
    ):
        durations[duration_ms] = count
        errors += failed
    unique = "count(distinct nullif(e.user_subject, '')), count(distinct coalesce(e.tool_name, ''))"
    ((subjects, tools),) = _rows(connection, wanted, unique, "")
    return stats_from_durations(durations, errors, subjects, tools)


def _rows(connection: Connection, wanted: Compiled, columns: str, tail: str) -> Any:
    statement = f"select {columns} from {wanted.source} where {wanted.where} {tail}"  # noqa: S608 - as above
    return connection.execute(text(statement), wanted.params)
