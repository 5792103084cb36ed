"""What the head of a column shows: how its values are spread over what the table shows.

The filter of the column itself does not count, so that a person sees what the filter leaves out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil, expm1, log1p
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.lab.columns import column_list
from mcpaudit_lab.record import format_time

if TYPE_CHECKING:
    from mcpaudit_lab.lab.event_table import EventTable

__all__ = ["column_head"]

_BINS: Final = 24
_VALUES: Final = 6
_VALUE_MAX: Final = 200


def column_head(table: EventTable, column: str) -> dict[str, Any]:
    """How the values of a column are spread.

    Args:
        table: the table.
        column: a column of it.

    Returns:
        ``kind`` is ``range`` for numbers and times: ``counts``, and ``edges``, one more, as texts
        that :meth:`EventTable.between` takes; numbers have bins of equal width on a logarithmic
        scale. Or ``values``: the most frequent ones as (text, count), ``rest`` and ``missing`` as
        counts, and ``distinct``.
    """
    if table.kind(column) == "int":
        return _numbers(table, column)
    if table.kind(column) == "time":
        return _times(table, column)
    return _values(table, column)


def _rows(table: EventTable, column: str, select: str, after: str = "") -> list[tuple[Any, ...]]:
    events = table.narrowed(without=column)
    rows, params = events.rows()
    chosen = column_list([column], payloads=False)
    # The name of a path is the name of its column.
    source = f"(select {chosen.sql} from {rows} {chosen.join}) v"
    found: list[tuple[Any, ...]] = (
        events.cursor()
        .execute(f"select {select} from {source} {after}", {**params, **chosen.params})
        .fetchall()
    )
    return found


def _numbers(table: EventTable, column: str) -> dict[str, Any]:
    ((low, high, missing),) = _rows(
        table,
        column,
        f'min("{column}"), max("{column}"), count(*) filter ("{column}" is null)',
    )
    if low is None:
        return {"kind": "range", "counts": [], "edges": [], "missing": missing}
    low = max(0, low)
    first, last = log1p(low), log1p(max(low, high) + 1)
    edges = sorted({ceil(expm1(first + (last - first) * n / _BINS)) for n in range(_BINS + 1)})
    edges[0], edges[-1] = low, max(low, high) + 1
    edges = sorted(set(edges))
    counts = [0] * (len(edges) - 1)
    listed = ", ".join(str(int(edge)) for edge in edges[1:-1])
    bins = _rows(
        table,
        column,
        f'len(list_filter([{listed}]::bigint[], lambda edge: edge <= "{column}")) as bin, count(*)',
        f'where "{column}" is not null group by bin',
    )
    for number, count in bins:
        counts[number] += count
    return {
        "kind": "range",
        "counts": counts,
        "edges": [str(edge) for edge in edges],
        "missing": missing,
    }


def _times(table: EventTable, column: str) -> dict[str, Any]:
    ((low, high, missing),) = _rows(
        table,
        column,
        f'epoch_us(min("{column}")), epoch_us(max("{column}")),'
        f' count(*) filter ("{column}" is null)',
    )
    if low is None:
        return {"kind": "range", "counts": [], "edges": [], "missing": missing}
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = [0] * min(_BINS, (high - low) // step + 1)
    bins = _rows(
        table,
        column,
        f'(epoch_us("{column}") - {low:d}) // {step:d} as bin, count(*)',
        f'where "{column}" is not null group by bin',
    )
    for number, count in bins:
        counts[number] += count
    return {
        "kind": "range",
        "counts": counts,
        "edges": [_moment(low + step * n) for n in range(len(counts) + 1)],
        "missing": missing,
    }


def _moment(epoch_us: int) -> str:
    return format_time(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch_us))


def _values(table: EventTable, column: str) -> dict[str, Any]:
    quoted = column.replace('"', '""')
    value = f'"{quoted}"::varchar'
    ((known, missing, distinct),) = _rows(
        table, column, f"count({value}), count(*) - count({value}), count(distinct {value})"
    )
    found = _rows(
        table,
        column,
        f"{value} as value, count(*) as n",
        f"where {value} is not null group by value order by n desc, value limit {_VALUES:d}",
    )
    return {
        "kind": "values",
        "values": [[text[:_VALUE_MAX], count] for text, count in found],
        "rest": known - sum(count for _, count in found),
        "missing": missing,
        "distinct": distinct,
    }
