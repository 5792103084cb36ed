"""The portal's time, from the Date header of its responses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx2

__all__ = ["PortalClock", "moment_of_us"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The header has whole seconds: clocks that agree that well are not corrected.
_AGREE_S: Final = 2.0


def moment_of_us(moment_us: int) -> datetime:
    """Microseconds since 1970-01-01 UTC as a time."""
    return _EPOCH + timedelta(microseconds=moment_us)


class PortalClock:
    """A clock that is set by the ``Date`` headers of answers.

    Args:
        clock: the clock here: seconds since 1970-01-01 UTC.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead_us = 0

    def now_us(self) -> int:
        """The portal's time, in microseconds since 1970-01-01 UTC."""
        return int(self._clock() * 1e6) + self._ahead_us

    def here_us(self) -> int:
        """The same by the clock here."""
        return int(self._clock() * 1e6)

    def learn(self, response: httpx2.Response) -> None:
        """Set it by an answer: a response hook of an ``httpx2.Client``."""
        try:
            date = parsedate_to_datetime(response.headers.get("date", ""))
        except (ValueError, OverflowError):
            return
        ahead_s = date.timestamp() - self._clock()
        self._ahead_us = 0 if abs(ahead_s) < _AGREE_S else int(ahead_s * 1e6)
