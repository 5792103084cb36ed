"""Secrets are taken out by key, everything else comes through as it was."""

from __future__ import annotations

import json
from collections import UserDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.record.jsontext import JsonDecimal, dumps, loads, same
from mcpaudit_lab.record.sanitize import (
    DEFAULT_REDACT_KEYS,
    REDACTED,
    Sanitizer,
    canonical_header,
    copy_json,
)

UPSTREAM = Path(__file__).parent / "data" / "upstream"
RULES = Sanitizer()

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
    "name",
    [
        "password",
        "DB_PASSWORD",
        "my_API_Token_2",
        "progressToken",
        "tokens",
        "Session_ID",
        "sessionId",
        "api_key",
        "apiKey",
        "API KEY",
        "pass word",
        "X-Api-Key",
        "x-api-key",
        "client_secret",
        "jwt",
        "private-key",
        "Proxy-Authorization",
        "to\u212aen",  # the Kelvin sign folds to a k
        "x" * 100 + "token",
    ],
)
def test_a_name_that_contains_a_redact_key_is_secret(name: str) -> None:
    assert RULES.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "author",
        "monkey",
        "key",
        "message",
        "",
        "cooky",
        "max_tokens",
        "maxTokens",
        "MAX-TOKENS",
        "prompt_tokens",
        "total_tokens",
        "Mcp-Session-Id",
    ],
)
def test_other_names_are_kept(name: str) -> None:
    assert not RULES.is_secret(name)


def test_a_kept_name_is_secret_when_asked_for() -> None:
    assert Sanitizer(redact_keys=("token", "max_tokens")).is_secret("max_tokens")
    assert Sanitizer(kept_keys=()).is_secret("max_tokens")


def test_without_redact_keys_nothing_is_taken_out() -> None:
    value = {"password": "x", "text": '{"password": "x"}'}
    assert Sanitizer(redact_keys=()).clean(value) == value


@pytest.mark.parametrize("key", ["", "-", " _ "])
def test_an_empty_redact_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="empty redact key"):
        Sanitizer(redact_keys=("token", key))


def test_whole_values_go_at_any_depth_and_in_lists() -> None:
    value = {
        "credentials": {"u": 1},
        "list": [{"client_secret": "y", "ok": 1}, ["plain", {"jwt": "ey.."}]],
        "note": "password in a value is kept",
        "token": None,
    }
    assert RULES.clean(value) == {
        "credentials": REDACTED,
        "list": [{"client_secret": REDACTED, "ok": 1}, ["plain", {"jwt": REDACTED}]],
        "note": "password in a value is kept",
        "token": REDACTED,
    }


def test_the_recorded_rows_have_nothing_left_to_take_out() -> None:
    """Parameters were redacted by the reference server: by the same keys, so nothing is found."""
    rows = [json.loads(line) for line in (UPSTREAM / "export.jsonl").read_text().splitlines()]
    parameters = [row["parameters"] for row in rows if "parameters" in row]
    assert len(parameters) > 400
    assert REDACTED in dumps(parameters)
    assert all(same(RULES.clean(value), value, spelling=True) for value in parameters)


def test_what_the_reference_server_redacted_is_redacted_from_the_original() -> None:
    """Its responses are not redacted, and an echo is its arguments: both sides of the rule."""
    compared = 0
    for line in (UPSTREAM / "details.jsonl").read_text().splitlines():
        row = json.loads(line)
        result = row["payload"].get("response_result", {})
        params = row["payload"].get("request_params", {})
        if row["tool_name"] == "echo" and row["success"] and REDACTED in dumps(params) != "{}":
            cleaned = RULES.clean(result["structuredContent"])
            assert same(cleaned, params), (cleaned, params)
            compared += 1
    assert compared > 5


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('{"password": "x", "n": 1.10}', '{"password":"[redacted]","n":1.10}'),
        ('  [{"api_key":"x"}]', '[{"api_key":"[redacted]"}]'),
        (r'{"\u0070assword":"x"}', '{"password":"[redacted]"}'),
        (r'"{\"token\":\"x\"}"', r'"{\"token\":\"[redacted]\"}"'),
        (r'{"log":"{\"token\":\"x\"}"}', r'{"log":"{\"token\":\"[redacted]\"}"}'),
    ],
)
def test_json_inside_text_is_looked_into(text: str, cleaned: str) -> None:
    assert RULES.clean_text(text) == cleaned
    assert RULES.clean({"text": text}) == {"text": cleaned}


def test_json_lines_are_looked_at_line_by_line() -> None:
    text = '{"a": 1}\n{"token": "x"}\nplain\n["token"]\n'
    assert RULES.clean_text(text) == '{"a": 1}\n{"token":"[redacted]"}\nplain\n["token"]\n'


def test_a_secret_hidden_behind_a_repeated_member_goes() -> None:
    text = '{"a": {"password": "x"}, "a": 1}'
    assert RULES.clean_text(text) == '{"a":1}'


@pytest.mark.parametrize(
    "text",
    [
        "password=x",
        '{"password": "x"',
        "{'password': 'x'}",
        '{"note": "a password"}',
        '{ "max_tokens" : 10 }',
        '{"password": NaN}',
        '"token"',
        r'{"a":"\u0062"}',
    ],
)
def test_text_without_a_secret_member_keeps_every_byte(text: str) -> None:
    assert RULES.clean_text(text) == text


def test_nesting_is_bounded_by_memory_alone() -> None:
    value: Any = {"password": "x", "leaf": 1}
    for _ in range(10_000):
        value = {"k": [value]}
    text = dumps(RULES.clean({"deep": value, "text": dumps(value)}))
    assert "leaf" in text
    assert text.count(REDACTED) == 2
    assert '"x"' not in text
    assert dumps(copy_json(value)) == dumps(value)


def test_a_copy_shares_no_container_with_its_source() -> None:
    value = {"a": [{"b": [1]}], "t": ({"c": 2},)}
    copy: Any = RULES.clean(value)
    value["a"][0]["b"].append(2)  # type: ignore[index]  # the tuple makes mypy see an object
    assert copy == {"a": [{"b": [1]}], "t": [{"c": 2}]}


def test_what_json_cannot_hold_becomes_text() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Number(IntEnum):
        ONE = 1

    value = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "decimal": Decimal("1.50"),
        "no number": Decimal("sNaN"),
        "kept": JsonDecimal("1e999"),
        "bytes": b"secret",
        "when": datetime.now(UTC),
        "set": {1},
        "enum": Colour.RED,
        "int": Number.ONE,
        Colour.RED: "a name",
        "mapping": UserDict({"password": "x"}),
        1: "one",
        None: "none",
        (1, 2): "tuple",
    }
    copy: Any = RULES.clean(value)
    assert copy == {
        "nan": "NaN",
        "inf": "-Infinity",
        "decimal": Decimal("1.50"),
        "no number": "sNaN",
        "kept": JsonDecimal("1e999"),
        "bytes": "<bytes>",
        "when": "<datetime>",
        "set": [1],
        "enum": "red",
        "int": 1,
        "red": "a name",
        "mapping": {"password": REDACTED},
        "1": "one",
        "null": "none",
        "<tuple>": "tuple",
    }
    assert type(copy["enum"]) is str
    assert type(copy["int"]) is int
    assert loads(dumps(copy)) is not None


def test_a_container_inside_itself_ends() -> None:
    loop: dict[str, Any] = {"twin": [1]}
    loop["again"] = [loop, loop["twin"], loop["twin"]]
    assert RULES.clean(loop) == {"twin": [1], "again": ["<cycle>", [1], [1]]}


def test_masked_headers_keep_their_names() -> None:
    headers = {
        "x-api-key": ["k"],
        "AUTHORIZATION": ["Bearer k"],
        "Proxy-Authorization": ["p"],
        "cookie": ["a=b"],
        "set-cookie": ["a=b"],
        "x-secret-thing": ["s"],
        "mcp-session-id": ["S"],
        "x-multi": ["one", "two"],
        "X-Multi": ["three"],
    }
    assert RULES.mask_headers(headers) == {
        "Authorization": [REDACTED],
        "Cookie": [REDACTED],
        "Mcp-Session-Id": ["S"],
        "Proxy-Authorization": [REDACTED],
        "Set-Cookie": [REDACTED],
        "X-Api-Key": [REDACTED],
        "X-Multi": ["three", "one", "two"],
        "X-Secret-Thing": [REDACTED],
    }


def test_some_headers_are_masked_whatever_the_keys_are() -> None:
    masked = Sanitizer(redact_keys=()).mask_headers({"X-API-KEY": ["k"], "X-Token": ["t"]})
    assert masked == {"X-Api-Key": [REDACTED], "X-Token": ["t"]}


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("user-agent", "User-Agent"),
        ("X-API-KEY", "X-Api-Key"),
        ("x", "X"),
        ("-x--y-", "-X--Y-"),
        ("x_y", "X_y"),
        ("a b", "a b"),
        ("ä-b", "ä-b"),
        ("é", "é"),
        ("", ""),
        ("X-" * 100, "X-" * 100),
    ],
)
def test_a_header_name_is_spelled_as_go_spells_it(name: str, canonical: str) -> None:
    assert canonical_header(name) == canonical


@given(JSON)
def test_a_copy_equals_its_source(value: Any) -> None:
    assert same(copy_json(value), value, spelling=True)


@given(JSON)
def test_cleaning_twice_is_cleaning_once(value: Any) -> None:
    once = RULES.clean(value)
    assert same(RULES.clean(once), once, spelling=True)


@given(JSON, st.sampled_from(DEFAULT_REDACT_KEYS), st.text(max_size=3), st.booleans())
def test_a_secret_never_comes_through(value: Any, key: str, around: str, as_text: bool) -> None:
    inner: Any = {around + key + around: {"canary": "c4n4ry", "rest": value}, "b": value}
    whole = {"a": [dumps(inner) if as_text else inner]}
    assert "c4n4ry" not in dumps(RULES.clean(whole))


def test_its_repr_shows_rules_only() -> None:
    assert repr(Sanitizer(("a",), ("b",))) == "Sanitizer(redact_keys=('a',), kept_keys=('b',))"
