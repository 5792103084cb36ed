"""Rows as HTML tables, by the columns that the terminal's tables have too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from mcpaudit_lab.display.html import attribute, badge_html, page_html, text_html
from mcpaudit_lab.display.terminal_tables import Column, cell_text

__all__ = ["rows_html", "table_html"]

_CELL_MAX: Final = 160
_SHORT_ID: Final = 8
_WORD_MAX: Final = 14


def table_html(
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Mapping[str, Any]],
    *,
    words: str = "",
    foot: str = "",
    badge: str = "",
    sums: bool = False,
) -> str:
    """An output of a notebook that is one table.

    Args:
        title: text above the table.
        columns: what to show of each row. A column that has ``styles`` shows its cells as badges.
        rows: the values by key; one whose ``success`` is False is marked. Cells of more than 160
            characters are cut.
        words: text after the title.
        foot: text below the table.
        badge: an outcome or verdict of the whole.
        sums: whether the last row contains sums.
    """
    head = (
        f'<div class="mal-head"><span class="mal-title">{text_html(title, limit=_CELL_MAX)}</span>'
        f"{badge_html(badge) if badge else ''}"
        f'<span class="mal-small mal-data">{text_html(words, limit=1000)}</span></div>'
    )
    below = f'<div class="mal-foot">{text_html(foot)}</div>' if foot else ""
    return page_html(head, rows_html(columns, rows, sums=sums), below, label=title)


def rows_html(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], *, sums: bool = False
) -> str:
    """The table alone, as part of a view; nothing without rows.

    In narrow windows the columns become lines of their row, each after its heading.

    Args:
        columns: as :func:`table_html` takes them.
        rows: the same.
        sums: the same.
    """
    lines = [
        f"<tr{_row_class(row)}>{''.join(_cell(column, row) for column in columns)}</tr>"
        for row in rows
    ]
    if not lines:
        return ""
    if sums:
        lines[-1] = lines[-1].replace("<tr", '<tr class="mal-sum"', 1)
    headings = "".join(_heading(column) for column in columns)
    return (
        '<div class="mal-scroll"><table class="mal-table mal-rows">'
        f"<thead><tr>{headings}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _heading(column: Column) -> str:
    shown = text_html(column.heading, limit=_CELL_MAX)
    return f'<th scope="col"{_classes(column, column.heading)}>{shown}</th>'


def _row_class(row: Mapping[str, Any]) -> str:
    return ' class="mal-failed"' if row.get("success") is False else ""


def _classes(column: Column, text: str, *, is_time: bool = False) -> str:
    names = ["mal-right"] if column.right else []
    # Long words must break; breaking short ones would look odd.
    if text.isascii() and all(len(word) <= _WORD_MAX for word in text.split()):
        names.append("mal-keep")
    if is_time:
        names.append("mal-line")
    return f' class="{" ".join(names)}"' if names else ""


def _cell(column: Column, row: Mapping[str, Any]) -> str:
    value = row.get(column.key)
    text = column.form(value)
    kept = text[:_SHORT_ID] if column.is_id else text
    if column.is_id:
        title = attribute(text)
        shown = f'<span class="mal-mono" title="{title}">{text_html(text[:_SHORT_ID])}</span>'
    elif column.styles and text:
        shown = badge_html(text)
    else:
        # The text itself is needed, so that invisible characters in it are marked.
        raw = value if isinstance(value, str) and column.form is cell_text else text
        cut = raw[-_CELL_MAX:] if column.keep_end and len(raw) > _CELL_MAX else raw
        before = "…" if cut is not raw else ""
        shown = f'<span class="mal-data">{before}{text_html(cut, limit=_CELL_MAX)}</span>'
    label = attribute(column.heading) if column.right or column.key == "key" else ""
    classes = _classes(column, kept, is_time=isinstance(value, datetime))
    return f'<td{classes} data-label="{label}">{shown}</td>'
