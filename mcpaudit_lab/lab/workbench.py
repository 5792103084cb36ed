"""The workbench: audit events in DuckDB, and the questions one asks of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mcpaudit_lab.comparison import Comparison, compare
from mcpaudit_lab.errors import EventNotFound, LabError
from mcpaudit_lab.events import Event, parse_id
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.inputs import Inputs, find_inputs
from mcpaudit_lab.lab.ledger import Provenance, read_raw, sources_of
from mcpaudit_lab.lab.loading import Loader
from mcpaudit_lab.lab.opening import keep_private, open_lab, transaction
from mcpaudit_lab.lab.report import LoadReport
from mcpaudit_lab.lab.results import SqlResult, run_sql

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mcpaudit_lab.lab.sandbox import Sandbox

__all__ = ["Lab"]

# While a file is loaded into a lab on disk, DuckDB may keep so much of it in memory.
_LOAD_MEMORY = "600MB"


class Lab:
    """A case: events from wherever they were kept, in one DuckDB database.

    Args:
        path: the lab's file, made if it does not exist, readable by its owner only; None for a lab
            in memory.

    Raises:
        LabInUse: another process has the file open.
        LabVersionError: a newer version wrote it, or it is no lab.
        LabError: it cannot be opened or made.

    A lab may be used from several threads. Use it in a ``with`` statement, or call :meth:`close`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self._writing_lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = open_lab(self.path)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for SQL of one's own. Take ``.cursor()`` of it in another thread.

        Raises:
            LabError: the lab is closed.
        """
        if self._connection is None:
            raise LabError("the lab is closed")
        if self.path:
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
        if self._connection is None:
            return f"Lab({where}, closed)"
        return f"Lab({where}, {self.events().count():,} events)"

    # Loading

    def load(
        self,
        inputs: Inputs,
        *,
        strict: bool = False,
        progress: bool | None = None,
        max_unpacked_bytes: int = 16 << 30,
    ) -> LoadReport:
        """Load exports, detail lines, saved answers of a portal, or Parquet that a lab wrote.

        All of it is one transaction: stopped at any moment, the lab holds all of it or nothing.
        The same input again adds nothing.

        Args:
            inputs: a path, a glob pattern, a folder, a binary file, or several of these. Files may
                be compressed with gzip or zstd.
            strict: raise on the first line that would be rejected, and load nothing.
            progress: show a progress bar; None shows it where there is a terminal or notebook.
            max_unpacked_bytes: the most that one compressed file may unpack to.

        Raises:
            SourceError: an input is missing, damaged, or unpacks to too much; nothing is loaded.
            SourceChanged: a file changed while it was read; nothing is loaded.
            RecordError: with ``strict``, naming file, line and reason.
            LabError: the disk is full; nothing is loaded.
        """
        from mcpaudit_lab.lab.progress import bytes_bar

        started = time.monotonic()
        sources = find_inputs(inputs)
        with self._writing() as connection, bytes_bar(sources, progress) as advance:
            loader = Loader(
                connection,
                strict=strict,
                max_unpacked_bytes=max_unpacked_bytes,
                advance=advance,
            )
            files = tuple(loader.load(source) for source in sources)
        return LoadReport(files, time.monotonic() - started, dict(loader.reasons))

    def load_database(
        self,
        url: str,
        *filters: EventFilter,
        strict: bool = False,
        progress: bool | None = None,
        **keywords: Any,
    ) -> LoadReport:
        """Copy events and payloads from a portal's own PostgreSQL or SQLite tables.

        One transaction, as :meth:`load`. JSON that is empty counts as absent, as on the wire.

        Args:
            url: as SQLAlchemy takes it: ``postgresql+psycopg://user@host/db`` or
                ``sqlite:///audit.db``. The ledger keeps it without the password.
            *filters: which events, all of which must hold.
            strict: raise on the first row that contradicts what the lab has, and load nothing.
            progress: show a progress bar; None shows it where there is a terminal or notebook.
            **keywords: a filter by its keywords, as :class:`EventFilter` takes them.

        Raises:
            SourceError: the database is missing, refuses, or is none of a portal.
            MissingExtra: the driver is not installed; the message is the command that installs it.
        """
        from mcpaudit_lab.lab.database import open_database
        from mcpaudit_lab.lab.progress import progress_bar

        started = time.monotonic()
        source = open_database(url, EventSet(self).where(*filters, **keywords).filters)
        try:
            bar = progress_bar(progress, total=source.count(), unit="events", label="load")
            with self._writing() as connection, bar as advance:
                loader = Loader(connection, strict=strict, max_unpacked_bytes=0, advance=advance)
                files = (loader.load_database(source),)
        finally:
            source.close()
        return LoadReport(files, time.monotonic() - started, dict(loader.reasons))

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own with an open transaction; one writer at a time."""
        import duckdb

        with self._writing_lock:
            connection = self.connection.cursor()
            try:
                # Order is asked for where it matters; keeping it costs a fifth of a load.
                connection.execute("set preserve_insertion_order = false")
                if self.path:
                    connection.execute(f"set memory_limit = '{_LOAD_MEMORY}'")
                with transaction(connection):
                    yield connection
            except (
                duckdb.IOException,
                duckdb.TransactionException,
                duckdb.FatalException,
                duckdb.OutOfMemoryException,
            ) as error:
                raise LabError(
                    f"the lab could not be written, nothing was changed: {error}"
                ) from error
            finally:
                # After a failed write DuckDB may refuse everything until the file is opened again.
                with suppress(duckdb.Error):
                    connection.execute("reset preserve_insertion_order")
                    if self.path:
                        connection.execute("reset memory_limit")
                    connection.close()

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
        self, events: EventSet | None = None, *, ignore: Iterable[str] = ()
    ) -> pd.DataFrame:
        """Compare each original with each of its replays.

        Args:
            events: only replays that are in this set, or whose original is; None for all.
            ignore: paths to leave aside, as in :meth:`compare`.

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

        return frame_of(compare_pairs(self, find_pairs(self, events), ignore))

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
        """What was loaded: one row for each file or database that brought something new.

        Returns:
            Columns ``id``, ``kind`` (``file``, ``stream``, ``database``), ``name``, ``request``
            (what was asked of a database), ``sha256``, ``bytes``, ``lines``, ``loaded``,
            ``merged``, ``duplicates``, ``rejected``, ``blank``, ``loaded_at`` (UTC).
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
            The event's own provenance, then its payload's where there is one.

        Raises:
            EventNotFound: no such event.
            SourceChanged: the file is not what was loaded.
            SourceError: the file cannot be read any more.
        """
        wanted = parse_id(event_id)
        found = []
        for row in sources_of(self.connection.cursor(), wanted):
            raw, note = read_raw(row)
            del row["byte_size"], row["bytes"]
            found.append(Provenance(event_id=wanted, **row, raw=raw, note=note))
        return found
