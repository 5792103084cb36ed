"""Calls of recorders that are under way, in a table of their own in a store's SQLite file.

A recorder stores a call before it sends it on, as the event it would be without any response:
failed, ``no answer was recorded``. When the response passes, the finished event replaces it, and
soon one transaction moves it from ``audit_open_calls`` to the events. Readers of events, streams in
order of commit included, therefore see each call once and whole, and never a row that changes
later.

A recorder holds a file lock while it lives; the system releases it however the process ends. Rows
of recorders without a lock, and finished rows of any recorder, are moved to the events by the next
recorder or reader (:func:`recover_calls`). A process id would not do, because it may be reused.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from uuid import uuid4

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.filters import sqlite_moment
from mcpaudit_lab.record import EVENT_COLUMNS, PAYLOAD_COLUMNS, Event
from mcpaudit_lab.tables.portal_rows import EXACT, PortalRow, PortalRows

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = [
    "OPEN_CALLS",
    "CallRecovery",
    "RecorderLock",
    "ended_recorders",
    "forget_recorder",
    "insert_rows",
    "move_calls",
    "recover_calls",
]

OPEN_CALLS: Final = (
    "create table if not exists audit_open_calls ("
    "event_id text primary key, recorder text not null, event text not null, "
    "whole integer not null) without rowid"
)
"""The statement that makes the table. ``event`` is JSON: the event as far as it is known;
``whole`` says whether its answer is there."""

_THERE: Final = "select 1 from sqlite_master where type = 'table' and name = 'audit_open_calls'"
_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def _insert(table: str, columns: Sequence[str], conflict: str) -> str:
    marks = ", ".join("?" * len(columns))
    return f"insert {conflict}into {table} ({', '.join(columns)}) values ({marks})"


_EVENTS: Final = (*EVENT_COLUMNS, EXACT, "commit_number")
_PAYLOADS: Final = (*PAYLOAD_COLUMNS, EXACT)
_INSERT_EVENT: Final = _insert("audit_events", _EVENTS, "")
_INSERT_PAYLOAD: Final = _insert("audit_payloads", _PAYLOADS, "")


def insert_rows(
    connection: sqlite3.Connection, rows: Sequence[PortalRow], first: int | None, captured: datetime
) -> None:
    """Insert events and payloads into a store's own tables, inside the caller's transaction.

    Args:
        connection: to a database whose tables are up to date.
        rows: of events that are not there.
        first: the commit number of the first, the others following; None to have the next reader
            number them.
        captured: for ``captured_at``.

    Raises:
        sqlite3.Error: as SQLite does.
    """
    moment = sqlite_moment(captured)
    connection.executemany(
        _INSERT_EVENT,
        [
            (*row.summary, row.summary_exact, None if first is None else first + place)
            for place, row in enumerate(rows)
        ],
    )
    connection.executemany(
        _INSERT_PAYLOAD,
        [
            (row.id, *row.payload[:-1], moment, row.payload_exact)
            for row in rows
            if row.payload is not None
        ],
    )


class RecorderLock:
    """Says to other processes that a recorder lives, until it ends in whatever way.

    Args:
        store: the file that it writes; the lock is a file in a folder beside it.

    Attributes:
        name: of the recorder, 32 hex digits, new each time.
    """

    def __init__(self, store: Path) -> None:
        self.name = uuid4().hex
        folder = _folder(store)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / f"{self.name}.lock"
        self._file: IO[bytes] = self._path.open("xb")
        _try_lock(self._file)

    def release(self) -> None:
        """Give up the lock: every call of this recorder is stored."""
        # Before the unlinking on Windows, which removes no open file.
        self._file.close()
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()


def _folder(store: Path) -> Path:
    return store.with_name(f"{store.name}-recorders")


def _try_lock(file: IO[bytes]) -> bool:
    """Take the lock of an open file, unless another has it. It goes when the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def ended_recorders(store: Path, names: Sequence[str]) -> list[tuple[str, IO[bytes] | None]]:
    """Those of the recorders that live no more, each with its lock, which the caller closes."""
    ended: list[tuple[str, IO[bytes] | None]] = []
    for name in names:
        # A name that no recorder of ours writes is not turned into a path.
        path = _folder(store) / f"{name}.lock"
        if not _NAME.fullmatch(name) or not path.exists():
            ended.append((name, None))
            continue
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            ended.append((name, None))
            continue
        if _try_lock(file):
            ended.append((name, file))
        else:
            file.close()
    return ended


def forget_recorder(store: Path, name: str, lock: IO[bytes] | None) -> None:
    """Remove the lock of a recorder whose calls were taken over."""
    if lock is None:
        return
    lock.close()
    with suppress(OSError):
        os.unlink(_folder(store) / f"{name}.lock")  # noqa: PTH108 - as RecorderLock, on one line
        _folder(store).rmdir()


class CallRecovery:
    """Looks after killed recorders for a portal that reads one database, every few seconds.

    Args:
        url: the database's URL; on PostgreSQL there is nothing to recover.
        pause_s: minimum time between two checks, in seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self, url: URL, *, pause_s: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        sqlite = url.get_backend_name() == "sqlite" and url.database
        self._path = Path(url.database) if sqlite and url.database else None
        self._pause_s = pause_s
        self._clock = clock
        self._next_s = float("-inf")

    def run(self) -> None:
        """Make events of what a killed recorder had under way, unless that was done just now."""
        if self._path is None or self._clock() < self._next_s:
            return
        self._next_s = self._clock() + self._pause_s
        recover_calls(self._path)


def recover_calls(path: Path, *, busy_timeout_s: float = 5.0) -> int:
    """Move finished calls, and open calls of dead recorders, to the events; returns how many.

    Does nothing if the file is not a store, or is read-only.

    Args:
        path: of the SQLite file.
        busy_timeout_s: how long to wait for another process that writes.
    """
    if not path.is_file():
        return 0
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
        )
        with closing(connection):
            return _recover(connection, path)
    except sqlite3.Error:
        return 0


def _recover(connection: sqlite3.Connection, path: Path) -> int:
    if connection.execute(_THERE).fetchone() is None:
        return 0
    found = connection.execute("select distinct recorder from audit_open_calls").fetchall()
    whole = connection.execute("select 1 from audit_open_calls where whole limit 1").fetchone()
    count = move_calls(connection) if whole else 0
    for name, lock in ended_recorders(path, [str(name) for (name,) in found]):
        try:
            count += move_calls(connection, name)
        finally:
            forget_recorder(path, name, lock)
    return count


def move_calls(connection: sqlite3.Connection, recorder: str | None = None) -> int:
    """Move one recorder's calls to the events in one transaction; returns how many.

    Args:
        connection: without a transaction.
        recorder: its name; None: the whole calls of all of them, and no open ones.

    Raises:
        sqlite3.Error: as SQLite does; nothing is changed then.
    """
    rows = PortalRows("sqlite")
    connection.execute("begin immediate")
    try:
        moved = []
        which, values = ("whole", ()) if recorder is None else ("recorder = ?", (recorder,))
        calls = connection.execute(
            f"select event from audit_open_calls o where {which} "
            "and not exists (select 1 from audit_events e where e.id = o.event_id)",
            values,
        ).fetchall()
        for (text,) in calls:
            # A row that something else damaged must not block the others.
            with suppress(RecordError, TypeError, ValueError):
                moved.append(rows.write(Event.from_json(text)))
        insert_rows(connection, moved, None, datetime.now(UTC))
        connection.execute(f"delete from audit_open_calls where {which}", values)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    return len(moved)
