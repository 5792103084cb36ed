"""A set of events, and what a load did, as a notebook shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.tables import EVENT_COLUMNS, event_row, load_columns, load_rows, records
from mcpaudit_lab.terminal import counted
from mcpaudit_lab.widgets.tables_html import table_html

if TYPE_CHECKING:
    from mcpaudit_lab.lab.event_set import EventSet
    from mcpaudit_lab.lab.report import LoadReport

__all__ = ["event_set_html", "load_report_html"]

_ROWS_MAX: Final = 10
_ROWS_OF_LOAD_MAX: Final = 30


def event_set_html(events: EventSet) -> str:
    """How many events a set has, its filter in words, and the first ten."""
    count = events.count()
    rows: list[dict[str, Any]] = [event_row(row) for row in records(events.head(_ROWS_MAX))]
    more = f"… {count - len(rows):,} more; .df() gives all as a frame" if count > len(rows) else ""
    return table_html(
        counted(count, "event"),
        EVENT_COLUMNS,
        rows,
        words=events.describe(),
        foot=more,
    )


def load_report_html(report: LoadReport) -> str:
    """What a load did: a row for each input, the sums, and why lines were rejected."""
    rows = load_rows(report)
    foot = []
    if len(rows) > _ROWS_OF_LOAD_MAX:
        foot.append(f"… {counted(len(rows) - _ROWS_OF_LOAD_MAX, 'input')} more")
        # The sums stand last.
        rows = [*rows[: _ROWS_OF_LOAD_MAX - 1], rows[-1]]
    if report.reasons:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(report.reasons.items())
        )
        foot.append(f"rejected: {reasons}; lab.rejects() has the lines")
    foot += report.remarks()
    return table_html(
        f"{report.loaded:,} loaded",
        load_columns(report),
        rows,
        words=_words(report),
        foot="; ".join(foot),
        badge=f"{report.rejected:,} rejected" if report.rejected else "",
        sums=len(rows) > 1,
    )


def _words(report: LoadReport) -> str:
    return f"{counted(len(report.files), 'input')} in {report.seconds:.1f} s"
