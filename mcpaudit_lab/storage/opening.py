"""Opening a lab: a DuckDB file of our own, readable by its owner alone, or memory."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import LabError, LabInUse, LabVersionError
from mcpaudit_lab.filters import DUCKDB_FUNCTIONS
from mcpaudit_lab.storage.queries import read_value
from mcpaudit_lab.storage.schema import LEDGER_TABLES, duckdb_tables

if TYPE_CHECKING:
    import duckdb

__all__ = ["keep_private", "open_lab", "register_functions"]

# Increment it when older versions of this package cannot read what is written.
FORMAT = 1
# Where a DuckDB file says that it is one: behind a checksum of eight bytes.
_MAGIC = slice(8, 12)
_NEEDS = "a lab needs an existing, writable folder with free space"
# DuckDB's message about the lock holder, and that reading would be possible.
_HOLDER = re.compile(r"is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_MAY_READ = "read-only mode"


def open_lab(path: Path | None, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open or make a lab; in memory for None.

    Args:
        path: the file.
        read_only: open an existing lab without writing a byte into its file or folder.

    Raises:
        LabInUse: another process has the file open, or this one has it open the other way.
        LabVersionError: another version wrote it, or it is not a lab.
        LabError: it cannot be opened or made.
    """
    import duckdb

    # DuckDB imports numpy for functions, and calls it missing if Ctrl-C comes meanwhile.
    import numpy as np  # noqa: F401 - for DuckDB

    if path is None:
        if read_only:
            raise LabError("a lab in memory starts empty: read_only needs a lab file")
        connection = duckdb.connect()
    else:
        connection = _connect(path, read_only=read_only)
        _refuse_data(connection, path)
        if not read_only:
            keep_private(path)
    try:
        # The session's zone colours what DuckDB shows of times; evidence is shown in UTC.
        connection.execute("set global TimeZone = 'UTC'")
        register_functions(connection)
        if path is not None and read_only:
            _spill_elsewhere(connection, path)
            _check_tables(connection, path)
        else:
            _ensure_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def register_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the functions of filters known to a database and its cursors; again does nothing."""
    import duckdb

    # Trying takes 1 ms; to look them up in the catalog takes 17. The second error is what the same
    # connection says, the first what another one does.
    with contextlib.suppress(duckdb.CatalogException, duckdb.NotImplementedException):
        for name, function, count in DUCKDB_FUNCTIONS:
            connection.create_function(name, function, ["VARCHAR"] * count, "BOOLEAN")


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    if not path.exists():
        if read_only:
            raise LabError(f"there is no lab {str(path)!r}: with read_only none is made")
        _make(path)
    _refuse_other_formats(path)
    try:
        return duckdb.connect(str(path), read_only=read_only)
    except duckdb.IOException as error:
        raise _explain(path, str(error), read_only=read_only) from None
    except duckdb.ConnectionException:
        # One process cannot have one file open in two ways.
        how = "for writing" if read_only else "read-only"
        raise LabInUse(
            f"this process has the lab {str(path)!r} open {how}: use that one, or close it first",
            pid=os.getpid(),
        ) from None


def _spill_elsewhere(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Put what does not fit into memory into a private folder, not beside the lab."""
    import duckdb

    folder = _spill_folder()
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    wanted = str(Path(folder) / name) if folder else ""
    # Once something was spilled there DuckDB refuses even the same folder again.
    with contextlib.suppress(duckdb.Error):
        connection.execute(f"set global temp_directory = '{wanted.replace(chr(39), chr(39) * 2)}'")


@cache
def _spill_folder() -> str:
    """A folder of this process, readable by its owner only; empty where none can be made."""
    try:
        folder = tempfile.mkdtemp(prefix="mcpaudit-spill-")
    except OSError:
        return ""
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make(path: Path) -> None:
    """Make an empty database that was never readable by others, not even for a moment."""
    import duckdb

    try:
        with tempfile.TemporaryDirectory(prefix=".lab-", dir=path.parent) as folder:
            fresh = Path(folder) / "lab.duckdb"
            duckdb.connect(str(fresh)).close()
            fresh.chmod(0o600)
            # A link, not a rename: if somebody else created the file meanwhile, theirs stays.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
    except (OSError, duckdb.IOException) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabError(f"cannot make the lab {str(path)!r}: {reason} ({_NEEDS})") from error


def _refuse_other_formats(path: Path) -> None:
    """Refuse a file that does not begin as DuckDB's do.

    Of a SQLite file, and others that it knows, DuckDB would fetch an extension from the network.
    """
    # What cannot be read, and an empty file, DuckDB itself has the words for.
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(_MAGIC.stop)
        if start and start[_MAGIC] != b"DUCK":
            raise LabVersionError(f"{str(path)!r} is not a lab")


def _refuse_data(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse a database without a file: its content would be lost when it is closed.

    DuckDB opens a CSV, JSON or Parquet file as a view in memory, and says nothing.
    """
    query = "select path from duckdb_databases() where database_name = current_database()"
    if read_value(connection, query) is None:
        connection.close()
        raise LabVersionError(f"{str(path)!r} is not a lab")


def keep_private(path: Path) -> None:
    """Make the write-ahead log before DuckDB does, which would leave it readable by others."""
    with contextlib.suppress(FileExistsError, OSError):
        os.close(os.open(f"{path}.wal", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _explain(path: Path, message: str, *, read_only: bool) -> LabError:
    if "lock" in message:
        return _in_use(path, message)
    if "not a valid DuckDB" in message:
        return LabVersionError(f"{str(path)!r} is not a lab")
    if "newer version" in message or "storage version" in message.lower():
        return LabVersionError(f"the lab {str(path)!r} was written by a newer DuckDB: {message}")
    if read_only:
        return LabError(f"cannot open the lab {str(path)!r}: {message}")
    if "Read-only file system" in message or "Permission denied" in message:
        return LabError(
            f"cannot open the lab {str(path)!r} for writing: {message} (to ask it without writing,"
            " open it with read_only=True, on the command line with --read-only)"
        )
    return LabError(f"cannot open the lab {str(path)!r}: {message} ({_NEEDS})")


def _in_use(path: Path, message: str) -> LabInUse:
    """Who has the file open, and whether reading beside it works."""
    found = _HOLDER.search(message)
    pid = None if found is None else int(found["pid"])
    who = ""
    if found is not None:
        who = f", {pid} ({found['program']})" if found["program"] else f", {pid}"
    if _MAY_READ in message:
        told = "it only reads: open the lab with read_only=True (--read-only) to read beside it"
    else:
        told = "it may write, and DuckDB allows no readers meanwhile"
    return LabInUse(
        f"the lab {str(path)!r} is open in another process{who}; {told}",
        pid=pid,
        read_only_works=_MAY_READ in message,
    )


def _format_of(connection: duckdb.DuckDBPyConnection, path: Path | None) -> int | None:
    """The format that a lab was written in; None for an empty database.

    Raises:
        LabVersionError: a newer version wrote it, or it is not a lab.
    """
    rows = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'main' and not internal"
    ).fetchall()
    names = {name for (name,) in rows}
    if "lab_meta" in names:
        written = read_value(connection, "select value from lab_meta where key = 'format'")
        if written is None or int(written) > FORMAT:
            raise LabVersionError(
                f"the lab {str(path)!r} was written by a newer version of mcpaudit_lab"
            )
        return int(written)
    if names:
        raise LabVersionError(f"{str(path)!r} is a DuckDB file, but not a lab")
    return None


def _check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse what would have to be written before it can be asked."""
    written = _format_of(connection, path)
    if written is None:
        raise LabVersionError(f"{str(path)!r} is an empty DuckDB file, not a lab")
    if written < FORMAT:
        raise LabVersionError(
            f"the lab {str(path)!r} was written by an older version of mcpaudit_lab and has to be"
            " brought up to date, which read_only forbids: copy the file and open the copy for"
            " writing once"
        )


def _ensure_tables(connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
    if _format_of(connection, path) is not None:
        return
    with transaction(connection):
        for statement in (*duckdb_tables(), *LEDGER_TABLES):
            connection.execute(statement)
        connection.execute("create table lab_meta (key varchar, value varchar)")
        connection.execute(
            "insert into lab_meta values ('format', $format)", {"format": str(FORMAT)}
        )


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit at the end, or roll back if anything goes wrong, an interrupt included."""
    import duckdb

    connection.begin()
    try:
        yield
    except BaseException:
        # After a failure to write DuckDB may have no transaction left to roll back.
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise
    connection.commit()
