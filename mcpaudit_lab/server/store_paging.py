"""Pages of rows, each about as large as the others, from a query that may be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mcpaudit_lab.server.store_engine import translated

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Select

__all__ = ["MOST_PAGE_ROWS", "RunningQuery", "fetch_rows", "is_utf8", "page_rows", "present"]

MOST_PAGE_ROWS: Final = 5000
# A page is about so large, whatever the rows are.
_PAGE_CHARS: Final = 2_000_000

ItemT = TypeVar("ItemT")


def present(items: Iterable[ItemT | None]) -> list[ItemT]:
    """Those of the items that are any."""
    return [item for item in items if item is not None]


def is_utf8(line: bytes) -> bool:
    """Whether these bytes are a text."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def fetch_rows(statement: Select[Any], params: dict[str, Any], connection: Connection) -> Any:
    """The rows of a statement."""
    return connection.execute(statement, params).all()


def page_rows(rows: Sequence[Any]) -> int:
    """How many rows like these make a page."""
    kinds = (str, bytes)
    chars = sum([len(value) for row in rows for value in row if type(value) in kinds])
    return max(10, min(_PAGE_CHARS * len(rows) // (chars + 1), MOST_PAGE_ROWS))


class RunningQuery:
    """The query of a stream that is running now, if any, so that another thread can stop it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._raw: Any = None
        self._cancelled = threading.Event()

    def run(self, query: Callable[[Connection], Sequence[Any]]) -> Sequence[Any]:
        """Run a query; nothing if it was stopped."""
        with translated(), self._engine.connect() as connection:
            with self._lock:
                if self._cancelled.is_set():
                    return ()
                self._raw = connection.connection.driver_connection
            try:
                return query(connection)
            except Exception:
                if not self._cancelled.is_set():
                    raise
                return ()
            finally:
                with self._lock:
                    self._raw = None
                if self._cancelled.is_set():
                    # The signal may come late, and would hit whoever has the connection next.
                    connection.invalidate()

    def cancel(self) -> None:
        """Stop the query, and those to come."""
        with self._lock:
            self._cancelled.set()
            if self._raw is not None:
                stop = getattr(self._raw, "interrupt", None) or self._raw.cancel
                with suppress(Exception):  # the connection is lost: so is the query
                    stop()
