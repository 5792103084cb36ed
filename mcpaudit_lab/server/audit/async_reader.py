"""Reads from a store for asyncio: every query runs in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Generic, TypeVar

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.record import Event, ToolList
from mcpaudit_lab.server.stores import (
    BreakdownRow,
    EventStore,
    Pages,
    Stats,
    Stored,
    Subscription,
    TimeBucket,
    Unreadable,
)

__all__ = ["AsyncPages", "AsyncReader"]

T = TypeVar("T")


class AsyncPages(Generic[T]):
    """An async iterator over :class:`.server.stores.store.Pages`, read in worker threads.

    Args:
        pages: the pages to read.
    """

    def __init__(self, pages: Pages[T]) -> None:
        self._pages = pages

    @property
    def rows(self) -> int:
        """Number of items so far."""
        return self._pages.rows

    @property
    def more(self) -> bool:
        """Whether the limit cut items off; valid at the end."""
        return self._pages.more

    async def __aiter__(self) -> AsyncIterator[T]:
        """Iterate over the pages; leaving early or a cancellation cancels the running query."""
        ended = False
        try:
            while (page := await asyncio.to_thread(next, self._pages, None)) is not None:
                yield page
            ended = True
        finally:
            if not ended:
                # In a thread, since PostgreSQL cancels over a new connection; not awaited, since
                # awaiting raises in a cancelled scope.
                asyncio.get_running_loop().run_in_executor(None, self._pages.close)


class AsyncReader:
    """The queries of :class:`~mcpaudit_lab.server.stores.store.EventStore`, for asyncio.

    Args:
        store: the store to query.
    """

    def __init__(self, store: EventStore) -> None:
        self.store = store

    async def query(self, wanted: EventFilter, *, payloads: bool = False) -> list[Event]:
        """See :meth:`EventStore.query`."""
        return await asyncio.to_thread(self.store.query, wanted, payloads=payloads)

    async def count(self, wanted: EventFilter) -> int:
        """See :meth:`EventStore.count`."""
        return await asyncio.to_thread(self.store.count, wanted)

    async def event(self, event_id: str) -> Event | None:
        """See :meth:`EventStore.event`."""
        return await asyncio.to_thread(self.store.event, event_id)

    async def unreadable(self) -> Unreadable:
        """See :meth:`EventStore.unreadable`."""
        return await asyncio.to_thread(self.store.unreadable)

    def stream(self, wanted: EventFilter, *, payloads: bool = False) -> AsyncPages[list[Event]]:
        """See :meth:`EventStore.stream`."""
        return AsyncPages(self.store.stream(wanted, payloads=payloads))

    def export(self, wanted: EventFilter, *, payloads: bool = False) -> AsyncPages[bytes]:
        """See :meth:`EventStore.export`."""
        return AsyncPages(self.store.export(wanted, payloads=payloads))

    async def after(
        self, number: int, limit: int, wanted: EventFilter | None = None, *, payloads: bool = False
    ) -> list[Stored]:
        """See :meth:`EventStore.after`."""
        return await asyncio.to_thread(self.store.after, number, limit, wanted, payloads=payloads)

    async def add_tool_list(self, found: ToolList) -> None:
        """See :meth:`EventStore.add_tool_list`."""
        await asyncio.to_thread(self.store.add_tool_list, found)

    async def tool_lists(self) -> list[ToolList]:
        """See :meth:`EventStore.tool_lists`."""
        return await asyncio.to_thread(self.store.tool_lists)

    async def latest(self) -> int:
        """See :meth:`EventStore.latest`."""
        return await asyncio.to_thread(self.store.latest)

    async def timeseries(self, wanted: EventFilter, bucket: timedelta) -> list[TimeBucket]:
        """See :meth:`EventStore.timeseries`."""
        return await asyncio.to_thread(self.store.timeseries, wanted, bucket)

    async def breakdown(
        self, wanted: EventFilter, by: str, limit: int | None = 50
    ) -> list[BreakdownRow]:
        """See :meth:`EventStore.breakdown`."""
        return await asyncio.to_thread(self.store.breakdown, wanted, by, limit)

    async def stats(self, wanted: EventFilter) -> Stats:
        """See :meth:`EventStore.stats`."""
        return await asyncio.to_thread(self.store.stats, wanted)

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 64
    ) -> AbstractAsyncContextManager[Subscription]:
        """See :meth:`EventStore.subscribe`."""
        return self.store.subscribe(wanted, after=after, buffer=buffer)
