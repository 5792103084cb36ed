"""A table of events that one can work in: what is shown of a set, and what is chosen in it.

No widget here: :mod:`mcpaudit_lab.display.table` shows this and tells it what a person does. DuckDB
does the work, so that a page of a million events costs as much as the question behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import written
from mcpaudit_lab.lab.columns import column_list, decode_columns
from mcpaudit_lab.lab.set_algebra import bound_apart
from mcpaudit_lab.record import EVENT_COLUMNS, EVENT_FIELDS, counted, render, render_html, visible
from mcpaudit_lab.storage import records, to_frame

if TYPE_CHECKING:
    from mcpaudit_lab.record import Event

__all__ = ["EventTable"]

# Type checkers would go round in a circle: the set makes its tables.
EventSet: TypeAlias = Any

_DEFAULT_COLUMNS: Final = (
    "ts",
    "tool_name",
    "success",
    "duration_ms",
    "user_subject",
    "session_id",
    "error_message",
)
_FIELDS: Final = {field.column: field for field in EVENT_FIELDS}
_OPERATOR: Final = re.compile(r"\s*(>=|<=|!=|!~|=~|=|>|<|~)\s*(.*)", re.DOTALL)
# What the language of conditions reads as it is: numbers, truth values, lists, quoted texts.
_VALUE: Final = re.compile(r'-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|\[.*\]|".*"', re.DOTALL)
_PAGE_MAX: Final = 1_000
_RANGE_MAX: Final = 100_000


class EventTable:
    """What is shown of a set of events, and what is selected. Made by :meth:`EventSet.show`.

    In a notebook it shows itself as a table to sort, filter and select in. Everything a person
    does there can be asked here, and done here too.

    Attributes:
        events: the set that the table was made of.
        columns: names of columns and dotted paths, in order.
        filters: a condition for each column that has one.
        condition: a condition over the whole; empty for none.
        order: the column that sorts and whether it descends; None for the set's own order.
    """

    def __init__(self, events: EventSet, columns: Sequence[str] | None = None) -> None:
        paged = any(item.limit is not None or item.offset for item in events.filters)
        # A filter narrows the page that was asked for, and does not ask for another page.
        self.events = events._only(events.ids()) if paged else events  # noqa: SLF001 - of this room
        self.columns: tuple[str, ...] = ()
        self.filters: dict[str, str] = {}
        self.condition = ""
        self.order: tuple[str, bool] | None = None
        self._selected: dict[str, None] = {}
        self._all: EventSet | None = None
        self._view: Any = None
        self.choose(_DEFAULT_COLUMNS if columns is None else columns)

    # What is shown

    def choose(self, columns: Sequence[str]) -> None:
        """Show these columns.

        Raises:
            FilterError: an unknown column, or none at all.
        """
        names = tuple(dict.fromkeys(columns))
        if not names:
            raise FilterError("a table needs a column")
        column_list(list(names), payloads=False)
        self.columns = names

    def search(self, condition: str) -> None:
        """Show only what this condition selects; an empty text takes it away.

        Raises:
            FilterError: it cannot be read.
        """
        condition = condition.strip()
        if condition:
            self.events.where(condition)
        self.condition = condition

    def filter(self, column: str, text: str) -> None:
        """Show only what this says of a column; an empty text takes it away.

        Args:
            column: its name or path.
            text: an operator and a value, such as ``> 200`` or ``!= echo``. Without an operator, a
                text is searched, and a number, a time or a truth value must be equal.

        Raises:
            FilterError: it cannot be read.
        """
        text = text.strip()
        self._put(column, self._condition(column, text) if text else "")

    def between(self, column: str, low: str, high: str) -> None:
        """Show only values from ``low`` to below ``high``: numbers, or times in RFC 3339.

        An empty text leaves that end open; two of them take the filter away.

        Raises:
            FilterError: it cannot be read.
        """
        name = self._name(column)
        condition = " and ".join(
            f"{name} {operator} {value if _VALUE.fullmatch(value) else written(value)}"
            for operator, value in ((">=", low), ("<", high))
            if value
        )
        self._put(column, condition)

    def pick(self, column: str, values: Sequence[str]) -> None:
        """Show only these values of a column, given as :func:`column_head` gives them.

        Raises:
            FilterError: it cannot be read.
        """
        if not all(self.can_pick(column, value) for value in values):
            raise FilterError(f"{self._name(column)}: a list or an object cannot be picked")
        raw = self.kind(column) in ("path", "bool", "int")
        told = [value if raw and _VALUE.fullmatch(value) else written(value) for value in values]
        alone = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        self._put(column, f"{self._name(column)} = {alone}" if values else "")

    def can_pick(self, column: str, value: str) -> bool:
        """Whether a condition can ask for this value: lists and objects have members instead."""
        kind = self.kind(column)
        return kind != "json" and not (kind == "path" and value[:1] in ("[", "{"))

    def _put(self, column: str, condition: str) -> None:
        """Let this be the column's condition; an empty one takes it away."""
        if condition:
            self.events.where(condition)
            self.filters[column] = condition
        else:
            self.filters.pop(column, None)

    def sort(self, column: str | None, *, descending: bool = False) -> None:
        """Sort by a column or path; None sorts as the set does.

        Raises:
            FilterError: an unknown column.
        """
        if column is not None:
            column_list([column], payloads=False)
        self.order = None if column is None else (column, descending)

    def _name(self, column: str) -> str:
        """How conditions call a column."""
        field = _FIELDS.get(column)
        return column if field is None else field.name

    def kind(self, column: str) -> str:
        """A column's kind: ``text``, ``int``, ``bool``, ``time``, ``id``, ``json`` or ``path``."""
        field = _FIELDS.get(column)
        return "path" if field is None else field.kind

    def _condition(self, column: str, text: str) -> str:
        name, kind = self._name(column), self.kind(column)
        if found := _OPERATOR.fullmatch(text):
            operator, value = found.groups()
        else:
            is_value = _VALUE.fullmatch(text) or kind in ("time", "bool", "int")
            operator, value = ("=" if is_value and kind != "text" else "~"), text
        raw = _VALUE.fullmatch(value) and (kind != "text" or value[0] in '["')
        return f"{name} {operator} {value if raw else written(value)}"

    def conditions(self, *, without: str | None = None) -> list[str]:
        """The conditions in force.

        Args:
            without: leave out the one of this column.
        """
        own = [text for column, text in self.filters.items() if column != without]
        return [text for text in (self.condition, *own) if text]

    @property
    def shown(self) -> EventSet:
        """The events in the table, in its order, as far as a column of the event sorts it."""
        found = self.events.where(*self.conditions())
        if self.order is not None and self.order[0] in EVENT_COLUMNS:
            return found.sort(self.order[0], descending=self.order[1])
        return found

    def narrowed(self, *, without: str) -> EventSet:
        """The events in the table if a column had no filter of its own."""
        return self.events.where(*self.conditions(without=without))

    def count(self) -> int:
        """How many events are in the table."""
        return int(self.events.where(*self.conditions()).count())

    def page(self, offset: int, count: int) -> list[dict[str, Any]]:
        """Rows of the table: the columns, and ``id`` and ``success`` of each.

        Args:
            offset: the first row, from 0.
            count: how many, at most 1,000.
        """
        more = [name for name in ("id", "success") if name not in self.columns]
        chosen = column_list([*self.columns, *more], payloads=False)
        rows, params, order = self._ordered()
        limits = f"limit {min(count, _PAGE_MAX):d} offset {max(0, offset):d}"
        numbered = f"select e.*, row_number() over () as place from ({rows} {order} {limits}) e"
        select = f"select {chosen.sql} from ({numbered}) e {chosen.join} order by e.place"
        table = self.events._table(select, {**params, **chosen.params})  # noqa: SLF001 - of this room
        return records(decode_columns(to_frame(table), chosen))

    def _ordered(self) -> tuple[str, dict[str, Any], str]:
        """The rows of the table in SQL, the values bound in it, and its order."""
        found = self.shown
        rows, params = found.rows()
        if self.order is None or self.order[0] in EVENT_COLUMNS:
            return f"select e.* from {rows}", params, found._order  # noqa: SLF001 - of this room
        column, descending = self.order
        key = column_list([column], payloads=False)
        sql, bound = bound_apart((key.sql, key.params), "s")
        quoted = column.replace('"', '""')
        way = "desc nulls last" if descending else "nulls last"
        # JSON's null is missing, as in a frame.
        value = f"""nullif(e."{quoted}", 'null')"""
        order = f"order by try_cast({value} as double) {way}, {value} {way}, e.ts desc, e.id"
        return (
            f"select * from (select e.*, {sql} from {rows} {key.join}) e",
            {**params, **bound},
            order,
        )

    # What is selected

    @property
    def selection(self) -> EventSet:
        """The selected events, as a set: filter, compare, replay or write it."""
        if self._all is not None:
            return self._all
        return self.events._only(self.selected_ids)  # noqa: SLF001 - of this room

    @property
    def selected_ids(self) -> tuple[str, ...]:
        """The ids that were selected one by one or as a range, in that order."""
        return tuple(self._selected)

    @property
    def is_all_selected(self) -> bool:
        """Whether everything that the table showed was selected at once."""
        return self._all is not None

    def select(self, ids: Iterable[str], *, add: bool = False) -> None:
        """Select events by their ids.

        Args:
            ids: which.
            add: keep what is selected already.
        """
        self._all = None
        self._selected = {**(self._selected if add else {}), **dict.fromkeys(ids)}

    def toggle(self, event_id: str) -> None:
        """Select an event, or no longer."""
        self._all = None
        if event_id in self._selected:
            del self._selected[event_id]
        else:
            self._selected[event_id] = None

    def select_rows(self, first: int, last: int) -> None:
        """Add rows of the table to the selection, at most 100,000 of them.

        Raises:
            FilterError: more than that.
        """
        first, last = sorted((max(0, first), max(0, last)))
        if last - first >= _RANGE_MAX:
            raise FilterError(f"{last - first + 1:,} rows are too many for one range; select all")
        rows, params, order = self._ordered()
        limits = f"limit {last - first + 1:d} offset {first:d}"
        table = self.events._table(f"select e.id from ({rows} {order} {limits}) e", params)  # noqa: SLF001 - of this room
        self.select(table["id"].to_pylist(), add=True)

    def select_all(self) -> None:
        """Select everything that the table shows now."""
        self._selected = {}
        self._all = self.shown

    # What is opened

    def event(self, event_id: str) -> Event:
        """One event, with its payload."""
        lab: Any = self.events.lab
        found: Event = lab.event(event_id)
        return found

    def __str__(self) -> str:
        told = f"table of {counted(self.count(), 'event')}"
        conditions = " and ".join(f"({text})" for text in self.conditions())
        selected = "all" if self._all is not None else f"{len(self._selected):,}"
        return visible(f"{told}{': ' if conditions else ''}{conditions}, {selected} selected")

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def widget(self) -> Any:
        """The widget that shows the table, for those who place widgets themselves."""
        if self._view is None:
            self._view = render("table", self)
        return self._view

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and the table's first rows for what shows no widget."""
        bundle: Any = self.widget._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "text/html": render_html("event_set", self.shown), "text/plain": str(self)}
