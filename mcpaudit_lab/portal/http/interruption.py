"""Ending requests from another thread, including those that wait for a response.

A thread that reads from a socket waits for data or a time limit. Shutting the socket down from
outside ends that at once, on every platform, and leaves closing to its owner. The sockets are known
from the transport's trace events.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

__all__ = ["Interruption"]


class Interruption:
    """Whether to stop, and the sockets that must hear of it.

    :meth:`watch` is a request hook of an ``httpx2.Client``: it must be there from its beginning.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def is_set(self) -> bool:
        """Whether :meth:`interrupt` was called."""
        return self._stopped.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a time, or until interrupted; returns whether it was interrupted."""
        return self._stopped.wait(timeout_s)

    def interrupt(self) -> None:
        """End current waits and all later ones. Callable from any thread."""
        self._stopped.set()
        with self._lock:
            for item in self._sockets:
                _shut_down(item)
            self._sockets.clear()

    def watch(self, request: httpx2.Request) -> None:
        """Learn of the sockets that a request opens.

        Raises:
            httpx2.ConnectError: interrupted.
        """
        import httpx2

        if self.is_set():
            raise httpx2.ConnectError("stopped", request=request)
        request.extensions["trace"] = self._trace

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        opened = info["return_value"].get_extra_info("socket")
        if not isinstance(opened, socket.socket):
            return
        with self._lock:
            # One that was closed, or that became another by TLS, has no number any more.
            self._sockets = [item for item in self._sockets if item.fileno() >= 0]
            self._sockets.append(opened)
            if self.is_set():
                _shut_down(opened)


def _shut_down(item: socket.socket) -> None:
    with suppress(OSError):
        # That of the plain socket: TLS would first say goodbye, and may wait for an answer.
        socket.socket.shutdown(item, socket.SHUT_RDWR)
