"""The live stream: server-sent events, one frame for each event, after it was stored.

Beyond the recorded frames every one has an ``id:``, the event's number in order of commit, so that
``Last-Event-ID`` resumes where a reader stopped: nothing twice, nothing left out. Whoever reads too
slowly is told what was missed, in a frame ``event: gap``, and from where to read it again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.jsontext import dumps
from mcpaudit_lab.server.drain import run_until
from mcpaudit_lab.server.http_events import read_filter
from mcpaudit_lab.server.subscriptions import Gap

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.portal import Portal
    from mcpaudit_lab.server.store import Stored

__all__ = ["open_stream"]

_HEADERS: Final = {
    "cache-control": "no-store",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
}
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


async def open_stream(portal: Portal, request: Request, access: Access) -> StreamingResponse:
    """``GET /audit/stream``: filters as query parameters, ``Last-Event-ID`` to resume."""
    wanted, _ = read_filter(request)
    last = request.headers.get("last-event-id", "").strip()
    if last and not _NUMBER.fullmatch(last):
        raise FilterError("Last-Event-ID is a number that this stream gave")
    frames = _frames(portal, wanted, int(last) if last else None)
    return _EndingStream(portal, access, frames)


class _EndingStream(StreamingResponse):
    """A stream that ends with the portal, and with the credential that opened it."""

    def __init__(self, portal: Portal, access: Access, frames: AsyncIterator[bytes]) -> None:
        super().__init__(frames, headers=_HEADERS, media_type="text/event-stream")
        # As recorded: without the charset that Starlette adds to any text.
        self.headers["content-type"] = "text/event-stream"
        self._portal = portal
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await run_until(
            lambda: self._portal.until_ended(self._access),
            super().__call__,
            scope,
            receive,
            send,
        )


async def _frames(portal: Portal, wanted: EventFilter, after: int | None) -> AsyncIterator[bytes]:
    subscribed = portal.logger.subscribe(wanted, after=after, buffer=portal.options.stream_buffer)
    async with subscribed as subscription:
        yield b": connected\n\n"
        arrival: asyncio.Future[Stored | Gap] = asyncio.ensure_future(anext(subscription))
        try:
            while True:
                # Not cancelled by the keepalive: what it was reading would have to be read again.
                done, _ = await asyncio.wait({arrival}, timeout=portal.options.keepalive_s)
                if not done:
                    yield b": keepalive\n\n"
                    continue
                try:
                    item = arrival.result()
                except StopAsyncIteration:
                    return
                yield _frame(item)
                arrival = asyncio.ensure_future(anext(subscription))
        finally:
            arrival.cancel()


def _frame(item: Stored | Gap) -> bytes:
    """One whole frame. JSON text has no line ends, so one ``data:`` line is enough."""
    if isinstance(item, Gap):
        told = dumps({"missed": item.missed, "resume_from": str(item.after)})
        return f"event: gap\ndata: {told}\n\n".encode()
    return f"id: {item.number}\nevent: audit\ndata: {item.event.to_json()}\n\n".encode()
