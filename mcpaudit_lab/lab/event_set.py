"""A set of events that has done no work yet."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import FilterError, LabError
from mcpaudit_lab.filters import EventFilter, compile_filter, filters_of
from mcpaudit_lab.formats import WriteReport
from mcpaudit_lab.lab.behaviour import Behaviour
from mcpaudit_lab.lab.columns import column_list, decode_columns
from mcpaudit_lab.lab.plotting import Plots
from mcpaudit_lab.lab.set_algebra import bound_apart, order_by
from mcpaudit_lab.record import Event, counted, render_html
from mcpaudit_lab.storage import (
    CONTRACT_ORDER,
    DEFINITIONS_IN_FORCE,
    TAGGED,
    ArrowViews,
    LabFile,
    breakdown_sql,
    bucket_of,
    has_notes,
    has_tool_lists,
    progress_bar,
    read_events,
    read_table,
    stats_sql,
    timeseries_sql,
    to_frame,
)
from mcpaudit_lab.storage.load import write_events

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["EventSet"]

# Maximum length of the filter's description in a repr.
_WORDS_MAX = 400


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EventSet(Behaviour, Plots, ArrowViews):
    """The events of a lab that a filter selects, in the contract's order: newest first, then by id.

    Every question runs its own query, so the set follows the lab as it grows. Made by
    :meth:`Lab.events`.

    Attributes:
        lab: the lab.
        filters: the filters; all of them hold. One of them may have a limit and an offset.
        wanted: the ids to choose from, or None for all.
        definition_changed: only calls whose tool had another definition than the first one that
            the lab knows of it (True), or the same (False). Calls whose definition is not known
            are in neither.
        tags: only events with a note in force that has one of these tags.
        combined: ``or``, ``and`` or ``but not``, and the two sets to choose from; None for all
            events.
        order: names of columns to sort by, each with whether it descends; empty for the
            contract's order, which also decides between equals.
    """

    lab: LabFile
    filters: tuple[EventFilter, ...] = ()
    wanted: tuple[str, ...] | None = None
    definition_changed: bool | None = None
    tags: tuple[str, ...] | None = None
    combined: tuple[str, EventSet, EventSet] | None = None
    order: tuple[tuple[str, bool], ...] = ()

    def __post_init__(self) -> None:
        if len([item for item in self.filters if item.limit is not None or item.offset]) > 1:
            raise FilterError("limit and offset can be given once, not again for a part of the set")

    # Narrowing

    def where(self, *filters: EventFilter | str, **keywords: Any) -> EventSet:
        """The events of this set that another filter selects too.

        Args:
            *filters: filters, or conditions in text: ``"tool != echo and duration_ms > 200"``; all
                of them must hold.
            **keywords: a filter as keywords, as :class:`EventFilter` takes them; and
                ``definition_changed``, see the attribute; and ``tag``, a tag or several, of which a
                note about the event has one.

        Raises:
            FilterError: a keyword no filter has; or a limit, where this set has one already.
        """
        changed = keywords.pop("definition_changed", self.definition_changed)
        narrowed = self
        if (tag := keywords.pop("tag", None)) is not None:
            narrowed = self._tagged((tag,) if isinstance(tag, str) else tuple(tag))
        added = filters_of(filters, keywords)
        return replace(narrowed, filters=self.filters + added, definition_changed=changed)

    def __or__(self, other: EventSet) -> EventSet:
        """The events of either set."""
        return self._with("or", other)

    def __and__(self, other: EventSet) -> EventSet:
        """The events of both sets."""
        return self._with("and", other)

    def __sub__(self, other: EventSet) -> EventSet:
        """The events of this set that are not in the other."""
        return self._with("but not", other)

    def __invert__(self) -> EventSet:
        """The events of the lab that are not in this set."""
        return EventSet(self.lab)._with("but not", self)  # noqa: SLF001 - of this class

    def _with(self, word: str, other: EventSet) -> EventSet:
        if not isinstance(other, EventSet):
            return NotImplemented
        if other.lab is not self.lab:
            raise FilterError("the two sets are of two labs: combine sets of one")
        return EventSet(self.lab, combined=(word, self, other))

    def sort(self, *by: str, descending: bool = False) -> EventSet:
        """The same events in another order.

        Args:
            *by: names of columns of ``audit_events``, the first one first.
            descending: largest first. Missing values are last either way.

        Raises:
            FilterError: an unknown column.
        """
        return replace(self, order=tuple((name, descending) for name in by))

    def sample(self, n: int, *, seed: int | None = None) -> EventSet:
        """So many events at random, chosen now; all of them if there are fewer.

        Args:
            n: how many.
            seed: the same seed chooses the same events of the same set.
        """
        ids = sorted(self.ids())
        chosen = random.Random(seed).sample(ids, min(n, len(ids)))  # noqa: S311 - no secret
        return EventSet(self.lab, wanted=tuple(chosen), order=self.order)

    def _tagged(self, tags: tuple[str, ...]) -> EventSet:
        if self.tags is None:
            return replace(self, tags=tags)
        # Both must hold, and one set keeps one choice of tags.
        return replace(self, wanted=tuple(self.ids()), tags=tags)

    # SQL

    @property
    def sql(self) -> str:
        """The query that selects the set: the rows of ``audit_events``, in order.

        ``lab.sql(events.sql, events.params)`` runs it.
        """
        return f"select e.* from {self.rows()[0]} {self._order}"

    @property
    def params(self) -> dict[str, Any]:
        """The values bound in :attr:`sql`, by name."""
        return self.rows()[1]

    @property
    def _order(self) -> str:
        return order_by(self.order)

    def rows(self) -> tuple[str, dict[str, Any]]:
        """The set's rows as a table ``e`` in SQL, in no order, and the values bound in it."""
        compiled = compile_filter(self.filters, "duckdb")
        where, params = compiled.where, dict(compiled.params)
        if self.wanted is not None:
            where = f"({where}) and e.id in (select unnest($ids)::uuid)"
            params["ids"] = list(self.wanted)
        if self.definition_changed is not None:
            where = f"({where}) and e.id in ({self._definitions()})"
        if self.tags is not None:
            tagged = TAGGED if has_notes(self.lab.connection.cursor()) else "null"
            where = f"({where}) and e.id in ({tagged})"
            if tagged is TAGGED:
                params["tags"] = list(self.tags)
        if self.combined is not None:
            word, left, right = self.combined
            sides = [bound_apart(side.rows(), name) for side, name in ((left, "l"), (right, "r"))]
            first, second = (f"e.id in (select e.id from {rows})" for rows, _ in sides)
            joined = {"or": "or", "and": "and", "but not": "and not"}[word]
            where = f"({where}) and ({first} {joined} {second})"
            params |= sides[0][1] | sides[1][1]
        if compiled.residual:
            where = f"({where}) and e.id in (select unnest($checked)::uuid)"
            params["checked"] = self._checked(
                f"(select e.id from audit_events e where {compiled.where})", compiled.params
            )
        page = next((f for f in self.filters if f.limit is not None or f.offset), None)
        rows = f"(select * from audit_events e where {where}"
        if page is not None:
            limit = "" if page.limit is None else f" limit {page.limit:d}"
            rows += f" {CONTRACT_ORDER}{limit} offset {page.offset:d}"
        return f"{rows}) e", params

    def _definitions(self) -> str:
        if not has_tool_lists(self.lab.connection.cursor()):
            return "null"
        sign = "<>" if self.definition_changed else "="
        return f"select event_id from ({DEFINITIONS_IN_FORCE}) where sha256 {sign} first_sha256"

    def _checked(self, rows: str, params: dict[str, Any]) -> list[str]:
        """The ids of candidates that match, where SQL cannot say it."""
        candidates = read_events(self.cursor(), rows, params)
        return [e.id for e in candidates if all(item.matches(e) for item in self.filters)]

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of the lab's connection, for one thread."""
        return self.lab.connection.cursor()

    def _table(self, select: str, params: dict[str, Any]) -> pa.Table:
        return read_table(self.cursor(), select, params)

    # Reading

    def count(self) -> int:
        """How many events are in the set."""
        rows, params = self.rows()
        return int(self._table(f"select count(*) as n from {rows}", params)["n"][0].as_py())

    def __len__(self) -> int:
        return self.count()

    def ids(self) -> list[str]:
        """The ids, in order."""
        rows, params = self.rows()
        table = self._table(f"select e.id from {rows} {self._order}", params)
        ids: list[str] = table["id"].to_pylist()
        return ids

    def __iter__(self) -> Iterator[Event]:
        rows, params = self.rows()
        chosen = f"(select e.id from {rows})"
        yield from read_events(self.cursor(), chosen, params, order=self._order)

    def arrow(self, columns: Sequence[str] | None = None, *, payloads: bool = False) -> pa.Table:
        """The set as an Arrow table; arguments as in :meth:`df`.

        A path column contains JSON text here.
        """
        rows, params = self.rows()
        chosen = column_list(columns, payloads=payloads)
        bound = {**params, **chosen.params}
        return self._table(f"select {chosen.sql} from {rows} {chosen.join} {self._order}", bound)

    def df(self, columns: Sequence[str] | None = None, *, payloads: bool = False) -> pd.DataFrame:
        """The set as a frame, one row for each event, in order.

        Args:
            columns: names of columns in ``audit_events`` and ``audit_payloads``; or paths into a
                payload, ``param.user.id``, ``response.isError``, ``header.User-Agent``. None
                selects all of ``audit_events`` except ``extra``.
            payloads: with the columns of ``audit_payloads`` as well.

        Returns:
            A frame. Text is ``str``, missing text of the record the empty text; integers ``Int64``;
            ``success`` and the truncation flags ``boolean``; ``ts`` ``datetime64[us, UTC]``;
            ``parameters`` and the other JSON columns text. A path column has ``str``, ``boolean``,
            ``Int64`` or ``float64`` if all its values are of that type, else Python objects;
            missing if the event has no such path. A header column has its values joined by ``",
            "``.

        Raises:
            FilterError: an unknown column; the message names the choices.
        """
        chosen = column_list(columns, payloads=payloads)
        return decode_columns(to_frame(self.arrow(columns, payloads=payloads)), chosen)

    def head(self, count: int = 5) -> pd.DataFrame:
        """The first rows as a frame, as in :meth:`df`."""
        paged = any(item.limit is not None or item.offset for item in self.filters)
        if paged or self.order:
            return self._only(self.ids()[:count]).df()
        return self.where(limit=count).df()

    def tail(self, count: int = 5) -> pd.DataFrame:
        """The last rows as a frame, as in :meth:`df`."""
        return self._only(self.ids()[-count:] if count else []).df()

    def _only(self, ids: Sequence[str]) -> EventSet:
        return EventSet(self.lab, wanted=tuple(ids), order=self.order)

    # Aggregates

    def stats(self, by: str | None = None) -> pd.DataFrame:
        """Statistics over the set, as the portal's dashboard has them.

        Args:
            by: None for one row; or one of the choices of :meth:`breakdown`, for a row each, most
                frequent first.

        Returns:
            Columns ``key`` (with ``by``), ``total``, ``errors``, ``error_rate`` (0 to 1),
            ``avg_duration_ms``, ``p50_duration_ms``, ``p95_duration_ms`` (interpolated),
            ``unique_subjects``, ``unique_tools``. An empty set has 0 everywhere.

        Raises:
            FilterError: an unknown ``by``.
        """
        rows, params = self.rows()
        return to_frame(self._table(stats_sql(rows, by), params))

    def breakdown(self, by: str = "tool") -> pd.DataFrame:
        """Number of events and failures for each value, most frequent first.

        Args:
            by: ``tool``, ``user``, ``success``, ``auth_type``, ``tool_group``, ``session``,
                ``source``, ``error_category``, ``transport``, ``user_agent`` or ``remote_addr``.

        Returns:
            Columns ``key``, ``count``, ``errors``; ties by key. All values, where a portal stops
            at 50.

        Raises:
            FilterError: an unknown ``by``.
        """
        rows, params = self.rows()
        return to_frame(self._table(breakdown_sql(rows, by), params))

    def timeseries(self, bucket: str | timedelta = "1m") -> pd.DataFrame:
        """Calls over time.

        Args:
            bucket: width of a bucket: ``5m``, ``90s``, ``1h30m``, ``1d``, or a ``timedelta``.
                Buckets start at multiples of it since 1970-01-01 UTC.

        Returns:
            Columns ``time`` (start of the bucket, UTC), ``count``, ``errors``,
            ``avg_duration_ms``, in order of time. Buckets without an event are left out.

        Raises:
            FilterError: an invalid bucket.
        """
        rows, params = self.rows()
        bound = {**params, "bucket_us": bucket_of(bucket)}
        return to_frame(self._table(timeseries_sql(rows), bound))

    # Out

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - the word that people look for
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> WriteReport:
        """Write the set into a file, as :meth:`Lab.write` does, in the contract's order."""
        rows, params = self.rows()
        with progress_bar(progress, total=self.count(), unit="events", label="write") as advance:
            return write_events(
                self.cursor(),
                Path(path),
                f"(select e.id from {rows})",
                params,
                overwrite=overwrite,
                advance=advance,
                format_name=format,
            )

    def describe(self) -> str:
        """The filters in words."""
        words = [item.describe() for item in self.filters if item != EventFilter()]
        if self.definition_changed is not None:
            changed = "another" if self.definition_changed else "the first"
            words.append(f"made under {changed} definition of their tool")
        if self.tags is not None:
            words.append(f"tagged {' or '.join(map(repr, self.tags))}")
        if self.combined is not None:
            word, left, right = self.combined
            words.append(f"({left.describe()}) {word} ({right.describe()})")
        if self.wanted is not None:
            words.append(f"{len(self.wanted):,} chosen ids")
        return " and ".join(words) or "all events"

    def __repr__(self) -> str:
        words = self.describe()
        shown = words if len(words) <= _WORDS_MAX else f"{words[:_WORDS_MAX]}…"
        try:
            return f"EventSet({counted(self.count(), 'event')}: {shown})"
        except LabError:
            return f"EventSet(of a closed lab: {shown})"

    def _repr_html_(self) -> str:
        """Count, filter and first rows, for a notebook."""
        return render_html("event_set", self)
