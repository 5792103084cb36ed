"""Where recorded calls go: SQLite, a file of JSON lines, a lab.

A store receives a call before it is sent on (:meth:`CallStore.open`) and again when its response
passes (:meth:`CallStore.complete`). After either returns, the process may be killed: completed
calls are stored whole, open ones as events without a response. A power failure may lose the last
moments: waiting for the disk twice per call would take longer than most calls.

In SQLite both are one row of the journal (:mod:`.tables.open_calls`). A thread moves complete calls
into the events' tables, several per transaction: those tables have ten indexes, which would cost
each call more time than the recorder may take.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import Event, ToolList, dumps
from mcpaudit_lab.tables import (
    OPEN_CALLS,
    PortalRows,
    RecorderLock,
    insert_rows,
    move_calls,
    recover_calls,
    store_tool_list,
)

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["CallStore", "LabCalls", "SqliteCalls"]

_BUSY_S: Final = 5.0
# A checkpoint waits for the disk; the default is one for every few dozen calls.
_CHECKPOINT_PAGES: Final = 4000
_PRAGMAS: Final = (
    "page_size = 8192",
    "journal_mode = WAL",
    # A commit is in the log when it returns, and the log outlives the process.
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "cache_size = -4096",
    f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
)
_KEEP: Final = (
    "insert or replace into audit_open_calls (event_id, recorder, event, whole) values (?, ?, ?, ?)"
)
_TAKE_OUT: Final = "delete from audit_open_calls where event_id = ? returning event"
# How soon a call shows among the events, and how many are moved while others wait.
_MOVE_S: Final = 0.02
_MOVED_AT_ONCE: Final = 16
# The pause after a failure, and the most events kept in memory meanwhile.
_RETRY_S: Final = 1.0
_MOST_EVENTS: Final = 256
_TAKE: Final = "update audit_commits set last = last + ? returning last"


class CallStore(Protocol):
    """Keeps calls. Any thread may use it."""

    def open(self, events: Sequence[Event]) -> None:
        """Store calls that are about to be sent on, each as the event without an answer.

        Raises:
            StoreUnavailable: they are not stored.
        """

    def complete(self, events: Sequence[Event]) -> None:
        """Store calls whole; they were opened before, or not.

        Raises:
            StoreUnavailable: they are not stored. Those that were opened stay as they are.
        """

    def add_tools(self, found: ToolList) -> None:
        """Keep a list of tools that a server offered."""

    def close(self) -> None:
        """Turn the calls that are still open into events, and close the file.

        Raises:
            StoreUnavailable: it cannot be; the next recorder or reader will.
        """


class SqliteCalls:
    """A portal's own database, which ``serve`` shows live and ``load-database`` reads.

    Any number of recorders and portals may use one file.

    Args:
        path: of the file; made if it is not there, for this user alone.
        now: the time, with a zone, for ``captured_at``.

    Raises:
        StoreUnavailable: it cannot be opened, made or brought up to date.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path.absolute()
        self._now = now
        self._rows = PortalRows("sqlite")
        self._mutex = threading.Lock()
        # Calls that are complete in the journal; None where the event is read from there.
        self._complete: dict[str, Event | None] = {}
        self._ends = threading.Event()
        self._wake = threading.Event()
        with _translated():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                for pragma in _PRAGMAS:
                    self._connection.execute(f"pragma {pragma}")
                self._bring_up_to_date()
                recover_calls(self.path)
                self._lock = RecorderLock(self.path)
            except BaseException:
                self._connection.close()
                raise
        self._mover = threading.Thread(target=self._move_on, daemon=True)
        self._mover.start()

    def _bring_up_to_date(self) -> None:
        found = "select count(*) from sqlite_master where name in (?, ?, ?)"
        names = ("audit_open_calls", "audit_commits", "audit_tool_lists")
        if self._connection.execute(found, names).fetchone() == (3,):
            return
        # Once for each file: SQLAlchemy takes longer to import than a server to start.
        from mcpaudit_lab.server.stores import bring_up_to_date, open_engine

        engine = open_engine(f"sqlite:///{self.path}", busy_timeout_s=_BUSY_S)
        try:
            bring_up_to_date(engine)
        finally:
            engine.dispose()
        self._connection.execute(OPEN_CALLS)

    def open(self, events: Sequence[Event]) -> None:
        """Store calls that are about to be sent on.

        Raises:
            StoreUnavailable: they are not stored.
        """
        self._keep(events, whole=False)

    def complete(self, events: Sequence[Event]) -> None:
        """Store calls whole. They are among the events a moment later.

        Raises:
            StoreUnavailable: they are not stored.
        """
        self._keep(events, whole=True)
        for event in events:
            full = len(self._complete) >= _MOST_EVENTS
            self._complete[event.wire["id"]] = None if full else event
        self._wake.set()

    def add_tools(self, found: ToolList) -> None:
        """Keep a list of tools that a server offered.

        Raises:
            StoreUnavailable: it is not kept.
        """
        with self._mutex, _translated(), self._transaction():
            store_tool_list(
                lambda query, values: self._connection.execute(query, values).fetchall(), found
            )

    def _keep(self, events: Sequence[Event], *, whole: bool) -> None:
        name = self._lock.name
        rows = [(event.wire["id"], name, dumps(event.wire), whole) for event in events]
        with self._mutex, _translated():
            if len(rows) == 1:
                self._connection.execute(_KEEP, rows[0])
                return
            with self._transaction():
                self._connection.executemany(_KEEP, rows)

    def _move_on(self) -> None:
        """Move complete calls into the events' tables until the end."""
        while not self._ends.is_set():
            self._wake.wait()
            # What comes within a moment goes together.
            self._ends.wait(_MOVE_S)
            self._wake.clear()
            try:
                while self._complete and not self._ends.is_set():
                    self._move()
            except (sqlite3.Error, ValueError, TypeError):
                # They are safe in the journal, and are moved when the store is closed.
                self._ends.wait(_RETRY_S)
                self._wake.set()

    def _move(self) -> None:
        ids = list(islice(self._complete, _MOVED_AT_ONCE))
        written = {
            event_id: self._rows.write(event)
            for event_id in ids
            if (event := self._complete[event_id]) is not None
        }
        with self._mutex, self._transaction():
            rows = []
            for event_id in ids:
                # A reader may have moved it already.
                found = self._connection.execute(_TAKE_OUT, (event_id,)).fetchone()
                if found is not None:
                    row = written.get(event_id) or self._rows.write(Event.from_json(found[0]))
                    rows.append(row)
            if rows:
                (last,) = self._connection.execute(_TAKE, (len(rows),)).fetchone()
                insert_rows(self._connection, rows, last - len(rows) + 1, self._now())
        for event_id in ids:
            del self._complete[event_id]

    def close(self) -> None:
        """Turn the calls that are still open into events, and close the file.

        Raises:
            StoreUnavailable: it cannot be; the next recorder or reader will.
        """
        self._ends.set()
        self._wake.set()
        self._mover.join()
        with self._mutex:
            try:
                with _translated():
                    move_calls(self._connection, self._lock.name)
            finally:
                self._connection.close()
                self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            # A full disk rolls back on its own.
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # The texts of SQLite and of the system name files and no values.
        raise StoreUnavailable(str(error)) from None


class LabCalls(SqliteCalls):
    """A lab. DuckDB takes one process at a time, so calls go into a SQLite file beside it first.

    Args:
        lab: the lab's file; made if it is not there.
        report: called with what was loaded, or why nothing was.
        **settings: as :class:`SqliteCalls` takes them.

    Raises:
        StoreUnavailable: as :class:`SqliteCalls`.
    """

    def __init__(self, lab: Path, report: Callable[[str], None], **settings: Any) -> None:
        super().__init__(lab.with_name(f"{lab.name}.recorded.db"), **settings)
        self._lab = lab
        self._report = report

    def close(self) -> None:
        """Load the recorded calls into the lab; if it is in use, say how to load them later.

        Raises:
            StoreUnavailable: as :meth:`SqliteCalls.close`.
        """
        super().close()
        from mcpaudit_lab.errors import LabError
        from mcpaudit_lab.storage.load import LabStore

        url = f"sqlite:///{self.path}"
        try:
            with LabStore(self._lab) as lab:
                report: LoadReport = lab.load_database(url)
        except (LabError, OSError) as error:
            self._report(
                f"the lab was not written: {error}\nThe calls are in {self.path}; later: "
                f"mcpaudit-lab load-database {url} --lab {self._lab}"
            )
        else:
            self._report(f"{report.loaded} calls into {self._lab}")
