"""The logger in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from logger_contract import ALL, LoggerContract, an_event

from mcpaudit_lab.errors import AuditUnavailable
from mcpaudit_lab.server.stores.memory import MemoryLogger
from mcpaudit_lab.server.stores.store import AuditLogger, EventStore


class TestMemoryLogger(LoggerContract):
    is_python = True

    @pytest.fixture
    def store(self) -> Iterator[EventStore]:
        with_events = MemoryLogger()
        yield with_events
        with_events.close()


@pytest.mark.anyio
async def test_places_are_counted_and_used_once() -> None:
    log = MemoryLogger(max_events=3)
    audit: AuditLogger = log
    one, two = an_event(), an_event()
    place = await audit.reserve(10)
    await audit.flush()
    assert (log.events, log.reserved) == ([], 1)
    place.commit(one)
    place.commit(two)
    place.release()
    assert (log.events, log.reserved) == ([one], 0)
    other = await log.reserve(10)
    other.release()
    other.commit(two)
    assert (log.events, log.reserved) == ([one], 0)


@pytest.mark.anyio
async def test_it_is_full_counting_what_is_reserved() -> None:
    log = MemoryLogger(max_events=2)
    log.log([an_event()])
    place = await log.reserve(0)
    with pytest.raises(AuditUnavailable, match="it holds 2 events"):
        await log.reserve(0)
    with pytest.raises(AuditUnavailable, match="it holds 2 events"):
        log.log([an_event()])
    place.commit(an_event())
    assert log.count(ALL) == 2
