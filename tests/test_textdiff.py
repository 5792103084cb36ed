"""Two texts, line by line and word by word."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab import Change, ChangeKind, compare
from mcpaudit_lab.comparison.textdiff import TextDiff, diff_texts
from mcpaudit_lab.record import Event, Payload

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c c\n", "c d\n", "\r\n", "\n"]), max_size=30).map(
    "".join
) | st.text("ab\n", max_size=40)


def left_of(diff: TextDiff) -> str:
    return "".join(line.text for hunk in diff.hunks for line in hunk.lines if line.left)


def right_of(diff: TextDiff) -> str:
    return "".join(line.text for hunk in diff.hunks for line in hunk.lines if line.right)


@given(TEXTS, TEXTS)
def test_a_whole_difference_holds_both_texts(left: str, right: str) -> None:
    diff = diff_texts(left, right, context=1000)
    if left == right:
        assert not diff.hunks
    else:
        assert (left_of(diff), right_of(diff)) == (left, right)
    for hunk in diff.hunks:
        for line in hunk.lines:
            assert all(0 <= a < b <= len(line.text) for a, b in line.marks)


@given(TEXTS, TEXTS, st.integers(0, 3))
def test_every_line_is_shown_or_counted(left: str, right: str, context: int) -> None:
    diff = diff_texts(left, right, context=context)
    shown = sum(line.left is not None for hunk in diff.hunks for line in hunk.lines)
    skipped = sum(hunk.skipped for hunk in diff.hunks) + diff.skipped
    assert shown + skipped == diff.left_lines


def test_one_line_of_3000_is_shown_with_three_around_and_its_word_marked() -> None:
    lines = [f"line {n} of the answer\n" for n in range(1, 3001)]
    left = "".join(lines)
    right = left.replace("line 1500 of", "line 15OO of")
    assert str(diff_texts(left, right)) == (
        "@@ -1497,7 +1497,7 @@\n"
        " line 1497 of the answer\n"
        " line 1498 of the answer\n"
        " line 1499 of the answer\n"
        "-line 1500 of the answer\n"
        "?     ^^^^\n"
        "+line 15OO of the answer\n"
        "?     ^^^^\n"
        " line 1501 of the answer\n"
        " line 1502 of the answer\n"
        " line 1503 of the answer"
    )


@pytest.mark.parametrize(
    ("left", "right", "shown"),
    [
        ("a\nb\n", "a\nb", "-b\n+b\n\\ no line break at the end"),
        ("a\r\nb\n", "a\nb\n", "-a\\r\n?"),
        ("a\tb\nc\n", "a b\nc\n", "-a\\tb\n?"),
        ("x\x1b[31m\ny\n", "x\ny\n", "-x\\x1b[31m"),
    ],
)
def test_what_cannot_be_seen_is_written_out(left: str, right: str, shown: str) -> None:
    assert shown in str(diff_texts(left, right))


def test_a_long_line_is_shown_around_its_first_difference() -> None:
    report = str(diff_texts("w " * 900 + "old" + " w" * 900, "w " * 900 + "new" + " w" * 900))
    assert "old" in report
    assert "new" in report
    assert max(map(len, report.split("\n"))) < 160
    assert "characters …" in report


def test_long_texts_of_few_different_lines_end_in_bounded_time() -> None:
    began = time.process_time()
    diff = diff_texts("a\nb\n" * 50_000, "b\na\nc\n" * 33_000)
    assert diff.left_lines == 100_000
    assert time.process_time() - began < 60


def test_a_change_of_texts_has_a_difference_and_others_have_none() -> None:
    diff = Change(("a",), ChangeKind.VALUE, "a\nb\n", "a\nc\n").text_diff()
    assert diff is not None
    assert diff.summary() == "1 of 2 lines removed, 1 of 2 added"
    assert "b" not in repr(diff).replace("TextDiff", "")
    assert Change(("a",), ChangeKind.TYPE, "a", 1).text_diff() is None


def events_with(left: str, right: str) -> tuple[Event, Event]:
    one, other = (
        Event.build(timestamp=datetime(2026, 11, 24, tzinfo=UTC), tool_name="read").with_payload(
            Payload.build(response_result={"text": text})
        )
        for text in (left, right)
    )
    return one, other


def test_a_report_shows_lines_and_keeps_the_path_and_the_kind() -> None:
    left = "".join(f"line {n}\n" for n in range(3000))
    found = compare(*events_with(left, left.replace("line 1500\n", "line <b>\n")))
    assert found.counts()["value"] == 1
    report = str(found)
    assert "  value  response.text: 1 of 3,000 lines removed, 1 of 3,000 added\n" in report
    assert "    -line 1500\n" in report
    assert len(report.split("\n")) < 20
    html = found._repr_html_()
    assert "line <mark>1500</mark>" in html
    assert "line <mark>&lt;b&gt;</mark>" in html
    assert "line 1400" not in html.split("all of it")[0]


def test_a_report_shows_a_long_text_around_its_first_difference() -> None:
    found = compare(*events_with("x" * 5000 + "left", "x" * 5000 + "right"))
    assert "xleft -> …" in str(found)
    assert "(from character 5,001; 5,004 and 5,005 characters)" in str(found)
