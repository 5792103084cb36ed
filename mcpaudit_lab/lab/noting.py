"""Notes and tags on events, comparisons and sets."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mcpaudit_lab.comparison import Comparison
from mcpaudit_lab.errors import EventNotFound, LabError
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.record import Event, Note, parse_id, replace_surrogates
from mcpaudit_lab.storage import add_note, has_notes, read_notes

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mcpaudit_lab.storage import LabFile

__all__ = ["NoteTarget", "notes_frame", "notes_in_force", "write_note"]

NoteTarget: TypeAlias = Event | str | EventSet | Comparison | None

_COLUMNS = ("id", "at", "by", "text", "tags", "target", "about", "count", "supersedes")


def write_note(
    lab: LabFile,
    target: NoteTarget,
    text: str,
    *,
    tags: str | Sequence[str],
    by: str | None,
    supersedes: Note | int | None,
) -> Note:
    """Add a note, as :meth:`Lab.note` describes it."""
    wanted = _checked_tags(tags)
    if any(replace_surrogates(part) != part for part in (text, by or "", *wanted)):
        raise LabError("a note cannot hold a lone surrogate: it has no place in a lab's columns")
    replaced = supersedes.id if isinstance(supersedes, Note) else supersedes
    if not text.strip() and not wanted and replaced is None:
        raise LabError("a note has a text or a tag")
    kind, about, events, params = _target(lab, target)
    with lab.writing() as connection:
        number = add_note(
            connection,
            events,
            params,
            text=text,
            tags=wanted,
            by=_author() if by is None else by,
            target=kind,
            about=about,
            supersedes=replaced,
        )
        return next(note for note in read_notes(connection) if note.id == number)


def _checked_tags(tags: str | Sequence[str]) -> list[str]:
    found = [tags] if isinstance(tags, str) else list(tags)
    for tag in found:
        if not tag or tag != tag.strip():
            raise LabError(f"a tag is a text without spaces around it, not {tag!r}")
    return list(dict.fromkeys(found))


def _author() -> str:
    """The user's name; where the machine has none, their number."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may know no name, and Windows has no numbers.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _target(lab: LabFile, target: NoteTarget) -> tuple[str, str, str, dict[str, Any]]:
    """The kind of the target, its words, and the ids as a table in SQL with its values."""
    if target is None:
        return "lab", "the lab", "(select null::uuid where false)", {}
    if isinstance(target, EventSet):
        rows, params = target.rows()
        return "events", target.describe(), f"(select e.id from {rows})", params
    if isinstance(target, Comparison):
        ids = list(target.ids)
        kind, about = "comparison", f"comparison: {target.verdict}"
    else:
        ids = [parse_id(target.id if isinstance(target, Event) else target)]
        kind, about = "event", ids[0]
    for event_id in ids:
        if not lab.sql("select 1 from audit_events where id = $id", {"id": event_id}).fetchall():
            raise EventNotFound(f"no event {event_id} in this lab")
    return kind, about, "(select unnest($noted)::uuid)", {"noted": ids}


def notes_in_force(cursor: duckdb.DuckDBPyConnection, event_id: str) -> tuple[Note, ...]:
    """The notes about an event that no newer one replaces."""
    if not has_notes(cursor):
        return ()
    return tuple(
        note
        for note in read_notes(cursor, "(select $id::uuid)", {"id": event_id})
        if note.target != "lab" and note.superseded_by is None and not note.is_retraction
    )


def notes_frame(notes: Sequence[Note]) -> pd.DataFrame:
    """One row for each note, as :meth:`Lab.notes` describes it."""
    import pandas as pd

    names = (*_COLUMNS, "superseded_by")
    rows = [{name: getattr(note, name) for name in names} for note in notes]
    frame = pd.DataFrame(rows, columns=list(names))
    frame["tags"] = [list(note.tags) for note in notes]
    kinds = dict.fromkeys(("by", "text", "target", "about"), "str")
    kinds |= {"id": "int64", "count": "int64", "at": "datetime64[us, UTC]"}
    return frame.astype(kinds | dict.fromkeys(("supersedes", "superseded_by"), "Int64"))
