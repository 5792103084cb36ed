"""Request bodies that are nearly JSON, made acceptable as the reference server makes them.

The MCP SDK refuses a body that is not UTF-8, and in the handshake era one with a lone surrogate,
before anyone sees the call. The reference server reads U+FFFD instead and answers. A call that is
answered has a row, so the difference matters to an audit. Nothing else is changed, and a body
without such faults is passed on as it is.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MendBodies", "mend_body"]

# Match every escape of a JSON string, so that "\\ud800" is recognized as a backslash and text.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r"|u([dD][c-fC-F])[0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _one_for_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Go reads U+FFFD for every byte that fits nowhere, Python for every sequence."""
    if isinstance(error, UnicodeDecodeError):
        return "�", error.start + 1
    raise error


codecs.register_error("mcpaudit-byte", _one_for_each_byte)


def mend_body(body: bytes, *, surrogates: bool = True) -> bytes:
    """The body with U+FFFD for bytes that are not UTF-8 and, if asked, for lone surrogates.

    Args:
        body: JSON, or nearly.
        surrogates: whether escapes of lone surrogates are replaced too. ``json`` reads them.
    """
    if not body.isascii():
        body = body.decode("utf-8", "mcpaudit-byte").encode("utf-8")
    if surrogates and _SURROGATE_ESCAPE.search(body):
        body = _ESCAPE.sub(_mend_escape, body.decode("utf-8")).encode("utf-8")
    return body


def _mend_escape(escape: re.Match[str]) -> str:
    text = escape.group()
    is_lone_high = len(text) == 6 and text[2] in "dD" and text[3] in "89abAB"
    return "\\ufffd" if is_lone_high or escape.group(2) else text


class MendBodies:
    """ASGI middleware that does so to the bodies of POST requests.

    Args:
        app: the wrapped application.
        max_bytes: a larger body is passed on in pieces, as it comes, for ``app`` to refuse.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = 4 * 1024 * 1024) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        # The era without sessions is read by a parser that knows lone surrogates.
        versions = {value.decode("latin-1") for name, value in scope["headers"] if name == _VERSION}
        surrogates = not versions & set(MODERN_PROTOCOL_VERSIONS)
        is_read = False

        async def receive_mended() -> Message:
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
                body = mend_body(body, surrogates=surrogates)
            return {"type": "http.request", "body": body, "more_body": more}

        await self.app(scope, receive_mended, send)


_VERSION = b"mcp-protocol-version"
