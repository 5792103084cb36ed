"""The audited portal: records the tool calls of an MCP server, stores and serves them.

Three lines add it to an MCP server::

    from mcpaudit_lab.server import SqlLogger, portal_app

    app = portal_app(server, SqlLogger("sqlite:///audit.db"), {"me": "a key"})

:func:`add_audit` only records; :func:`background_portal` runs a portal for a ``with`` block.
Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record import CapturePolicy
from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.audit.async_logger import AsyncLogger, LoggerStatus
    from mcpaudit_lab.server.audit.identity import (
        ANONYMOUS,
        AuthFailure,
        Identity,
        Origin,
        current_identity,
        use_origin,
    )
    from mcpaudit_lab.server.audit.inprocess import CallOutcome, InProcessCaller, open_in_process
    from mcpaudit_lab.server.audit.middleware import AuditMiddleware, add_audit
    from mcpaudit_lab.server.auth.api_keys import ApiKeys
    from mcpaudit_lab.server.auth.minted_keys import KeyStore, MemoryKeyStore, SqlKeyStore
    from mcpaudit_lab.server.auth.oidc import OidcConfig
    from mcpaudit_lab.server.auth.sql_buckets import SqlTokenBuckets
    from mcpaudit_lab.server.background import BackgroundPortal, background_portal
    from mcpaudit_lab.server.http.app import portal_app
    from mcpaudit_lab.server.http.portal import PortalOptions
    from mcpaudit_lab.server.serving import allowed_hosts_for, serve, signals_call
    from mcpaudit_lab.server.stores.memory import MemoryLogger
    from mcpaudit_lab.server.stores.sql_logger import SqlLogger
    from mcpaudit_lab.server.stores.store import AuditLogger, EventStore, Reservation
    from mcpaudit_lab.server.stores.subscriptions import Stored
    from mcpaudit_lab.server.tools.demo import demo_server, demo_tool_groups

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
    "allowed_hosts_for",
    "background_portal",
    "current_identity",
    "demo_server",
    "demo_tool_groups",
    "open_in_process",
    "portal_app",
    "serve",
    "signals_call",
    "use_origin",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "audit.async_logger": ("AsyncLogger", "LoggerStatus"),
        "audit.identity": (
            "ANONYMOUS",
            "AuthFailure",
            "Identity",
            "Origin",
            "current_identity",
            "use_origin",
        ),
        "audit.inprocess": ("CallOutcome", "InProcessCaller", "open_in_process"),
        "audit.middleware": ("AuditMiddleware", "add_audit"),
        "auth.api_keys": ("ApiKeys",),
        "auth.minted_keys": ("KeyStore", "MemoryKeyStore", "SqlKeyStore"),
        "auth.oidc": ("OidcConfig",),
        "auth.sql_buckets": ("SqlTokenBuckets",),
        "background": ("BackgroundPortal", "background_portal"),
        "http.app": ("portal_app",),
        "http.portal": ("PortalOptions",),
        "serving": ("allowed_hosts_for", "serve", "signals_call"),
        "stores.memory": ("MemoryLogger",),
        "stores.sql_logger": ("SqlLogger",),
        "stores.store": ("AuditLogger", "EventStore", "Reservation"),
        "stores.subscriptions": ("Stored",),
        "tools.demo": ("demo_server", "demo_tool_groups"),
    },
)
