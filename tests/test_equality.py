"""Quick looks at two JSON values."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab.comparison.equality import JsonText, identical, kind_of, surely_equal
from mcpaudit_lab.record.jsontext import JsonDecimal, dumps, loads, same
from mcpaudit_lab.record.redaction import marks_of, redacted_paths

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(0, 1)
    | st.sampled_from([0.0, 1.0, JsonDecimal("1.0"), "", "a", "***", "*", "[redacted]", "é"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)
SLOW = settings(deadline=None)
MARKS = marks_of()


@SLOW
@given(TREES, TREES)
def test_what_is_surely_equal_is_equal(one: Any, other: Any) -> None:
    if surely_equal(one, other, None) or identical(one, other):
        assert same(one, other)


@SLOW
@given(TREES)
def test_what_is_surely_equal_holds_no_mark(tree: Any) -> None:
    copy = loads(dumps(tree))

    if surely_equal(tree, copy, MARKS.starts) or identical(tree, copy, MARKS.hint_bytes):
        assert not redacted_paths(tree)


def test_the_second_look_tells_true_from_one() -> None:
    def careful(one: Any, other: Any) -> bool:
        return surely_equal(one, other, None)

    for look in (identical, careful):
        assert look({"a": [1, True, "x", None]}, {"a": [1, True, "x", None]})
        assert not look({"a": [1]}, {"a": [True]})
        assert not look([0], [False])
        assert not look(True, 1)
        assert look("[redacted]", "[redacted]")


def test_where_a_mark_could_be_a_quick_look_says_no() -> None:
    assert not surely_equal({"a": ["***"]}, {"a": ["***"]}, MARKS.starts)
    assert not surely_equal("[x]", "[x]", MARKS.starts)
    assert not identical({"a": "x <Redacted>"}, {"a": "x <Redacted>"}, MARKS.hint_bytes)
    assert identical({"a": "x"}, {"a": "x"}, MARKS.hint_bytes)


def test_what_cannot_be_told_quickly_is_not_called_equal() -> None:
    deep: list[Any] = [[], []]
    for _ in range(100_000):
        deep = [[tree] for tree in deep]

    assert not identical(*deep)
    assert not identical([JsonDecimal("1.0")], [JsonDecimal("1.0")])
    assert not surely_equal([JsonDecimal("1.0")], [JsonDecimal("1.0")], None)
    texts = [JsonText.of("[1]", [1]), JsonText.of("[1]", [1])]
    assert not surely_equal(texts[:1], texts[1:], None)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({}, "object"),
        ([], "array"),
        ((), "array"),
        ("", "string"),
        (JsonText.of("1", 1), "string"),
        (True, "boolean"),
        (None, "null"),
        (1, "number"),
        (1.0, "number"),
        (Decimal(1), "number"),
        (JsonDecimal("1"), "number"),
    ],
)
def test_a_value_is_of_one_json_type(value: Any, kind: str) -> None:
    assert kind_of(value) == kind


def test_other_values_have_no_json_type() -> None:
    with pytest.raises(TypeError, match="bytes is not a JSON value"):
        kind_of(b"")
