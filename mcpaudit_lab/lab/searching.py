"""Finds a text anywhere in the payloads of events: which event, which path, the words around."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import fold, text_condition
from mcpaudit_lab.lab.set_algebra import bound_apart
from mcpaudit_lab.record import dumps
from mcpaudit_lab.storage import read_events

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mcpaudit_lab.record import Event

__all__ = ["search_events"]

# The name of each part in a path -> its column.
_PARTS: Final = {
    "param": "request_params",
    "response": "response_result",
    "error": "response_error",
    "notifications": "notifications",
}
_AROUND: Final = 40
# Events whose payloads are read together: most searches end within one batch.
_BATCH: Final = 200
_PLAIN_KEY = re.compile(r"[\w-]+")
_COLUMNS: Final = ("id", "ts", "tool_name", "path", "before", "found", "after")


def search_events(
    cursor: duckdb.DuckDBPyConnection, chosen: tuple[str, dict[str, Any]], text: str, limit: int
) -> pd.DataFrame:
    """Search a set of events, as :meth:`Lab.search` describes it.

    Args:
        cursor: of the lab.
        chosen: the set as a table ``e`` in SQL, and what it binds.
        text: the text.
        limit: maximum number of places.

    Raises:
        FilterError: the text is empty.
    """
    import pandas as pd

    if not text.strip():
        raise FilterError("search needs a text")
    rows, params = chosen
    documents = [f"p.{column}" for column in _PARTS.values()]
    condition, bound = bound_apart(text_condition(text, documents), "s")
    candidates = cursor.execute(
        f"select e.id::varchar from {rows} left join audit_payloads p on p.event_id = e.id"
        f" where {condition} order by e.ts desc, e.id",
        {**params, **bound},
    )
    needle = fold(text)
    found: Iterator[tuple[Any, ...]] = (
        (event.id, event.timestamp, event.tool_name, *hit)
        for event in _read(candidates)
        for hit in _hits(event, needle)
    )
    hits = list(islice(found, limit + 1))
    # Objects: a text may have a lone surrogate, which no other type of text holds.
    frame = pd.DataFrame(hits[:limit], columns=list(_COLUMNS), dtype=object)
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    frame.attrs["truncated"] = len(hits) > limit
    return frame


def _read(candidates: duckdb.DuckDBPyConnection) -> Iterator[Event]:
    """The events of a query for ids, in its order, a batch at a time."""
    events = candidates.cursor()
    while rows := candidates.fetchmany(_BATCH):
        ids = {"ids": [event_id for (event_id,) in rows]}
        yield from read_events(events, "(select unnest($ids)::uuid)", ids)


def _hits(event: Event, needle: str) -> Iterator[tuple[str, str, str, str]]:
    """Path, the words before, the text, and the words after, of each place."""
    yield from _in_text("error_message", event.error_message, needle)
    if event.payload is not None:
        for part, column in _PARTS.items():
            yield from _in_value(part, event.payload.wire.get(column), needle)


def _in_value(path: str, value: Any, needle: str) -> Iterator[tuple[str, str, str, str]]:
    todo = [(path, value)]
    while todo:
        here, item = todo.pop()
        if isinstance(item, dict):
            inner = [(f"{here}.{_key(key)}", member) for key, member in item.items()]
            for key in item:
                yield from _in_text(f"{here}.{_key(key)} (name)", key, needle)
            todo += reversed(inner)
        elif isinstance(item, list | tuple):
            todo += reversed([(f"{here}[{n}]", member) for n, member in enumerate(item)])
        elif item is not None:
            yield from _in_text(here, item if isinstance(item, str) else dumps(item), needle)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else dumps(key)


def _in_text(path: str, text: str, needle: str) -> Iterator[tuple[str, str, str, str]]:
    """The first place in a text."""
    # Folding keeps the number of characters.
    start = fold(text).find(needle) if text else -1
    if start >= 0:
        end = start + len(needle)
        before = ("…" if start > _AROUND else "") + text[max(0, start - _AROUND) : start]
        after = text[end : end + _AROUND] + ("…" if len(text) > end + _AROUND else "")
        yield path, before, text[start:end], after
