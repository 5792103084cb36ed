"""Sets of events in one statement: what each binds, kept apart, and the order of the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record import EVENT_COLUMNS
from mcpaudit_lab.storage import CONTRACT_ORDER

__all__ = ["bound_apart", "order_by"]


def bound_apart(rows: tuple[str, dict[str, Any]], prefix: str) -> tuple[str, dict[str, Any]]:
    """SQL whose parameters have a prefix, so that two pieces of it can stand together."""
    sql, params = rows
    renamed = re.sub(
        r"\$(\w+)",
        lambda found: f"${prefix}_{found[1]}" if found[1] in params else found[0],
        sql,
    )
    return renamed, {f"{prefix}_{name}": value for name, value in params.items()}


def order_by(columns: Iterable[tuple[str, bool]]) -> str:
    """An ``order by`` clause: these columns, then the contract's order.

    Raises:
        FilterError: an unknown column.
    """
    parts = []
    for name, descending in columns:
        if name not in EVENT_COLUMNS:
            raise FilterError(
                f"no column {name!r} to sort by; choose from {', '.join(EVENT_COLUMNS)}"
            )
        parts.append(f'e."{name}"{" desc" if descending else ""} nulls last')
    rest = CONTRACT_ORDER.removeprefix("order by ")
    return f"order by {', '.join([*parts, rest])}" if parts else CONTRACT_ORDER
