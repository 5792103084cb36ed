"""Payloads of many events, each asked for by itself, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.errors import PortalNotFound
from mcpaudit_lab.events import Event

if TYPE_CHECKING:
    from mcpaudit_lab.client.reading import PortalReader

__all__ = ["fetch_details"]

_WORKERS: Final = 8
# Enough that no thread waits, little enough that an interrupt loses little.
_AHEAD: Final = 4 * _WORKERS


def fetch_details(portal: PortalReader, events: Iterable[Event]) -> Iterator[Event]:
    """The events with their payloads, in the order they came.

    One that is gone from the portal meanwhile comes as it is.

    Raises:
        PortalError: of the first that could not be asked for.
    """
    waiting: deque[tuple[Event, Future[Event]]] = deque()
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="details")
    try:
        for event in events:
            waiting.append((event, pool.submit(portal.event, event.id)))
            if len(waiting) >= _AHEAD:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(event: Event, found: Future[Event]) -> Event:
    try:
        return found.result()
    except PortalNotFound:
        return event
