"""The columns of the two tables, ``audit_events`` and ``audit_payloads``, and their order.

Names and columns are the portal's own. Missing text is ``''``, missing JSON is NULL. A lab's own
tables are in :mod:`mcpaudit_lab.storage.schema`, portals' in :mod:`.sqlalchemy_tables`.
"""

from __future__ import annotations

from typing import Final

from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS

__all__ = ["EVENT_COLUMNS", "PAYLOAD_COLUMNS", "event_order"]

# Names of the columns that every dialect has, in the contract's order.
EVENT_COLUMNS: Final = tuple(field.column for field in EVENT_FIELDS)
PAYLOAD_COLUMNS: Final = ("event_id", *(field.column for field in PAYLOAD_FIELDS))


def event_order(alias: str = "e") -> str:
    """The contract's order of a list: newest first, ties by id ascending. For ``ORDER BY``."""
    return f"{alias}.ts DESC, {alias}.id ASC"
