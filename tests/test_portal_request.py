"""How a question is divided: what is sent and what is checked mean together what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_portal import recorded_events

from mcpaudit_lab import EventFilter
from mcpaudit_lab.filters.event_filter import HAS_COLUMNS
from mcpaudit_lab.portal.http.paging import read_line
from mcpaudit_lab.portal.http.request import make_request

DETAILS = Path(__file__).parent / "data" / "upstream" / "details.jsonl"
RECORDED = recorded_events(DETAILS)
# What the reference server understands, and what it takes more than once.
KNOWN = {"from", "to", "tool", "user", "session", "success", "q", "has"}
SOURCES = {"param", "response", "header"}


def seen(name: str) -> list[str]:
    return sorted({getattr(event, name) for event in RECORDED})


def texts(name: str) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from([*seen(name), "other", ""]), min_size=1, max_size=2)


TIMES = st.sampled_from([event.wire["timestamp"] for event in RECORDED])
VALUES = st.sampled_from(["alice", "200", 200, 200.5, True, None, "a\x07b", "", "x" * 300, "é&=+%"])
PATHS = st.sampled_from(
    [("extras", "user", "id"), ("extras", "code"), ("extras", "a.b"), ("", "x"), ("message",)]
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "from_": TIMES,
        "to": TIMES,
        "tool": texts("tool_name"),
        "user": texts("user_subject"),
        "session": texts("session_id"),
        "error_category": texts("error_category"),
        "source": texts("source"),
        "success": st.booleans(),
        "q": st.sampled_from(["echo", "AUTH", "%", "x" * 201]),
        "min_duration_ms": st.integers(0, 60),
        "params": st.dictionaries(PATHS, VALUES, max_size=2),
        "headers": st.dictionaries(st.just("user-agent"), st.just("ci-runner/2.0"), max_size=1),
        "has": st.lists(st.sampled_from(HAS_COLUMNS), min_size=1, max_size=2),
    },
).map(lambda keywords: EventFilter(**keywords))


@given(st.lists(FILTERS, max_size=2), st.booleans())
def test_what_is_sent_and_what_is_checked_mean_what_was_asked(
    filters: list[EventFilter], reference: bool
) -> None:
    question = make_request(filters, reference=reference)
    assert EventFilter.from_query(question.query()) == question.sent
    for event in RECORDED[::3]:
        wanted = all(item.matches(event) for item in filters)
        listed = question.sent.matches(event)
        checked = question.wants(event)
        complete = question.details is None or question.details.matches(event)
        assert (listed and checked and complete) == wanted
        if question.whole:
            assert listed == wanted


@given(st.lists(FILTERS, max_size=2))
def test_the_reference_is_sent_nothing_that_it_drops(filters: list[EventFilter]) -> None:
    pairs = parse_qsl(make_request(filters, reference=True).query(), keep_blank_values=True)
    names = [name for name, _ in pairs if name.partition(".")[0] not in SOURCES]
    assert set(names) <= KNOWN
    once = [name for name in names if name != "has"]
    assert len(once) == len(set(once))
    assert all(value and value.isprintable() for _, value in pairs)
    assert all(len(value) <= 200 for name, value in pairs if name == "q")


def test_lines_are_read_as_events_are() -> None:
    for line, event in zip(DETAILS.read_bytes().splitlines(), RECORDED, strict=True):
        other = line.replace(b'{"id"', b'{ "id"', 1)
        for text in (line, other):
            row = read_line(text)
            assert row is not None
            assert (row.id, row.timestamp) == (event.id, event.timestamp)
            assert row.whole == (event.payload is not None)
            assert row.line == text
        bare = read_line(event.summary.to_json().encode())
        assert bare is not None
        assert not bare.whole


@pytest.mark.parametrize(
    ("members", "whole"),
    [
        (b'"payload":{"request_params":{}},"source":"mcp"', True),
        (b'"source":"mcp","payload":{}', True),
        (b'"p\\u0061yload":{"request_params":{}}', True),
        (b'"source":"mcp","payload":null', False),
        (b'"parameters":{"a":1,"payload":{"b":{}}}', False),
        (b'"parameters":{"a":1,"payload":{}},"payload":{"request_params":{}}', True),
        (b'"error_message":",\\"payload\\":{}}"', False),
        (b'"source":"mcp"', False),
    ],
)
def test_a_line_has_a_payload_in_whatever_order_its_members_are(
    members: bytes, whole: bool
) -> None:
    begin = b'{"id":"d90d37e9-209e-4110-aa38-f2780b834e84","timestamp":"2026-11-24T03:00:00Z",'
    row = read_line(begin + members + b"}")
    assert row is not None
    assert row.whole is whole


def test_a_line_that_is_cut_inside_its_payload_is_no_row() -> None:
    begin = b'{"id":"d90d37e9-209e-4110-aa38-f2780b834e84","timestamp":"2026-11-24T03:00:00Z"'
    assert read_line(begin + b',"payload":{"request_params":{"a":') is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1]",
        b"nonsense",
        b'{"id":"x","timestamp":"2026-11-24T03:00:00Z"}',
        b'{"id":"d90d37e9-209e-4110-aa38-f2780b834e84","timestamp":"2026-99-24T03:00:00Z"}',
        b"[" * 100_000,
    ],
)
def test_what_has_no_id_or_time_is_no_row(line: bytes) -> None:
    assert read_line(line) is None
