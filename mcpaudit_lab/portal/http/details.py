"""Payloads of many events: one request each, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from mcpaudit_lab.errors import PortalError, PortalNotFound
from mcpaudit_lab.record import Event

__all__ = ["UNREADABLE_STATUS", "ask_ahead", "fetch_details"]

UNREADABLE_STATUS: Final = 422
"""What a portal answers for an event whose row, or whose payload's, cannot be read."""
_WORKERS: Final = 8
# Enough that no thread waits, little enough that an interrupt loses little.
_AHEAD: Final = 4 * _WORKERS

_ItemT = TypeVar("_ItemT")
_AnswerT = TypeVar("_AnswerT")


def fetch_details(fetch: Callable[[str], Event], events: Iterable[Event]) -> Iterator[Event]:
    """The events with their payloads, in the order they came.

    Args:
        fetch: asks the portal for the whole of an event, by its id; called in threads.
        events: the events without payloads.

    An event that was deleted from the portal, or that the portal cannot read, is returned
    unchanged.

    Raises:
        PortalError: of the first that could not be asked for.
    """
    for event, found in ask_ahead(lambda event: fetch(event.id), events):
        yield event if found is None else found


def ask_ahead(
    ask: Callable[[_ItemT], _AnswerT], items: Iterable[_ItemT], *, ahead: int = _AHEAD
) -> Iterator[tuple[_ItemT, _AnswerT | None]]:
    """Each item with its answer, in order; None where the portal has none.

    None means that the portal no longer has the item, or cannot read its row.

    Args:
        ask: asks about one item; called in threads.
        items: the items.
        ahead: how many are asked about before the first is taken.

    Raises:
        PortalError: of the first that could not be asked about.
    """
    waiting: deque[tuple[_ItemT, Future[_AnswerT]]] = deque()
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="details")
    try:
        for item in items:
            waiting.append((item, pool.submit(ask, item)))
            if len(waiting) >= ahead:
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
    except PortalError as error:
        if error.status != UNREADABLE_STATUS:
            raise
        return None
