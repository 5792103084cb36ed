"""The audited portal: what records the tool calls of an MCP server, stores and serves them.

Three lines put it on a server of one's own::

    from mcpaudit_lab.server import SqlLogger, portal_app

    app = portal_app(server, SqlLogger("sqlite:///audit.db"), {"me": "a key"})

:func:`add_audit` records alone, :func:`background_portal` runs a portal while a block runs.
Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpaudit_lab.server.api_keys import ApiKeys
    from mcpaudit_lab.server.app import portal_app
    from mcpaudit_lab.server.async_logger import AsyncLogger, LoggerStatus
    from mcpaudit_lab.server.background import BackgroundPortal, background_portal
    from mcpaudit_lab.server.capture import CapturePolicy
    from mcpaudit_lab.server.identity import (
        ANONYMOUS,
        AuthFailure,
        Identity,
        Origin,
        current_identity,
        use_origin,
    )
    from mcpaudit_lab.server.inprocess import CallOutcome, InProcessCaller, open_in_process
    from mcpaudit_lab.server.keys import KeyStore, MemoryKeyStore, SqlKeyStore
    from mcpaudit_lab.server.logger import AuditLogger, Reservation
    from mcpaudit_lab.server.memory import MemoryLogger
    from mcpaudit_lab.server.middleware import AuditMiddleware, add_audit
    from mcpaudit_lab.server.oidc import OidcConfig
    from mcpaudit_lab.server.portal import PortalOptions
    from mcpaudit_lab.server.sql_buckets import SqlTokenBuckets
    from mcpaudit_lab.server.sql_logger import SqlLogger
    from mcpaudit_lab.server.store import EventStore, Stored
    from mcpaudit_lab.server.tools import demo_server, demo_tool_groups

__all__ = [
    "ANONYMOUS",
    "ApiKeys",
    "AsyncLogger",
    "AuditLogger",
    "AuditMiddleware",
    "AuthFailure",
    "BackgroundPortal",
    "CallOutcome",
    "CapturePolicy",
    "EventStore",
    "Identity",
    "InProcessCaller",
    "KeyStore",
    "LoggerStatus",
    "MemoryKeyStore",
    "MemoryLogger",
    "OidcConfig",
    "Origin",
    "PortalOptions",
    "Reservation",
    "SqlKeyStore",
    "SqlLogger",
    "SqlTokenBuckets",
    "Stored",
    "add_audit",
    "background_portal",
    "current_identity",
    "demo_server",
    "demo_tool_groups",
    "open_in_process",
    "portal_app",
    "use_origin",
]

# Where each name lives, for __getattr__; the imports above are for type checkers.
_ROOMS = {
    "api_keys": ("ApiKeys",),
    "app": ("portal_app",),
    "async_logger": ("AsyncLogger", "LoggerStatus"),
    "background": ("BackgroundPortal", "background_portal"),
    "capture": ("CapturePolicy",),
    "identity": (
        "ANONYMOUS",
        "AuthFailure",
        "Identity",
        "Origin",
        "current_identity",
        "use_origin",
    ),
    "inprocess": ("CallOutcome", "InProcessCaller", "open_in_process"),
    "keys": ("KeyStore", "MemoryKeyStore", "SqlKeyStore"),
    "logger": ("AuditLogger", "Reservation"),
    "memory": ("MemoryLogger",),
    "middleware": ("AuditMiddleware", "add_audit"),
    "oidc": ("OidcConfig",),
    "portal": ("PortalOptions",),
    "sql_buckets": ("SqlTokenBuckets",),
    "sql_logger": ("SqlLogger",),
    "store": ("EventStore", "Stored"),
    "tools": ("demo_server", "demo_tool_groups"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
