"""Asking a lab: events, SQL, comparisons, and where a row came from."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mcpaudit_lab.comparison import Comparison, compare
from mcpaudit_lab.errors import EventNotFound, LabError, LabReadOnly
from mcpaudit_lab.events import Event, parse_id
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.formats import text_within
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.ledger import Provenance, read_raws, sources_of
from mcpaudit_lab.lab.opening import keep_private, open_lab
from mcpaudit_lab.lab.results import SqlResult, run_sql
from mcpaudit_lab.terminal import counted

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mcpaudit_lab.lab.sandbox import Sandbox

__all__ = ["LabReader"]


class LabReader:
    """An open lab and what one asks of it; :class:`~mcpaudit_lab.Lab` adds what writes."""

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, read_only: bool = False
    ) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.read_only = read_only
        self._writing_lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = open_lab(
            self.path, read_only=read_only
        )

    def check_writable(self, why: str) -> None:
        """Refuse what changes the lab, before anything else is done.

        Args:
            why: what would change it, as in "a pull adds events to it".

        Raises:
            LabReadOnly: the lab was opened read-only.
        """
        if self.read_only:
            raise LabReadOnly(
                f"the lab {str(self.path)!r} is open read-only, and {why}; nothing was changed."
                " Open it without read_only, or a copy of it where it must stay as it is."
            )

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for SQL of one's own. Take ``.cursor()`` of it in another thread.

        Raises:
            LabError: the lab is closed.
        """
        if self._connection is None:
            raise LabError("the lab is closed")
        if self.path and not self.read_only:
            keep_private(self.path)
        return self._connection

    def close(self) -> None:
        """Close the lab. A second time does nothing."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else repr(str(self.path))
        if self.read_only:
            where += ", read-only"
        if self._connection is None:
            return f"Lab({where}, closed)"
        return f"Lab({where}, {counted(self.events().count(), 'event')})"

    # Asking

    def events(self, *filters: EventFilter, **keywords: Any) -> EventSet:
        """The events that a filter selects. No work is done before something is asked of the set.

        Args:
            *filters: filters, all of which must hold.
            **keywords: a filter by its keywords, as :class:`EventFilter` takes them.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        return EventSet(self).where(*filters, **keywords)

    def event(self, event_id: str) -> Event:
        """One event with its payload.

        Args:
            event_id: its id, in any spelling a portal takes.

        Raises:
            RecordError: that is no UUID.
            EventNotFound: no event in this lab has it.
        """
        wanted = parse_id(event_id)
        for event in EventSet(self, wanted=(wanted,)):
            return event
        raise EventNotFound(f"no event {wanted} in this lab")

    def sql(self, text: str, params: Mapping[str, Any] | Iterable[Any] | None = None) -> SqlResult:
        """Run SQL of your own over the lab: ``audit_events``, ``audit_payloads`` and the ledger.

        Args:
            text: one statement, with ``$name`` or ``?`` where values are bound.
            params: the values.

        Raises:
            duckdb.Error: what DuckDB says of the statement.
        """
        cursor = self.connection.cursor()
        values = dict(params) if isinstance(params, Mapping) else list(params or ())
        return run_sql(cursor, text, values)

    def sandbox(
        self,
        events: EventSet | None = None,
        *,
        timeout_s: float = 10.0,
        memory_bytes: int = 512 << 20,
        max_rows: int = 100_000,
    ) -> Sandbox:
        """A place for SQL you do not trust: ``with lab.sandbox() as box: box.sql(…)``.

        Statements run in a process of their own over a copy of the events, without access to
        files, network or this lab, within bounds of time, memory and rows.

        Args:
            events: which events the statements may see; None for all.
            timeout_s: how long one statement may take, in seconds.
            memory_bytes: how much memory it may use.
            max_rows: how many rows are brought back; ``truncated`` of the result tells of more.
        """
        from mcpaudit_lab.lab.sandbox import Sandbox

        return Sandbox(
            self, events, timeout_s=timeout_s, memory_bytes=memory_bytes, max_rows=max_rows
        )

    # Comparing

    def compare(
        self, left: str | Event, right: str | Event, *, ignore: Iterable[str] = ()
    ) -> Comparison:
        """Compare two events.

        Args:
            left: an id, or an event.
            right: the other.
            ignore: paths to leave aside, with ``*`` for one segment and ``**`` for any number:
                ``["response.structuredContent.ms", "**.trace_id"]``.

        Raises:
            EventNotFound: an id that the lab does not have.
            FilterError: a path that cannot be read.
        """
        events = (e if isinstance(e, Event) else self.event(e) for e in (left, right))
        return compare(*events, ignore=ignore)

    def compare_replays(
        self,
        events: EventSet | None = None,
        *,
        ignore: Iterable[str] = (),
        noise: Mapping[str, Iterable[str]] | None = None,
    ) -> pd.DataFrame:
        """Compare each original with each of its replays.

        Args:
            events: only replays that are in this set, or whose original is; None for all.
            ignore: paths to leave aside, as in :meth:`compare`.
            noise: more of them for each tool, such as what a run has learned (``run.noise``).

        Returns:
            One row for each replay, oldest first. A replay of a replay stands beside the first
            call. Columns: ``original``, ``replay`` (ids), ``tool_name``, ``verdict`` (``equal``,
            ``changed``, ``unknown``), how many changes of each kind (``value``, ``type``,
            ``order``, ``removed``, ``added``) and ``unknown`` paths, ``changed`` (a list of
            paths), ``original_success``, ``replay_success``, ``original_ms``, ``replay_ms``,
            ``depth`` (1 for a replay of the original itself). Where the lab does not have the
            original, the verdict is ``unknown`` and what would come from it is missing.

        Raises:
            FilterError: a path in ``ignore`` that cannot be read.
        """
        from mcpaudit_lab.lab.replays import compare_pairs, find_pairs, frame_of

        return frame_of(compare_pairs(self, find_pairs(self, events), ignore, noise))

    # Out

    def write(
        self,
        path: str | os.PathLike[str],
        events: EventSet | None = None,
        *,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> int:
        """Write events with their payloads into a file that loads back equal; gives how many.

        Args:
            path: ``.jsonl`` or ``.ndjson``, also with ``.gz`` or ``.zst`` behind; or ``.parquet``.
                The file appears whole or not at all, readable by its owner only.
            events: which events; None for all. They are written newest first.
            overwrite: replace a file that is there.
            progress: show a progress bar; None shows it where there is a terminal or notebook.

        Raises:
            LabError: the name says no format, or the file is there already.
        """
        from mcpaudit_lab.lab.progress import progress_bar
        from mcpaudit_lab.lab.writing import write_events

        chosen = self.events() if events is None else events
        rows, params = chosen.rows()
        with progress_bar(progress, total=chosen.count(), unit="events", label="write") as advance:
            return write_events(
                chosen.cursor(),
                Path(path),
                f"(select e.id from {rows})",
                params,
                overwrite=overwrite,
                advance=advance,
            )

    # The ledger

    def sources(self) -> pd.DataFrame:
        """What was loaded: one row for each source that brought something new.

        Returns:
            Columns ``id``, ``kind`` (``file``, ``stream``, ``database``, ``portal``, ``tail``,
            ``replay``), ``name``, ``request`` (what was asked there, where something was),
            ``sha256``, ``bytes``, ``lines``, ``loaded``, ``merged``, ``duplicates``,
            ``rejected``, ``blank``, ``loaded_at`` (UTC), ``other``, ``parts``, ``format``.
        """
        return self.sql("select * from sources order by id").df()

    def rejects(self) -> pd.DataFrame:
        """The lines that were not loaded.

        Returns:
            Columns ``file``, ``line``, ``reason`` (a value of :class:`RejectReason`), ``detail``,
            ``raw`` (bytes), ``byte_offset``, ``source_id``; by source and line.
        """
        return self.sql(
            "select file, line, reason, detail, raw, byte_offset, source_id from rejects"
            " order by source_id, line, reason"
        ).df()

    def provenance(self, event_id: str) -> list[Provenance]:
        """Where an event came from, and its payload, if that came separately.

        The raw line is read again from the file, after the whole file was checked against the
        SHA-256 it had when it was loaded.

        Args:
            event_id: the event's id.

        Returns:
            The event's own provenance, then its payload's where there is one, then that of each
            further line it came from.

        Raises:
            EventNotFound: no such event.
            SourceChanged: the file is not what was loaded.
            SourceError: the file cannot be read any more.
        """
        wanted = parse_id(event_id)
        rows, found = sources_of(self.connection.cursor(), wanted), []
        for row, (raw, note) in zip(rows, read_raws(rows), strict=True):
            del row["byte_size"], row["bytes"]
            within = None if raw is None or not row["format"] else text_within(row["format"], raw)
            found.append(Provenance(event_id=wanted, **row, raw=raw, note=note, within=within))
        return found
