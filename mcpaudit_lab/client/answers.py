"""What a portal answers to calls, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ReplayAnswer", "ToolAnswer"]


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """What came of a replay.

    Attributes:
        replay_event_id: the id of the new event.
        replayed_from: the id of the original.
        result: the CallToolResult, or None where the call raised.
        success: whether the call succeeded; False also where the result says ``isError``.
        error: the portal's words for what went wrong, or an empty text.
        status: the HTTP status: 200, or 502 for a call that failed.
    """

    replay_event_id: str
    replayed_from: str
    result: dict[str, Any] | None
    success: bool
    error: str
    status: int


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What came of a Try-It call.

    Attributes:
        result: the CallToolResult, or None where the call raised.
        is_error: whether the result says ``isError``, or the call raised.
        error: the portal's words for a call that raised, or an empty text.
        status: the HTTP status: 200, or 502 for a call that raised.
    """

    result: dict[str, Any] | None
    is_error: bool
    error: str
    status: int
