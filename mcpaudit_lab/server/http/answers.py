"""Answers of the portal, with the bytes and headers that were recorded."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from mcpaudit_lab.record import dumps
from mcpaudit_lab.server.stores import Gap, Stored

__all__ = [
    "Frames",
    "answer_error",
    "answer_json",
    "answer_text",
    "answer_unauthorized",
    "go_quote",
    "log_failure",
]

logger = logging.getLogger(__name__)

_ESCAPED: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def answer_json(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON with ``<``, ``>`` and ``&`` escaped, so that no browser takes it for a page."""
    body = dumps(value).translate(_ESCAPED) + "\n"
    return Response(body.encode(), status, headers, media_type="application/json")


def answer_error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error, as JSON."""
    return answer_json({"error": message}, status, headers)


def answer_text(status: int, text: str) -> Response:
    """An error as plain text, for the routes where the recording has plain text."""
    return Response(
        f"{text}\n", status, {"x-content-type-options": "nosniff"}, media_type="text/plain"
    )


def answer_unauthorized() -> Response:
    """What the portal says to a request without a valid key."""
    return Response(
        b'{"error":"unauthorized"}',
        401,
        {"www-authenticate": 'Bearer realm="mcp-test-portal"'},
        media_type="application/json",
    )


def go_quote(text: str) -> str:
    """The text in quotes, as Go's ``%q`` prints it, for printable text."""
    return dumps(text)


def log_failure(what: str, error: BaseException) -> None:
    """Log that something failed: the kind of error and where, not its text, which may be data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    logger.error("%s: %s at %s", what, type(error).__name__, where)


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
