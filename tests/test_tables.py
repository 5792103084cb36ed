"""Tables: what fits is shown, what does not is cut, and nothing in a cell commands a terminal."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mcpaudit_lab.display.terminal_tables import (
    EVENT_COLUMNS,
    Column,
    cell_text,
    columns_of,
    event_row,
    open_console,
    print_load,
    print_table,
    stats_columns,
)
from mcpaudit_lab.storage.load.report import FileReport, LoadReport

EVENT = {
    "ts": datetime(2026, 11, 24, 3, 51, 31, 878104, tzinfo=UTC),
    "tool_name": "sized_response",
    "success": True,
    "error_category": "",
    "duration_ms": 15,
    "user_subject": "apikey:dev-local",
    "id": "f97c5cc8-117e-4e18-99b8-b57f1990c82c",
}


def terminal(width: int, *, colours: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        color_system="standard" if colours else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(console: Console) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", printed(console)).splitlines()


def test_a_wide_terminal_shows_whole_ids() -> None:
    console = terminal(120)
    print_table(console, EVENT_COLUMNS, [event_row(EVENT)])
    assert plain(console) == [
        "time (UTC)               tool            outcome  ms  user              id",
        f"2026-11-24 03:51:31.878  sized_response  ok       15  apikey:dev-local  {EVENT['id']}",
    ]


def test_eighty_columns_show_the_first_digits_of_an_id() -> None:
    console = terminal(80)
    print_table(console, EVENT_COLUMNS, [event_row(EVENT)])
    heading, line = plain(console)
    assert line.endswith("  f97c5cc8")
    assert cell_len(line) <= 80
    assert heading.endswith("  id")


def test_the_widest_text_is_cut_first() -> None:
    console = terminal(60)
    rows = [{"a": "short", "b": "x" * 100, "n": 12345}]
    print_table(
        console, [Column("a", least=4), Column("b", least=4), Column("n", right=True)], rows
    )
    _, line = plain(console)
    assert line == f"short  {'x' * 45}…  12345"
    assert cell_len(line) == 60


def test_a_path_is_cut_at_its_front() -> None:
    console = terminal(20)
    print_table(
        console, [Column("p", least=5, keep_end=True)], [{"p": "/very/long/path/to/a.jsonl"}]
    )
    assert plain(console)[1] == "…ong/path/to/a.jsonl"


def test_what_cannot_fit_is_shown_one_value_a_line() -> None:
    console = terminal(40)
    rows = [{"first": "a" * 30, "second": "b" * 30}, {"first": "c", "second": "d"}]
    print_table(console, [Column("first"), Column("second")], rows)
    assert plain(console) == [
        "row 1",
        f"  first   {'a' * 30}",
        f"  second  {'b' * 30}",
        "row 2",
        "  first   c",
        "  second  d",
    ]


def test_plain_text_has_no_colour_no_wrapping_and_no_trailing_space() -> None:
    console = Console(file=io.StringIO(), width=1_000_000)
    rows = [{"a": "x" * 150, "b": "ok"}, {"a": "y", "b": ""}]
    print_table(console, [Column("a", least=4), Column("b", styles={"ok": "green"})], rows)
    assert printed(console) == f"a{' ' * 149}  b\n{'x' * 150}  ok\ny\n"


def test_a_long_value_does_not_pad_the_others() -> None:
    console = Console(file=io.StringIO(), width=1_000_000)
    print_table(
        console, [Column("a"), Column("b")], [{"a": "x" * 70_000, "b": 1}, {"a": "y", "b": 2}]
    )
    assert max(map(len, printed(console).splitlines())) == 160 + 2 + 1


def test_colours_are_those_of_the_outcome() -> None:
    console = terminal(120, colours=True)
    failed = {**EVENT, "success": False, "error_category": "auth"}
    print_table(console, EVENT_COLUMNS, [event_row(EVENT), event_row(failed)])
    assert "\x1b[32mok" in printed(console)
    assert "\x1b[35mauth" in printed(console)


def test_a_failure_without_a_category_is_a_failure() -> None:
    assert event_row({**EVENT, "success": False})["outcome"] == "failed"


def test_markup_in_data_is_text() -> None:
    console = terminal(80, colours=True)
    print_table(console, [Column("a")], [{"a": "[bold red]x[/] :smile: [link=http://evil]y"}])
    assert plain(console)[1] == "[bold red]x[/] :smile: [link=http://evil]y"


@given(st.text(), st.text())
def test_no_text_reaches_the_terminal_as_a_command(name: str, value: str) -> None:
    for console in (terminal(30), terminal(200), Console(file=io.StringIO(), width=500)):
        print_table(console, [Column(name), Column("b", least=3)], [{name: value, "b": value}])
        for line in "\n".join(plain(console)).split("\n"):
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.integers(20, 120))
def test_a_table_is_never_wider_than_the_terminal(texts: list[str], width: int) -> None:
    console = terminal(width)
    columns = [Column(f"c{n}", least=2) for n in range(len(texts))]
    print_table(console, columns, [{f"c{n}": text for n, text in enumerate(texts)}])
    if plain(console)[0] != "row 1":
        assert all(cell_len(line) <= width for line in plain(console))


def test_wide_characters_count_double() -> None:
    console = terminal(80)
    print_table(
        console, [Column("a"), Column("b")], [{"a": "日本", "b": "x"}, {"a": "ab", "b": "y"}]
    )
    assert plain(console)[1:] == ["日本  x", "ab    y"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (2**70, str(2**70)),
        (1.0, "1"),
        (0.12345, "0.123"),
        (Decimal("1.50"), "1.50"),
        ("a\x1b[31m\n", r"a\x1b[31m\n"),
        (b"\xff\x1b", r"\xff\x1b"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (
            [datetime(2026, 1, 1, tzinfo=UTC)],
            "[datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)]",
        ),
        (datetime(2026, 11, 24, 3, 51, 31, 878104, tzinfo=UTC), "2026-11-24 03:51:31.878"),
        (datetime(2026, 11, 24, tzinfo=UTC).date(), "2026-11-24"),
    ],
)
def test_a_value_is_one_line(value: Any, shown: str) -> None:
    assert cell_text(value) == shown


def test_columns_follow_the_values() -> None:
    rows: list[dict[str, Any]] = [
        {"n": 1, "t": "x", "ok": True, "none": None},
        {"n": None, "t": None, "ok": False, "none": None},
    ]
    number, text, flag, empty = columns_of(rows)
    assert number.right
    assert number.least is None
    assert text.least
    assert not text.right
    assert flag.least is None
    assert not empty.right


def test_statistics_of_one_tool_do_not_count_tools() -> None:
    assert "unique_tools" not in [column.key for column in stats_columns("tool")]
    assert stats_columns("error_category")[0].title == "error category"
    assert stats_columns(None)[0].key == "total"


def test_a_load_of_several_files_has_a_sum_and_the_reasons() -> None:
    console = Console(file=io.StringIO(), width=1_000)
    files = (
        FileReport("a.jsonl", lines=1200, loaded=1199, rejected=1),
        FileReport("b.jsonl", lines=3, loaded=2, blank=1),
    )
    print_load(console, LoadReport(files, reasons={"torn": 1}))
    assert printed(console).splitlines() == [
        "source    lines  loaded  merged  duplicates  rejected  blank",
        "a.jsonl   1,200   1,199       0           0         1      0",
        "b.jsonl       3       2       0           0         0      1",
        "together  1,203   1,201       0           0         1      1",
        "rejected, torn: 1",
    ]


def test_output_that_is_no_terminal_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(open_console(), [Column("a"), Column("b")], [{"a": "x" * 150, "b": "y" * 150}])
    assert len(capsys.readouterr().out.splitlines()[1]) == 302
