"""Which events a stream has handed out, so that none comes twice; of the last while only."""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

from mcpaudit_lab.record import EVENT_FIELDS, Event

__all__ = ["Dedupe", "Key", "end_us", "key_of", "start_us"]

Key: TypeAlias = tuple[int, tuple[object, ...]]

_MOST: Final = 500_000
_TEXTS: Final = tuple(field.name for field in EVENT_FIELDS if field.kind in ("text", "int", "bool"))


def start_us(event: Event) -> int:
    """When the call began, in microseconds since 1970-01-01 UTC."""
    return event.timestamp_ns // 1000


def end_us(event: Event) -> int:
    """When the call had ended: never too early, since durations are cut to milliseconds."""
    return start_us(event) + 1000 * (event.duration_ms + 1)


def key_of(event: Event) -> Key:
    """What tells an event without an id: ``request_id``, and the rest of the summary.

    A frame has its time in nanoseconds and a row in microseconds, and ``parameters`` went through a
    database's JSON: the former is cut, the latter plays no part.
    """
    wire = event.wire
    return start_us(event), tuple(wire.get(name) or "" for name in _TEXTS)


class Dedupe:
    """The events handed out.

    Args:
        most: maximum number of ids kept; beyond it, the oldest entries are dropped.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._ends: dict[str, int] = {}
        self._without_id: Counter[Key] = Counter()

    def __len__(self) -> int:
        return len(self._ends) + self._without_id.total()

    def add(self, event: Event) -> None:
        """Note an event."""
        if event.id:
            self._ends[event.id] = end_us(event)
        else:
            self._without_id[key_of(event)] += 1

    def has_id(self, event: Event) -> bool:
        """Whether an event of this id was noted."""
        return event.id in self._ends

    def has(self, event: Event) -> bool:
        """Whether this event was noted, if need be without its id.

        One noted without an id is, from now on, noted with it.
        """
        if event.id in self._ends:
            return True
        if not self._without_id or not self._without_id[key := key_of(event)]:
            return False
        self._without_id[key] -= 1
        self._without_id = +self._without_id
        self.add(event)
        return True

    def forget_before(self, moment_us: int) -> None:
        """Forget events that had ended by then, and the oldest ones beyond the limit."""
        self._ends = {name: end for name, end in self._ends.items() if end >= moment_us}
        for name in list(self._ends)[: max(0, len(self._ends) - self._most)]:
            del self._ends[name]
        self._without_id = Counter(
            {key: n for key, n in self._without_id.items() if key[0] >= moment_us}
        )
