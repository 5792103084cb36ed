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
_NOTHING: Final = {"kind": "range", "counts": [], "edges": [], "ends": [], "missing": 0}
_VALUE_MAX: Final = 200


def column_head(table: EventTable, column: str) -> dict[str, Any]:
    """How the values of a column are spread.

    Args:
        table: the table.
        column: a column of it.

    Returns:
        ``kind`` is ``range`` for numbers and times: ``counts``; ``edges``, one more, as texts that
        :meth:`EventTable.between` takes, the first and the last of them open; ``ends``, the least
        and the largest value; numbers have bins of equal width on a logarithmic scale. Or
        ``values``: the most frequent ones as (text, count); ``pickable``, of each whether
        :meth:`EventTable.pick` takes it; ``rest`` as a count, and ``distinct``. Numbers in two
        spellings, 1 and 1.0, are two values here, and one to a filter. ``missing`` is a count.
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
    ends = _ends(table, column, f'"{column}"')
    if ends is None:
        return _NOTHING
    low, high = ends
    first, last = log1p(max(0, low)), log1p(max(0, high) + 1)
    between = {ceil(expm1(first + (last - first) * n / _BINS)) for n in range(1, _BINS)}
    edges = sorted(edge for edge in between if low < edge <= high)
    below = "".join(f' when "{column}" < {edge:d} then {n}' for n, edge in enumerate(edges))
    bins = f'case when "{column}" is null then null{below} else {len(edges)} end'
    return _range(table, column, bins, [str(edge) for edge in edges], (str(low), str(high)))


def _times(table: EventTable, column: str) -> dict[str, Any]:
    ends = _ends(table, column, f'epoch_us("{column}")')
    if ends is None:
        return _NOTHING
    low, high = ends
    step = (high - low) // _BINS + 1
    edges = [_moment(edge) for edge in range(low + step, high + 1, step)]
    bins = f'(epoch_us("{column}") - {low:d}) // {step:d}'
    return _range(table, column, bins, edges, (_moment(low), _moment(high)))


def _ends(table: EventTable, column: str, value: str) -> tuple[int, int] | None:
    """The least and the largest value; None if there is none."""
    ((low, high),) = _rows(table, column, f"min({value}), max({value})")
    return None if low is None else (low, high)


def _range(
    table: EventTable, column: str, bins: str, edges: list[str], ends: tuple[str, str]
) -> dict[str, Any]:
    """Count the values of each bin; ``bins`` is its number, from 0, in SQL."""
    counts = [0] * (len(edges) + 1)
    missing = 0
    for number, count in _rows(table, column, f"{bins} as bin, count(*)", "group by bin"):
        if number is None:
            missing = count
        else:
            counts[number] = count
    return {
        "kind": "range",
        "counts": counts,
        "edges": ["", *edges, ""],
        "ends": list(ends),
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
        "pickable": [_is_pickable(table, column, text) for text, _ in found],
    }


def _is_pickable(table: EventTable, column: str, text: str) -> bool:
    # A text that is cut here would not be found again.
    return len(text) <= _VALUE_MAX and table.can_pick(column, text)
