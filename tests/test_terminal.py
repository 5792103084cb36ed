"""What a record may hold, and a terminal must not get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.record.printable import counted, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 日本語, ü", "plain text, 日本語, ü"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\x00b\x07c", r"a\x00b\x07c"),
        ("line\nline\r\tend", r"line\nline\r\tend"),
        ("\x7f\x80\x9b2J", r"\x7f\x80\x9b2J"),
        ("gpj\u202eexe", r"gpj\u202eexe"),
        ("\u2066a\u2069\u061c", r"\u2066a\u2069\u061c"),
        ("one\u2028two\u2029", r"one\u2028two\u2029"),
        ("lone \ud83d half", r"lone \ud83d half"),
        ("hid\u200bden\ufeff", r"hid\u200bden\ufeff"),
        ("tag\U000e0041\U000e007f", r"tag\U000e0041\U000e007f"),
        ("👩\u200d👧 stays whole", "👩\u200d👧 stays whole"),
        (r"C:\temp", r"C:\temp"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_the_result_is_one_line_of_utf8_without_controls(text: str) -> None:
    shown = visible(text)

    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (2000, "2,000 calls")]
)
def test_one_is_one_and_not_several(count: int, said: str) -> None:
    assert counted(count, "call") == said
