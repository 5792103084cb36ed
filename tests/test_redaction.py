"""What counts as a redacted value."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpaudit_lab.record.redaction import (
    DEFAULT_DIALECTS,
    Dialect,
    is_redacted,
    marks_of,
    redacted_paths,
)

DETAILS = Path(__file__).parent / "data" / "upstream" / "details.jsonl"
HEX = "0123456789abcdefABCDEF0123456789" * 2


@pytest.mark.parametrize(
    "value",
    [
        "[redacted]",
        "[REDACTED]",
        "[Redacted]",
        "<REDACTED>",
        "<redacted>",
        "<redacted:email>",
        "<REDACTED_API_KEY>",
        "<Redacted by policy 7>",
        "***",
        "*" * 40,
    ],
)
def test_a_mark_is_recognised_in_any_case(value: str) -> None:
    assert is_redacted(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "redacted",
        "[redacted",
        "[redacted] ",
        "[redacted]\n",
        "token=[redacted]",
        "[redacted][redacted]",
        "<redacted",
        "<redacted>>",
        "<redacted><redacted>",
        "<REDACTED> and more",
        "**",
        "***a",
        "***\n",
        "* * *",
        f"sha256:{HEX}",
        ["[redacted]"],
        {"[redacted]": "[redacted]"},
        None,
        0,
        True,
    ],
)
def test_what_is_not_a_mark_from_end_to_end_is_data(value: Any) -> None:
    assert not is_redacted(value)


def test_a_hash_is_a_mark_only_when_asked_for() -> None:
    with_hashes = {*DEFAULT_DIALECTS, Dialect.SHA256}

    assert is_redacted(f"sha256:{HEX}", dialects=with_hashes)
    assert is_redacted(f"SHA256:{HEX}", dialects=["sha256"])
    assert not is_redacted(f"sha256:{HEX[1:]}", dialects=with_hashes)
    assert not is_redacted(f"sha256:{HEX}0", dialects=with_hashes)


def test_dialects_can_be_chosen_by_name() -> None:
    assert is_redacted("***", dialects="stars")
    assert not is_redacted("[redacted]", dialects=["stars", Dialect.ANGLES])
    assert not any(is_redacted(text, dialects=()) for text in ("", "***", "[redacted]"))


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="dots"):
        is_redacted("...", dialects=["dots"])


@pytest.mark.parametrize("dialect", Dialect)
def test_every_mark_begins_and_reads_as_its_dialect_says(dialect: Dialect) -> None:
    examples = {
        Dialect.BRACKETS: "[Redacted]",
        Dialect.ANGLES: "<ReDacted x>",
        Dialect.STARS: "*****",
        Dialect.SHA256: f"Sha256:{HEX}",
    }
    marks = marks_of([dialect])

    assert marks.is_mark(examples[dialect])
    assert examples[dialect][0] in marks.starts
    assert any(hint in examples[dialect].lower() for hint in marks.hints)


def test_paths_come_in_document_order() -> None:
    tree = {
        "b": "***",
        "a": [1, "[redacted]", {"x": {"y": "<REDACTED>"}}, ["***"]],
        "": "[redacted]",
        "note": "see [redacted]",
    }

    assert redacted_paths(tree) == [
        ("b",),
        ("a", 1),
        ("a", 2, "x", "y"),
        ("a", 3, 0),
        ("",),
    ]


def test_a_value_that_is_itself_a_mark_has_the_empty_path() -> None:
    assert redacted_paths("[redacted]") == [()]
    assert redacted_paths("plain") == redacted_paths(7) == redacted_paths({}) == []


def test_ten_thousand_levels_are_searched() -> None:
    tree: Any = "***"
    for level in range(10_000):
        tree = [tree] if level % 2 else {"k": tree}

    (path,) = redacted_paths(tree)
    assert len(path) == 10_000
    assert path[:2] == (0, "k")


def test_the_recorded_arguments_are_redacted_where_the_keys_say_so() -> None:
    events = [json.loads(line) for line in DETAILS.read_text("utf-8").splitlines()]
    found = {
        str(path[-1])
        for event in events
        for path in redacted_paths(event.get("payload", {}).get("request_params"))
    }

    assert {"password", "api_token", "DB_PASSWORD", "client_secret", "jwt"} <= found
    assert "note" not in found
