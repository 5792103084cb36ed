"""Opening a lab: a DuckDB file of our own, readable by its owner alone, or memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import LabError, LabInUse, LabVersionError
from mcpaudit_lab.lab.ledger import LEDGER_TABLES
from mcpaudit_lab.lab.selecting import read_value
from mcpaudit_lab.sql.compile import register_functions
from mcpaudit_lab.sql.schema import duckdb_tables

if TYPE_CHECKING:
    import duckdb

__all__ = ["keep_private", "open_lab"]

# Raised when an older version of this package could no longer read what is written.
FORMAT = 1
# Where a DuckDB file says that it is one: behind a checksum of eight bytes.
_MAGIC = slice(8, 12)
_NEEDS = "a lab needs a folder that is there, that you may write to, with space left"


def open_lab(path: Path | None) -> duckdb.DuckDBPyConnection:
    """Open or make a lab; in memory for None.

    Raises:
        LabInUse: another process has the file open.
        LabVersionError: a newer version wrote it, or it is no lab.
        LabError: it cannot be opened or made.
    """
    import duckdb

    if path is None:
        connection = duckdb.connect()
    else:
        if not path.exists():
            _make(path)
        _refuse_other_formats(path)
        try:
            connection = duckdb.connect(str(path))
        except duckdb.IOException as error:
            raise _explain(path, str(error)) from None
        _refuse_data(connection, path)
        keep_private(path)
    # The session's zone colours what DuckDB shows of times; evidence is shown in UTC.
    connection.execute("set global TimeZone = 'UTC'")
    register_functions(connection)
    try:
        _ensure_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Make an empty database that was never readable by others, not even for a moment."""
    import duckdb

    try:
        with tempfile.TemporaryDirectory(prefix=".lab-", dir=path.parent) as folder:
            fresh = Path(folder) / "lab.duckdb"
            duckdb.connect(str(fresh)).close()
            fresh.chmod(0o600)
            # A link, not a rename: if somebody else made the file meanwhile, theirs stays.
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
    """Refuse a database that has no file: what is put into it would be gone in the end.

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


def _explain(path: Path, message: str) -> LabError:
    if "lock" in message:
        return LabInUse(f"the lab {str(path)!r} is open in another process: {message}")
    if "not a valid DuckDB" in message:
        return LabVersionError(f"{str(path)!r} is not a lab")
    if "newer version" in message or "storage version" in message.lower():
        return LabVersionError(f"the lab {str(path)!r} was written by a newer DuckDB: {message}")
    return LabError(f"cannot open the lab {str(path)!r}: {message} ({_NEEDS})")


def _ensure_tables(connection: duckdb.DuckDBPyConnection, path: Path | None) -> None:
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
        return
    if names:
        raise LabVersionError(f"{str(path)!r} is a DuckDB file, but not a lab")
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
