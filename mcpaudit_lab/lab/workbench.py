"""The workbench: audit events in DuckDB, from wherever they were kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import LabError
from mcpaudit_lab.events import Event
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.inputs import Inputs, find_inputs
from mcpaudit_lab.lab.loading import Loader
from mcpaudit_lab.lab.opening import transaction
from mcpaudit_lab.lab.pulls import PullLog
from mcpaudit_lab.lab.reading import LabReader
from mcpaudit_lab.lab.report import FileReport, LoadReport

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mcpaudit_lab.client import PortalClient, PullReport
    from mcpaudit_lab.filter_times import Moment
    from mcpaudit_lab.redaction import Dialect
    from mcpaudit_lab.replay.arguments import Edit, Secrets
    from mcpaudit_lab.replay.plan import ReplayPlan
    from mcpaudit_lab.replay.planning import AllowLike, EventsLike
    from mcpaudit_lab.replay.targets import TargetLike
    from mcpaudit_lab.widgets.overview import Overview

__all__ = ["Lab"]

# While a file is loaded into a lab on disk, DuckDB may keep so much of it in memory.
_LOAD_MEMORY = "600MB"


class Lab(LabReader):
    """A case: events from wherever they were kept, in one DuckDB database.

    Args:
        path: the lab's file, made if it does not exist, readable by its owner only; None for a lab
            in memory.
        read_only: open a lab that is there and write no byte into its file or folder: on a
            read-only disk, or in several processes at once. What would change it raises
            :class:`LabReadOnly`; every question, comparison and export works.

    Raises:
        LabInUse: another process has the file open; it carries that process's id.
        LabVersionError: another version wrote it, or it is no lab.
        LabError: it cannot be opened or made.

    A lab may be used from several threads. Use it in a ``with`` statement, or call :meth:`close`.
    """

    # Loading

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

        Each file's content says what it is; :meth:`formats` lists what there is. In a folder or
        ZIP archive, files of no known format are left out, and named in the report.

        All of it is one transaction: stopped at any moment, the lab holds all of it or nothing.
        The same input again adds nothing.

        Args:
            inputs: a path, a glob pattern, a folder, a binary file, or several of these. Files may
                be compressed with gzip, zstd, bz2 or xz, and stand in ZIP archives.
            format: read all of it as this format, such as ``mcpsnoop``; None tells it by content.
            strict: raise on the first line that would be rejected, and load nothing.
            progress: show a progress bar; None shows it where there is a terminal or notebook.
            max_unpacked_bytes: the most that one compressed file may unpack to.

        Raises:
            LabReadOnly: the lab is open read-only.
            NothingToLoad: a pattern or folder gives no file; nothing is loaded.
            UnknownFormat: a file is of no format that can be read; nothing is loaded.
            SourceError: an input is missing, damaged, or unpacks to too much; nothing is loaded.
            SourceChanged: a file changed while it was read; nothing is loaded.
            RecordError: with ``strict``, naming file, line and reason.
            LabError: the disk is full; nothing is loaded.
        """
        from mcpaudit_lab.lab.progress import bytes_bar

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
            Columns ``name`` (as ``format=`` takes those of kind ``format``), ``kind`` (``format``,
            ``around`` for what may stand around a format's lines, ``packed``), ``title``.
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

        self.check_writable("a load adds events to it")
        source = open_database(url, EventSet(self).where(*filters, **keywords).filters)
        with (
            closing(source),
            progress_bar(progress, total=source.count(), unit="events", label="load") as advance,
        ):
            return self._load(
                lambda loader: [loader.load_database(source)], strict=strict, advance=advance
            )

    def pull(
        self,
        portal: PortalClient,
        *filters: EventFilter,
        since: Moment = None,
        payloads: bool = True,
        check_ids: bool | None = None,
        progress: bool | None = None,
        **keywords: Any,
    ) -> PullReport:
        """Fetch from a portal what the lab does not have yet, ours or the reference server.

        What came is kept, batch by batch, when it is interrupted or the portal goes away; the next
        pull of the same question goes on from there. Repeated, it fetches what is new and what
        arrived late. The report compares with the portal's own count.

        Args:
            portal: the portal.
            *filters: which events, all of which must hold; without a limit.
            since: not before this moment, as :class:`EventFilter` takes it: ``"24h"``,
                ``"yesterday"``, ``"2026-11-24"``, a ``date``, ``datetime`` or ``timedelta``.
            payloads: with requests and responses.
            check_ids: compare the portal's ids with those that earlier pulls have seen, an export
                without payloads. It finds late events that as many deletions hide from counts.
                None compares all of up to 100,000 events, and the recent ones of more; the
                report's ``compared`` says which.
            progress: show a progress bar; None shows it where there is a terminal or notebook.
            **keywords: a filter by its keywords, as :class:`EventFilter` takes them.

        Raises:
            FilterError: a keyword or value no filter has; a limit.
            PortalError: the portal cannot be asked, of the kind that its answer means.
            LabError: the lab cannot be written.
        """
        from mcpaudit_lab.client.pull import pull_events

        self.check_writable("a pull adds events to it")
        wanted = (*filters, EventFilter(since=since, **keywords))
        return pull_events(
            portal,
            wanted,
            self,
            lambda question: PullLog(self.connection.cursor, self._writing, portal.url, question),
            payloads=payloads,
            progress=progress,
            check_ids=check_ids,
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

        The rules are those of :meth:`load`: what is there already is a duplicate, a payload that
        was missing is merged, what contradicts is rejected as a conflict.

        Args:
            events: the events; read to the end before anything can be seen in the lab.
            kind: how they came: ``portal``, ``tail`` or ``replay``.
            name: where they came from, such as the portal's URL, without a secret.
            request: what was asked there, as text, for the ledger.
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

        The rules are those of :meth:`load`, which is several times as fast as
        :meth:`add_events`: what is no event is in ``rejects`` with its bytes.

        Args:
            lines: the lines, the last one ending in LF, too.
            kind: how they came: ``portal``, ``tail`` or ``replay``.
            name: where they came from, such as the portal's URL, without a secret.
            request: what was asked there, as text, for the ledger.

        Raises:
            LabError: the lab cannot be written; nothing is added.
        """
        return self._load(
            lambda loader: [loader.load_lines(lines, kind=kind, name=name, request=request)]
        )

    # Showing

    def overview(self) -> Overview:
        """One look at the case: span, counts, tools, users, failures, sources, rejected lines.

        Raises:
            LabError: the lab is closed.
        """
        from mcpaudit_lab.widgets.overview import make_overview

        return make_overview(self)

    # Calling again

    def plan_replay(
        self,
        events: EventsLike,
        target: TargetLike,
        *,
        allow: AllowLike = None,
        secrets: Secrets | None = None,
        edit: Edit | None = None,
        via_tryit: bool = False,
        again: Collection[str] = (),
        dialects: Iterable[Dialect | str] | None = None,
    ) -> ReplayPlan:
        """A verdict for each event: would it be called again, and if not, why. Nothing is called.

        The target is asked what tools it has, and a portal for its copies of the events.

        Args:
            events: an :class:`EventSet`, or events, or ids. They are called oldest first.
                A replay whose original is among them is left out.
            target: a :class:`PortalClient`; the URL of an MCP endpoint; a command as a list; an
                ``MCPServer`` of this process; or an :class:`McpTarget`. Never anything from a log.
            allow: the tools that may be called: names; ``"read-only"``, of which the target says
                so; or ``"all"`` but those of which it says that they destroy, which must be named.
                In a collection everything is a name; :class:`Allowed` has all of it. None allows
                nothing.
            secrets: values for what was redacted, by path or key; or a function that is called
                with the event and the path. What it supplies is kept nowhere.
            edit: arguments to change, by name; or a function that is called with the event and a
                copy of the arguments and gives new ones.
            via_tryit: have a portal call the lab's copy by Try-It where it has no equal event.
            again: ids of events to send although an earlier sending is uncertain.
            dialects: what counts as redacted beside ``[redacted]``, which always does; None for
                every dialect there is.

        Raises:
            ReplayError: the target is none, an event has no id, an edit cannot be made.
            EventNotFound: an id that the lab does not have.
            PortalError: the portal does not answer.
        """
        from mcpaudit_lab.replay.arguments import ALL_DIALECTS
        from mcpaudit_lab.replay.planning import make_plan

        return make_plan(
            self,
            events,
            target,
            allow=allow,
            secrets=secrets,
            edit=edit,
            via_tryit=via_tryit,
            again=again,
            dialects=ALL_DIALECTS if dialects is None else dialects,
        )

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
        with self._writing() as connection:
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

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own with an open transaction; one writer at a time."""
        import duckdb

        self.check_writable("events would be added to it")
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
