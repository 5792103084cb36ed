"""The recorder: a proxy between an MCP client and any MCP server that stores each tool call.

It forwards every byte unchanged, decodes the messages, and stores a call before forwarding it.
Input: the bytes of both sides. Output: the same bytes, and events in SQLite, JSON lines or a lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.recorder.call_tracker import CallTracker
    from mcpaudit_lab.recorder.call_writer import CallWriter, OnFailure
    from mcpaudit_lab.recorder.client_config import Change, Outcome, unwrap_text, wrap_text
    from mcpaudit_lab.recorder.command import bare_url, find_command, masked_command
    from mcpaudit_lab.recorder.jsonc import JsoncError
    from mcpaudit_lab.recorder.jsonl_store import JsonlCallStore
    from mcpaudit_lab.recorder.serving import serve_recorder
    from mcpaudit_lab.recorder.stdio import StdioRecorder, end_as
    from mcpaudit_lab.recorder.stores import CallStore, LabCallStore, SqliteCallStore

__all__ = [
    "CallStore",
    "CallTracker",
    "CallWriter",
    "Change",
    "JsoncError",
    "JsonlCallStore",
    "LabCallStore",
    "OnFailure",
    "Outcome",
    "SqliteCallStore",
    "StdioRecorder",
    "bare_url",
    "end_as",
    "find_command",
    "masked_command",
    "serve_recorder",
    "unwrap_text",
    "wrap_text",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "call_tracker": ("CallTracker",),
        "call_writer": ("CallWriter", "OnFailure"),
        "client_config": ("Change", "Outcome", "unwrap_text", "wrap_text"),
        "command": ("bare_url", "find_command", "masked_command"),
        "jsonc": ("JsoncError",),
        "jsonl_store": ("JsonlCallStore",),
        "serving": ("serve_recorder",),
        "stdio": ("StdioRecorder", "end_as"),
        "stores": ("CallStore", "LabCallStore", "SqliteCallStore"),
    },
)
