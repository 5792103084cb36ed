"""The table of events: its pages, its heads, its selection, and its widget in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium
from jupyter_pages import NotebookPage, jupyter_server, open_notebook
from replaying import captured, lab_of

from mcpaudit_lab import FilterError, Lab
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.display.table.view import TableView
from mcpaudit_lab.lab import EventTable, column_head

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["chromium"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        made.load(sample_files())
        yield made


@pytest.fixture
def table(lab: Lab) -> EventTable:
    return lab.events().show()


def test_pages_are_the_set_in_its_order(lab: Lab, table: EventTable) -> None:
    ids = lab.events().ids()
    assert table.count() == len(ids) == 658
    pages = [table.page(offset, 50) for offset in range(0, 700, 50)]
    assert [row["id"] for page in pages for row in page] == ids
    assert table.page(658, 50) == []
    assert list(table.page(0, 1)[0]) == [*table.columns, "id"]


@pytest.mark.parametrize(
    ("column", "text", "condition", "same"),
    [
        ("tool_name", "echo", 'tool_name ~ "echo"', {"where": "tool ~ echo"}),
        ("tool_name", "= echo", 'tool_name = "echo"', {"tool": "echo"}),
        ("tool_name", '!= "echo"', 'tool_name != "echo"', {"tool__not": "echo"}),
        ("duration_ms", ">= 5", "duration_ms >= 5", {"min_duration_ms": 5}),
        ("duration_ms", "0", "duration_ms = 0", {"where": "duration_ms = 0"}),
        ("success", "false", "success = false", {"success": False}),
        ("param.message", "= nested", 'param.message = "nested"', {"param.message": "nested"}),
        ("param.message", "ested", 'param.message ~ "ested"', {"where": "param.message ~ ested"}),
    ],
)
def test_what_is_typed_into_a_head_is_a_condition(
    lab: Lab, column: str, text: str, condition: str, same: dict[str, Any]
) -> None:
    table = lab.events().show()
    table.filter(column, text)
    assert table.filters == {column: condition}
    wanted = lab.events(**same)
    assert table.shown.ids() == wanted.ids()
    assert 0 < table.count() == wanted.count() < 658
    table.filter(column, " ")
    assert table.count() == 658


def test_what_cannot_be_read_changes_nothing(table: EventTable) -> None:
    table.filter("tool_name", "= echo")
    wrong: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
        (table.filter, ("duration_ms", "> many")),
        (table.search, ("tool ==",)),
        (table.choose, (["nothing"],)),
        (table.choose, ([],)),
        (table.sort, ("nothing",)),
        (table.between, ("tool_name", "a", "b")),
    )
    for act, values in wrong:
        with pytest.raises(FilterError):
            act(*values)
    assert table.filters == {"tool_name": 'tool_name = "echo"'}
    assert (table.condition, table.order) == ("", None)


def test_it_sorts_by_columns_and_by_paths_with_numbers_as_numbers() -> None:
    values = [10, 9, "x", None, 100, 1.5]
    events = [captured({"n": value}, number=n) for n, value in enumerate(values)]
    with lab_of(*events) as lab:
        table = lab.events().show(["param.n", "ts"])
        table.sort("param.n")
        assert [row["param.n"] for row in table.page(0, 10)] == [1.5, 9, 10, 100, "x", None]
        table.sort("param.n", descending=True)
        assert [row["param.n"] for row in table.page(0, 10)] == [100, 10, 9, 1.5, "x", None]
        table.sort("ts")
        assert [row["ts"] for row in table.page(0, 10)] == sorted(e.timestamp for e in events)


@pytest.mark.parametrize("column", ["ts", "duration_ms", "tool_name", "success", "param.message"])
def test_a_head_counts_every_event_once(table: EventTable, column: str) -> None:
    table.search("tool != slow")
    head = column_head(table, column)
    parts = head["counts"] if head["kind"] == "range" else [n for _, n in head["values"]]
    assert sum(parts) + head.get("rest", 0) + head["missing"] == table.count()


def test_a_bar_of_a_head_is_the_filter_that_it_gives(table: EventTable) -> None:
    for column in ("ts", "duration_ms"):
        head = column_head(table, column)
        for number, count in enumerate(head["counts"]):
            table.between(column, head["edges"][number], head["edges"][number + 1])
            assert table.count() == count
        # The head shows what the filter of its own column leaves out.
        assert column_head(table, column) == head
        table.filter(column, "")
    for column in ("tool_name", "success", "param.message"):
        for text, count in column_head(table, column)["values"]:
            table.pick(column, [text])
            assert table.count() == count, (column, text)
        table.pick(column, [])


OFFERED = [None, "null", "true", True, 1, 1.5, "[1]", 10**30, "", 'a"b', "x\u202e"]


@pytest.mark.parametrize("value", [*OFFERED, [1, 2], {"a": 1}, "x" * 300], ids=ascii)
def test_a_value_is_offered_if_a_filter_can_ask_for_it(value: Any) -> None:
    others = [captured({"n": other}, number=n) for n, other in enumerate((1, 2, "y"))]
    with lab_of(*others, *(captured({"n": value}, number=9 + n) for n in range(4))) as lab:
        table = lab.events().show(["param.n", "parameters"])
        head = column_head(table, "param.n")
        (text, count), can = head["values"][0], head["pickable"][0]
        assert can == (value in OFFERED)
        if can:
            table.pick("param.n", [text])
            assert table.count() == count
        elif not isinstance(value, str):
            with pytest.raises(FilterError, match="cannot be picked"):
                table.pick("param.n", [text])
        assert not any(column_head(table, "parameters")["pickable"])


def test_extreme_numbers_have_a_head() -> None:
    events = [captured({}, number=n, duration_ms=2**63 - 1 - n) for n in range(3)]
    with lab_of(*events, captured({}, number=9, duration_ms=0)) as lab:
        table = lab.events().show()
        head = column_head(table, "duration_ms")
        assert sum(head["counts"]) == 4
        assert head["ends"] == ["0", str(2**63 - 1)]
        for number, count in enumerate(head["counts"]):
            table.between("duration_ms", head["edges"][number], head["edges"][number + 1])
            assert table.count() == count
    with Lab() as empty:
        nothing = empty.events().show()
        assert column_head(nothing, "ts")["counts"] == []
        assert column_head(nothing, "tool_name")["values"] == []
        assert nothing.page(0, 10) == []


def test_times_at_the_end_of_the_calendar_have_a_head() -> None:
    ends = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    with lab_of(*(captured({}, timestamp=moment) for moment in ends)) as lab:
        table = lab.events().show()
        head = column_head(table, "ts")
        assert head["counts"][0] == head["counts"][-1] == 1
        table.between("ts", *head["edges"][-2:])
        assert table.count() == 1


def test_a_selection_is_a_set(lab: Lab, table: EventTable) -> None:
    ids = lab.events().ids()
    table.toggle(ids[3])
    table.toggle(ids[1])
    assert sorted(table.selection.ids()) == sorted([ids[1], ids[3]])
    table.toggle(ids[3])
    table.select_rows(5, 4)
    assert set(table.selection.ids()) == {ids[1], ids[4], ids[5]}
    table.filter("success", "= false")
    table.select_all()
    table.filter("success", "")
    assert table.is_all_selected
    assert table.selection.ids() == lab.events(success=False).ids()
    table.select(())
    assert table.selection.count() == 0
    with pytest.raises(FilterError, match="too many for one range"):
        table.select_rows(0, 100_000)


def test_a_table_of_a_page_narrows_the_page(lab: Lab) -> None:
    page = lab.events(limit=20)
    table = page.show()
    table.filter("tool_name", "= echo")
    assert set(table.shown.ids()) < set(page.ids())


class Front:
    """A front end: what it sends, and what the widget answers."""

    def __init__(self, table: EventTable) -> None:
        self.view = TableView(table)
        self.heard: list[tuple[dict[str, Any], list[bytes]]] = []
        self.view.send = lambda content, buffers=None: self.heard.append((content, buffers or []))

    def say(self, **message: Any) -> list[dict[str, Any]]:
        before = len(self.heard)
        self.view._receive(self.view, message, [])
        return [content for content, _ in self.heard[before:]]


def test_the_widget_answers_and_says_what_it_cannot_read(table: EventTable) -> None:
    front = Front(table)
    state, selection = front.say(kind="ready")
    assert (state["total"], state["all"], selection["count"]) == (658, 658, 0)
    (rows,) = front.say(kind="rows", generation=1, offset=0, count=60)
    assert len(rows["rows"]) == 60
    (error,) = front.say(kind="condition", text="tool ==")
    assert error["kind"] == "error"
    state, _ = front.say(kind="filter", column="tool_name", text="= error")
    assert state["total"] == table.count()
    (head,) = front.say(kind="head", generation=2, column="tool_name")
    assert head["head"]["kind"] == "values"
    (selection,) = front.say(kind="all")
    assert selection["count"] == table.count()
    (file,) = front.say(kind="download", format="jsonl")
    assert file["name"] == "events.jsonl"
    assert front.heard[-1][1][0].count(b"\n") == table.count()
    (card,) = front.say(kind="open", id=table.shown.ids()[0])
    assert "mcpaudit-lab" in card["html"]
    for junk in ({}, {"kind": "nothing"}, {"kind": "rows", "offset": -1, "count": "x"}):
        front.view._receive(front.view, junk, [])
    assert front.say(kind="open", id="not an id")[0]["kind"] == "error"
    front.view._receive(front.view, "junk", [])


@pytest.mark.parametrize(
    "application", ["jupyterlab", pytest.param("notebook", marks=pytest.mark.soak)]
)
def test_a_person_filters_selects_and_opens_in_a_notebook(
    application: str, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    start = (
        "from mcpaudit_lab import Lab, Event\n"
        "from mcpaudit_lab.demo import sample_files\n"
        "lab = Lab()\nlab.load(sample_files())\n"
        "bad = Event.build(id='11111111-1111-4111-8111-111111111111', duration_ms=99999999,"
        " timestamp='2026-11-24T05:00:00Z', tool_name='<img src=x onerror=alert(1)>\\u202e',"
        " success=True, transport='http', source='mcp')\n"
        "lab.add_events([bad], kind='portal', name='x')"
    )
    cells = (start, "table = lab.events().show()\ntable")
    folder = tmp_path_factory.mktemp("jupyter-table")
    with (
        jupyter_server(folder, application) as jupyter,
        open_notebook(chromium, jupyter, "table.ipynb", *cells) as notebook,
    ):
        notebook.run(0)
        notebook.run(1)
        work_in_the_table(notebook)
        assert notebook.errors == []
        assert notebook.foreign == []


def work_in_the_table(notebook: NotebookPage) -> None:
    output, page = notebook.cell(1), notebook.page
    rows = output.locator(".mcpaudit-table .row")
    told = output.locator(".mcpaudit-table .told")
    rows.first.locator(".cell.time").get_by_text("2026").wait_for()
    assert told.inner_text() == "659 events"
    # What a caller wrote stays text.
    assert output.locator("img").count() == 0
    rows.first.get_by_text("<img src=x onerror=alert(1)>\\u202e").wait_for()
    # The largest first: a click on the name.
    output.get_by_role("button", name="duration ms").click()
    output.get_by_role("button", name="duration ms ↓").wait_for()
    # A filter in the head, then a condition over all.
    box = output.get_by_label("Filter tool name")
    box.fill("= echo")
    box.press("Enter")
    output.get_by_role("button", name='tool_name = "echo"').wait_for()
    notebook.wait_for("table.shown.count() == table.count() == lab.events(tool='echo').count()")
    output.get_by_label("Show only events for which this condition holds").fill("not success")
    page.keyboard.press("Enter")
    told.get_by_text("17 of 659 events").wait_for()
    # Keys: down, select, down, select, compare.
    rows.first.locator(".cell.time").get_by_text("2026").wait_for()
    rows.first.focus()
    for key in (" ", "ArrowDown", " "):
        page.keyboard.press(key)
    told.get_by_text("2 selected").wait_for()
    assert rows.nth(0).get_attribute("aria-selected") == "true"
    notebook.wait_for("table.selection.count() == 2")
    output.get_by_role("button", name="Compare").click()
    card = output.locator(".mcpaudit-table .card")
    card.get_by_text("Comparison").first.wait_for()
    rows.nth(1).focus()
    page.keyboard.press("Enter")
    card.locator(".mal-title").get_by_text("echo").wait_for()
    page.keyboard.press("Escape")
    card.locator(".mal-title").wait_for(state="detached")
    # A path as a column.
    output.locator(".mcpaudit-table .chooser summary").click()
    path = output.get_by_label("Add a path as a column")
    path.fill("param.message")
    path.press("Enter")
    output.get_by_role("button", name="param.message").wait_for()
    # A filter of a column that is not shown is still told, and can be taken away.
    output.get_by_label("tool_name", exact=True).uncheck()
    output.get_by_role("button", name="tool name", exact=True).wait_for(state="detached")
    output.get_by_role("button", name='tool_name = "echo"').click()
    notebook.wait_for("not table.filters")
    notebook.wait_for("table.columns[-1] == 'param.message'")
