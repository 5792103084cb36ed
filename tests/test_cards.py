"""Cards: an event, a comparison and a ledger entry as text for a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mcpaudit_lab import Event, Payload, Provenance, compare
from mcpaudit_lab.display.terminal_cards import (
    pretty_json,
    print_comparison,
    print_event,
    print_provenance,
)
from mcpaudit_lab.record.jsontext import loads

DETAILS = Path(__file__).parent / "data" / "upstream" / "details.jsonl"
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def recorded() -> Iterator[Event]:
    with DETAILS.open("rb") as lines:
        yield from map(Event.from_json, lines)


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=1000, highlight=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def card(event: Event) -> str:
    console = plain_console()
    print_event(console, event)
    return printed(console)


def test_every_recorded_event_has_a_card_that_commands_no_terminal() -> None:
    for event in recorded():
        text = card(event)
        assert event.id in text
        assert not HIDDEN.search(text)


def test_a_card_tells_who_what_and_what_came_back() -> None:
    event = next(e for e in recorded() if e.id == "9be46480-fa19-4c60-9b50-8878b96f2759")
    lines = card(event).splitlines()
    assert lines[0] == "progress  ok  3 ms  2026-11-24T03:43:45.677711Z"
    assert "  user      apikey:dev-local (apikey, dev-local)" in lines
    assert "  by        mcp over http" in lines
    assert "Request  23 bytes" in lines
    assert '    "step_ms": 3,' in lines
    assert "  X-Api-Key: [redacted]" in lines
    assert "Notifications  1" in lines
    assert any(line.startswith("  +0.2 ms  notifications/progress  ") for line in lines)


def test_a_card_names_what_was_redacted() -> None:
    event = Event.build(
        timestamp="2026-11-24T00:00:00Z",
        payload={"request_params": {"user": {"password": "[redacted]"}, "list": ["***"]}},
    )
    assert "  redacted  user.password\n  redacted  list[0]\n" in card(event)


def test_a_card_without_payload_says_so() -> None:
    event = Event.build(timestamp="2026-11-24T00:00:00Z", parameters={"a": 1})
    text = card(event)
    assert text.startswith("(no tool)  failed  0 ms")
    assert '  {\n    "a": 1\n  }\n' in text
    assert "payload   not captured, or not loaded" in text
    assert "nobody known" in text


def test_a_card_says_what_was_too_big_to_keep() -> None:
    event = Event.build(
        timestamp="2026-11-24T00:00:00Z",
        success=True,
        unheard_of=1,
        payload={
            "request_truncated": True,
            "request_size_bytes": 70000,
            "response_truncated": True,
            "response_error": {"message": "no"},
            "request_headers": {"A": "not a list"},
            "replayed_from": "9be46480-fa19-4c60-9b50-8878b96f2759",
            "notifications_truncated": True,
            "notifications": [{"method": "m"}],
        },
    )
    text = card(event)
    assert "Request  70,000 bytes, too big, not kept\n  no arguments\n" in text
    assert "Response  , too big, not kept" not in text
    assert "Response  too big, not kept\n  no result\n" in text
    assert '\nError\n  {\n    "message": "no"\n  }\n' in text
    assert '  A: "not a list"\n' in text
    assert "  replay of 9be46480-fa19-4c60-9b50-8878b96f2759\n" in text
    assert "Notifications  1, the last ones left out\n  m" in text
    assert '  extra     {"unheard_of":1}\n' in text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
        max_leaves=20,
    )
)
def test_indented_json_is_the_same_json(value: Any) -> None:
    lines = list(pretty_json(value))
    assert not any(HIDDEN.search(line) or "\n" in line for line in lines)
    if "\\x" not in "".join(lines) and "\\u" not in "".join(lines):
        assert loads("\n".join(lines)) == value


def test_long_texts_and_long_values_are_cut_and_say_so() -> None:
    (line,) = pretty_json("x" * 1500)
    assert line.endswith("x… 502 more characters; --json shows all")
    lines = list(pretty_json(list(range(1000))))
    assert lines[-1] == "… more; --json shows all"
    assert len(lines) == 401


def test_deep_values_end_on_one_line() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    lines = list(pretty_json(deep))
    assert len(lines) == 12 + 1 + 12
    assert "more characters" in lines[12]


def test_a_comparison_is_coloured_by_what_happened() -> None:
    left = Event.build(timestamp="2026-11-24T00:00:00Z", tool_name="a", parameters={"a": 1, "b": 2})
    right = Event.build(timestamp="2026-11-24T00:00:00Z", tool_name="a", parameters={"a": 3})
    console = Console(
        file=io.StringIO(), width=80, force_terminal=True, color_system="standard", highlight=False
    )
    print_comparison(console, compare(left, right))
    text = printed(console)
    assert text.startswith("\x1b[33mchanged: 1 value, 1 removed, 3 unknown")
    assert "\x1b[33mvalue\x1b[0m    param.a: 1 -> 3" in text
    assert "\x1b[31mremoved\x1b[0m  param.b: 2" in text
    assert "\x1b[35munknown\x1b[0m  response" in text


@pytest.mark.parametrize(
    ("raw", "note", "shown"),
    [
        (b'{"a":"\xff\x1b"}', "", r'{"a":"\xff\x1b"}'),
        (None, "a stream cannot be read again", "a stream cannot be read again"),
    ],
)
def test_the_ledger_shows_the_raw_line_or_why_not(raw: bytes | None, note: str, shown: str) -> None:
    item = Provenance(
        event_id="9be46480-fa19-4c60-9b50-8878b96f2759",
        part="event",
        kind="file",
        source="a\x1b.jsonl",
        request=None,
        line=1234,
        byte_offset=0,
        sha256="ab",
        loaded_at=datetime(2026, 11, 24, tzinfo=UTC),
        raw=raw,
        note=note,
    )
    console = plain_console()
    print_provenance(console, [item])
    assert printed(console).splitlines() == [
        "",
        "Provenance of the event",
        r"  file      a\x1b.jsonl",
        "  line      1,234",
        "  SHA-256   ab",
        "  loaded    2026-11-24T00:00:00Z",
        f"  raw       {shown}",
    ]


def test_a_header_that_is_no_text_is_json_and_a_long_one_is_cut() -> None:
    deep: Any = None
    for _ in range(5_000):
        deep = [deep]
    headers = {"Odd": [None, "x"], "Long": "y" * 3_000, "Deep": [deep]}
    event = Event.build(timestamp="2026-11-24T00:00:00Z", tool_name="echo")
    shown = card(event.with_payload(Payload.build(request_headers=headers)))
    assert "  Odd: null, x\n" in shown
    assert "more characters" in shown
    assert "  Deep: [[[[" in shown
