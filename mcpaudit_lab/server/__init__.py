"""The audited portal: what records the tool calls of an MCP server, stores and serves them."""

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
from mcpaudit_lab.server.logger import AuditLogger, Reservation
from mcpaudit_lab.server.memory import MemoryLogger
from mcpaudit_lab.server.middleware import AuditMiddleware, add_audit
from mcpaudit_lab.server.tools import demo_server, demo_tool_groups

__all__ = [
    "ANONYMOUS",
    "AuditLogger",
    "AuditMiddleware",
    "AuthFailure",
    "CallOutcome",
    "CapturePolicy",
    "Identity",
    "InProcessCaller",
    "MemoryLogger",
    "Origin",
    "Reservation",
    "add_audit",
    "current_identity",
    "demo_server",
    "demo_tool_groups",
    "open_in_process",
    "use_origin",
]
