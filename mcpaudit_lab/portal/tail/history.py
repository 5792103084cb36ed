"""The last minutes of a tail: how many calls, how many failed, how long each tool takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
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
        self._buckets: deque[list[int]] = deque(maxlen=_BUCKETS)
        self._tools: dict[str, _Tool] = {}

    def add(self, event: Event, now_s: float) -> None:
        """Count an event that came at ``now_s``, of a monotonic clock."""
        number = int(now_s) // _BUCKET_S
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        bucket = self._buckets[-1]
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

    def pulse(self, now_s: float, tools_max: int) -> Pulse:
        """How it went until ``now_s``."""
        last = int(now_s) // _BUCKET_S
        counts = {number: (calls, failed) for number, calls, failed in self._buckets}
        found = sorted(self._tools.items(), key=lambda item: (-item[1].calls, item[0]))
        return Pulse(
            _BUCKET_S,
            tuple(counts.get(number, (0, 0)) for number in range(last - _BUCKETS + 1, last + 1)),
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
