"""Limits the rate and size of rows that callers without valid credentials can cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

__all__ = ["RefusalBudget", "clip_headers", "clip_text"]

_MAX_HEADERS = 64


class RefusalBudget:
    """A token bucket for the rows of failed authentications.

    Args:
        burst: rows allowed at once.
        per_s: rows added to the budget each second.
        clock: monotonic seconds.
    """

    def __init__(
        self, burst: int = 20, per_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(burst)
        self._filled = clock()
        self._since_last_row = 0
        self.left_out = 0
        """Number of failures without a row so far."""

    def take(self) -> int | None:
        """Take a row from the budget.

        Returns:
            The number of failures without a row since the last row; None if the budget is used up,
            and this failure is counted as left out.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_s)
        self._filled = now
        if self._tokens < 1:
            self._leave_out(0)
            return None
        self._tokens -= 1
        missing, self._since_last_row = self._since_last_row, 0
        return missing

    def give_up(self, missing: int) -> None:
        """Count a failure whose row was not written after all.

        Args:
            missing: the result of :meth:`take` for it.
        """
        self._leave_out(missing)

    def _leave_out(self, missing: int) -> None:
        self.left_out += 1
        self._since_last_row += missing + 1


def clip_text(text: str, max_chars: int = 256) -> str:
    """Truncate a text to ``max_chars``, with an ellipsis at the end."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def clip_headers(headers: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Truncate headers: the first 64, with names and values clipped."""
    kept = list(headers.items())[:_MAX_HEADERS]
    return {clip_text(name): [clip_text(", ".join(values))] for name, values in kept}
