"""A recorder between a client and a server that speaks streamable HTTP, as an ASGI application.

Every request goes to the server at the same path with the client's headers and body, and every
response comes back unchanged, except for headers of a single connection (RFC 9110 section 7.6.1).
Credentials pass and are never stored. Responses are requested uncompressed, so that they can be
read while they pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import httpx2

from mcpaudit_lab.recorder.calls import CallTracker, OpenCall
from mcpaudit_lab.recorder.keeping import Keeper, refusal
from mcpaudit_lab.recorder.reading import BodyReader, Piece, Reader, SseReader
from mcpaudit_lab.server.audit import read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send

__all__ = ["HttpRecorder"]

_Headers = list[tuple[bytes, bytes]]

_ONE_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_SESSION: Final = b"mcp-session-id"
_JSON: Final = (b"content-type", b"application/json")
_ACCEPTED: Final = 202
_BAD_REQUEST: Final = 400
_REFUSED: Final = (401, 403)


class HttpRecorder:
    """Passes requests to one server.

    Args:
        url: of the server; its path plays no part, since requests bring theirs.
        client: asks the server; it follows no redirects and keeps no cookies.
        tracker: makes events of messages. Used from the event loop alone.
        keeper: stores them.
    """

    def __init__(
        self, url: str, client: httpx2.AsyncClient, tracker: CallTracker, keeper: Keeper
    ) -> None:
        self._origin = httpx2.URL(url)
        self._client = client
        self._tracker = tracker
        self._keeper = keeper
        self._storing = anyio.Lock()
        self._exchanges = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await _Exchange(self, scope, next(self._exchanges)).run(receive, send)

    def request(self, scope: Scope, headers: _Headers, content: Any) -> httpx2.Request:
        """The request to the server: only what the client sent, and the server's name."""
        target = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        # The target as it came: a URL would be spelled anew.
        return httpx2.Request(
            scope["method"],
            self._origin,
            headers=headers,
            content=content,
            extensions={"target": target},
        )

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Ask the server."""
        return await self._client.send(request, stream=True, auth=None, follow_redirects=False)

    async def keep(self, keep: Callable[[], bool]) -> bool:
        """Store something from another thread, in the order of asking."""
        kept = False
        with anyio.CancelScope(shield=True):
            async with self._storing:
                kept = await anyio.to_thread.run_sync(keep)
        return kept

    async def open(self, calls: Sequence[OpenCall]) -> bool:
        """Store calls; returns whether they may be sent on."""
        events = list(map(self._tracker.unanswered, calls))
        return not calls or await self.keep(lambda: self._keeper.open(events))

    async def complete(self, events: Sequence[Any]) -> bool:
        """Store finished calls; returns whether the client may have the responses."""
        return not events or await self.keep(lambda: self._keeper.complete(events))

    @property
    def tracker(self) -> CallTracker:
        """Makes events of messages."""
        return self._tracker


class _RefusedError(Exception):
    """A call in a body that passes already cannot be stored."""


class _Exchange:
    """One request and its answer."""

    def __init__(self, recorder: HttpRecorder, scope: Scope, number: int) -> None:
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._scope = scope
        self._headers: _Headers = scope["headers"]
        self._session = _header(self._headers, _SESSION).decode("latin-1")
        self._own_scope = f"exchange {number}"
        self._calls: list[OpenCall] = []
        self._started = False

    @property
    def _where(self) -> str:
        return f"session {self._session}" if self._session else self._own_scope

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve it; the client may leave at any time."""
        async with anyio.create_task_group() as group:
            body_read = anyio.Event()

            async def watch() -> None:
                await body_read.wait()
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                await self._serve(receive, send, body_read)
            except anyio.get_cancelled_exc_class():
                await self._left()
                raise
            group.cancel_scope.cancel()

    async def _left(self) -> None:
        """The client is gone. In a session it may come back for the answer."""
        if not self._session:
            await self._recorder.complete(self._tracker.cancel(self._calls))

    async def _serve(  # noqa: C901 - the course of one request, read best in one place
        self, receive: Receive, send: Send, body_read: anyio.Event
    ) -> None:
        if self._scope["method"] == "POST" and _header(self._headers, b"content-encoding"):
            body_read.set()
            await self._answer(send, 415, [], b"a recorder reads requests that are not compressed")
            return
        body = _body(receive, body_read)
        reader = BodyReader()
        first: list[Piece] = []
        ended = False
        # As much as is held, so that a refusal finds nothing sent yet.
        while not first and not ended:
            chunk = await anext(body, None)
            ended = chunk is None
            first = reader.end() if chunk is None else reader.feed(chunk)
        errors = await self._open(first)
        if errors is not None:
            await self._answer(send, 200, [_JSON], errors)
            return

        async def content() -> AsyncIterator[bytes]:
            for piece in first:
                yield piece.data
            async for chunk in body:
                pieces = reader.feed(chunk)
                if await self._open(pieces) is not None:
                    raise _RefusedError
                for piece in pieces:
                    yield piece.data

        whole = b"".join([piece.data for piece in first])
        headers = _passing(self._headers, without=(b"host", b"accept-encoding"))
        headers.append((b"accept-encoding", b"identity"))
        request = self._recorder.request(
            self._scope, headers, (whole or None) if ended else content()
        )
        try:
            response = await self._recorder.send(request)
        except _RefusedError:
            errors = _errors(self._calls, answered=False, batch=False)
            await self._answer(send, 200, [_JSON], errors)
            return
        except httpx2.HTTPError as error:
            why = f"the server cannot be reached: {type(error).__name__}"
            await self._recorder.complete(self._tracker.give_up(self._calls, why))
            await self._answer(send, 502, [], why.encode())
            return
        try:
            await self._pass(response, send)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _open(self, pieces: list[Piece]) -> bytes | None:
        """Store the calls in some pieces; returns the errors for the client if that fails."""
        opened: list[OpenCall] = []
        for piece in pieces:
            for read in piece.messages:
                call, done = self._tracker.from_client(
                    self._where,
                    read.message,
                    sizes=read.sizes,
                    headers=read_headers(self._headers),
                    session_id=self._session,
                )
                await self._recorder.complete(done)
                if call is not None:
                    opened.append(call)
        self._calls += opened
        if await self._recorder.open(opened):
            return None
        for call in opened:
            self._tracker.forget(call)
        return _errors(opened, answered=False, batch=any(piece.batch for piece in pieces))

    # --- the answer -------------------------------------------------------------------------------

    async def _pass(self, response: httpx2.Response, send: Send) -> None:
        headers: _Headers = [(name.lower(), value) for name, value in response.headers.raw]
        given = _header(headers, _SESSION).decode("latin-1")
        if given and not self._session:
            # The response to initialize: it describes the session.
            where = self._where
            self._session = given
            self._tracker.rename(where, self._where)
        kind = _header(headers, b"content-type").partition(b";")[0].strip().lower()
        reader = _reader(kind, _header(headers, b"content-encoding"))
        status = response.status_code
        # The content length would be wrong if a response in the stream is withheld.
        streams = kind == b"text/event-stream"
        passing = _passing(response.headers.raw, (b"content-length",) if streams else ())
        start: Message = {"type": "http.response.start", "status": status, "headers": passing}
        if streams:
            await self._start(send, start)
        async for chunk in response.aiter_raw():
            pieces = [Piece(chunk)] if reader is None else reader.feed(chunk)
            await self._hand_over(pieces, send, start)
        await self._hand_over([] if reader is None else reader.end(), send, start)
        await self._end(status, readable=reader is not None)
        await self._start(send, start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hand_over(self, pieces: list[Piece], send: Send, start: Message) -> None:
        for piece in pieces:
            done = [
                (read.message.get("id"), event)
                for read in piece.messages
                for event in self._tracker.from_server(self._where, read.message, sizes=read.sizes)
            ]
            data = piece.data
            if not await self._recorder.complete([event for _, event in done]):
                if not piece.whole:
                    raise RuntimeError("an answer cannot be stored, and a part of it has passed")
                errors = [refusal(rpc_id, answered=True) for rpc_id, _ in done]
                data = b"[" + b",".join(errors) + b"]" if piece.batch else errors[0]
                if self._started:
                    data = b"data: " + data + b"\n\n"
                else:
                    left = [h for h in start["headers"] if h[0].lower() != b"content-length"]
                    start["headers"] = [*left, (b"content-length", str(len(data)).encode())]
            await self._start(send, start)
            await send({"type": "http.response.body", "body": data, "more_body": True})

    async def _start(self, send: Send, start: Message) -> None:
        if not self._started:
            self._started = True
            await send(start)

    async def _end(self, status: int, *, readable: bool) -> None:
        """The answer is over: calls that it did not answer get none, or later in their session."""
        tracker = self._tracker
        if status >= _BAD_REQUEST:
            category = "auth" if status in _REFUSED else "handler"
            events = tracker.give_up(self._calls, f"HTTP {status}", category)
        elif not readable and status != _ACCEPTED:
            why = "the response has a content encoding that the recorder does not support"
            events = tracker.give_up(self._calls, why)
        elif not self._session:
            events = tracker.drop(self._own_scope)
        else:
            events = []
        if self._scope["method"] == "DELETE" and self._session and status < _BAD_REQUEST:
            events += tracker.drop(self._where)
        await self._recorder.complete(events)
        if not self._session:
            tracker.drop(self._own_scope)

    async def _answer(self, send: Send, status: int, headers: _Headers, body: bytes) -> None:
        """Answer in the server's place."""
        length = (b"content-length", str(len(body)).encode())
        plain = [] if headers else [(b"content-type", b"text/plain; charset=utf-8")]
        start: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, *plain, length],
        }
        await self._start(send, start)
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _body(receive: Receive, read: anyio.Event) -> AsyncIterator[bytes]:
    """The client's body as it comes; ``read`` is set at its end."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            read.set()
            raise httpx2.ReadError("the client left before its request was complete")
        more = message.get("more_body", False)
        if not more:
            read.set()
        if message.get("body"):
            yield message["body"]


def _reader(kind: bytes, encoding: bytes) -> Reader | None:
    """What reads an answer; None for one that cannot be read."""
    if encoding.lower() not in (b"", b"identity"):
        return None
    return SseReader() if kind == b"text/event-stream" else BodyReader()


def _errors(calls: Sequence[OpenCall], *, answered: bool, batch: bool) -> bytes:
    errors = [refusal(call.jsonrpc_id, answered=answered) for call in calls]
    return b"[" + b",".join(errors) + b"]" if batch else errors[0]


def _header(headers: _Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")


def _passing(headers: _Headers, without: tuple[bytes, ...] = ()) -> _Headers:
    """The headers that are not of one connection only."""
    named = {
        token.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for token in value.split(b",")
    }
    left_out = _ONE_HOP | named | set(without)
    return [(key, value) for key, value in headers if key.lower() not in left_out]
