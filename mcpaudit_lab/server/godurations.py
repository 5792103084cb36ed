"""Durations as Go writes and reads them: ``90s``, ``1m30s``, ``1h0m0s``."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

__all__ = ["format_duration", "parse_duration_ns"]

_NUMBER: Final = r"(?:\d+(?:\.\d*)?|\.\d+)"
_WHOLE = re.compile(rf"([+-]?)((?:{_NUMBER}(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_NS: Final = 2**63 - 1


def parse_duration_ns(text: str) -> int | None:
    """Read what Go's ``time.ParseDuration`` takes, in nanoseconds; None: it is not that."""
    if text in ("0", "+0", "-0"):
        return 0
    found = _WHOLE.fullmatch(text)
    if found is None:
        return None
    total_ns = sum(
        int(Decimal(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(found[2])
    )
    if total_ns > _MAX_NS:
        return None
    return -total_ns if found[1] == "-" else total_ns


def format_duration(span: timedelta) -> str:
    """Write a duration of 0 or more as Go's ``Duration.String`` does."""
    micros = span // timedelta(microseconds=1)
    if micros < 1_000_000:
        if micros < 1000:
            return f"{micros}µs" if micros else "0s"
        return f"{_decimal(micros, 1000)}ms"
    minutes, rest = divmod(micros, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, 1_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
