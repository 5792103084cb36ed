"""Repairs invalid UTF-8 and lone surrogates in request bodies, as the reference server does.

The MCP SDK rejects a body that is not UTF-8, and in the handshake era one with a lone surrogate,
before the audit sees the call. The reference server reads U+FFFD instead and answers the call,
which then has a row. Nothing else is changed; a valid body is passed on as it is.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RepairBodies", "repair_body"]

# Matches every escape of a JSON string, so that "\\ud800" is read as a backslash and text.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r"|u([dD][c-fC-F])[0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _one_for_each_byte(error: UnicodeError) -> tuple[str, int]:
    """One U+FFFD for each invalid byte, as Go does; Python has one for each sequence."""
    if isinstance(error, UnicodeDecodeError):
        return "�", error.start + 1
    raise error


codecs.register_error("mcpaudit-byte", _one_for_each_byte)


def repair_body(body: bytes, *, surrogates: bool = True) -> bytes:
    """Replace bytes that are not UTF-8 and lone surrogates by U+FFFD.

    Args:
        body: JSON text, possibly invalid.
        surrogates: whether to replace escapes of lone surrogates. Python's ``json`` accepts them.
    """
    if not body.isascii():
        body = body.decode("utf-8", "mcpaudit-byte").encode("utf-8")
    if surrogates and _SURROGATE_ESCAPE.search(body):
        body = _ESCAPE.sub(_repair_escape, body.decode("utf-8")).encode("utf-8")
    return body


def _repair_escape(escape: re.Match[str]) -> str:
    text = escape.group()
    is_lone_high = len(text) == 6 and text[2] in "dD" and text[3] in "89abAB"
    return "\\ufffd" if is_lone_high or escape.group(2) else text


class RepairBodies:
    """ASGI middleware that applies :func:`repair_body` to POST requests.

    Args:
        app: the wrapped application.
        max_bytes: a larger body is streamed unchanged, for ``app`` to reject.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = 4 * 1024 * 1024) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        # In the era without sessions the SDK's parser accepts lone surrogates.
        versions = {value.decode("latin-1") for name, value in scope["headers"] if name == _VERSION}
        surrogates = not versions & set(MODERN_PROTOCOL_VERSIONS)
        is_read = False

        async def receive_repaired() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            body = b""
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if not more or len(body) > self._max_bytes:
                    break
            is_read = True
            if not more:
                body = repair_body(body, surrogates=surrogates)
            return {"type": "http.request", "body": body, "more_body": more}

        await self.app(scope, receive_repaired, send)


_VERSION = b"mcp-protocol-version"
