"""The live stream: server-sent events, one frame for each stored event.

Unlike the recorded frames, each has an ``id:``, the event's commit number. ``Last-Event-ID``
resumes after it without duplicates or gaps. A reader that is too slow gets a frame ``event: gap``
with the number of missed events and the id to resume from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import anyio
from starlette.responses import Response

from mcpaudit_lab.errors import FilterError, StoreUnavailable
from mcpaudit_lab.server.http.drain import run_until
from mcpaudit_lab.server.http.events import read_filter
from mcpaudit_lab.server.http.responses import log_failure

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = ["open_stream"]


_HEADERS: Final = {
    "cache-control": "no-store",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
}
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


async def open_stream(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/stream``: filters as query parameters, ``Last-Event-ID`` to resume."""
    wanted, _ = read_filter(request)
    last = request.headers.get("last-event-id", "").strip()
    if last and not _NUMBER.fullmatch(last):
        raise FilterError("Last-Event-ID must be a number from this stream")
    return _EventStream(portal, access, wanted, int(last) if last else None)


class _EventStream(Response):
    """The streaming response; it ends with the portal or with the caller's access.

    Not Starlette's ``StreamingResponse``: here one task waits for events, another for the next
    keepalive, and both write. A generator would need a new task for every frame.
    """

    def __init__(
        self, portal: Portal, access: Access, wanted: EventFilter, after: int | None
    ) -> None:
        super().__init__(headers=_HEADERS)
        # As recorded: without Starlette's charset for text types and without a length.
        self.headers["content-type"] = "text/event-stream"
        del self.headers["content-length"]
        self._portal = portal
        self._access = access
        self._wanted = wanted
        self._after = after
        self._lock = anyio.Lock(fast_acquire=True)
        self._written_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await run_until(
            lambda: self._portal.wait_until_ended(self._access), self._run, scope, receive, send
        )

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        logger, buffer = self._portal.logger, self._portal.options.stream_buffer
        subscribed = logger.subscribe(self._wanted, after=self._after, buffer=buffer)
        async with subscribed as subscription, anyio.create_task_group() as group:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            await self._write(send, b": connected\n\n")
            group.start_soon(self._keep_alive, send)
            group.start_soon(_until_left, receive, group.cancel_scope)
            try:
                async for item in subscription:
                    await self._write(send, self._portal.frames.frame_for(item))
            except StoreUnavailable as error:
                # The client reconnects with the number of its last event.
                log_failure("a live stream ended", error)
            group.cancel_scope.cancel()

    async def _write(self, send: Send, frame: bytes) -> None:
        async with self._lock:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        self._written_s = anyio.current_time()

    async def _keep_alive(self, send: Send) -> None:
        pause_s = self._portal.options.keepalive_s
        while True:
            quiet_s = anyio.current_time() - self._written_s
            if quiet_s >= pause_s:
                await self._write(send, b": keepalive\n\n")
                quiet_s = 0.0
            await anyio.sleep(pause_s - quiet_s)


async def _until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel ``scope`` when the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
