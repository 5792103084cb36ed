"""The reference server's list and stream, played by a transport with a clock of its own.

Frames have ids neither of SSE nor of events, and times in nanoseconds; rows have times in
microseconds, in the zone of the server. What does not fit into a reader's buffer is dropped
silently. Time goes on with what is asked: nothing here waits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from random import Random
from typing import Any
from uuid import UUID

import httpx2

from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.portal.http.clock import moment_of_us
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import dumps

__all__ = ["ReferencePortal"]

START_US = 1_795_492_210_000_000
_ZONE = timezone(timedelta(hours=-5))
_KEEPALIVE_US = 30_000_000
_FILTERS = ("from", "to", "tool", "user", "session", "success", "q", "limit", "offset", "has")


class ReferencePortal(httpx2.BaseTransport):
    """A portal at which calls arrive every 20 ms.

    Args:
        calls: so many arrive, then it is quiet.
        seed: of what happens by chance.
        losses: so many connections are lost, spread over the calls.
        drop: this share of the frames is dropped.
        repeat_ids: whether request ids repeat.
        ahead_us: its clock is so far ahead of the reader's.
        key: the one it knows.

    Attributes:
        rows: what it has stored.
        on_quiet: called when all was told of, and signs of life were given since.
    """

    def __init__(
        self,
        calls: int,
        *,
        seed: int = 1,
        losses: int = 0,
        drop: float = 0.0,
        repeat_ids: bool = False,
        ahead_us: int = 0,
        key: str = "k",
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - which calls are slow is no secret
        self.now_us = START_US
        self.rows: list[Event] = []
        self.asked: list[httpx2.Request] = []
        self.key = key
        self.refuse = 0
        self.on_quiet: Callable[[], object] = lambda: None
        self._quiet = 0
        self._ahead_us = ahead_us
        self._drop = drop
        self._repeat_ids = repeat_ids
        self._to_come = calls
        # After what a reader asks before it listens.
        self._next_call_us = START_US + 20_000
        self._lost_at = {calls * (n + 1) // (losses + 1) for n in range(losses)}
        self._running: list[tuple[int, int, dict[str, Any]]] = []
        self._by_time: list[tuple[datetime, Event]] = []
        self._frames: deque[bytes] | None = None

    def clock(self) -> float:
        """The reader's clock."""
        return (self.now_us - self._ahead_us) / 1e6

    # Calls

    def advance(self, by_us: int) -> None:
        """Let time pass: calls begin, and what has ended is stored and told of."""
        self.now_us += by_us
        while self._to_come and self._next_call_us <= self.now_us:
            self._begin_call(self._next_call_us)
            self._next_call_us += 20_000
        while self._running and self._running[0][0] <= self.now_us:
            self._store(heapq.heappop(self._running)[2])

    def _begin_call(self, at_us: int) -> None:
        self._to_come -= 1
        slow = self.random.random() < 0.03
        took_ms = self.random.randrange(2000, 55_000) if slow else self.random.randrange(50)
        number = self._to_come % 3 if self._repeat_ids else self._to_come
        moment = moment_of_us(at_us).isoformat(timespec="microseconds")
        wire = {
            "id": str(UUID(int=self.random.getrandbits(128), version=4)),
            "timestamp": f"{moment[:26]}{self.random.randrange(1000):03}Z",
            "duration_ms": took_ms,
            "request_id": f"request-{number}",
            "tool_name": "slow" if slow else "echo",
            "parameters": {"n": self._to_come},
            "success": bool(self.random.randrange(2)),
            "transport": "http",
            "source": "mcp",
        }
        heapq.heappush(self._running, (at_us + took_ms * 1000, self._to_come, wire))

    def _store(self, wire: dict[str, Any]) -> None:
        local = Event(wire).timestamp.astimezone(_ZONE).isoformat(timespec="microseconds")
        row = Event({**wire, "timestamp": local})
        self.rows.append(row)
        self._by_time.append((row.timestamp, row))
        if self._frames is not None and self.random.random() >= self._drop:
            frame = dumps({**wire, "id": ""})
            self._frames.append(f"event: audit\ndata: {frame}\n\n".encode())
        if len(self.rows) in self._lost_at:
            self._frames = None
            self.refuse = self.random.randrange(4)

    # HTTP

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        self.advance(5000)
        if self.refuse:
            self.refuse -= 1
            self.advance(1_000_000)
            raise httpx2.ConnectError("refused", request=request)
        if request.headers.get("x-api-key") != self.key:
            return httpx2.Response(401, stream=_Body(iter([b'{"error":"unauthorized"}'])))
        date = {"date": formatdate(self.now_us / 1e6, usegmt=True)}
        if request.url.path.endswith("/stream"):
            stream = {"content-type": "text/event-stream", **date}
            return httpx2.Response(200, headers=stream, stream=_Body(self._tell()))
        if request.url.path.endswith("/events"):
            body = dumps(self._list(request.url.params)).encode()
            return httpx2.Response(200, headers=date, stream=_Body(iter([body])))
        assert request.url.path.endswith("/export"), request.url.path
        return httpx2.Response(200, headers=date)

    def _list(self, params: httpx2.QueryParams) -> dict[str, Any]:
        # What it does not know it drops without a word; of what comes twice it takes the first.
        asked = {name: params[name] for name in _FILTERS if name in params}
        wanted = EventFilter.from_query(asked.items())
        limit = min(wanted.limit or 50, 1000)
        first = wanted.from_ or moment_of_us(0)
        last = wanted.to or moment_of_us(self.now_us)
        near = [row for moment, row in self._by_time if first <= moment <= last]
        found = contract_order(row for row in near if wanted.matches(row))
        shown = found[wanted.offset : wanted.offset + limit]
        return {
            "events": [row.wire for row in shown],
            "total": len(found),
            "limit": wanted.limit or 50,
            "offset": wanted.offset,
        }

    def _tell(self) -> Iterator[bytes]:
        self._frames = mine = deque[bytes]()
        yield b": connected\n\n"
        while self._frames is mine:
            if mine:
                # Frames arrive in pieces that have nothing to do with their ends.
                told = b"".join(mine)
                mine.clear()
                middle = self.random.randrange(len(told))
                yield told[:middle]
                yield told[middle:]
            elif self._to_come or self._running:
                self.advance(20_000)
            else:
                self._quiet += 1
                if self._quiet > 3:
                    self.on_quiet()
                self.advance(_KEEPALIVE_US)
                yield b": keepalive\n\n"
        raise httpx2.ReadError("the connection is lost")


class _Body(httpx2.SyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks
