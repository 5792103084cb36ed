"""Parts of paged reads: page sizes, JSON lines written by SQLite, queries that can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field
from mcpaudit_lab.server.stores.engine import translate_errors
from mcpaudit_lab.tables import EXACT

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Select

__all__ = [
    "MAX_PAGE_ROWS",
    "SQLITE_NEEDS_DECODING",
    "SQLITE_PAYLOAD_NEEDS_DECODING",
    "RunningQuery",
    "fetch_rows",
    "is_utf8",
    "join_lines",
    "next_page_rows",
    "not_none",
    "sqlite_json_line",
]


SQLITE_NEEDS_DECODING = f"e.{EXACT} is not null"
"""SQL condition: Python must decode the row, since SQLite cannot write its line."""
SQLITE_PAYLOAD_NEEDS_DECODING = (
    f"({SQLITE_NEEDS_DECODING} or payload.{EXACT} is not null or payload.notifications is not null)"
)
"""The same for a line with a payload."""


def join_lines(lines: Sequence[bytes]) -> bytes:
    """Join JSON texts in UTF-8 into JSON lines.

    Escapes U+2028 and U+2029 as the reference server does, since many readers treat them as line
    ends.
    """
    # isascii() for each line is cheaper than searching the joined text: few lines are not ASCII.
    return b"\n".join([*(line if line.isascii() else _escaped(line) for line in lines), b""])


def _escaped(line: bytes) -> bytes:
    return line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


@cache
def sqlite_json_line(*, payloads: bool) -> str:
    """SQL expression: the JSON line of a row of ``audit_events e``.

    With payloads, ``audit_payloads payload`` must be outer-joined. The result is a blob, so that it
    is neither decoded nor encoded again.
    """
    line = _open_object("e", EVENT_FIELDS)
    if payloads:
        detail = _open_object("payload", PAYLOAD_FIELDS[:-1])
        member = f"',\"payload\":' || {detail} || '}}'"
        line += f" || case when payload.event_id is null then '' else {member} end"
    return f"cast({line} || '}}' as blob)"


def _open_object(alias: str, fields: Sequence[Field]) -> str:
    """SQL expression: the JSON object of a row, without its closing brace.

    Each member starts with a comma. printf() joins them in one pass, where ``||`` would copy the
    text for each member; it stops at a NUL, which JSON text never contains.
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
    # A null column counts as absent.
    return member if field.always else f"case when {present} then {member} else '' end"


MAX_PAGE_ROWS: Final = 5000
# Target size of a page, in characters or bytes.
_PAGE_CHARS: Final = 2_000_000

ItemT = TypeVar("ItemT")


def not_none(items: Iterable[ItemT | None]) -> list[ItemT]:
    """The items that are not None."""
    return [item for item in items if item is not None]


def is_utf8(line: bytes) -> bool:
    """Whether the bytes are valid UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def fetch_rows(statement: Select[Any], params: dict[str, Any], connection: Connection) -> Any:
    """Execute a statement and return all rows."""
    return connection.execute(statement, params).all()


def next_page_rows(rows: Sequence[Any]) -> int:
    """The number of rows for the next page, from the average size of these rows."""
    kinds = (str, bytes)
    chars = sum([len(value) for row in rows for value in row if type(value) in kinds])
    return max(10, min(_PAGE_CHARS * len(rows) // (chars + 1), MAX_PAGE_ROWS))


class RunningQuery:
    """The running query of a stream, if any, which another thread can cancel."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._raw: Any = None
        self._cancelled = threading.Event()

    def run(self, query: Callable[[Connection], Sequence[Any]]) -> Sequence[Any]:
        """Run a query; returns no rows if it was cancelled."""
        with translate_errors(), self._engine.connect() as connection:
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
                    # A late cancel would hit the next query on this connection.
                    connection.invalidate()

    def cancel(self) -> None:
        """Cancel the running query and all later ones."""
        with self._lock:
            self._cancelled.set()
            if self._raw is not None:
                stop = getattr(self._raw, "interrupt", None) or self._raw.cancel
                with suppress(Exception):  # the connection is lost, and the query with it
                    stop()
