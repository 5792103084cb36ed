"""A portal that says what a test tells it to: connections of its stream, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import formatdate
from typing import TypeAlias

import httpx2

from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import dumps

__all__ = ["Connection", "ScriptedPortal", "frame_of"]

Connection: TypeAlias = httpx2.Response | Exception | Sequence[bytes | Exception]


def frame_of(event: Event, number: int | None = None, data: str | None = None) -> bytes:
    """A frame as our portal sends it; without a number, as the reference server does."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: audit\ndata: {event.to_json() if data is None else data}\n\n".encode()


class ScriptedPortal(httpx2.BaseTransport):
    """Answers lists from rows, and the stream from a script; at its end it stops the reader.

    Attributes:
        rows: what the list of events has.
        streams: the requests for a stream.
        failing: how many requests for a list fail yet.
        on_end: called when there is nothing more to say.
    """

    def __init__(self, *connections: Connection, rows: Iterable[Event] = ()) -> None:
        self.rows = list(rows)
        self.hidden: list[Event] = []
        self.streams: list[httpx2.Request] = []
        self.lists: list[httpx2.Request] = []
        self.failing = 0
        self.now_s = 1_795_500_000.0
        self.on_end: Callable[[], object] = lambda: None
        self._script = list(connections)

    def clock(self) -> float:
        return self.now_s

    @property
    def resumed_from(self) -> list[str | None]:
        """The ``Last-Event-ID`` of each connection."""
        return [request.headers.get("last-event-id") for request in self.streams]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        date = {"date": formatdate(self.now_s, usegmt=True)}
        if request.url.path.endswith("/stream"):
            self.streams.append(request)
            return self._connect(request, date)
        if request.url.path.endswith("/export"):
            return httpx2.Response(200, headers={"x-export-total": "0", **date})
        self.lists.append(request)
        if len(self.lists) > 2 and self.failing:
            self.failing -= 1
            return httpx2.Response(503, headers=date, stream=_Body(iter([b"busy"])))
        wanted = EventFilter.from_query(request.url.query.decode())
        found = contract_order(row for row in self.rows if wanted.matches(row))
        shown = [row.wire for row in found[wanted.offset : wanted.offset + (wanted.limit or 50)]]
        body = dumps({"events": shown, "total": len(found)}).encode()
        return httpx2.Response(200, headers=date, stream=_Body(iter([body])))

    def _connect(self, request: httpx2.Request, date: dict[str, str]) -> httpx2.Response:
        # Stored while the reader began to listen.
        self.rows += self.hidden
        self.hidden = []
        if not self._script:
            self.on_end()
            raise httpx2.ConnectError("the play is over", request=request)
        connection = self._script.pop(0)
        if isinstance(connection, httpx2.Response):
            return connection
        if isinstance(connection, Exception):
            raise connection
        headers = {"content-type": "text/event-stream", **date}
        return httpx2.Response(200, headers=headers, stream=_Body(_said(connection)))


def _said(chunks: Iterable[bytes | Exception]) -> Iterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


class _Body(httpx2.SyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks
