"""The portal's responses, with the recorded bytes and headers, and frames of its stream."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from mcpaudit_lab.record import dumps
from mcpaudit_lab.server.stores import Gap, Stored

__all__ = [
    "FrameCache",
    "error_response",
    "go_quote",
    "json_response",
    "log_failure",
    "text_response",
    "unauthorized_response",
]

logger = logging.getLogger(__name__)

_ESCAPED: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response with ``<``, ``>`` and ``&`` escaped, so that no browser renders it."""
    body = dumps(value).translate(_ESCAPED) + "\n"
    return Response(body.encode(), status, headers, media_type="application/json")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON."""
    return json_response({"error": message}, status, headers)


def text_response(status: int, text: str) -> Response:
    """An error as plain text, for routes recorded so."""
    return Response(
        f"{text}\n", status, {"x-content-type-options": "nosniff"}, media_type="text/plain"
    )


def unauthorized_response() -> Response:
    """The response to a request without a valid key."""
    return Response(
        b'{"error":"unauthorized"}',
        401,
        {"www-authenticate": 'Bearer realm="mcp-test-portal"'},
        media_type="application/json",
    )


def go_quote(text: str) -> str:
    """The text quoted as Go's ``%q`` quotes printable text."""
    return dumps(text)


def log_failure(what: str, error: BaseException) -> None:
    """Log an error's type and location, but not its message, which may contain data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    logger.error("%s: %s at %s", what, type(error).__name__, where)


class FrameCache:
    """Caches encoded stream frames, so that all subscribers share one encoding.

    Args:
        keep: number of latest frames to cache.
    """

    def __init__(self, keep: int = 128) -> None:
        self._keep = keep
        self._made: dict[int, tuple[Stored, bytes]] = {}

    def frame_for(self, item: Stored | Gap) -> bytes:
        """The frame of an item. JSON text has no line breaks, so one ``data:`` line is enough."""
        if isinstance(item, Gap):
            data = dumps({"missed": item.missed, "resume_from": str(item.after)})
            return f"event: gap\ndata: {data}\n\n".encode()
        known, frame = self._made.get(item.number, (None, b""))
        if known is not item:
            text = item.event.to_json()
            frame = f"id: {item.number}\nevent: audit\ndata: {text}\n\n".encode()
            if len(self._made) >= self._keep:
                del self._made[next(iter(self._made))]
            self._made[item.number] = item, frame
        return frame
