"""A lab that is filled: from files, from a portal's database, and event by event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.filters import EventFilter, filters_of
from mcpaudit_lab.record import Event, ToolList
from mcpaudit_lab.storage import LabFile, add_tool_list, progress_bar, read_events
from mcpaudit_lab.storage.load.inputs import Inputs, bytes_bar, find_inputs
from mcpaudit_lab.storage.load.loader import Loader
from mcpaudit_lab.storage.load.report import FileReport, LoadReport

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.storage.load.database_log import DatabaseLog

__all__ = ["LabStore"]


class LabStore(LabFile):
    """A lab with its ledger, and all the ways in which events come into it."""

    def load(
        self,
        inputs: Inputs,
        *,
        format: str | None = None,  # noqa: A002 - the word that people look for
        strict: bool = False,
        progress: bool | None = None,
        max_unpacked_bytes: int = 16 << 30,
    ) -> LoadReport:
        """Load exports, detail lines, saved answers, Parquet, and other recorders' files.

        The format is detected from each file's content; :meth:`formats` lists the formats. In a
        folder or ZIP archive, files of unknown formats are skipped and named in the report.

        Everything is one transaction: if it is stopped, the lab has all of it or nothing. Loading
        the same input again adds nothing.

        Args:
            inputs: a path, a glob pattern, a folder, a binary file, or several of these. Files may
                be compressed with gzip, zstd, bz2 or xz, or be in ZIP archives.
            format: read all of it as this format, such as ``mcpsnoop``; None tells it by content.
            strict: raise on the first line that would be rejected, and load nothing.
            progress: show a progress bar; None shows it in a terminal or notebook.
            max_unpacked_bytes: the most that one compressed file may unpack to.

        Raises:
            LabReadOnly: the lab is open read-only.
            NothingToLoad: a pattern or folder without files; nothing is loaded.
            UnknownFormat: a file is of no format that can be read; nothing is loaded.
            SourceError: an input is missing, damaged, or unpacks to too much; nothing is loaded.
            SourceChanged: a file changed while it was read; nothing is loaded.
            RecordError: with ``strict``, naming file, line and reason.
            LabError: the disk is full; nothing is loaded.
        """
        self.check_writable("a load adds events to it")
        sources = find_inputs(inputs)
        with bytes_bar(sources, progress) as advance:
            return self._load(
                lambda loader: loader.load_all(sources),
                format_name=format,
                strict=strict,
                max_unpacked_bytes=max_unpacked_bytes,
                advance=advance,
            )

    def formats(self) -> pd.DataFrame:
        """What :meth:`load` can read.

        Returns:
            Columns ``name`` (the value for ``format=``, if the kind is ``format``), ``kind``
            (``format``, ``around`` for log formats around a format's lines, ``packed``), ``title``.
        """
        import pandas as pd

        from mcpaudit_lab.formats import what_there_is

        return pd.DataFrame(what_there_is(), columns=["name", "kind", "title"])

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
            *filters: which events; all filters must hold.
            strict: raise on the first row that contradicts what the lab has, and load nothing.
            progress: show a progress bar; None shows it in a terminal or notebook.
            **keywords: a filter as keywords, as :class:`EventFilter` takes them.

        Raises:
            SourceError: the database is missing, refuses the connection, or is not a portal's.
            MissingExtra: the driver is not installed; the message is the command that installs it.
        """
        from mcpaudit_lab.storage.load.database import open_database

        self.check_writable("a load adds events to it")
        source = open_database(url, filters_of(filters, keywords))
        with (
            closing(source),
            progress_bar(progress, total=source.count(), unit="events", label="load") as advance,
        ):
            return self._load(
                lambda loader: [loader.load_database(source)], strict=strict, advance=advance
            )

    def add_events(
        self,
        events: Iterable[Event],
        *,
        kind: str,
        name: str,
        request: str | None = None,
        strict: bool = False,
    ) -> LoadReport:
        """Add events that came some other way than by a file, in one transaction.

        The rules are those of :meth:`load`: an existing event is a duplicate, a missing payload is
        merged, and a contradicting event is rejected as a conflict.

        Args:
            events: the events; read to the end before anything can be seen in the lab.
            kind: how they came: ``portal``, ``tail`` or ``replay``.
            name: their origin, such as the portal's URL, without a secret.
            request: the request, as text, for the ledger.
            strict: raise on the first event that contradicts what the lab has, and add nothing.

        Raises:
            RecordError: with ``strict``, naming the event and the reason.
            LabError: the lab cannot be written; nothing is added.
        """
        return self._load(
            lambda loader: [loader.load_events(events, kind=kind, name=name, request=request)],
            strict=strict,
        )

    def add_lines(
        self, lines: bytes, *, kind: str, name: str, request: str | None = None
    ) -> LoadReport:
        """Add events that came as JSON lines, byte for byte, in one transaction.

        The rules are those of :meth:`load`. It is several times as fast as :meth:`add_events`.
        Lines that are not events are in ``rejects`` with their bytes.

        Args:
            lines: the lines, the last one ending in LF, too.
            kind: how they came: ``portal``, ``tail`` or ``replay``.
            name: their origin, such as the portal's URL, without a secret.
            request: the request, as text, for the ledger.

        Raises:
            LabError: the lab cannot be written; nothing is added.
        """
        return self._load(
            lambda loader: [loader.load_lines(lines, kind=kind, name=name, request=request)]
        )

    def add_tool_lists(self, lists: Iterable[ToolList]) -> None:
        """Keep lists of tools, in one transaction; known lists are not stored twice."""
        if found := list(lists):
            with self.writing() as connection:
                for item in found:
                    add_tool_list(connection, item)

    def _load(
        self,
        load: Callable[[Loader], list[FileReport]],
        *,
        strict: bool = False,
        format_name: str | None = None,
        max_unpacked_bytes: int = 0,
        advance: Callable[[int], object] = lambda _: None,
    ) -> LoadReport:
        """Load in one transaction."""
        started = time.monotonic()
        with self.writing() as connection:
            loader = Loader(
                connection,
                strict=strict,
                max_unpacked_bytes=max_unpacked_bytes,
                advance=advance,
                format_name=format_name,
            )
            files = tuple(load(loader))
        seconds = time.monotonic() - started
        return LoadReport(files, seconds, dict(loader.reasons), tuple(loader.skipped))

    def load_log(self, url: str) -> DatabaseLog | None:
        """The Merkle log in a portal's database; None without one.

        Raises:
            SourceError: the database is missing, refuses the connection, or is not a portal's.
        """
        from mcpaudit_lab.storage.load.database import open_database

        with closing(open_database(url, ())) as source:
            return source.log()

    def all_events(self) -> Iterator[Event]:
        """Every event with its payload, in the contract's order."""
        yield from read_events(self.connection.cursor(), "(select id from audit_events)", {})

    def sources(self) -> pd.DataFrame:
        """What was loaded: one row for each source that brought something new.

        Returns:
            Columns ``id``, ``kind`` (``file``, ``stream``, ``database``, ``portal``, ``tail``,
            ``replay``), ``name``, ``request`` (the query to the source, if there was one),
            ``sha256``, ``bytes``, ``lines``, ``loaded``, ``merged``, ``duplicates``, ``rejected``,
            ``blank``, ``loaded_at`` (UTC), ``other``, ``parts``, ``format``.
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
