"""The store in memory, as a logger by itself."""

from __future__ import annotations

from uuid import uuid4

import pytest

from mcpaudit_lab.errors import AuditUnavailable
from mcpaudit_lab.record import Event
from mcpaudit_lab.server import MemoryLogger, Stored

pytestmark = pytest.mark.anyio


def an_event() -> Event:
    return Event.build(id=str(uuid4()), timestamp="2026-01-01T00:00:00Z")


async def test_a_place_is_used_once_and_what_is_stored_is_told() -> None:
    log = MemoryLogger()
    first, second = an_event(), an_event()
    async with log.subscribe() as events:
        place = await log.reserve(10)
        assert log.reserved == 1
        place.commit(first)
        place.commit(second)
        place.release()
        (await log.reserve(10)).release()
        stored = await anext(events)
    assert isinstance(stored, Stored)
    assert stored.event == first
    await log.flush()
    assert (log.events, log.reserved) == ([first], 0)


async def test_a_full_one_refuses() -> None:
    log = MemoryLogger(max_events=1)
    await log.reserve(10)
    with pytest.raises(AuditUnavailable):
        await log.reserve(10)
    with pytest.raises(AuditUnavailable):
        MemoryLogger(max_events=0).log([an_event()])
