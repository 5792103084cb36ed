"""Times as people write them, and as the wire has them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from mcpaudit_lab import EventFilter, FilterError
from mcpaudit_lab.filters.times import is_assumed_utc, parse_moment, parse_wire_moment

NOW = datetime(2026, 11, 26, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2026-11-24", "2026-11-24T00:00:00", "2026-11-24T23:59:59.999999"),
        (date(2026, 11, 24), "2026-11-24T00:00:00", "2026-11-24T23:59:59.999999"),
        ("today", "2026-11-26T00:00:00", "2026-11-26T23:59:59.999999"),
        ("Yesterday", "2026-11-25T00:00:00", "2026-11-25T23:59:59.999999"),
        ("now", "2026-11-26T08:30:00", "2026-11-26T08:30:00"),
        ("90m", "2026-11-26T07:00:00", "2026-11-26T07:00:00"),
        (timedelta(days=1), "2026-11-25T08:30:00", "2026-11-25T08:30:00"),
        ("2026-11-24T10:00", "2026-11-24T10:00:00", "2026-11-24T10:00:00"),
        (" 2026-11-24 10:00:01.5 ", "2026-11-24T10:00:01.5", "2026-11-24T10:00:01.5"),
        ("2026-11-24T10:00+02", "2026-11-24T08:00:00", "2026-11-24T08:00:00"),
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00", "2026-11-24T10:00:00"),
    ],
)
def test_what_a_person_writes_names_one_moment_in_utc(value: Any, first: str, last: str) -> None:
    expected = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, last)]
    assert [parse_moment("to", value, now=NOW, latest=end) for end in (False, True)] == expected
    assert EventFilter(from_=value, now=NOW).from_ == expected[0]
    assert EventFilter(since=value, now=NOW).from_ == expected[0]
    assert EventFilter(to=value, now=NOW).to == expected[1]


@pytest.mark.parametrize("value", ["2026-11-31", "2026-13-01", "tomorrow", "", "10:00", "1h1h", 7])
def test_what_names_no_moment_is_an_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(FilterError, match=r"^from"):
        EventFilter(from_=value, now=NOW)


def test_a_datetime_without_a_zone_is_an_error_that_says_how_to_mend_it() -> None:
    naive = datetime(2026, 11, 24)  # noqa: DTZ001 - the point
    with pytest.raises(FilterError, match="replace") as caught:
        EventFilter(since=naive)
    assert "value.replace(tzinfo=datetime.UTC)" in str(caught.value)


@pytest.mark.parametrize("text", ["2026-11-24", "today", "now", "2026-11-24T10:00", "24h"])
def test_the_wire_is_strict(text: str) -> None:
    with pytest.raises(FilterError):
        EventFilter.from_query([("from", text)])
    with pytest.raises(FilterError):
        parse_wire_moment("to", text)


def test_the_repr_shows_the_zone_that_was_assumed() -> None:
    assert "from_='2026-11-24T00:00:00Z'" in repr(EventFilter(since="2026-11-24"))


@pytest.mark.parametrize(
    ("text", "assumed"),
    [
        ("2026-11-24", True),
        ("2026-11-24T10:00", True),
        ("today", True),
        ("now", False),
        ("24h", False),
        ("2026-11-24T10:00Z", False),
        ("2026-11-24T10:00+02", False),
    ],
)
def test_only_what_has_no_zone_is_read_as_utc(text: str, assumed: bool) -> None:
    assert is_assumed_utc(text) is assumed
