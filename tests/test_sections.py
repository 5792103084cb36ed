"""What of an event is compared."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab.comparison.equality import JsonText
from mcpaudit_lab.comparison.jsondiff import Findings, examine
from mcpaudit_lab.comparison.sections import SECTIONS, known_sections, open_texts, surely_equal
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import JsonDecimal
from mcpaudit_lab.record.redaction import marks_of

MARKS = marks_of()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from([1.0, "a", "***", "\\u003c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


def event(payload: dict[str, Any] | None = None, **members: Any) -> Event:
    wire = {"id": "", "timestamp": "2026-11-24T03:43:43Z", "tool_name": "echo", **members}
    return Event(wire if payload is None else {**wire, "payload": payload})


def test_empty_members_and_missing_ones_are_the_same() -> None:
    bare, _ = known_sections(event({}))
    full, unknown = known_sections(
        event(
            {
                "request_params": {},
                "response_result": None,
                "response_error": None,
                "notifications": [],
                "request_truncated": False,
            },
            success=False,
            error_category="",
            error_message="",
            content_blocks=0,
        )
    )

    assert bare == full
    assert unknown == ()
    assert full["param"] == {}
    assert full["notifications"] == []
    assert "response" not in full
    assert full["summary"] == {"tool_name": "echo", "success": False, "content_blocks": 0}


def test_the_arguments_are_taken_from_the_event_where_the_payload_has_none() -> None:
    arguments = {"a": 1}

    assert known_sections(event(parameters=arguments))[0]["param"] == arguments
    assert known_sections(event({}, parameters=arguments))[0]["param"] == arguments
    assert known_sections(event({"request_params": {"b": 2}}, parameters=arguments))[0][
        "param"
    ] == {"b": 2}


@pytest.mark.parametrize(
    ("payload", "unknown"),
    [
        (None, {"param", "response", "error", "notifications"}),
        ({}, set()),
        ({"request_truncated": True}, {"param"}),
        ({"response_truncated": True, "response_result": {"x": 1}}, {"response", "error"}),
        ({"notifications_truncated": True, "notifications": [{}]}, {"notifications"}),
    ],
)
def test_what_was_not_captured_is_unknown(
    payload: dict[str, Any] | None, unknown: set[str]
) -> None:
    assert set(known_sections(event(payload))[1]) == unknown


def test_a_notification_is_its_method_and_params() -> None:
    notification = {
        "ts": "2026-11-24T03:43:43Z",
        "id": 5,
        "method": "notifications/progress",
        "params": {"progressToken": 7, "progress": 1, "data": {"progressToken": 1}},
    }

    known, _ = known_sections(event({"notifications": [notification, {"params": [1]}, {}]}))

    assert known["notifications"] == [
        {
            "method": "notifications/progress",
            "params": {"progress": 1, "data": {"progressToken": 1}},
        },
        {"method": None, "params": [1]},
        {"method": None, "params": None},
    ]


def result(*texts: str) -> dict[str, Any]:
    return {"response": {"content": [{"type": "text", "text": text} for text in texts]}}


def opened(left: Any, right: Any) -> list[bool] | None:
    """Which of the left texts were opened, or None if nothing was looked at."""
    if not open_texts(left, right, MARKS):
        return None
    return [isinstance(block["text"], JsonText) for block in left["response"]["content"]]


def test_texts_are_opened_where_they_are_json() -> None:
    texts = ('{"a":1}', " \n[1]", "plain", "7", '"x"', "{no", "[NaN]", "")

    assert opened(result(*texts), result("other")) == [True, True, *[False] * 6]


def test_equal_texts_are_opened_only_if_a_mark_could_be_in_them() -> None:
    assert opened(result('{"a":1}'), result('{"a":1}')) is None
    assert opened(result('{"a":"***"}'), result('{"a":"***"}')) == [True]
    assert opened(
        result('{"a":"\\u003cREDACTED\\u003e"}'), result('{"a":"\\u003cREDACTED\\u003e"}')
    )
    assert opened(result("[REDACTED]"), result("[REDACTED]")) == [False]


def test_a_result_of_another_shape_is_left_as_it_is() -> None:
    for shape in ({}, {"response": "x"}, {"response": {"content": {"text": "[1]"}}}):
        assert not open_texts(dict(shape), result("[2]"), MARKS)
        assert not open_texts(result("[2]"), dict(shape), MARKS)
    content = [
        {"type": "image", "text": "[1]"},
        "[1]",
        {"type": "text"},
        {"type": "text", "text": 1},
    ]
    others = {"response": {"content": content}}
    open_texts(others, result("[2]"), MARKS)
    assert others["response"]["content"] == content
    assert not open_texts({"response": {"content": content}}, others, MARKS)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_what_is_quickly_called_identical_is_equal_and_without_marks(a: Any, b: Any) -> None:
    if surely_equal({"x": a}, {"x": b}, MARKS):
        assert examine(a, b, marks=MARKS) == Findings()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1], [True]),
        (["<Redacted>"], ["<Redacted>"]),
        (["\\u003cREDACTED\\u003e"], ["\\u003cREDACTED\\u003e"]),
        ([JsonDecimal("1.10")], [JsonDecimal("1.10")]),
    ],
)
def test_what_needs_a_closer_look_is_not_called_identical(left: Any, right: Any) -> None:
    assert not surely_equal({"param": left}, {"param": right}, MARKS)


def test_plain_values_are_identical_at_once() -> None:
    assert surely_equal({"param": {"a": [1, None, "x"]}}, {"param": {"a": [1, None, "x"]}}, MARKS)


def test_the_sections_are_named_as_in_filters() -> None:
    assert SECTIONS == ("summary", "param", "response", "error", "notifications")
