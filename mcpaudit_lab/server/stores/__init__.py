"""A portal's event stores: memory, SQLite, PostgreSQL.

Input: events in batches. Output: lists, pages, JSON lines, aggregates and subscriptions in commit
order. Unreadable rows are counted and listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.stores.aggregates import BreakdownRow, Stats, TimeBucket
    from mcpaudit_lab.server.stores.engine import open_engine
    from mcpaudit_lab.server.stores.event_log import EventLog, log_key_path
    from mcpaudit_lab.server.stores.memory import MemoryLogger
    from mcpaudit_lab.server.stores.schema import migrate
    from mcpaudit_lab.server.stores.sql_logger import SqlLogger
    from mcpaudit_lab.server.stores.store import (
        AuditLogger,
        EventStore,
        Pages,
        PreparedEvent,
        Reservation,
        Unreadable,
    )
    from mcpaudit_lab.server.stores.subscriptions import Gap, Stored, Subscription

__all__ = [
    "AuditLogger",
    "BreakdownRow",
    "EventLog",
    "EventStore",
    "Gap",
    "MemoryLogger",
    "Pages",
    "PreparedEvent",
    "Reservation",
    "SqlLogger",
    "Stats",
    "Stored",
    "Subscription",
    "TimeBucket",
    "Unreadable",
    "log_key_path",
    "migrate",
    "open_engine",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "event_log": ("EventLog", "log_key_path"),
        "aggregates": (
            "TimeBucket",
            "BreakdownRow",
            "Stats",
        ),
        "engine": ("open_engine",),
        "memory": ("MemoryLogger",),
        "schema": ("migrate",),
        "sql_logger": ("SqlLogger",),
        "store": (
            "AuditLogger",
            "EventStore",
            "Pages",
            "PreparedEvent",
            "Reservation",
            "Unreadable",
        ),
        "subscriptions": (
            "Gap",
            "Stored",
            "Subscription",
        ),
    },
)
