"""The widget of a table: what the front end asks, and what it gets.

Imported only by what shows a table in a notebook: it needs anywidget. The front end asks for one
page or one head at a time, so that the kernel is never busy for long and the newest question wins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anywidget

from mcpaudit_lab.display import cell_text, comparison_html, event_html, widget_style
from mcpaudit_lab.errors import McpAuditError
from mcpaudit_lab.lab import column_head
from mcpaudit_lab.record import EVENT_COLUMNS, dumps, visible

if TYPE_CHECKING:
    from mcpaudit_lab.lab import EventTable

__all__ = ["TableView"]

_HERE: Final = Path(__file__).parent
_CELL_MAX: Final = 200
# A browser keeps what it downloads in memory; more is written by the kernel.
_DOWNLOAD_MAX: Final = 100_000
_FORMATS: Final = ("csv", "jsonl")


class TableView(anywidget.AnyWidget):
    """The widget.

    Args:
        table: the table; changed by what a person does.
    """

    _esm = (_HERE / "table.js").read_text(encoding="utf-8")
    _css = widget_style(_HERE / "table.css")

    def __init__(self, table: EventTable) -> None:
        super().__init__()
        self._table = table
        self._generation = 0
        self.on_msg(self._receive)

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        if not isinstance(content, dict):
            return
        acts: dict[str, Callable[[dict[str, Any]], None]] = {
            "ready": self._changed,
            "rows": self._rows,
            "head": self._head,
            "sort": self._sort,
            "filter": self._filter,
            "between": self._between,
            "pick": self._pick,
            "condition": self._condition,
            "columns": self._columns,
            "toggle": self._toggle,
            "range": self._range,
            "all": self._select_all,
            "none": self._select_none,
            "open": self._open,
            "compare": self._compare,
            "download": self._download,
        }
        act = acts.get(str(content.get("kind")))
        if act is None:
            return
        try:
            act(content)
        except McpAuditError as error:
            # Below a condition's first line is a mark under the place, for a terminal.
            self._tell("error", str(error).split("\n")[0])

    def _tell(self, kind: str, text: str) -> None:
        self.send({"kind": kind, "text": visible(text)})

    # What is shown

    def _changed(self, _content: object = None) -> None:
        """Send what the table is now; the front end then asks for rows and heads."""
        table = self._table
        self._generation += 1
        columns = [
            {
                "name": name,
                "title": visible(name.replace("_", " ") if "." not in name else name),
                "type": table.kind(name),
                "filter": visible(table.filters.get(name, "")),
            }
            for name in table.columns
        ]
        self.send(
            {
                "kind": "state",
                "generation": self._generation,
                "total": table.count(),
                "all": table.events.count(),
                "columns": columns,
                "choices": list(EVENT_COLUMNS),
                "sort": None if table.order is None else list(table.order),
                "condition": table.condition,
                "filters": [[name, visible(text)] for name, text in table.filters.items()],
            }
        )
        self._selection()

    def _rows(self, content: dict[str, Any]) -> None:
        offset, count = _number(content.get("offset")), _number(content.get("count"))
        rows = []
        for row in self._table.page(offset, count):
            cells = [_cell(row[name], self._table.kind(name)) for name in self._table.columns]
            rows.append({"id": row["id"], "ok": row["success"] is not False, "cells": cells})
        # What was asked before the last change has no place any more, and the front end knows.
        asked = _number(content.get("generation"))
        self.send({"kind": "rows", "generation": asked, "offset": offset, "rows": rows})

    def _head(self, content: dict[str, Any]) -> None:
        name = str(content.get("column"))
        if name in self._table.columns:
            head = column_head(self._table, name)
            if head["kind"] == "values":
                head["shown"] = [visible(_plain(text)) for text, _ in head["values"]]
            asked = _number(content.get("generation"))
            self.send({"kind": "head", "generation": asked, "column": name, "head": head})

    def _sort(self, content: dict[str, Any]) -> None:
        column = content.get("column")
        descending = content.get("descending") is True
        self._table.sort(None if column is None else str(column), descending=descending)
        self._changed()

    def _filter(self, content: dict[str, Any]) -> None:
        self._table.filter(str(content.get("column")), str(content.get("text", "")))
        self._changed()

    def _between(self, content: dict[str, Any]) -> None:
        low, high = str(content.get("low")), str(content.get("high"))
        self._table.between(str(content.get("column")), low, high)
        self._changed()

    def _pick(self, content: dict[str, Any]) -> None:
        values = content.get("values")
        if isinstance(values, list):
            self._table.pick(str(content.get("column")), [str(value) for value in values])
            self._changed()

    def _condition(self, content: dict[str, Any]) -> None:
        self._table.search(str(content.get("text", "")))
        self._changed()

    def _columns(self, content: dict[str, Any]) -> None:
        names = content.get("names")
        if isinstance(names, list):
            self._table.choose([str(name) for name in names])
            self._changed()

    # What is selected

    def _selection(self) -> None:
        table = self._table
        ids = list(table.selected_ids)
        count = table.selection.count() if table.is_all_selected else len(ids)
        self.send({"kind": "selection", "ids": ids, "all": table.is_all_selected, "count": count})

    def _toggle(self, content: dict[str, Any]) -> None:
        self._table.toggle(str(content.get("id")))
        self._selection()

    def _range(self, content: dict[str, Any]) -> None:
        self._table.select_rows(_number(content.get("first")), _number(content.get("last")))
        self._selection()

    def _select_all(self, _content: object) -> None:
        self._table.select_all()
        self._selection()

    def _select_none(self, _content: object) -> None:
        self._table.select(())
        self._selection()

    # What is opened

    def _open(self, content: dict[str, Any]) -> None:
        self.send({"kind": "card", "html": event_html(self._table.event(str(content.get("id"))))})

    def _compare(self, _content: object) -> None:
        ids = self._table.selected_ids
        if len(ids) == 2:
            lab: Any = self._table.events.lab
            self.send({"kind": "card", "html": comparison_html(lab.compare(*ids))})

    def _download(self, content: dict[str, Any]) -> None:
        """Send the selected events as a file, or all that are shown if none is selected."""
        form = str(content.get("format"))
        selected = self._table.is_all_selected or self._table.selected_ids
        chosen, name = (
            (self._table.selection, "selection") if selected else (self._table.shown, "shown")
        )
        if form not in _FORMATS:
            return
        if (count := chosen.count()) > _DOWNLOAD_MAX:
            way = f"table.{name}.write('events.{form}')"
            self._tell("error", f"{count:,} events are many for a browser: {way}")
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"events.{form}"
            chosen.write(path, progress=False)
            data = path.read_bytes()
        self.send({"kind": "file", "name": path.name}, [data])


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0


def _cell(value: Any, kind: str) -> str:
    if kind == "path" and value is not None and not isinstance(value, str):
        value = dumps(value)
    text = cell_text(value)
    return text if len(text) <= _CELL_MAX else f"{text[:_CELL_MAX]}…"


def _plain(text: str) -> str:
    """A JSON text without its quotes, to be read."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
