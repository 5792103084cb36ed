"""The call that leaves is the call that was captured, to the letter.

The MCP SDK writes arguments through its models and ``json``: ``1.10`` would go out as the string
``"1.10"``, ``1e400`` not at all, nesting of some hundred levels neither. So the request is the
SDK's, and its arguments are put in as text right before it leaves: into the HTTP body, or into the
line that a process reads.
"""

from __future__ import annotations

import email.utils
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO, cast

import anyio
import httpx2
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest
from pydantic import PrivateAttr

from mcpaudit_lab.calls import MAX_ANSWER_BYTES, Answer, ReplayStatus
from mcpaudit_lab.record import dumps, loads

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, WriteStream

__all__ = ["CallOnTheWire", "ExactTransport", "exact_stdio", "failed_answer", "retry_after_s"]


# JSON-RPC codes, as the SDK uses them for a connection that closed and a time that ran out.
_UNANSWERED: Final = (-32000, -32001)
# The SDK's error for a server that did not answer in JSON-RPC.
_STAND_INS: Final = (*("Server returned an error response", "Session terminated", "Not Found"),)
_UNREADABLE: Final = (
    *("Failed to parse", "server answered a request with 202", "Unexpected content type"),
)
_MAX_WAIT_S: Final = 3600.0
# A key that is not taken, and an endpoint or session that is not there: something to put right.
_NO_ENTRY: Final = (401, 403)
_COME_AGAIN: Final = (*_NO_ENTRY, 404)


def failed_answer(wire: CallOnTheWire, code: int, message: str) -> Answer:
    """The answer that corresponds to an error of the SDK's client.

    Args:
        wire: what became of the call on its way.
        code: the JSON-RPC code of the error.
        message: its message.
    """
    if not wire.sent:
        return Answer(ReplayStatus.UNSENT, error=f"not sent: {wire.failure or message}")
    if wire.status == 429:
        wait_s = retry_after_s(wire.retry_after)
        return Answer(ReplayStatus.LIMITED, error="HTTP 429", retry_after_s=wait_s)
    if message.startswith("Redirect to "):
        return Answer(
            ReplayStatus.REFUSED, error="the target sends elsewhere, which is not followed"
        )
    if wire.status in _NO_ENTRY or (message in _STAND_INS and wire.status >= 400):
        return _http_failure(wire)
    if code in _UNANSWERED or message.startswith(_UNREADABLE):
        return Answer(ReplayStatus.UNCERTAIN, error=f"no answer that can be read: {message}")
    return Answer(ReplayStatus.FAILED, error=message)


def _http_failure(wire: CallOnTheWire) -> Answer:
    """An HTTP status with nothing of JSON-RPC behind it."""
    if wire.status in _COME_AGAIN:
        return Answer(ReplayStatus.UNSENT, error=f"the target answers HTTP {wire.status}")
    # 408 is a proxy's: it does not know what became of the call behind it.
    if wire.status < 500 and wire.status != 408:
        return Answer(ReplayStatus.REFUSED, error=f"the target answers HTTP {wire.status}")
    return Answer(ReplayStatus.UNCERTAIN, error=wire.failure or f"HTTP {wire.status}")


def retry_after_s(header: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """How long a ``Retry-After`` asks to wait, in seconds (RFC 9110 section 10.2.3).

    Args:
        header: whole seconds, or a date; anything else, or empty, means one second.
        now: the time, with a zone.

    Returns:
        1 at least, 3,600 at most.
    """
    header = header.strip()
    seconds = 1.0
    if header.isascii() and header.isdigit():
        seconds = float(header[:9])
    elif header:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - now()).total_seconds()
        except (TypeError, ValueError):
            seconds = 1.0
    return min(max(seconds, 1.0), _MAX_WAIT_S)


_CALL: Final = "tools/call"
# Nothing was sent yet when these happen.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@dataclass(slots=True)
class CallOnTheWire:
    """The one call that a connection has under way.

    Attributes:
        arguments: what goes out; None for a call without arguments.
        sent: whether it left, or may have.
        status: the HTTP status of the response; 0 if there was none.
        retry_after: the header of that name.
        failure: what went wrong with the connection.
    """

    arguments: Any = field(default=None, repr=False)
    sent: bool = False
    status: int = 0
    retry_after: str = ""
    failure: str = ""

    def begin(self, arguments: Any) -> None:
        """The next call is this one."""
        self.arguments = arguments
        self.sent = False
        self.status, self.retry_after, self.failure = 0, "", ""

    def text(self, message: dict[str, Any]) -> str:
        """The request as it leaves."""
        params = {name: value for name, value in message["params"].items() if name != "arguments"}
        if self.arguments is not None:
            params["arguments"] = self.arguments
        return dumps({**message, "params": params})


class ExactTransport(httpx2.AsyncBaseTransport):
    """Puts the arguments of calls into the request bodies, and notes the result of each request.

    Args:
        call: the call under way.
        inner: what really sends; httpx2's own by default.
        max_bytes: the most that the answer to one call may have.
    """

    def __init__(
        self,
        call: CallOnTheWire,
        inner: httpx2.AsyncBaseTransport | None = None,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._call = call
        self._max_bytes = max_bytes
        self._inner = inner or httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        message = loads(await request.aread()) if request.method == "POST" else None
        if not isinstance(message, dict) or message.get("method") != _CALL:
            return await self._inner.handle_async_request(request)
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name.lower() != b"content-length"
        ]
        exact = httpx2.Request(
            request.method,
            request.url,
            headers=headers,
            content=self._call.text(message).encode(),
            extensions=request.extensions,
        )
        self._call.sent = True
        try:
            response = await self._inner.handle_async_request(exact)
        except httpx2.HTTPError as error:
            self._call.sent = not isinstance(error, _NOT_SENT)
            self._call.failure = type(error).__name__
            self._call.status = 503
            # An answer, so that the SDK fails this call and not the whole connection.
            return httpx2.Response(503, request=request)
        response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream), self._max_bytes)
        self._call.status = response.status_code
        self._call.retry_after = response.headers.get("retry-after", "")
        return response

    async def aclose(self) -> None:
        """Close what really sends."""
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    """A response body that ends with an error if it is incomplete."""

    def __init__(self, inner: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._max_bytes
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError(f"the answer has more than {self._max_bytes:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _ExactRequest(JSONRPCRequest):
    """A request whose JSON is given."""

    _text: str = PrivateAttr(default="")

    def model_dump_json(self, **_: Any) -> str:
        """The text, however it was asked for."""
        return self._text


class _ExactStream:
    """The stream to a process, with the arguments of calls put in."""

    def __init__(self, inner: WriteStream[SessionMessage], call: CallOnTheWire) -> None:
        self._inner = inner
        self._call = call

    async def send(self, item: SessionMessage) -> None:
        """Send one message."""
        message = item.message
        if isinstance(message, JSONRPCRequest) and message.method == _CALL:
            exact = _ExactRequest(**dict(message))
            exact._text = self._call.text(  # noqa: SLF001 - our own class, a few lines above
                message.model_dump(by_alias=True, mode="json", exclude_unset=True)
            )
            self._call.sent = True
            item = SessionMessage(exact, metadata=item.metadata)
        await self._inner.send(item)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(exc_type, exc_val, exc_tb)


@asynccontextmanager
async def exact_stdio(
    parameters: StdioServerParameters, call: CallOnTheWire
) -> AsyncIterator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """Talk to a process over its standard input and output, calls exact.

    Its standard error is discarded: it may repeat supplied secrets.
    """
    async with (
        await anyio.open_file(os.devnull, "w") as nowhere,
        stdio_client(parameters, cast("TextIO", nowhere.wrapped)) as (read, write),
    ):
        yield read, _ExactStream(write, call)
