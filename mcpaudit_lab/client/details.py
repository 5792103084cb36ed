"""Payloads of many events, each asked for by itself, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from mcpaudit_lab.errors import PortalNotFound
from mcpaudit_lab.events import Event

if TYPE_CHECKING:
    from mcpaudit_lab.client.reading import PortalReader

__all__ = ["fetch_details", "fetch_lines"]

_WORKERS: Final = 8
# Enough that no thread waits, little enough that an interrupt loses little.
_AHEAD: Final = 4 * _WORKERS

_ItemT = TypeVar("_ItemT")
_AnswerT = TypeVar("_AnswerT")


def fetch_details(portal: PortalReader, events: Iterable[Event]) -> Iterator[Event]:
    """The events with their payloads, in the order they came.

    One that is gone from the portal meanwhile comes as it is.

    Raises:
        PortalError: of the first that could not be asked for.
    """
    for event, found in _ask_ahead(lambda event: portal.event(event.id), events):
        yield event if found is None else found


def fetch_lines(portal: PortalReader, ids: Iterable[str]) -> Iterator[bytes]:
    """The detail answers of some events, each one line, in the order of the ids.

    Those that are gone from the portal are left out.

    Raises:
        PortalError: of the first that could not be asked for.
    """
    return (line for _, line in _ask_ahead(portal.event_line, ids) if line is not None)


def _ask_ahead(
    ask: Callable[[_ItemT], _AnswerT], items: Iterable[_ItemT]
) -> Iterator[tuple[_ItemT, _AnswerT | None]]:
    """Each item with its answer, None where there is nothing of it any more."""
    waiting: deque[tuple[_ItemT, Future[_AnswerT]]] = deque()
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="details")
    try:
        for item in items:
            waiting.append((item, pool.submit(ask, item)))
            if len(waiting) >= _AHEAD:
                first, found = waiting.popleft()
                yield first, _result(found)
        while waiting:
            first, found = waiting.popleft()
            yield first, _result(found)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(found: Future[_AnswerT]) -> _AnswerT | None:
    try:
        return found.result()
    except PortalNotFound:
        return None
