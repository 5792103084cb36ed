"""Events in memory: for tests, demonstrations, and servers that keep no record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import anyio

from mcpaudit_lab.errors import AuditUnavailable
from mcpaudit_lab.events import Event

__all__ = ["MemoryLogger", "MemorySubscription"]


class MemorySubscription:
    """The events stored since the subscription began, in order of storing.

    Iterate it asynchronously; the iteration ends with the subscription. ``missed`` counts the
    events that did not fit into the buffer, because the reader was too slow.

    Args:
        buffer: how many events wait for the reader.
    """

    def __init__(self, buffer: int) -> None:
        self.missed = 0
        self._send, self._receive = anyio.create_memory_object_stream[Event](buffer)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._receive.receive()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    def offer(self, event: Event) -> None:
        """Hand over an event without waiting; one that does not fit is counted."""
        try:
            self._send.send_nowait(event)
        except anyio.WouldBlock:
            self.missed += 1

    def close(self) -> None:
        """End the subscription; what was not read yet is dropped."""
        self._send.close()
        self._receive.close()


class _Place:
    """A reservation: ``settle`` is called once, with the event or with None."""

    def __init__(self, settle: Callable[[Event | None], None]) -> None:
        self._settle: Callable[[Event | None], None] | None = settle

    def commit(self, event: Event) -> None:
        self._end(event)

    def release(self) -> None:
        self._end(None)

    def _end(self, event: Event | None) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(event)


class MemoryLogger:
    """An :class:`~mcpaudit_lab.server.logger.AuditLogger` that keeps its events in a list.

    Args:
        max_events: how many it takes; after that a call is refused.
    """

    def __init__(self, max_events: int = 100_000) -> None:
        self._max_events = max_events
        self._events: list[Event] = []
        self._reserved = 0
        self._subscriptions: set[MemorySubscription] = set()

    @property
    def events(self) -> list[Event]:
        """All events with their payloads, in order of storing. The list is a copy."""
        return list(self._events)

    @property
    def reserved(self) -> int:
        """How many places are reserved and neither used nor given back."""
        return self._reserved

    async def reserve(self, size_hint: int) -> _Place:
        """A place at once, or a refusal. ``size_hint`` is not looked at.

        Raises:
            AuditUnavailable: it is full, counting what is reserved.
        """
        del size_hint
        if len(self._events) + self._reserved >= self._max_events:
            raise AuditUnavailable(f"the audit log is full: it takes {self._max_events} events")
        self._reserved += 1
        return _Place(self._settle)

    async def log(self, event: Event) -> None:
        """Store one event.

        Raises:
            AuditUnavailable: it is full.
        """
        (await self.reserve(0)).commit(event)

    async def flush(self) -> None:
        """Everything is stored at once; there is nothing to wait for."""

    @asynccontextmanager
    async def subscribe(self, buffer: int = 64) -> AsyncIterator[MemorySubscription]:
        """Hear of every event stored while the block runs.

        Args:
            buffer: how many events wait for a slow reader before one is missed.
        """
        subscription = MemorySubscription(buffer)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()

    def _settle(self, event: Event | None) -> None:
        self._reserved -= 1
        if event is not None:
            self._events.append(event)
            for subscription in tuple(self._subscriptions):
                subscription.offer(event)
