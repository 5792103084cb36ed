"""The application: a filter box above a list, and pages that open over it."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.console import Console
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from mcpaudit_lab.display import (
    EVENT_COLUMNS,
    OUTCOMES,
    PLAN_COLUMNS,
    event_row,
    print_comparison,
    print_event,
    print_table,
)
from mcpaudit_lab.errors import McpAuditError
from mcpaudit_lab.record import visible
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Lab

__all__ = ["Browser"]

_PAGE: Final = 200
_CELL_MAX: Final = 60
_PICKED: Final = "●"
_COLUMNS: Final = ("ts", "tool_name", "success", "error_category", "duration_ms", "user_subject")


class Page(ModalScreen[None]):
    """Something printed, over the list: a card, a comparison, a plan.

    Args:
        draw: prints it to a console of the page's width.
    """

    CSS = """
    Page { align: center middle; }
    Page > VerticalScroll { width: 96%; height: 1fr; border: round $primary; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, draw: Callable[[Console], None]) -> None:
        super().__init__()
        self._draw = draw

    def compose(self) -> ComposeResult:
        """The page and the keys."""
        with VerticalScroll():
            yield Static(id="page")
        yield Footer()

    def on_mount(self) -> None:
        """Print it."""
        self.query_one("#page", Static).update(printed(self._draw, self.app.size.width - 8))
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, lines: int) -> None:
        """Move by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def printed(draw: Callable[[Console], None], width: int) -> Text:
    """What is printed to a terminal of this width, with its colours."""
    out = StringIO()
    draw(
        Console(
            file=out,
            width=max(20, width),
            force_terminal=True,
            color_system="standard",
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
    )
    return Text.from_ansi(out.getvalue())


class Browser(App[None]):
    """Browse a lab.

    Args:
        lab: the lab; only asked.
        target: for plans of replays, as :meth:`Lab.plan_replay` takes it; None for no plans. A plan
            asks the target for its tools and calls nothing.
        where: a condition to begin with.
    """

    TITLE = "mcpaudit-lab"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #where { border: round $primary; height: 3; }
    #told { height: 1; padding: 0 1; color: $text-muted; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask", "Filter"),
        Binding("space", "pick", "Select"),
        Binding("c", "compare", "Compare two"),
        Binding("p", "plan", "Plan replays"),
        Binding("s", "sort", "Sort"),
        Binding("escape", "list", "List", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, lab: Lab, *, target: Any = None, where: str = "") -> None:
        super().__init__()
        self._lab = lab
        self._target = target
        self._table = lab.events().show(_COLUMNS)
        self._table.search(where)
        self._total = 0
        self._ids: list[str] = []

    def compose(self) -> ComposeResult:
        """Filter, count, list, keys."""
        yield Input(
            self._table.condition,
            placeholder="tool != echo and (duration_ms > 200 or not success)",
            id="where",
        )
        yield Static(id="told")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Show the first page."""
        listed = self._list
        listed.add_column(" ", key="picked")
        for column in EVENT_COLUMNS:
            listed.add_column(column.heading, key=column.key)
        self._refill()
        listed.focus()

    @property
    def _list(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    # What is shown

    def _refill(self) -> None:
        self._ids = []
        self._list.clear()
        self._total = self._table.count()
        self._more()
        self._tell()

    def _more(self) -> None:
        """Append the next page."""
        rows = self._table.page(len(self._ids), _PAGE)
        for row in rows:
            shown = event_row(row)
            picked = _PICKED if row["id"] in self._table.selected_ids else ""
            cells = [Text(picked)]
            for column in EVENT_COLUMNS:
                text = column.form(shown.get(column.key))[:_CELL_MAX]
                style = OUTCOMES.get(text, "") if column.key == "outcome" else ""
                cells.append(Text(text, style, justify="right" if column.right else "left"))
            self._list.add_row(*cells, key=row["id"])
            self._ids.append(row["id"])

    def _tell(self, text: str = "") -> None:
        picked = len(self._table.selected_ids)
        shown = f"{self._total:,} of {self._table.events.count():,} events, {picked} selected"
        self.query_one("#told", Static).update(Text(visible(text) or shown))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Near the end of what is loaded, load more."""
        if event.cursor_row >= len(self._ids) - 20 and len(self._ids) < self._total:
            self._more()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filter by the condition; one that cannot be read changes nothing."""
        try:
            self._table.search(event.value)
        except McpAuditError as error:
            self._tell(str(error).split("\n")[0])
            return
        self._refill()
        self._list.focus()

    # Keys

    def action_ask(self) -> None:
        """Go to the filter box."""
        self.query_one("#where", Input).focus()

    def action_list(self) -> None:
        """Go back to the list."""
        self._list.focus()

    def action_sort(self) -> None:
        """Newest first, or the longest calls first."""
        longest = self._table.order is None
        self._table.sort("duration_ms" if longest else None, descending=True)
        self._refill()

    def action_pick(self) -> None:
        """Select the event, or no longer."""
        if not self._ids or self._list.cursor_row >= len(self._ids):
            return
        event_id = self._ids[self._list.cursor_row]
        self._table.toggle(event_id)
        picked = _PICKED if event_id in self._table.selected_ids else ""
        self._list.update_cell(event_id, "picked", Text(picked))
        self._tell()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the card."""
        found = self._lab.event(str(event.row_key.value))
        self.push_screen(Page(lambda console: print_event(console, found)))

    def action_compare(self) -> None:
        """Compare the two selected events."""
        ids = self._table.selected_ids
        if len(ids) != 2:
            self._tell(f"select two events with the space bar; {len(ids)} are selected")
            return
        found = self._lab.compare(*ids)
        self.push_screen(Page(lambda console: print_comparison(console, found)))

    def action_plan(self) -> None:
        """Plan a replay of the selected events. Nothing is called."""
        if self._target is None:
            self._tell("a plan needs to know where: browse --target URL")
        elif not self._table.selected_ids:
            self._tell("select events with the space bar")
        else:
            self._tell("asking the target for its tools …")
            self._plan()

    @work(thread=True, exclusive=True)
    def _plan(self) -> None:
        try:
            plan = self._lab.plan_replay(self._table.selection, self._target, allow="read-only")
            rows, told = records(plan.df()), plan.describe().split("\n")[0]
        except McpAuditError as error:
            self.call_from_thread(self._tell, str(error))
            return

        def draw(console: Console) -> None:
            console.print(Text(visible(told), "bold"))
            print_table(console, PLAN_COLUMNS, rows)

        self.call_from_thread(self.push_screen, Page(draw))
        self.call_from_thread(self._tell)
