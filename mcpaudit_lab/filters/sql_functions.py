"""The Python functions that finish what DuckDB and SQLite cannot say. Reached by few rows.

All give None for None, as SQL functions do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.filters.conditions import glob_matches, holds_at
from mcpaudit_lab.filters.values import PathTest, fold
from mcpaudit_lab.record import dumps, loads

__all__ = [
    "DUCKDB_FUNCTIONS",
    "HEADER",
    "VALUE",
    "at_least",
    "json_test",
    "like",
    "register_functions",
    "written_test",
]

# The comparison at a path; of a header, with the word before it.
VALUE, HEADER = "eq", "header eq"


def written_test(kind: str, test: PathTest) -> str:
    """A path test as one text to bind, for :func:`json_test`."""
    return dumps([kind, list(test.path), test.text], ascii_only=True)


@lru_cache(maxsize=256)
def _read_test(text: str) -> tuple[bool, str, tuple[str, ...], str]:
    written: Any = loads(text)
    kind, path, value = written
    return kind.startswith("header "), kind.removeprefix("header "), tuple(path), value


def json_test(document: str | bytes | None, written: str) -> bool | None:
    """Whether a JSON text passes a test. Text that is not JSON passes none."""
    if document is None:
        return None
    header, op, path, wanted = _read_test(written)
    try:
        return holds_at(loads(document), op, path, wanted, header=header)
    except RecordError:
        return False


def like(text: str | bytes | None, glob: str) -> bool | None:
    """Whether a text fits a pattern; bytes that are not UTF-8 are read as U+FFFD."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return None if text is None else glob_matches(text, glob)


def at_least(extra: str | None, name: str, least: str) -> bool | None:
    """Whether an integer too big for its column, taken from ``extra``, is at least a minimum."""
    wire: Any = {} if extra is None else loads(extra)
    value = wire.get(name)
    return None if value is None else bool(value >= int(least))


def folded(text: str | bytes | None) -> str | None:
    """The text as ``q`` compares it; of bytes that are not UTF-8, what can be read of them."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return None if text is None else fold(text)


# The functions of DuckDB: the name, and how many texts each takes; all give a truth value.
DUCKDB_FUNCTIONS: Final[tuple[tuple[str, Callable[..., bool | None], int], ...]] = (
    ("mcpaudit_json_test", json_test, 2),
    ("mcpaudit_at_least", at_least, 3),
)


def register_functions(connection: Any) -> None:
    """Make the functions known to a ``sqlite3`` connection; again does nothing.

    Args:
        connection: the connection, such as the one in SQLAlchemy's ``connect`` event.
    """
    connection.create_function("mcpaudit_json_test", 2, json_test, deterministic=True)
    connection.create_function("mcpaudit_fold", 1, folded, deterministic=True)
    connection.create_function("mcpaudit_like", 2, like, deterministic=True)
