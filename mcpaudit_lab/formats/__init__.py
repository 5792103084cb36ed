"""Other recorders' files, and the pairing of JSON-RPC messages into calls.

Input: messages, or lines of a file. Output: events with the places they came from, and counts. It
does not depend on the workbench, which stages what a reader returns.
"""

from __future__ import annotations

from mcpaudit_lab.formats.jsonrpc import (
    Call,
    CallFinished,
    CallOpened,
    Direction,
    Item,
    Other,
    PartSeen,
    ToolDefinitionsSeen,
    time_text,
)
from mcpaudit_lab.formats.lines import Bad, Found, Line, Outcome, Place, Tally, read_lines
from mcpaudit_lab.formats.pairing import Pairing
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.formats.recognise import (
    Chosen,
    choose,
    looks_like,
    readers,
    text_within,
    what_there_is,
)
from mcpaudit_lab.formats.writers import WRITERS, EventWriter, WriteReport, guard_formula

__all__ = [
    "WRITERS",
    "Bad",
    "Call",
    "CallFinished",
    "CallOpened",
    "Chosen",
    "Direction",
    "EventWriter",
    "Found",
    "Item",
    "Line",
    "Other",
    "Outcome",
    "Pairing",
    "PartSeen",
    "Place",
    "Reader",
    "Tally",
    "ToolDefinitionsSeen",
    "WriteReport",
    "choose",
    "guard_formula",
    "looks_like",
    "read_lines",
    "readers",
    "text_within",
    "time_text",
    "what_there_is",
]
