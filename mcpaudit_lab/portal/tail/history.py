"""The last minutes of a tail: how many calls, how many failed, how long each tool takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mcpaudit_lab.record import Event

__all__ = ["Pulse", "TailHistory", "ToolPulse"]

_BUCKET_S: Final = 5
_BUCKETS: Final = 60
# Whoever names the tools could name any number of them.
_TOOLS_MAX: Final = 200
_DURATIONS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class ToolPulse:
    """A tool's calls since the tail began.

    Attributes:
        name: the tool.
        calls: number of calls.
        failed: of these, failed ones.
        p50_ms: median duration of its newest 200 calls, in milliseconds.
        p95_ms: 95 of 100 of them took at most this long.
    """

    name: str
    calls: int
    failed: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """How it went lately.

    Attributes:
        bucket_s: length of a bucket, in seconds.
        buckets: calls and failed calls of each bucket of the last five minutes, oldest first.
        tools: the tools with most calls, at most as many as asked for.
    """

    bucket_s: int
    buckets: tuple[tuple[int, int], ...]
    tools: tuple[ToolPulse, ...]

    @property
    def calls(self) -> int:
        """Number of calls in all buckets."""
        return sum(calls for calls, _ in self.buckets)

    @property
    def failed(self) -> int:
        """Of these, failed ones."""
        return sum(failed for _, failed in self.buckets)


class _Tool:
    __slots__ = ("calls", "durations", "failed")

    def __init__(self) -> None:
        self.calls = self.failed = 0
        self.durations: deque[int] = deque(maxlen=_DURATIONS_MAX)


class TailHistory:
    """Counts of the last five minutes. Not locked: the state of the tail locks it."""

    def __init__(self) -> None:
        # Each second that had a call: its number, calls, failed calls.
        self._seconds: deque[list[int]] = deque()
        self._tools: dict[str, _Tool] = {}

    def add(self, event: Event, now_s: float) -> None:
        """Count an event that came at ``now_s``, of a monotonic clock."""
        second = int(now_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
            while self._seconds[0][0] <= second - _BUCKET_S * _BUCKETS - _BUCKET_S:
                self._seconds.popleft()
        bucket = self._seconds[-1]
        bucket[1] += 1
        bucket[2] += not event.success
        tool = self._tools.get(event.tool_name)
        if tool is None:
            if len(self._tools) >= _TOOLS_MAX:
                return
            tool = self._tools[event.tool_name] = _Tool()
        tool.calls += 1
        tool.failed += not event.success
        tool.durations.append(event.duration_ms)

    def calls_since(self, second: int) -> int:
        """Number of calls since the beginning of a second of the clock."""
        recent = takewhile(lambda bucket: bucket[0] >= second, reversed(self._seconds))
        return sum(calls for _, calls, _ in recent)

    def tools(self) -> list[str]:
        """The names of the tools, sorted, at most 200."""
        return sorted(self._tools)

    def pulse(self, now_s: float, tools_max: int) -> Pulse:
        """How it went until ``now_s``."""
        first = int(now_s) // _BUCKET_S - _BUCKETS + 1
        buckets = [[0, 0] for _ in range(_BUCKETS)]
        for second, calls, failed in self._seconds:
            number = second // _BUCKET_S - first
            if 0 <= number < _BUCKETS:
                buckets[number][0] += calls
                buckets[number][1] += failed
        found = sorted(self._tools.items(), key=lambda item: (-item[1].calls, item[0]))
        return Pulse(
            _BUCKET_S,
            tuple((calls, failed) for calls, failed in buckets),
            tuple(
                ToolPulse(
                    name,
                    tool.calls,
                    tool.failed,
                    median(tool.durations),
                    sorted(tool.durations)[(len(tool.durations) * 95 - 1) // 100],
                )
                for name, tool in found[:tools_max]
            ),
        )
