"""The recorder: a proxy between an MCP client and any server that stores each tool call.

It passes every byte unchanged, reads along, and stores a call before it is sent on. Input: the
bytes of both sides. Output: the same bytes, and events in SQLite, JSON lines or a lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.recorder.calls import CallTracker
    from mcpaudit_lab.recorder.command import bare_url, find_command, masked_command
    from mcpaudit_lab.recorder.configuration import Change, Outcome, unwrap_text, wrap_text
    from mcpaudit_lab.recorder.jsonc import JsoncError
    from mcpaudit_lab.recorder.keeping import Keeper, OnFailure
    from mcpaudit_lab.recorder.lines import LineCalls
    from mcpaudit_lab.recorder.serving import serve_recorder
    from mcpaudit_lab.recorder.stdio import StdioRecorder, end_as
    from mcpaudit_lab.recorder.stores import CallStore, LabCalls, SqliteCalls

__all__ = [
    "CallStore",
    "CallTracker",
    "Change",
    "JsoncError",
    "Keeper",
    "LabCalls",
    "LineCalls",
    "OnFailure",
    "Outcome",
    "SqliteCalls",
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
        "calls": ("CallTracker",),
        "command": ("bare_url", "find_command", "masked_command"),
        "configuration": ("Change", "Outcome", "unwrap_text", "wrap_text"),
        "jsonc": ("JsoncError",),
        "keeping": ("Keeper", "OnFailure"),
        "lines": ("LineCalls",),
        "serving": ("serve_recorder",),
        "stdio": ("StdioRecorder", "end_as"),
        "stores": ("CallStore", "LabCalls", "SqliteCalls"),
    },
)
