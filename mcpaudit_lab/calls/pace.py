"""How fast calls may go out: the target's token bucket, kept on our side too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcpaudit_lab.calls.ratelimit import Bucket
from mcpaudit_lab.errors import ReplayError

__all__ = ["DEFAULT_PACE", "Pace", "Pacer", "parse_pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate: a burst of calls at once, then one per interval.

    Attributes:
        burst: calls at once, 1 or more.
        refill_s: seconds until one more.
    """

    burst: int
    refill_s: float

    def __post_init__(self) -> None:
        if self.burst < 1 or not 0 <= self.refill_s < float("inf"):
            raise ReplayError("a rate is 1 call or more at once, and 0 seconds or more for each")

    def wait_s(self, calls: int) -> float:
        """How long a number of calls is held back, starting with a full bucket, in seconds."""
        return max(0, calls - self.burst) * self.refill_s

    @classmethod
    def of_meta(cls, meta: Mapping[str, Any]) -> Pace | None:
        """Read a portal's ``/audit/meta``; None if it has no usable rate."""
        replay = meta.get("replay")
        if not isinstance(replay, dict):
            return None
        try:
            return cls(int(replay["burst"]), float(replay["refill_secs"]))
        except (KeyError, TypeError, ValueError, ReplayError):
            return None

    def __str__(self) -> str:
        if not self.refill_s:
            return "without a limit"
        return f"{self.burst} at once, then one every {self.refill_s:g} s"


DEFAULT_PACE: Final = Pace(5, 12.0)
"""That of the reference server, for a target that says nothing."""

_SPAN_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(r"(\d+)\s*/\s*(\d*)\s*([smh])")


def parse_pace(rate: str | float | Pace | None) -> Pace | None:
    """Read a rate: calls per second, ``"10/s"``, ``"5/m"``, ``"1/12s"``, or a :class:`Pace`.

    Raises:
        ReplayError: the text is not a rate.
    """
    if rate is None or isinstance(rate, Pace):
        return rate
    if isinstance(rate, str):
        found = _RATE.fullmatch(rate.strip())
        if found is None or not int(found[1]):
            raise ReplayError('a rate is calls per time: "10/s", "5/m" or "1/12s"')
        return Pace(1, float(found[2] or 1) * _SPAN_S[found[3]] / int(found[1]))
    if not 0 < rate < float("inf"):
        raise ReplayError("a rate is a number of calls per second above 0")
    return Pace(1, 1 / rate)


class Pacer:
    """Waits for the next token.

    Args:
        pace: how fast; None for no limit.
        clock: monotonic seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        pace: Pace | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._pace = None if pace is None or not pace.refill_s else pace
        self._clock = clock
        self._sleep = sleep
        self._bucket = Bucket(float(self._pace.burst if self._pace else 0), clock())

    def wait(self) -> None:
        """Take a token; wait for one if the bucket is empty."""
        if self._pace is None:
            return
        while True:
            taken = self._bucket.take(self._clock(), self._pace.burst, self._pace.refill_s)
            self._bucket, verdict = taken
            if verdict.allowed:
                return
            self._sleep(verdict.wait_s)

    def hold(self, seconds: float) -> None:
        """Wait as the target asked; at least a second. The bucket is empty by its word."""
        self._sleep(max(1.0, seconds))
        self._bucket = Bucket(1.0, self._clock())
