"""The notes of a lab: two tables, to which rows are only added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import LabError
from mcpaudit_lab.record import Note
from mcpaudit_lab.storage.queries import read_value

if TYPE_CHECKING:
    import duckdb

__all__ = ["TAGGED", "add_note", "event_ids_of_note", "has_notes", "read_notes", "restore_notes"]

_TABLES: Final = (
    (
        "create table if not exists notes (id integer, noted_at timestamptz, author varchar,"
        " note varchar, tags varchar[], target varchar, about varchar, supersedes integer)"
    ),
    "create table if not exists note_events (note_id integer, event_id uuid)",
)
TAGGED: Final = (
    "select event_id from note_events join notes on notes.id = note_id"
    " where list_has_any(tags, $tags)"
    " and note_id not in (select supersedes from notes where supersedes is not null)"
)
"""SQL: the ids of events with a note in force that has one of ``$tags``."""


def has_notes(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the lab ever had a note. A lab without one has no tables for them."""
    query = "select count(*) from duckdb_tables() where table_name = 'notes' and not internal"
    return bool(read_value(connection, query))


def add_note(
    connection: duckdb.DuckDBPyConnection,
    events: str,
    params: Mapping[str, Any],
    *,
    text: str,
    tags: Sequence[str],
    by: str,
    target: str,
    about: str,
    supersedes: int | None,
) -> int:
    """Add a note, in the caller's transaction; returns its number.

    Args:
        connection: of the lab.
        events: a table of ids in SQL that it is about.
        params: the values this binds.
        text: the text.
        tags: the tags.
        by: the author.
        target: what kind of thing it is about.
        about: the target in words.
        supersedes: the number of the note that it replaces.

    Raises:
        LabError: there is no such note, or a newer one has replaced it.
    """
    for statement in _TABLES:
        connection.execute(statement)
    if supersedes is not None:
        _check_newest(connection, supersedes)
    number = int(read_value(connection, "select coalesce(max(id), 0) + 1 from notes"))
    connection.execute(
        "insert into notes values ($id, now(), $by, $text, $tags, $target, $about, $supersedes)",
        {
            "id": number,
            "by": by,
            "text": text,
            "tags": list(tags),
            "target": target,
            "about": about,
            "supersedes": supersedes,
        },
    )
    connection.execute(
        f"insert into note_events select $note_id, id from {events} found(id) order by id",
        {**params, "note_id": number},
    )
    return number


def _check_newest(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    if not read_value(connection, "select count(*) from notes where id = $id", {"id": number}):
        raise LabError(f"there is no note {number}")
    newer = read_value(
        connection, "select max(id) from notes where supersedes = $id", {"id": number}
    )
    if newer is not None:
        raise LabError(f"note {number} was superseded by note {newer}; supersede that one")


def restore_notes(connection: duckdb.DuckDBPyConnection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the findings of a bundle into a lab without notes, in the caller's transaction.

    Args:
        connection: of the lab.
        rows: the lines of ``findings.jsonl``. One that was no note of a lab, only a text given to
            the bundle, becomes a note about the lab, by ``bundle``, now.
    """
    for statement in _TABLES:
        connection.execute(statement)
    texts = []
    for row in rows:
        if "id" not in row:
            texts.append(str(row["text"]))
            continue
        connection.execute(
            "insert into notes values ($id, $at, $by, $text, $tags, $target, $about, $supersedes)",
            {name: row[name] for name in ("id", "at", "by", "text", "tags", "target", "about")}
            | {"supersedes": row.get("supersedes")},
        )
        connection.execute(
            "insert into note_events select $id, unnest($events)::uuid",
            {"id": row["id"], "events": list(row["events"])},
        )
    nothing = "(select null::uuid id where false)"
    for text in texts:
        add_note(
            connection,
            nothing,
            {},
            text=text,
            tags=(),
            by="bundle",
            target="lab",
            about="lab",
            supersedes=None,
        )


def read_notes(
    connection: duckdb.DuckDBPyConnection, events: str | None = None, params: Any = None
) -> list[Note]:
    """The notes in order, superseded ones too.

    Args:
        connection: of the lab.
        events: a table of ids in SQL: only notes about one of these events, or about no event.
        params: the values it binds.
    """
    if not has_notes(connection):
        return []
    where = "true"
    if events is not None:
        about = f"select note_id from note_events where event_id in {events}"
        where = f"n.target = 'lab' or n.id in ({about})"
    rows = connection.execute(
        "select n.id, n.noted_at, n.author, n.note, n.tags, n.target, n.about,"
        " (select count(*) from note_events where note_id = n.id), n.supersedes,"
        " (select min(id) from notes newer where newer.supersedes = n.id)"
        f" from notes n where {where} order by n.id",
        dict(params or {}),
    ).fetchall()
    return [
        Note(number, at.astimezone(UTC), by, text, tuple(tags), *rest)
        for number, at, by, text, tags, *rest in rows
    ]


def event_ids_of_note(connection: duckdb.DuckDBPyConnection, number: int) -> list[str]:
    """The ids of the events that a note is about."""
    rows = connection.execute(
        "select event_id::varchar from note_events where note_id = $id order by 1", {"id": number}
    ).fetchall()
    return [event_id for (event_id,) in rows]
