"""A lab's file: its connection, plain SQL, one event, and the transaction that writes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mcpaudit_lab.errors import EventNotFound, LabError, LabReadOnly
from mcpaudit_lab.record import Event, counted, parse_id
from mcpaudit_lab.storage.opening import keep_private, open_lab, transaction
from mcpaudit_lab.storage.queries import read_events, read_value
from mcpaudit_lab.storage.results import SqlResult, run_sql

if TYPE_CHECKING:
    import duckdb

__all__ = ["LabFile"]

# DuckDB's memory limit while a file is loaded into a lab on disk.
_LOAD_MEMORY = "600MB"


class LabFile:
    """An open lab: what every part that reads or writes one needs.

    Args:
        path: the lab's file; None for a lab in memory.
        read_only: write no byte into the file or its folder.
    """

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
                " Open it without read_only, or open a copy if it must stay unchanged."
            )

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, for your own SQL. Take ``.cursor()`` of it in another thread.

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
        count = read_value(self._connection, "select count(*) from audit_events")
        return f"Lab({where}, {counted(count, 'event')})"

    def event(self, event_id: str) -> Event:
        """One event with its payload.

        Args:
            event_id: its id, in any spelling a portal takes.

        Raises:
            RecordError: the id is not a UUID.
            EventNotFound: no event in this lab has it.
        """
        wanted = parse_id(event_id)
        rows = "(select id from audit_events where id = $id::uuid)"
        for event in read_events(self.connection.cursor(), rows, {"id": wanted}):
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

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A separate connection with an open transaction; one writer at a time."""
        import duckdb

        self.check_writable("events would be added to it")
        with self._writing_lock:
            connection = self.connection.cursor()
            try:
                # Queries that need an order ask for it; preserving insertion order costs a fifth of
                # a load.
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
