"""An ASGI reverse proxy that records the calls to a server over streamable HTTP.

Requests are forwarded to the same path with the client's headers and body, and responses are
returned as the server sent them, except for hop-by-hop headers (RFC 9110 section 7.6.1).
Credentials are forwarded and never stored. The proxy requests uncompressed responses, so that it
can decode them on the way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import httpx2

from mcpaudit_lab.formats import Call
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.recorder.call_writer import CallWriter, refusal
from mcpaudit_lab.recorder.decoders import BodyDecoder, Decoder, Piece, SseDecoder
from mcpaudit_lab.server.audit import read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send

__all__ = ["HttpRecorder"]

_Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
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
    """Forwards requests to one server and records their calls.

    Args:
        url: the server's URL; its path is ignored, since each request has its own.
        client: sends the requests; must follow no redirects and keep no cookies.
        tracker: turns messages into events. Used only from the event loop.
        writer: stores the events.
    """

    def __init__(
        self, url: str, client: httpx2.AsyncClient, tracker: CallTracker, writer: CallWriter
    ) -> None:
        self._origin = httpx2.URL(url)
        self._client = client
        self.tracker = tracker
        self._writer = writer
        self._storing = anyio.Lock()
        self._exchanges = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await _Exchange(self, scope, next(self._exchanges)).run(receive, send)

    def request(self, scope: Scope, headers: _Headers, content: Any) -> httpx2.Request:
        """Build the upstream request: what the client sent, with the server's host name."""
        target = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        # Pass the raw target: httpx would normalize a URL.
        return httpx2.Request(
            scope["method"],
            self._origin,
            headers=headers,
            content=content,
            extensions={"target": target},
        )

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the server; the response body is streamed."""
        return await self._client.send(request, stream=True, auth=None, follow_redirects=False)

    async def _write(self, write: Callable[[], bool]) -> bool:
        """Run one store write in a worker thread; writes run in the order of the calls."""
        written = False
        with anyio.CancelScope(shield=True):
            async with self._storing:
                written = await anyio.to_thread.run_sync(write)
        return written

    async def open(self, calls: Sequence[Call]) -> bool:
        """Store open calls; returns whether they may be forwarded."""
        events = list(map(self.tracker.pending_event, calls))
        return not calls or await self._write(lambda: self._writer.open(events))

    async def complete(self, events: Sequence[Any]) -> bool:
        """Store completed calls; returns whether the client may get the responses."""
        return not events or await self._write(lambda: self._writer.complete(events))


class _CallRefusedError(Exception):
    """A call cannot be stored, and a part of its request body was forwarded already."""


class _Exchange:
    """One request and its response."""

    def __init__(self, recorder: HttpRecorder, scope: Scope, number: int) -> None:
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._scope = scope
        self._headers: _Headers = scope["headers"]
        self._session = _header(self._headers, _SESSION).decode("latin-1")
        self._own_scope = f"exchange {number}"
        self._calls: list[Call] = []
        self._started = False

    @property
    def _where(self) -> str:
        return f"session {self._session}" if self._session else self._own_scope

    async def run(self, receive: Receive, send: Send) -> None:
        """Serve the request; stops when the client disconnects."""
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
                await self._on_disconnect()
                raise
            group.cancel_scope.cancel()

    async def _on_disconnect(self) -> None:
        """Handle a disconnect. In a session the client may still come back for the response."""
        if not self._session:
            await self._recorder.complete(self._tracker.cancel(self._calls))

    async def _serve(  # noqa: C901 - the steps of one request read best in one place
        self, receive: Receive, send: Send, body_read: anyio.Event
    ) -> None:
        if self._scope["method"] == "POST" and _header(self._headers, b"content-encoding"):
            body_read.set()
            message = b"the recorder cannot read compressed requests: send the body uncompressed"
            await self._respond(send, 415, [], message)
            return
        body = _body(receive, body_read)
        decoder = BodyDecoder()
        first: list[Piece] = []
        ended = False
        # Decode before forwarding anything, so that a call can still be refused.
        while not first and not ended:
            chunk = await anext(body, None)
            ended = chunk is None
            first = decoder.end() if chunk is None else decoder.feed(chunk)
        errors = await self._open(first)
        if errors is not None:
            await self._respond(send, 200, [_JSON], errors)
            return

        async def content() -> AsyncIterator[bytes]:
            for piece in first:
                yield piece.data
            async for chunk in body:
                pieces = decoder.feed(chunk)
                if await self._open(pieces) is not None:
                    raise _CallRefusedError
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
        except _CallRefusedError:
            errors = _errors(self._calls, batch=False)
            await self._respond(send, 200, [_JSON], errors)
            return
        except httpx2.HTTPError as error:
            why = f"the server cannot be reached: {type(error).__name__}"
            await self._recorder.complete(self._tracker.fail_calls(self._calls, why))
            await self._respond(send, 502, [], why.encode())
            return
        try:
            await self._pass(response, send)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _open(self, pieces: list[Piece]) -> bytes | None:
        """Store the calls in some pieces; returns the errors for the client if that fails."""
        opened: list[Call] = []
        for piece in pieces:
            for decoded in piece.messages:
                call, done = self._tracker.on_client_message(
                    self._where,
                    decoded.message,
                    sizes=decoded.sizes,
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
            self._tracker.discard(call)
        return _errors(opened, batch=any(piece.batch for piece in pieces))

    # --- the response -----------------------------------------------------------------------------

    async def _pass(self, response: httpx2.Response, send: Send) -> None:
        headers: _Headers = [(name.lower(), value) for name, value in response.headers.raw]
        given = _header(headers, _SESSION).decode("latin-1")
        if given and not self._session:
            # The response to initialize: the handshake belongs to the new session.
            where = self._where
            self._session = given
            self._tracker.adopt_session(where, self._where)
        kind = _header(headers, b"content-type").partition(b";")[0].strip().lower()
        decoder = _decoder_for(kind, _header(headers, b"content-encoding"))
        status = response.status_code
        # The length of a stream changes when one of its responses is withheld.
        streams = kind == b"text/event-stream"
        passing = _passing(response.headers.raw, (b"content-length",) if streams else ())
        start: Message = {"type": "http.response.start", "status": status, "headers": passing}
        if streams:
            await self._start(send, start)
        async for chunk in response.aiter_raw():
            pieces = [Piece(chunk)] if decoder is None else decoder.feed(chunk)
            await self._send_pieces(pieces, send, start)
        await self._send_pieces([] if decoder is None else decoder.end(), send, start)
        await self._end(status, readable=decoder is not None)
        await self._start(send, start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pieces(self, pieces: list[Piece], send: Send, start: Message) -> None:
        for piece in pieces:
            done = [
                (decoded.message.get("id"), event)
                for decoded in piece.messages
                for event in self._tracker.on_server_message(
                    self._where, decoded.message, sizes=decoded.sizes
                )
            ]
            data = piece.data
            if not await self._recorder.complete([event for _, event in done]):
                if not piece.whole:
                    raise RuntimeError("a response cannot be stored, but a part of it was sent")
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
        """Close the calls that the response left open, unless their session may answer later."""
        tracker = self._tracker
        if status >= _BAD_REQUEST:
            category = "auth" if status in _REFUSED else "handler"
            events = tracker.fail_calls(self._calls, f"HTTP {status}", category)
        elif not readable and status != _ACCEPTED:
            why = "the response has a content encoding that the recorder cannot read"
            events = tracker.fail_calls(self._calls, why)
        elif not self._session:
            events = tracker.close_scope(self._own_scope)
        else:
            events = []
        if self._scope["method"] == "DELETE" and self._session and status < _BAD_REQUEST:
            events += tracker.close_scope(self._where)
        await self._recorder.complete(events)
        if not self._session:
            tracker.close_scope(self._own_scope)

    async def _respond(self, send: Send, status: int, headers: _Headers, body: bytes) -> None:
        """Send a response of the recorder's own."""
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
    """The chunks of the client's body; sets ``read`` at its end."""
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


def _decoder_for(kind: bytes, encoding: bytes) -> Decoder | None:
    """The decoder for a response; None for a content encoding that cannot be decoded."""
    if encoding.lower() not in (b"", b"identity"):
        return None
    return SseDecoder() if kind == b"text/event-stream" else BodyDecoder()


def _errors(calls: Sequence[Call], *, batch: bool) -> bytes:
    errors = [refusal(call.jsonrpc_id, answered=False) for call in calls]
    return b"[" + b",".join(errors) + b"]" if batch else errors[0]


def _header(headers: _Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")


def _passing(headers: _Headers, without: tuple[bytes, ...] = ()) -> _Headers:
    """The end-to-end headers: without hop-by-hop ones and those in ``without``."""
    named = {
        token.strip().lower()
        for key, value in headers
        if key.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | named | set(without)
    return [(key, value) for key, value in headers if key.lower() not in dropped]
