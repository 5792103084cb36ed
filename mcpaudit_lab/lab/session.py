"""One session of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpaudit_lab.record import counted, format_time, render_html, visible
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    from mcpaudit_lab.lab.event_set import EventSet

__all__ = ["Session"]

_SHOWN = 50
_COLUMNS = ("ts", "duration_ms", "success", "error_category", "tool_name")


@dataclass(frozen=True, slots=True)
class Session:
    """The calls of one session. Shows itself as a timeline.

    Attributes:
        id: the session's id.
        events: its calls, as a set.
    """

    id: str
    events: EventSet

    def __str__(self) -> str:
        calls = self.events.sort("ts").df(_COLUMNS)
        lines = [f"session {self.id}: {counted(len(calls), 'call')}"]
        for call in records(calls.head(_SHOWN)):
            outcome = "ok" if call["success"] else call["error_category"] or "failed"
            at, taken = format_time(call["ts"]), call["duration_ms"] or 0
            lines.append(f"  {at}  {taken:>8,} ms  {outcome:<8} {call['tool_name']}")
        if len(calls) > _SHOWN:
            lines.append(f"  … {len(calls) - _SHOWN:,} more")
        return "\n".join(map(visible, lines))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The timeline, for a notebook."""
        return render_html("session", self)
