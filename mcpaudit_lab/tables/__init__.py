"""The portal's two tables in SQL databases: their columns, and events as their rows.

Input: events or rows. Output: rows or events, without loss, and the SQL that finds rows which
cannot be read. SQLite, PostgreSQL and DuckDB; the filter over them is in :mod:`..filters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.tables.jsonb import NOTIFICATION_KEYS, respell
    from mcpaudit_lab.tables.open_calls import (
        OPEN_CALLS,
        CallRecovery,
        RecorderLock,
        ended_recorders,
        forget_recorder,
        insert_rows,
        move_calls,
        recover_calls,
    )
    from mcpaudit_lab.tables.portal_rows import EXACT, PortalRow, PortalRows, jsonb_text
    from mcpaudit_lab.tables.row_values import column_value, raw_columns, tolerant_text
    from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, Moment, portal_tables
    from mcpaudit_lab.tables.suspects import (
        OWN_PAYLOAD_FIELDS,
        Suspects,
        mistyped_columns,
        suspects_of,
    )
    from mcpaudit_lab.tables.tool_lists import (
        TOOL_TABLES,
        Execute,
        read_tool_lists,
        store_tool_list,
    )

__all__ = [
    "ENGINE_OPTIONS",
    "EXACT",
    "NOTIFICATION_KEYS",
    "OPEN_CALLS",
    "OWN_PAYLOAD_FIELDS",
    "TOOL_TABLES",
    "CallRecovery",
    "Execute",
    "Moment",
    "PortalRow",
    "PortalRows",
    "RecorderLock",
    "Suspects",
    "column_value",
    "ended_recorders",
    "forget_recorder",
    "insert_rows",
    "jsonb_text",
    "mistyped_columns",
    "move_calls",
    "portal_tables",
    "raw_columns",
    "read_tool_lists",
    "recover_calls",
    "respell",
    "store_tool_list",
    "suspects_of",
    "tolerant_text",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "tool_lists": ("TOOL_TABLES", "Execute", "read_tool_lists", "store_tool_list"),
        "jsonb": ("NOTIFICATION_KEYS", "respell"),
        "open_calls": (
            "CallRecovery",
            "OPEN_CALLS",
            "RecorderLock",
            "ended_recorders",
            "forget_recorder",
            "insert_rows",
            "move_calls",
            "recover_calls",
        ),
        "portal_rows": ("EXACT", "PortalRow", "PortalRows", "jsonb_text"),
        "sqlalchemy_tables": ("ENGINE_OPTIONS", "Moment", "portal_tables"),
        "row_values": ("column_value", "raw_columns", "tolerant_text"),
        "suspects": ("OWN_PAYLOAD_FIELDS", "Suspects", "mistyped_columns", "suspects_of"),
    },
)
