"""Sources of events for a tail, in place of a portal's stream."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mcpaudit_lab.events import Event


@dataclass(frozen=True)
class SourceCounters:
    reconnections: int = 0
    filled: int = 0


class QueueSource:
    """What a test gives, one by one, until it stops; an exception in it is raised."""

    def __init__(self, *items: Any) -> None:
        self.state = "live"
        self.problem = ""
        self.counters = SourceCounters()
        self._queue: queue.Queue[Any] = queue.Queue()
        self.give(*items)

    def give(self, *items: Any) -> None:
        for item in items:
            self._queue.put(item)

    def stop(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Event]:
        for item in iter(self._queue.get, None):
            if isinstance(item, Exception):
                raise item
            yield item
