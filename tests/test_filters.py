"""What a filter means: its keywords, its query string, its words, and ``matches``."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filter_corpus import CASES, EVENTS, Case
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import HAS_COLUMNS, EventFilter, PathTest
from mcpaudit_lab.filters.query_string import parse_scalar
from mcpaudit_lab.filters.values import fold, variants
from mcpaudit_lab.record.jsontext import JsonDecimal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


# --- keywords -------------------------------------------------------------------------------------


def test_keywords_in_every_form_make_the_same_filter() -> None:
    by_mapping = EventFilter(
        tool="flaky",
        success=False,
        has="notifications",
        params={"user.id": "alice"},
        headers={"user-agent": "curl"},
    )
    dotted: dict[str, Any] = {"param.user.id": "alice", "header.USER-AGENT": "curl"}
    by_dots = EventFilter(
        tool=["flaky"],
        success=False,
        has=["notifications"],
        **dotted,
    )
    by_query = EventFilter.from_query(
        "?tool=flaky&success=false&has=notifications&param.user.id=alice&header.User-agent=curl"
    )
    by_tests = EventFilter(
        tool=("flaky",),
        success=False,
        has=("notifications",),
        params=[PathTest.of(("user", "id"), "alice")],
        headers={"User-Agent": "curl"},
    )
    assert by_mapping == by_dots == by_query == by_tests
    assert len({by_mapping, by_dots, by_query, by_tests}) == 1


def test_values_that_python_takes_for_equal_make_different_filters() -> None:
    filters = [EventFilter(params={"x": value}) for value in (1, True, "1", "true", 0, False, None)]
    assert len(set(filters)) == len(filters)


def test_a_filter_can_be_copied_changed_and_pickled() -> None:
    item = EventFilter(
        tool=["a", "b"], since="1h", now=NOW, params={("a.b",): None}, has="notifications"
    )
    assert dataclasses.replace(item) == item
    assert dataclasses.replace(item, limit=3).limit == 3
    assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301 - our own bytes
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.limit = 3  # type: ignore[misc]  # the point


@pytest.mark.parametrize(
    ("since", "hours"),
    [
        ("24h", 24),
        ("90m", 1.5),
        ("7d", 168),
        ("1h30m", 1.5),
        ("2w", 336),
        ("3600s", 1),
        (timedelta(hours=2), 2),
        ("2026-11-24T11:00:00Z", 1),
        (NOW - timedelta(hours=3), 3),
    ],
)
def test_since_counts_back_from_now(since: Any, hours: float) -> None:
    assert EventFilter(since=since, now=NOW).from_ == NOW - timedelta(hours=hours)


def test_since_without_now_asks_the_clock_and_a_long_span_reaches_the_beginning() -> None:
    before = datetime.now(UTC) - timedelta(hours=1)
    moment = EventFilter(since="1h").from_
    assert moment is not None
    assert before <= moment <= datetime.now(UTC)
    for span in ("999999999d", "999999999w", timedelta.max):
        assert EventFilter(since=span, now=NOW).from_ == datetime.min.replace(tzinfo=UTC)


def test_times_are_kept_in_utc_and_cut_to_microseconds() -> None:
    zone = timezone(timedelta(hours=-5))
    item = EventFilter(
        from_=datetime(2026, 11, 24, 7, tzinfo=zone), to="2026-11-24T12:00:00.1234569Z"
    )
    assert item.from_ == NOW
    assert item.to == NOW + timedelta(microseconds=123456)
    dotted: dict[str, Any] = {"from": "2026-11-24T12:00:00Z"}
    assert EventFilter(**dotted) == EventFilter(from_=NOW)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"tols": "echo"}, 'unknown filter "tols".*tool, user, session.*param.<path>'),
        ({"params.user": "echo"}, "unknown filter"),
        ({"param.": 1}, "unknown filter"),
        ({"tool": 5}, "tool is a text or a list of texts"),
        ({"tool": ["a", 5]}, "tool is a text or a list of texts"),
        ({"tool": []}, "tool: an empty list can match nothing"),
        ({"has": "payload"}, 'has="payload": choose from request_params.*replayed_from'),
        ({"success": "true"}, "success is True or False"),
        ({"success": 1}, "success is True or False"),
        ({"q": 5}, "q is a text"),
        ({"limit": -1}, "limit is a whole number, 0 or more"),
        ({"limit": True}, "limit is a whole number"),
        ({"limit": 2.0}, "limit is a whole number"),
        ({"offset": "5"}, "offset is a whole number"),
        ({"min_duration_ms": -5}, "min_duration_ms is a whole number"),
        ({"from_": datetime(2026, 11, 24)}, "from: a time without a zone"),  # noqa: DTZ001 - the point
        (
            {"to": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))},
            "to: the time is out of range",
        ),
        ({"to": "0000-01-01T00:00:00Z"}, "to: the time is out of range"),
        ({"from_": "0000-99-01T00:00:00Z"}, "from: the time is out of range"),
        ({"from_": 1795491825}, "from is a datetime with a zone, a date, a timedelta, or text"),
        ({"since": "-1h"}, "since is a date \\(2026-11-24\\), today"),
        ({"since": ""}, "since is a date \\(2026-11-24\\), today"),
        ({"since": "1h1h"}, "since is a date \\(2026-11-24\\), today"),
        ({"since": "24"}, "since is a date \\(2026-11-24\\), today"),
        ({"since": "24h", "from_": NOW}, "from and since both say where to begin"),
        ({"params": {"a..b": 1}}, '"param.a..b": a segment of the path is empty'),
        ({"params": {"": 1}}, "a segment of the path is empty"),
        ({"params": {"a\nb": 1}}, r"\"param.a\\nb\": a path has no control characters"),
        ({"params": {(): 1}}, "a path is dotted text or a tuple of keys"),
        ({"params": {("a", 1): 1}}, "a path is dotted text or a tuple of keys"),
        ({"params": {"a": [1]}}, '"param.a": a value to compare with is a string'),
        ({"params": {"a": {}}}, "a value to compare with is a string"),
        ({"params": {"a": math.nan}}, "a number that JSON has"),
        ({"params": {"a": Decimal("Infinity")}}, "a number that JSON has"),
        ({"params": {"a": JsonDecimal("1e9999999999999999999")}}, "a number that JSON has"),
        ({"params": {"a": object()}}, "a value to compare with"),
        ({"params": ["a"]}, "params is a mapping of path to value"),
        ({"params": [PathTest(("a",), "[1]")]}, "a value to compare with"),
        ({"headers": {"X-Count": 42}}, "headers is a mapping of header name to one text"),
        ({"headers": {"": "x"}}, "headers is a mapping of header name to one text"),
    ],
)
def test_a_keyword_that_means_nothing_is_an_error_that_says_what_does(
    keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(FilterError, match=words):
        EventFilter(**keywords)


def test_an_error_does_not_repeat_the_value() -> None:
    with pytest.raises(FilterError) as raised:
        EventFilter(params={"password": ["hunter2"]})  # type: ignore[arg-type]  # the point
    assert "hunter2" not in str(raised.value)


def test_times_of_pandas_become_plain_ones_cut_to_microseconds() -> None:
    moment: Any = pd.Timestamp("2026-11-24T12:00:00.000000999Z")
    item = EventFilter(from_=moment, to=moment)
    assert (item.from_, item.to) == (NOW, NOW)
    assert type(item.from_) is datetime
    item = EventFilter(since=pd.Timedelta("1h"), now=moment)
    assert item == EventFilter(since="1h", now=NOW)
    assert type(item.from_) is datetime


def test_integers_of_numpy_are_integers() -> None:
    five: Any = np.int64(5)
    assert EventFilter(params={"a": five}, limit=five) == EventFilter(params={"a": 5}, limit=5)


# --- the query string -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("null", "null"),
        ("200", 200),
        ("+16", 16),
        ("-5", -5),
        ("007", 7),
        ("2e2", 200.0),
        ("2E+2", 200.0),
        (".5", 0.5),
        ("5.", 5),
        ("200.50", JsonDecimal("200.50")),
        ("1_000", 1000),
        ("1__000", "1__000"),
        ("_1", "_1"),
        ("1_", "1_"),
        ("0x10p0", 16.0),
        ("0x_1Fp-2", 7.75),
        ("-0X.8p1", -1.0),
        ("0x10", "0x10"),
        ("0x1p99999", "0x1p99999"),
        ("1e400", JsonDecimal("1e400")),
        ("1e9999999999999999999", "1e9999999999999999999"),
        ("9007199254740993", 9007199254740993),
        ("\u0661", "\u0661"),
        ("1 ", "1 "),
        ("--1", "--1"),
        ("1.2.3", "1.2.3"),
        ("+nan", "+nan"),
        ('"200"', "200"),
        ('""', ""),
        ('"', '"'),
        ('"""', '"'),
        ('"a"b"', 'a"b'),
        ('"a', '"a'),
        ('"Inf"', "Inf"),
        ("Infinite", "Infinite"),
    ],
)
def test_a_value_in_a_query_says_its_own_type(text: str, value: Any) -> None:
    found = parse_scalar(text)
    assert found == value
    assert isinstance(found, bool) is isinstance(value, bool)
    assert isinstance(found, str) is isinstance(value, str)


@pytest.mark.parametrize("text", ["Inf", "-inf", "+Infinity", "nan", "NaN"])
def test_a_number_that_json_does_not_have_is_an_error(text: str) -> None:
    with pytest.raises(FilterError, match=r"\"param.size\": Inf and NaN are no JSON numbers"):
        EventFilter.from_query([("param.size", text)])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nope=1", 'unknown filter "nope"; the choices are from, to, since, success, q'),
        ("nope=", "unknown filter"),
        ("limit", None),
        ("params.a=1", 'unknown source "params"; the choices are.*param.<path>.*header.<Name>'),
        ("param=1", 'unknown filter "param"'),
        ("param.=1", "a segment of the path is empty"),
        ("param.a..b=1", "a segment of the path is empty"),
        ("param..=", "a segment of the path is empty"),
        ("param.a%0Ab=1", "a path has no control characters"),
        ("response.%7F=1", "a path has no control characters"),
        ("header.=1", "a segment of the path is empty"),
        ("header.X.Y=1", "a header is one name, such as header.User-Agent"),
        ("param.a=x%00", '"param.a": a query string cannot ask for the character NUL'),
        ("q=%00", "cannot ask for the character NUL"),
        ("has=payload", "choose from request_params"),
        ("success=TRUE", "success is true or false, in lower case"),
        ("success=1", "success is true or false"),
        ("limit=abc", "limit is a whole number, 0 or more"),
        ("limit=2.5", "limit is a whole number"),
        ("limit=-1", "limit is a whole number"),
        ("limit=1_0", "limit is a whole number"),
        ("limit=\u0665", "limit is a whole number"),
        ("offset=-1", "offset is a whole number"),
        ("min_duration_ms=1s", "min_duration_ms is a whole number"),
        ("from=yesterday", "from: the time is not RFC 3339; write it like"),
        ("from=1795491825", "from: the time is not RFC 3339"),
        ("from=2026-11-24T03:43:59", "from: the time has no zone"),
        (
            "from=2026-11-24T03:43:59+02:00",
            r"from: a raw \+ in a query string is a space; write %2B",
        ),
        ("to=2026-11-24t03:43:59.5+02:00", r"to: a raw \+ in a query string"),
        ("from=2026-11-24T03:43:59%2B02:00", None),
        ("since=soon", "since is a time, or a span"),
        ("since=24h&from=2026-11-24T03:43:59Z", "from and since both"),
        ("success=true&success=false", "success stands twice with different values"),
        ("q=a&q=b", "q stands twice"),
        ("q=a&q=a", None),
        ("from=2026-11-24T03:43:59Z&from=2026-11-24T03:43:58Z", "from stands twice"),
        (
            "limit=2;tool=echo",
            "a ; does not separate filters; write & between them, %3B inside one",
        ),
        ("tool=%zz", "a % lacks two hex digits after it; write %25"),
        ("tool=%", "a % lacks"),
        ("tool=%ff", "the query string is not UTF-8"),
    ],
)
def test_a_query_that_the_reference_server_would_read_past_is_an_error(
    query: str, words: str | None
) -> None:
    if words is None:
        EventFilter.from_query(query)
        return
    with pytest.raises(FilterError, match=words):
        EventFilter.from_query(query)


def test_a_query_is_read_as_the_reference_server_reads_it() -> None:
    item = EventFilter.from_query(
        "tool=a+b&user=apikey%3Aci&limit=%2B7&limit=9&offset=2&param.a=1&param.a=2&&since=1h",
        now=NOW,
    )
    assert item.tool == ("a b",)
    assert item.user == ("apikey:ci",)
    assert (item.limit, item.offset) == (7, 2)
    assert [test.text for test in item.params] == ["1", "2"]
    assert item.from_ == NOW - timedelta(hours=1)
    assert EventFilter.from_query("") == EventFilter.from_query([]) == EventFilter()


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
ANY_KEY = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="."), min_size=1, max_size=5
)
ANY_NUMBER = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
ANY_TESTS = st.dictionaries(
    st.lists(ANY_KEY, min_size=1, max_size=3).map(tuple),
    ANY_NUMBER | st.booleans() | ANY_TEXT | st.just(""),
    max_size=3,
)
ANY_MOMENT = st.none() | st.datetimes(timezones=st.just(UTC))


@given(
    from_=ANY_MOMENT,
    to=ANY_MOMENT,
    success=st.none() | st.booleans(),
    q=st.just("") | ANY_TEXT,
    min_duration_ms=st.none() | st.integers(0, 10**17),
    params=ANY_TESTS,
    responses=ANY_TESTS,
    headers=st.dictionaries(ANY_KEY, ANY_TEXT, max_size=2),
    has=st.lists(st.sampled_from(HAS_COLUMNS), min_size=1),
    tool=st.lists(ANY_TEXT, min_size=1),
    auth_type=st.none() | ANY_TEXT,
    limit=st.none() | st.integers(0, 10**17),
    offset=st.integers(0, 10**17),
)
def test_a_filter_survives_its_own_query_string(**keywords: Any) -> None:
    item = EventFilter(**keywords)
    assert EventFilter.from_query(item.to_query()) == item


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"params": {"a": None}}, "a query string cannot ask for null"),
        ({"params": {("a.b",): 1}}, "cannot ask for a key with a dot in it"),
        ({"params": {("",): 1}}, "a segment of the path is empty"),
        ({"params": {("a\n",): 1}}, "a path has no control characters"),
        ({"params": {"a": "x\x00"}}, "cannot ask for the character NUL"),
        ({"params": {"a": "\ud800"}}, "cannot ask for a lone surrogate"),
        ({"headers": {"a.b": "x"}}, "cannot ask for a key with a dot in it"),
        ({"headers": {"X": ""}}, "cannot ask for an empty text"),
        ({"error_category": ""}, "cannot ask for an empty text"),
    ],
)
def test_what_a_query_string_cannot_say_is_an_error(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(FilterError, match=words):
        EventFilter(**keywords).to_query()


def test_a_string_is_quoted_in_the_query_only_where_it_would_be_misread() -> None:
    item = EventFilter(params={"a": "200", "b": "x y", "c": '"', "d": "Inf", "e": "", "f": "true"})
    assert item.to_query().split("&") == [
        "param.a=%22200%22",
        "param.b=x%20y",
        "param.c=%22",
        "param.d=%22Inf%22",
        "param.e=%22%22",
        "param.f=%22true%22",
    ]


# --- words ----------------------------------------------------------------------------------------


def test_the_words_say_everything_in_one_line() -> None:
    item = EventFilter(
        tool=["echo", "lorem"],
        error_category="tool",
        success=False,
        q="boom",
        min_duration_ms=500,
        params={"user.id": "alice", ("a.b",): 200, "x": None},
        responses={"isError": True},
        headers={"user-agent": "curl"},
        has="notifications",
        from_=NOW,
        to=NOW + timedelta(hours=1),
        limit=50,
        offset=100,
    )
    assert item.describe() == (
        'tool "echo" or "lorem", error category "tool", param user.id is "alice", '
        'param "a.b" is 200, param x is null, response isError is true, '
        'header User-Agent is "curl", has notifications, failed, '
        '"boom" in tool name, error message or user, took 500 ms or more, '
        "from 2026-11-24T12:00:00Z, to 2026-11-24T13:00:00Z, at most 50, without the first 100"
    )
    assert EventFilter(success=True).describe() == "succeeded"
    assert EventFilter().describe() == "all events"


def test_the_words_show_nothing_that_a_terminal_obeys() -> None:
    words = EventFilter(
        tool="\x1b[31m\u202e\u2028" + "x" * 100, params={("a\nb",): "\x9b\ud800"}
    ).describe()
    assert words.isprintable()
    assert len(words) < 250
    assert "\\u001b" in words
    assert "\\u202e" in words


def test_the_repr_shows_what_was_asked() -> None:
    assert repr(EventFilter()) == "EventFilter()"
    assert (
        repr(EventFilter(tool="echo", success=False))
        == "EventFilter(tool=('echo',), success=False)"
    )


# --- matches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matches_gives_the_answer_written_by_hand(case: Case) -> None:
    item = case.filter
    assert {label for label, event in EVENTS.items() if item.matches(event)} == case.labels


def test_the_order_of_a_list_is_newest_first_and_then_by_id() -> None:
    events = list(EVENTS.values())
    random.Random(5).shuffle(events)  # noqa: S311 - an order, not a secret
    ordered = contract_order(events)
    keys = [(event.timestamp, event.id) for event in ordered]
    assert sorted(keys, key=lambda key: key[1]) != keys
    assert keys == sorted(keys, key=lambda key: (-key[0].timestamp(), key[1]))


def test_folding_is_one_character_for_one_and_done_once() -> None:
    text = "".join(chr(code) for code in range(sys.maxunicode + 1))
    once = fold(text)
    assert len(once) == len(text)
    assert fold(once) == once


def test_the_variants_are_all_that_fold_into_a_character() -> None:
    folding: dict[str, str] = {}
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if fold(char) != char:
            folding.setdefault(fold(char), "")
            folding[fold(char)] += char
    for target, others in folding.items():
        assert variants(target) == (others, target * len(others))
    assert variants("%_5é") == ("É", "é")
    assert variants("kk") == ("K\u212a", "kk")
