"""Sources of events for a tail, in place of a portal's stream."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

from mcpaudit_lab.client.stream_items import Gap, StreamCounters
from mcpaudit_lab.events import Event


class QueueSource:
    """What a test gives, one by one, until it stops; an exception in it is raised."""

    def __init__(self, *items: Any) -> None:
        self.url = "http://portal"
        self.state = "live"
        self.problem = ""
        self.counters = StreamCounters()
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
