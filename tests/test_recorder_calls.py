"""Requests and answers as a recorder pairs them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import text_of

from mcpaudit_lab.formats.jsonrpc import NO_ANSWER
from mcpaudit_lab.record.sanitize import Sanitizer
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.recorder.command import bare_url, masked_command

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def tracker() -> CallTracker:
    ticks: Iterator[int] = iter(range(1000))
    start_ns = int(NOON.timestamp()) * 10**9
    return CallTracker("stdio", clock=lambda: start_ns + next(ticks) * 10**6)


def call(rpc_id: Any, name: str = "t", **params: Any) -> dict[str, Any]:
    return {"id": rpc_id, "method": "tools/call", "params": {"name": name, **params}}


def answer(rpc_id: Any, text: str = "") -> dict[str, Any]:
    return {"id": rpc_id, "result": {"content": [{"type": "text", "text": text}]}}


def test_an_answer_belongs_to_the_id_of_its_own_type_and_scope(tracker: CallTracker) -> None:
    for scope, rpc_id in (("a", 2), ("a", "2"), ("b", 2)):
        tracker.on_client_message(scope, call(rpc_id, f"{scope}{rpc_id!r}"))
    assert tracker.on_server_message("c", answer(2)) == []
    names = [
        event.tool_name
        for scope, rpc_id in (("a", "2"), ("b", 2), ("a", 2))
        for event in tracker.on_server_message(scope, answer(rpc_id))
    ]
    assert names == ["a'2'", "b2", "a2"]
    assert tracker.on_server_message("a", answer(2)) == []


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_answers_in_any_order_give_the_same_events(order: list[int], missing: set[int]) -> None:
    tracker = CallTracker("stdio")
    ids = [1, "1", 2, "2", 3, "x"]
    for place, rpc_id in enumerate(ids):
        tracker.on_client_message("s", call(rpc_id, f"tool {place}"))
    events = []
    for place in order:
        if place not in missing:
            events += tracker.on_server_message("s", answer(ids[place], f"tool {place}"))
    assert all(text_of(event) == event.tool_name for event in events)
    rest = tracker.finish()
    assert {event.tool_name for event in rest} == {f"tool {place}" for place in missing}
    assert {event.error_message for event in rest} <= {NO_ANSWER}


def test_a_cancelled_call_ends_and_a_late_answer_is_of_no_call(tracker: CallTracker) -> None:
    tracker.on_client_message("s", call(1))
    cancelled = {"method": "notifications/cancelled", "params": {"requestId": 1}}
    _, (event,) = tracker.on_client_message("s", cancelled)
    assert (event.success, event.error_category) == (False, "tool")
    assert text_of(event) == "context canceled"
    assert tracker.on_server_message("s", answer(1)) == []
    assert tracker.on_client_message("s", cancelled) == (None, [])


def test_notifications_go_to_the_call_they_name_or_the_only_one(tracker: CallTracker) -> None:
    def progress(token: Any) -> dict[str, Any]:
        return {"method": "notifications/progress", "params": {"progressToken": token}}

    log = {"method": "notifications/message", "params": {"data": "x"}}
    tracker.on_client_message("s", call(1, _meta={"progressToken": 1}))
    tracker.on_server_message("s", log)
    tracker.on_client_message("s", call(2, _meta={"progressToken": "1"}))
    for message in (log, progress(1), progress("1"), progress(3), progress(1)):
        tracker.on_server_message("s", message)
    (first,) = tracker.on_server_message("s", answer(1))
    (second,) = tracker.on_server_message("s", answer(2))
    assert first.payload is not None
    assert second.payload is not None
    names = [item.method.split("/")[1] for item in first.payload.notifications]
    assert names == ["message", "progress", "progress"]
    assert len(second.payload.notifications) == 1


def test_a_request_of_the_server_is_no_answer(tracker: CallTracker) -> None:
    tracker.on_client_message("s", call(1))
    assert tracker.on_server_message("s", {"id": 1, "method": "sampling/createMessage"}) == []
    assert tracker.on_client_message("s", {"id": 1, "result": {}}) == (None, [])
    assert len(tracker.on_server_message("s", answer(1))) == 1


def test_the_open_event_is_the_call_without_an_answer(tracker: CallTracker) -> None:
    opened, _ = tracker.on_client_message("s", call(1, "t", arguments={"password": "x", "a": 1}))
    assert opened is not None
    event = tracker.pending_event(opened)
    assert (event.success, event.error_category) == (False, "handler")
    assert event.error_message == NO_ANSWER
    assert event.parameters == {"password": "[redacted]", "a": 1}
    (done,) = tracker.on_server_message("s", answer(1))
    assert (done.id, done.success, done.error_message) == (event.id, True, "")
    assert (done.timestamp, done.duration_ms) == (NOON, 1)


@pytest.mark.parametrize(
    "message",
    [None, 1, "x", [], {}, {"method": 1}, {"id": None}, {"id": {}, "method": "tools/call"}],
)
def test_messages_of_any_form_raise_nothing(tracker: CallTracker, message: Any) -> None:
    tracker.on_client_message("s", message)
    tracker.on_server_message("s", message)
    tracker.on_client_message("s", call(1, name={}))  # type: ignore[arg-type]  # whatever is sent
    (event,) = tracker.on_server_message("s", {"id": 1, "error": 7})
    assert (event.tool_name, event.error_message) == ("", "7")


def test_secrets_of_a_command_and_of_a_url_are_masked() -> None:
    command = ["srv", "--api-key", "a", "--token=b", "--port", "1", "PASSWORD=c", "--secret", "-v"]
    command.append("https://u:p@h.example/mcp?token=d#e")
    assert masked_command(command, Sanitizer()) == [
        *("srv", "--api-key", "[redacted]", "--token=[redacted]", "--port", "1"),
        *("PASSWORD=[redacted]", "--secret", "-v", "https://h.example/mcp"),
    ]
    assert bare_url("http://[bad") == "[redacted]"
