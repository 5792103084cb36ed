"""The frames of the live stream, as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.jsontext import dumps
from mcpaudit_lab.server.subscriptions import Gap

if TYPE_CHECKING:
    from mcpaudit_lab.server.store import Stored

__all__ = ["Frames"]


class Frames:
    """Frames of events, made once for all who listen.

    Args:
        keep: how many of the latest are remembered.
    """

    def __init__(self, keep: int = 128) -> None:
        self._keep = keep
        self._made: dict[int, tuple[Stored, bytes]] = {}

    def frame_of(self, item: Stored | Gap) -> bytes:
        """One whole frame. JSON text has no line ends, so one ``data:`` line is enough."""
        if isinstance(item, Gap):
            told = dumps({"missed": item.missed, "resume_from": str(item.after)})
            return f"event: gap\ndata: {told}\n\n".encode()
        known, frame = self._made.get(item.number, (None, b""))
        if known is not item:
            text = item.event.to_json()
            frame = f"id: {item.number}\nevent: audit\ndata: {text}\n\n".encode()
            if len(self._made) >= self._keep:
                del self._made[next(iter(self._made))]
            self._made[item.number] = item, frame
        return frame
