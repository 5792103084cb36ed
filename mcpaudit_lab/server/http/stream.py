"""The live stream: server-sent events, one frame for each event, after it was stored.

In addition to the recorded frames, each frame has an ``id:``, the event's number in order of
commit, so that ``Last-Event-ID`` resumes exactly where a reader stopped. A reader that is too slow
gets a frame ``event: gap`` with the number of missed events and where to resume.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import anyio
from starlette.responses import Response

from mcpaudit_lab.errors import FilterError, StoreUnavailable
from mcpaudit_lab.server.http.answers import log_failure
from mcpaudit_lab.server.http.drain import run_until
from mcpaudit_lab.server.http.events import read_filter

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
        raise FilterError("Last-Event-ID is a number that this stream gave")
    return _EventStream(portal, access, wanted, int(last) if last else None)


class _EventStream(Response):
    """The answer: it ends with the portal, and with the credential that opened it.

    Not Starlette's streaming response: one task waits for events, another for the time of the next
    keepalive, and both write. A generator would need a new task for every frame to do the same.
    """

    def __init__(
        self, portal: Portal, access: Access, wanted: EventFilter, after: int | None
    ) -> None:
        super().__init__(headers=_HEADERS)
        # As recorded: without the charset that Starlette adds to any text; and of no known length.
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
            lambda: self._portal.until_ended(self._access), self._run, scope, receive, send
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
                    await self._write(send, self._portal.frames.frame_of(item))
            except StoreUnavailable as error:
                # The reader comes back with the number of the last event it got.
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
    """Cancel when the reader hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
