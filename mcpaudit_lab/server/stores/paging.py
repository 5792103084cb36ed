"""Pages of rows, each about as large as the others, from a query that may be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field
from mcpaudit_lab.server.stores.engine import translated
from mcpaudit_lab.tables import EXACT

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Select

__all__ = [
    "MOST_PAGE_ROWS",
    "SQLITE_DOUBT",
    "SQLITE_PAYLOAD_DOUBT",
    "RunningQuery",
    "fetch_rows",
    "is_utf8",
    "join_lines",
    "page_rows",
    "present",
    "sqlite_line",
]


SQLITE_DOUBT = f"e.{EXACT} is not null"
"""SQL: the line is to be looked at before it is given out. A suspect has no line at all."""
SQLITE_PAYLOAD_DOUBT = (
    f"({SQLITE_DOUBT} or payload.{EXACT} is not null or payload.notifications is not null)"
)
"""The same for a line with its payload."""


def join_lines(lines: Sequence[bytes]) -> bytes:
    """JSON lines of some JSON texts in UTF-8.

    U+2028 and U+2029 are escaped, as the reference server does: many a reader takes them for ends
    of lines.
    """
    # Line by line, since few lines have anything but ASCII: a search takes longer than SQLite does.
    return b"\n".join([*(line if line.isascii() else _escaped(line) for line in lines), b""])


def _escaped(line: bytes) -> bytes:
    return line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


@cache
def sqlite_line(*, payloads: bool) -> str:
    """SQL: the line, of ``audit_events e`` and, with payloads, an outer join of ``payload``.

    A blob, to avoid decoding and encoding it again.
    """
    line = _open_object("e", EVENT_FIELDS)
    if payloads:
        detail = _open_object("payload", PAYLOAD_FIELDS[:-1])
        member = f"',\"payload\":' || {detail} || '}}'"
        line += f" || case when payload.event_id is null then '' else {member} end"
    return f"cast({line} || '}}' as blob)"


def _open_object(alias: str, fields: Sequence[Field]) -> str:
    """SQL: the JSON object of a row, without its last brace.

    Every member starts with a comma. printf() joins them in one step, where ``||`` would copy the
    text repeatedly; it stops at NUL, which JSON does not contain.
    """
    members = ", ".join(_member(alias, field) for field in fields)
    exact = f"{alias}.{EXACT}"
    return (
        f"case when {exact} is not null then substr({exact}, 1, length({exact}) - 1)"
        f" else '{{' || substr(printf('{'%s' * len(fields)}', {members}), 2) end"
    )


def _member(alias: str, field: Field) -> str:
    column = f"{alias}.{field.column}"
    present, value = f"{column} <> ''", f"json_quote({column})"
    if field.kind == "json":
        empty = "'null', '{}', '[]', '\"\"', '0', 'false'"
        present, value = f"{column} not in ({empty})", column
    elif field.kind == "int":
        present, value = f"{column} <> 0", column
    elif field.kind == "bool":
        present, value = column, f"case when {column} then 'true' else 'false' end"
    elif field.kind == "time":
        value = f"'\"' || rtrim(rtrim(substr({column}, 1, 26), '0'), '.') || 'Z\"'"
    member = f"',\"{field.name}\":' || {value}"
    # What is null counts as absent, too.
    return member if field.always else f"case when {present} then {member} else '' end"


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
                    # A late signal would hit the next user of the connection.
                    connection.invalidate()

    def cancel(self) -> None:
        """Stop the query, and those to come."""
        with self._lock:
            self._cancelled.set()
            if self._raw is not None:
                stop = getattr(self._raw, "interrupt", None) or self._raw.cancel
                with suppress(Exception):  # the connection is lost: so is the query
                    stop()
