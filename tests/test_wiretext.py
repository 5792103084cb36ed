"""Sizes and texts are those of the reference server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.record.jsontext import same
from mcpaudit_lab.record.wiretext import wire_size, wire_text

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            {"b": {"z": 1.0, "a": 1}, "a": "<&>\u2028é"},
            r'{"a":"\u003c\u0026\u003e\u2028é","b":{"a":1,"z":1}}',
        ),
        ([1e5, 1.0, -0.0, 0.1, -2.5], "[100000,1,-0,0.1,-2.5]"),
        ([1e20, 1e21, 1.5e300], "[100000000000000000000,1e+21,1.5e+300]"),
        ([1e-5, 1e-6, 1.5e-6, 1e-7, 1.5e-10], "[0.00001,0.000001,0.0000015,1e-7,1.5e-10]"),
        (9007199254740993, "9007199254740993"),
        ("\ud800", '"\\ud800"'),
        ("\0\b\f\x7f", '"\\u0000\\b\\f\x7f"'),
    ],
)
def test_json_is_written_as_recorded(value: Any, text: str) -> None:
    assert wire_text(value) == text
    assert wire_size(value) == len(text.encode())


@given(JSON)
def test_the_size_is_that_of_the_text(value: Any) -> None:
    assert wire_size(value) == len(wire_text(value).encode())


@given(JSON)
def test_the_text_says_the_same(value: Any) -> None:
    assert same(json.loads(wire_text(value)), value)


def test_what_is_not_json_has_a_size() -> None:
    loop: list[Any] = [float("nan"), object(), {1, 2}]
    loop.append(loop)
    assert wire_size(loop) == len('["NaN","\\u003cobject\\u003e",[1,2],"\\u003ccycle\\u003e"]')
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    assert wire_size(deep) == 20_001
