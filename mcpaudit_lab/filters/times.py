"""Times as people write them, and as the wire has them.

One parser for every place that takes a time. In Python and on the command line a person may write
a date, ``today``, ``yesterday``, ``now``, a span before now, or a time without a zone, which is
UTC. A query string is strict: RFC 3339 with a zone, and for ``since`` a span.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.record import parse_time

__all__ = [
    "Moment",
    "format_duration",
    "is_assumed_utc",
    "parse_duration_ns",
    "parse_moment",
    "parse_wire_moment",
]


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


Moment: TypeAlias = datetime | date | timedelta | str | None

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_DAY: Final = timedelta(days=1)
# Each unit once, the larger first.
_SPAN = re.compile(
    r"(?=.)(?:\d{1,9}w)?(?:\d{1,9}d)?(?:\d{1,9}h)?(?:\d{1,9}m)?(?:\d{1,9}s)?", re.ASCII
)
_SPAN_PART = re.compile(r"(\d+)([smhdw])", re.ASCII)
_SPAN_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
# The words for a day, and how many days before the current one it is.
_DAYS: Final = {"today": 0, "yesterday": 1}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LOOSE = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d(?:\.\d+)?)? ?([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_FORMS: Final = (
    "a date (2026-11-24), today, yesterday, now, a span before now such as 90m, 24h, 7d "
    "(units s m h d w), or a time such as 2026-11-24T03:43:59Z"
)
_ZONE_HINT: Final = (
    "write value.replace(tzinfo=datetime.UTC) if it is UTC, value.astimezone() if it is the local "
    "time here"
)


def parse_moment(
    name: str, value: Moment, *, now: datetime | None = None, latest: bool = False
) -> datetime | None:
    """The moment that a person means, in UTC, cut to microseconds; None stays None.

    Args:
        name: the argument, for messages.
        value: an aware ``datetime``; a ``date``, or ``"2026-11-24"``, ``"today"``, ``"yesterday"``:
            a whole day, UTC; ``"now"``; a ``timedelta``, or ``"90m"``, ``"24h"``, ``"7d"``: a span
            before now; ``"2026-11-24T10:00"``: that time, UTC unless it has a zone.
        now: the current time, aware; the clock's, unless given.
        latest: whether a day means its last moment, 23:59:59.999999, instead of its first.

    Raises:
        FilterError: any other value, or a ``datetime`` without a zone; the message says what to
            write.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return _utc(name, value)
    if isinstance(value, date):
        return _day(value, latest=latest)
    if isinstance(value, timedelta):
        return _before(name, value, now)
    if not isinstance(value, str):
        raise FilterError(
            f"{name} is a datetime with a zone, a date, a timedelta, or text: {_FORMS}"
        )
    return _parse_text(name, value.strip(), now, latest=latest)


def parse_wire_moment(name: str, text: str, *, now: datetime | None = None) -> datetime:
    """The moment that ``from``, ``to`` or ``since`` says in a query string.

    Args:
        name: the parameter; only ``since`` takes a span.
        text: RFC 3339 with a zone.
        now: as :func:`parse_moment`.

    Raises:
        FilterError: the text is not RFC 3339.
    """
    if name == "since":
        if _SPAN.fullmatch(text):
            return _before(name, _span(text), now)
        if not re.match(r"\d+-", text):
            raise FilterError("since is a time, or a span such as 90m, 24h, 7d (units s m h d w)")
    return _parse_exact(name, text)


def is_assumed_utc(text: str) -> bool:
    """Whether a person's text means a day or a time of day without saying in which zone."""
    text = text.strip()
    if text.lower() in _DAYS or _DATE.fullmatch(text):
        return True
    found = _LOOSE.fullmatch(text)
    return found is not None and not found[4]


def _parse_text(name: str, text: str, now: datetime | None, *, latest: bool) -> datetime:
    word = text.lower()
    if word == "now":
        return _current(now)
    if word in _DAYS:
        return _day(_current(now).date() - _DAYS[word] * _DAY, latest=latest)
    if _SPAN.fullmatch(text):
        return _before(name, _span(text), now)
    if _DATE.fullmatch(text):
        # Through RFC 3339, so that the year 0 and the 31st of a short month are treated alike.
        clock = "23:59:59.999999" if latest else "00:00:00"
        return _parse_exact(name, f"{text}T{clock}Z")
    if found := _LOOSE.fullmatch(text):
        day, minutes, seconds, zone = found.groups()
        text = f"{day}T{minutes}{seconds or ':00'}{_full_zone(zone)}"
    elif not re.match(r"\d{4}-", text):
        raise FilterError(f"{name} is {_FORMS}")
    return _parse_exact(name, text)


def _full_zone(zone: str | None) -> str:
    """``+02`` and ``+0200`` as RFC 3339 has them; no zone is UTC."""
    if not zone or zone in "Zz":
        return "Z"
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return f"{zone[0]}{digits[:2]}:{digits[2:]}"


def _parse_exact(name: str, text: str) -> datetime:
    # RFC 3339 has the year 0 and datetime has not; no event is older than the year 1.
    before_all = name != "to" and text.startswith("0000-")
    try:
        moment = parse_time(f"0004{text[4:]}" if before_all else text)
    except RecordError as error:
        raise FilterError(
            f"{name}: {error.detail}; write it like 2026-11-24T03:43:59Z or with an offset"
        ) from None
    return _BEGINNING if before_all else moment


def _utc(name: str, value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise FilterError(f"{name}: a time without a zone names no moment; {_ZONE_HINT}")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise FilterError(f"{name}: the time is out of range") from None
    # A plain datetime, also of a pandas Timestamp, which has nanoseconds.
    return datetime.combine(moment.date(), moment.time(), UTC)


def _day(value: date, *, latest: bool) -> datetime:
    return datetime.combine(value, time.max if latest else time.min, UTC)


def _current(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else _utc("now", now)


def _before(name: str, span: timedelta, now: datetime | None) -> datetime:
    try:
        return _utc(name, _current(now) - span)
    except OverflowError:
        return _BEGINNING


def _span(text: str) -> timedelta:
    parts = {_SPAN_UNITS[unit]: int(count) for count, unit in _SPAN_PART.findall(text)}
    try:
        return timedelta(**parts)
    except OverflowError:
        return timedelta.max
