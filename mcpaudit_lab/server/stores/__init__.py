"""Where a portal's events are kept: memory, SQLite, PostgreSQL.

Input: events in batches. Output: lists, pages, lines, aggregates and subscriptions, in order of
commit. Rows that cannot be read are counted and named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.stores.aggregates import Point, Share, Stats
    from mcpaudit_lab.server.stores.engine import open_engine
    from mcpaudit_lab.server.stores.event_log import EventLog, log_key_path
    from mcpaudit_lab.server.stores.memory import MemoryLogger
    from mcpaudit_lab.server.stores.schema import bring_up_to_date
    from mcpaudit_lab.server.stores.sql_logger import SqlLogger
    from mcpaudit_lab.server.stores.store import (
        AuditLogger,
        EventStore,
        Pages,
        Prepared,
        Reservation,
        Unreadable,
    )
    from mcpaudit_lab.server.stores.subscriptions import Gap, Stored, Subscription

__all__ = [
    "AuditLogger",
    "EventLog",
    "EventStore",
    "Gap",
    "MemoryLogger",
    "Pages",
    "Point",
    "Prepared",
    "Reservation",
    "Share",
    "SqlLogger",
    "Stats",
    "Stored",
    "Subscription",
    "Unreadable",
    "bring_up_to_date",
    "log_key_path",
    "open_engine",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "event_log": ("EventLog", "log_key_path"),
        "aggregates": (
            "Point",
            "Share",
            "Stats",
        ),
        "engine": ("open_engine",),
        "memory": ("MemoryLogger",),
        "schema": ("bring_up_to_date",),
        "sql_logger": ("SqlLogger",),
        "store": (
            "AuditLogger",
            "EventStore",
            "Pages",
            "Prepared",
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
