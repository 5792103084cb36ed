"""The logger in memory."""

from __future__ import annotations

import pytest

from mcpaudit_lab.errors import AuditUnavailable
from mcpaudit_lab.events import Event
from mcpaudit_lab.server import MemoryLogger

pytestmark = pytest.mark.anyio


async def test_memory_subscribers_hear_of_what_is_stored_and_leave_nothing_behind() -> None:
    log = MemoryLogger()
    event = Event.build(id="f226cf42-7a54-4f9c-bff5-ed044ebd8cf6", timestamp="2026-01-01T00:00:00Z")
    async with log.subscribe(buffer=1) as events:
        await log.log(event)
        await log.log(event)
        assert await anext(events) == event
        assert events.missed == 1
    assert [event async for event in events] == []
    await log.log(event)
    await log.flush()
    assert len(log.events) == 3
    place = await log.reserve(10)
    place.release()
    place.commit(event)
    assert (len(log.events), log.reserved) == (3, 0)
    with pytest.raises(AuditUnavailable):
        await MemoryLogger(max_events=0).log(event)
