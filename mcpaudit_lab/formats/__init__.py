"""Other recorders' files, and the pairing of JSON-RPC messages into calls.

In go messages, or lines of a file; out come events with the places they came from, counted.
Nothing here knows the workbench: it stages what a reader gives.
"""

from __future__ import annotations

from mcpaudit_lab.formats.jsonrpc import (
    Call,
    CallFinished,
    CallOpened,
    Item,
    Other,
    PartSeen,
    ToolDefinitionsSeen,
)
from mcpaudit_lab.formats.pairing import Pairing

__all__ = [
    "Call",
    "CallFinished",
    "CallOpened",
    "Item",
    "Other",
    "Pairing",
    "PartSeen",
    "ToolDefinitionsSeen",
]
