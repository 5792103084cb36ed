"""Ends long-running requests when the portal shuts down.

A server such as uvicorn waits for open requests before it runs the application's shutdown, and a
live stream is an open request. So streams watch for the shutdown themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Drain", "run_until"]

_POLL_S: Final = 0.25


class Drain:
    """The shutdown signal of a portal."""

    def __init__(self) -> None:
        self._begun = anyio.Event()

    @property
    def is_draining(self) -> bool:
        """Whether the shutdown has begun."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Begin the shutdown: streams end, ``/readyz`` is 503. Call from the event loop only."""
        self._begun.set()

    async def wait(self) -> None:
        """Wait until the shutdown begins."""
        await self._begun.wait()

    async def watch_signals(self) -> None:
        """Begin the shutdown when the uvicorn server of this process is told to exit.

        For portals that run under a uvicorn that is not ours. uvicorn has no hook for this, so the
        server is found as the owner of the SIGTERM handler and polled four times a second.
        """
        while not self.is_draining:
            owner: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
            if getattr(owner, "should_exit", False) is True:
                self.begin()
            await anyio.sleep(_POLL_S)


async def run_until(
    ended: Callable[[], Awaitable[None]],
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve a long-running request, and complete its response when ``ended`` returns."""
    started = finished = False

    async def send_noting(message: Message) -> None:
        nonlocal started, finished
        started = True
        finished = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await ended()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await app(scope, receive, send_noting)
        group.cancel_scope.cancel()
    if started and not finished:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
