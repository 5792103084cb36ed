"""Items of a live stream besides events: gaps, and its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal, TypeAlias

__all__ = ["Gap", "StreamCounters", "StreamState", "Tally"]

StreamState: TypeAlias = Literal["connecting", "live", "reconnecting", "stopped"]

# Number of recent delays that make the median.
_DELAYS = 1000


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that may be missing, and could not be filled in.

    Attributes:
        from_: they were stored after this moment (UTC, the portal's clock).
        to: and before this one.
        missed: how many; None if unknown.
        reason: why they could not be filled in, for people.
    """

    from_: datetime
    to: datetime
    missed: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """How a stream has gone so far.

    Attributes:
        received: events handed out.
        filled: events that did not come live: read from the list after a lost connection or a
            silent drop, or sent again from the last id on.
        duplicates: frames left out, because their event had been handed out.
        gaps: gaps that could not be filled.
        reconnections: connections made after one was lost.
        delay_ms: from the end of the last live call to its event being here, by the two clocks;
            None before the first.
        median_delay_ms: the median over the last 1,000 live events.
    """

    received: int = 0
    filled: int = 0
    duplicates: int = 0
    gaps: int = 0
    reconnections: int = 0
    delay_ms: float | None = None
    median_delay_ms: float | None = None


class Tally:
    """Counts while a stream runs. One thread counts, any may look."""

    def __init__(self) -> None:
        self.received = self.filled = self.duplicates = self.gaps = self.reconnections = 0
        self._delays_ms: list[float] = []

    def note_delay(self, delay_ms: float) -> None:
        """Note how late a live event came; clocks that differ do not make it negative."""
        self._delays_ms = [*self._delays_ms[1 - _DELAYS :], max(0.0, delay_ms)]

    def counters(self) -> StreamCounters:
        """The figures now."""
        delays = self._delays_ms
        return StreamCounters(
            self.received,
            self.filled,
            self.duplicates,
            self.gaps,
            self.reconnections,
            delays[-1] if delays else None,
            median(delays) if delays else None,
        )
