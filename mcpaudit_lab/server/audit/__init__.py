"""Audits an MCP server's tool calls: middleware, capture, queue.

Input: the SDK's requests. Output: events in a queue; room is reserved before a tool runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.audit.async_logger import AsyncLogger, LoggerStatus
    from mcpaudit_lab.server.audit.headers import first_value, read_headers
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

__all__ = [
    "ANONYMOUS",
    "AsyncLogger",
    "AuditMiddleware",
    "AuthFailure",
    "CallOutcome",
    "Identity",
    "InProcessCaller",
    "LoggerStatus",
    "Origin",
    "add_audit",
    "current_identity",
    "first_value",
    "open_in_process",
    "read_headers",
    "use_origin",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "async_logger": (
            "AsyncLogger",
            "LoggerStatus",
        ),
        "headers": (
            "first_value",
            "read_headers",
        ),
        "identity": (
            "ANONYMOUS",
            "AuthFailure",
            "Identity",
            "Origin",
            "current_identity",
            "use_origin",
        ),
        "inprocess": (
            "CallOutcome",
            "InProcessCaller",
            "open_in_process",
        ),
        "middleware": (
            "AuditMiddleware",
            "add_audit",
        ),
    },
)
