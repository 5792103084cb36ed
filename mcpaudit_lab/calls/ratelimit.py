"""How often a key may do something: a token bucket for each.

A bucket starts full, with ``burst`` tokens; one is added every ``refill_s`` seconds. A caller that
gets no token learns how long to wait, and spends nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["IDLE_S", "Bucket", "RateLimiter", "TokenBuckets", "Verdict"]

IDLE_S: Final = 600.0
"""Buckets unused for this many seconds are dropped; they are full again by then."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a token was given.

    Attributes:
        wait_s: seconds until there is a token; 0.0 if there was one.
    """

    wait_s: float = 0.0

    @property
    def allowed(self) -> bool:
        """Whether there was a token. It is spent."""
        return self.wait_s <= 0

    @property
    def retry_after_s(self) -> int:
        """The same in whole seconds for ``Retry-After``: rounded up, and never 0.

        Whoever waits that long and is the only one to ask gets a token.
        """
        return max(1, math.ceil(self.wait_s))


@dataclass(frozen=True, slots=True)
class Bucket:
    """The tokens of one key at one moment, immutable: taking one returns a new value.

    Attributes:
        tokens: 0 to ``burst``, fractions included.
        filled: seconds, on whatever clock the buckets are kept by.
    """

    tokens: float
    filled: float

    def take(self, now: float, burst: int, refill_s: float) -> tuple[Bucket, Verdict]:
        """Take one token at the moment ``now``. A clock that went back refills nothing."""
        elapsed_s = max(0.0, now - self.filled)
        tokens = min(float(burst), self.tokens + elapsed_s / refill_s)
        filled = max(now, self.filled)
        # What is missing by rounding alone would be a wait of 0 seconds for no token.
        if tokens >= 1 - 1e-9:
            return Bucket(max(0.0, tokens - 1), filled), Verdict()
        return Bucket(tokens, filled), Verdict((1 - tokens) * refill_s)


class RateLimiter(Protocol):
    """A source of tokens: for one process (:class:`TokenBuckets`) or shared by several."""

    @property
    def burst(self) -> int:
        """Tokens in a full bucket."""

    @property
    def refill_s(self) -> float:
        """Seconds until one more token."""

    async def take(self, key: str) -> Verdict:
        """Take one token of this key."""


class TokenBuckets:
    """The buckets of one process, in memory.

    Args:
        burst: tokens in a full bucket, 1 or more.
        refill_s: seconds until one more token, more than 0.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        burst: int = 5,
        refill_s: float = 12.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_budget(burst, refill_s)
        self.burst = burst
        self.refill_s = refill_s
        self._clock = clock
        # In the order they were last asked for, so that the idle ones are in front.
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        """How many keys have a bucket."""
        return len(self._buckets)

    def take_now(self, key: str) -> Verdict:
        """Take one token of this key. An empty key has no bucket, and always gets one."""
        now = self._clock()
        self._forget_idle(now)
        if not key:
            return Verdict()
        bucket = self._buckets.pop(key, Bucket(float(self.burst), now))
        self._buckets[key], verdict = bucket.take(now, self.burst, self.refill_s)
        return verdict

    async def take(self, key: str) -> Verdict:
        """The same, for who awaits it. It never waits."""
        return self.take_now(key)

    def _forget_idle(self, now: float) -> None:
        limit_s = idle_limit_s(self.burst, self.refill_s)
        while self._buckets:
            key, bucket = next(iter(self._buckets.items()))
            if now - bucket.filled < limit_s:
                break
            del self._buckets[key]


def check_budget(burst: int, refill_s: float) -> None:
    """Check the settings of a bucket.

    Raises:
        ValueError: a burst under 1, or a refill that is not a number of seconds above 0.
    """
    if burst < 1 or not 0 < refill_s < math.inf:
        raise ValueError("a limiter needs a burst of 1 or more, and a refill above 0 seconds")


def idle_limit_s(burst: int, refill_s: float) -> float:
    """After how many idle seconds a bucket may be forgotten: full by then, at least ten minutes.

    A slow one that went earlier would be full again before its time.
    """
    return max(IDLE_S, burst * refill_s)
