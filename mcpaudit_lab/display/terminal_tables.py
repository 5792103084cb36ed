"""Rows as tables: fitted and coloured on a terminal, plain text where the output goes elsewhere.

Every cell goes through :func:`.record.printable.visible` and is never read as markup, since
audit data is hostile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from mcpaudit_lab.record import dumps, visible

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LoadReport

__all__ = [
    "EVENT_COLUMNS",
    "LOAD_COLUMNS",
    "OUTCOMES",
    "PLAN_COLUMNS",
    "REJECT_COLUMNS",
    "SOURCE_COLUMNS",
    "TIMESERIES_COLUMNS",
    "VERDICTS",
    "Column",
    "breakdown_columns",
    "cell_text",
    "columns_of",
    "event_row",
    "load_columns",
    "load_rows",
    "open_console",
    "print_load",
    "print_table",
    "stats_columns",
]

# A cell is cut here, so that one long value does not pad every line to its length.
_CELL_MAX: Final = 160
# The same, if each value has its own line.
_RECORD_CELL_MAX: Final = 2000
_GAP: Final = 2
# The narrowest a column of texts of unknown kind gets.
_LEAST: Final = 12
# As much of an id as people take in; every command takes it for the whole.
_SHORT_ID: Final = 8
# Wider than any printed line, so that nothing is wrapped if the output is not a terminal.
_PLAIN_WIDTH: Final = 1_000_000

OUTCOMES: Final = {"ok": "green", "tool": "red", "handler": "red", "auth": "magenta"}
VERDICTS: Final = {"equal": "green", "changed": "yellow", "unknown": "magenta"}


def cell_text(value: Any) -> str:
    """A value as one line of text: times in UTC to the millisecond, missing values empty."""
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return "" if value is None else visible(str(value))


def _json_text(value: Any) -> str:
    try:
        return visible(dumps(value))
    except (TypeError, ValueError):
        # SQL has lists of times and the like.
        return visible(str(value))


_FORMS: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (str, visible),
    (bool, lambda value: "yes" if value else "no"),
    (float, lambda value: f"{value:.3f}".rstrip("0").rstrip(".")),
    (datetime, lambda value: value.replace(tzinfo=None).isoformat(" ", "milliseconds")),
    (bytes, lambda value: visible(value.decode("utf-8", "backslashreplace"))),
    ((dict, list, tuple), _json_text),
)


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _second(value: datetime) -> str:
    return cell_text(value)[: len("2026-11-24 03:43:43")]


def _milliseconds(value: float) -> str:
    return f"{value:,.1f}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: its value in a row.
        title: its heading; the key, unless given.
        right: align to the right, as numbers are.
        least: how narrow it may get; None: never cut.
        is_id: in narrow terminals show the first eight characters.
        keep_end: cut at the front, as for a path.
        form: converts a value to text; the text must be safe for a terminal.
        styles: text of a cell -> its colour.
        style: the colour of all others.
    """

    key: str
    title: str = ""
    right: bool = False
    least: int | None = None
    is_id: bool = False
    keep_end: bool = False
    form: Callable[[Any], str] = cell_text
    styles: Mapping[str, str] = field(default_factory=dict)
    style: str = ""

    @property
    def heading(self) -> str:
        """The heading of the column."""
        return visible(self.title or self.key)


EVENT_COLUMNS: Final = (
    Column("ts", "time (UTC)"),
    Column("tool_name", "tool", least=8),
    Column("outcome", styles=OUTCOMES, least=7),
    Column("duration_ms", "ms", right=True),
    Column("user_subject", "user", least=8),
    Column("id", is_id=True),
)
PLAN_COLUMNS: Final = (
    Column("event_id", "event", is_id=True),
    Column("tool_name", "tool", least=8),
    Column("verdict", styles={"ready": "green", "refused": "red", "unknown": "magenta"}),
    Column("reason"),
    Column("detail", least=12),
)
TIMESERIES_COLUMNS: Final = (
    Column("time", "time (UTC)"),
    Column("count", "calls", right=True, form=_count),
    Column("errors", "failed", right=True, form=_count),
    Column("avg_duration_ms", "avg ms", right=True, form=_milliseconds),
)
REJECT_COLUMNS: Final = (
    Column("file", least=12, keep_end=True),
    Column("line", right=True),
    Column("reason", style="yellow"),
    Column("detail", least=16),
    Column("raw", "the line", least=12),
)
_COUNTS: Final = ("lines", "loaded", "merged", "duplicates", "rejected", "blank", "other", "parts")
LOAD_COLUMNS: Final = (
    Column("name", "source", least=12, keep_end=True),
    *(Column(name, right=True, form=_count) for name in _COUNTS),
)
TOOL_COLUMNS: Final = (
    Column("server", least=8),
    Column("name", "tool", least=8),
    Column("sha256", "SHA-256", is_id=True),
    Column("first_seen", "first seen (UTC)", form=_second),
    Column("gone_at", "gone (UTC)", form=_second),
    Column("description", least=12),
)
TOOL_CHANGE_COLUMNS: Final = (
    Column("at", "seen (UTC)", form=_second),
    Column("server", least=8),
    Column("name", "tool", least=8),
    Column("change", styles={"added": "green", "removed": "red", "changed": "yellow"}),
    Column("members", form=lambda names: ", ".join(map(visible, names))),
)
SOURCE_COLUMNS: Final = (
    Column("id", right=True),
    Column("kind"),
    Column("name", "source", least=12, keep_end=True),
    *(Column(name, right=True, form=_count) for name in ("lines", "loaded", "merged", "rejected")),
    Column("sha256", "SHA-256", is_id=True),
    Column("loaded_at", "loaded (UTC)", form=_second),
)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """A column for each value of the first row; numbers right-aligned, texts may be cut."""
    columns = []
    for name in rows[0]:
        kinds = {type(row[name]) for row in rows} - {type(None)}
        right = bool(kinds) and kinds <= {int, float, Decimal}
        cut = not right and not kinds <= {bool, datetime}
        columns.append(Column(name, right=right, least=_LEAST if cut else None))
    return columns


def stats_columns(by: str | None) -> tuple[Column, ...]:
    """The columns of :meth:`EventSet.stats`.

    Args:
        by: as it takes it.
    """
    key = () if by is None else (Column("key", by.replace("_", " "), least=8),)
    tools = () if by == "tool" else (Column("unique_tools", "tools", right=True, form=_count),)
    return (
        *key,
        Column("total", "calls", right=True, form=_count),
        Column("errors", "failed", right=True, form=_count),
        Column("error_rate", "rate", right=True, form=_percent),
        Column("avg_duration_ms", "avg ms", right=True, form=_milliseconds),
        Column("p50_duration_ms", "p50", right=True, form=_milliseconds),
        Column("p95_duration_ms", "p95", right=True, form=_milliseconds),
        Column("unique_subjects", "users", right=True, form=_count),
        *tools,
    )


def breakdown_columns(by: str) -> tuple[Column, ...]:
    """The columns of :meth:`EventSet.breakdown`.

    Args:
        by: as it takes it.
    """
    return (
        Column("key", by.replace("_", " "), least=8),
        Column("count", "calls", right=True, form=_count),
        Column("errors", "failed", right=True, form=_count),
    )


def event_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of :data:`EVENT_COLUMNS` from columns of ``audit_events``."""
    outcome = "ok" if row["success"] else row["error_category"] or "failed"
    return {**row, "outcome": outcome}


def load_columns(report: LoadReport) -> list[Column]:
    """The columns of :data:`LOAD_COLUMNS` that this report has something to say in."""
    shown = {"name", *report.shown_counts}
    return [column for column in LOAD_COLUMNS if column.key in shown]


def load_rows(report: LoadReport) -> list[dict[str, Any]]:
    """A row of :data:`LOAD_COLUMNS` for each input, and the sums at the end of several."""
    rows = [{name: getattr(item, name) for name in ("name", *_COUNTS)} for item in report]
    if len(rows) > 1:
        rows.append({"name": "together", **{name: report.total(name) for name in _COUNTS}})
    return rows


def open_console() -> Console:
    """A console over standard output: colours and width of a terminal, else plain and unwrapped.

    ``NO_COLOR`` and ``TERM=dumb`` are respected.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


def print_load(console: Console, report: LoadReport) -> None:
    """Print what a load did, source by source, and which lines it rejected for which reason."""
    print_table(console, load_columns(report), load_rows(report))
    for remark in report.remarks():
        console.print(Text(remark, "yellow"))
    for reason, count in sorted(report.reasons.items()):
        console.print(Text(f"rejected, {reason}: {count:,}", "yellow"))


def print_table(
    console: Console, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Print rows under headings; where the columns cannot be made to fit, one value a line.

    Args:
        console: the output. If it is not a terminal, the table gets all the width it needs.
        columns: what to show of each row.
        rows: the values by key. A text of more than 160 cells is cut.
    """
    texts = [[column.form(row.get(column.key)) for column in columns] for row in rows]
    cells = [
        [_cut(text, _CELL_MAX, column.keep_end) for column, text in zip(columns, line, strict=True)]
        for line in texts
    ]
    natural = [
        max([cell_len(column.heading), *(cell_len(line[n]) for line in cells)])
        for n, column in enumerate(columns)
    ]
    widths = _fit(columns, natural, console.width)
    if widths is None:
        _print_records(console, columns, texts)
        return
    headings = (
        _padded(column, column.heading, width)
        for column, width in zip(columns, widths, strict=True)
    )
    console.print(Text((" " * _GAP).join(headings).rstrip(), "bold"), soft_wrap=True)
    for line in cells:
        shown = Text()
        for n, (column, text) in enumerate(zip(columns, line, strict=True)):
            shown.append(" " * _GAP if n else "")
            shown.append(_padded(column, text, widths[n]), column.styles.get(text, column.style))
        shown.rstrip()
        console.print(shown, soft_wrap=True)


def _fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int] | None:
    """Widths that fit: ids give way first, then the widest that may; None if it cannot be done."""
    widths = list(natural)
    room = width - _GAP * (len(columns) - 1)
    if sum(widths) > room:
        widths = [
            min(wide, _SHORT_ID) if column.is_id else wide
            for column, wide in zip(columns, widths, strict=True)
        ]
    least = [
        wide if column.least is None else min(wide, max(column.least, cell_len(column.heading)))
        for column, wide in zip(columns, widths, strict=True)
    ]
    if sum(least) > room:
        return None
    for _ in range(sum(widths) - room):
        widest = max(range(len(widths)), key=lambda n: (widths[n] > least[n], widths[n]))
        widths[widest] -= 1
    return widths


def _print_records(
    console: Console, columns: Sequence[Column], texts: Sequence[Sequence[str]]
) -> None:
    longest = max(cell_len(column.heading) for column in columns)
    for number, line in enumerate(texts, 1):
        console.print(Text(f"row {number}", "bold"))
        for column, text in zip(columns, line, strict=True):
            shown = Text(f"  {set_cell_size(column.heading, longest)}  ", "dim")
            shown.append(
                _cut(text, _RECORD_CELL_MAX), column.styles.get(text, column.style or "not dim")
            )
            console.print(shown, soft_wrap=True)


def _padded(column: Column, text: str, width: int) -> str:
    """The text in exactly this many cells."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width) if column.is_id else _cut(text, width, column.keep_end)
    space = " " * (width - length)
    return space + text if column.right else text + space


def _cut(text: str, width: int, keep_end: bool = False) -> str:
    """The text in at most this many cells, with an ellipsis if it was cut."""
    if len(text) > width + 1:
        text = text[-width - 1 :] if keep_end else text[: width + 1]
    if cell_len(text) <= width:
        return text
    if keep_end:
        return f"…{set_cell_size(text[::-1], width - 1)[::-1]}"
    return f"{set_cell_size(text, width - 1)}…"
