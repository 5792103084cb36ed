"""Sources of events for a tail, in place of a portal's stream."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from portals import an_event

from mcpaudit_lab.portal.stream.items import Gap, StreamCounters
from mcpaudit_lab.record import Event


class Source:
    """A stream that is well."""

    def __init__(self) -> None:
        self.url = "http://portal"
        self.state = "live"
        self.problem = ""
        self.counters = StreamCounters()


class QueueSource(Source):
    """What a test gives, one by one, until it stops; an exception in it is raised."""

    def __init__(self, *items: Any) -> None:
        super().__init__()
        self._queue: queue.Queue[Any] = queue.Queue()
        self.give(*items)

    def give(self, *items: Any) -> None:
        for item in items:
            self._queue.put(item)

    def stop(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Event | Gap]:
        for item in iter(self._queue.get, None):
            if isinstance(item, Exception):
                raise item
            yield item


class SteadySource(Source):
    """So many events a second, in bursts of a hundredth of a second, until it stops."""

    def __init__(self, per_second: int) -> None:
        super().__init__()
        self._per_second = per_second
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def __iter__(self) -> Iterator[Event | Gap]:
        began_s, count = time.monotonic(), 0
        while not self._stopped.wait(0.01):
            due = int((time.monotonic() - began_s) * self._per_second)
            for number in range(count, due):
                yield an_event(number, timestamp=datetime.now(UTC), success=number % 10 != 0)
            count = due
