"""Merges staged rows into the lab's tables: new rows, duplicates, missing payloads, conflicts.

The same id again with equal content is a duplicate; with a payload that was missing, the payload is
added; with different content it is a conflict, and the first row stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import RejectReason
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Event
from mcpaudit_lab.storage import (
    PAYLOAD_PREFIX,
    STAGED_COLUMNS,
    event_of,
    read_value,
    same_event,
    same_payload,
)
from mcpaudit_lab.storage.load.blocks import Block
from mcpaudit_lab.storage.load.staging import Reject, plain_lines

if TYPE_CHECKING:
    import duckdb

__all__ = ["Merged", "insert_plain", "merge_staged"]

_EVENT_COLUMNS = [field.column for field in EVENT_FIELDS] + ["extra"]
_PAYLOAD_COLUMNS = [field.column for field in PAYLOAD_FIELDS] + ["extra"]
_EVENTS = ", ".join(f'"{name}"' for name in _EVENT_COLUMNS)
_PAYLOADS = ", ".join(f'"{name}"' for name in _PAYLOAD_COLUMNS)
_STAGED_PAYLOADS = ", ".join(f'"{PAYLOAD_PREFIX}{name}"' for name in _PAYLOAD_COLUMNS)
_PLACE = "source_id, line, byte_offset, byte_size"
_PLACE_OF = "$source, line, byte_offset, byte_size"
_SAME_EVENT = " and ".join(f's."{name}" is not distinct from e."{name}"' for name in _EVENT_COLUMNS)
_NO_PAYLOAD = ", ".join(
    f'null::{kind} as "{name}"' for name, kind in STAGED_COLUMNS if name.startswith(PAYLOAD_PREFIX)
)
_SAME_PAYLOAD = " and ".join(
    f's."{PAYLOAD_PREFIX}{name}" is not distinct from p."{name}"' for name in _PAYLOAD_COLUMNS
)


@dataclass(slots=True)
class Merged:
    """What became of the staged rows."""

    loaded: int = 0
    merged: int = 0
    duplicates: int = 0
    rejects: list[Reject] = field(default_factory=list)


def merge_staged(
    connection: duckdb.DuckDBPyConnection, source_id: int, raw_line: Callable[[int], bytes]
) -> Merged:
    """Move ``staged`` into ``audit_events`` and ``audit_payloads``.

    Args:
        connection: the connection that loads, inside its transaction.
        source_id: the source the rows came from.
        raw_line: returns the raw bytes of a staged line, for ``rejects``.
    """
    result = Merged()
    # Seen before: in the lab, or on an earlier line of this batch.
    count = read_value(
        connection,
        "create or replace temp table again as "
        "select line from (select line, id, row_number() over (partition by id order by line) n"
        "  from staged where id in (select id from staged group by id having count(*) > 1)"
        ") where n > 1 "
        "union select line from staged where id in"
        " (select id from audit_events where id in (select id from staged))",
    )
    fresh = "staged anti join again using (line)" if count else "staged"
    result.loaded = _insert_events(connection, fresh, source_id)
    _insert_payloads(connection, fresh, source_id)
    if count:
        _merge_again(connection, source_id, raw_line, result)
    return result


def insert_plain(
    connection: duckdb.DuckDBPyConnection,
    block: Block,
    source_id: int,
) -> tuple[int, list[int]]:
    """Insert the plain lines of a block without payloads straight away, which costs least.

    Lines whose id is known, in the lab or from an earlier line, are taken back into ``staged``.

    Returns:
        How many stay inserted, and the indices of the lines that were not plain.
    """
    with plain_lines(connection, block, payloads=False) as (rows, params):
        inserted = read_value(
            connection,
            f"insert into audit_events ({_EVENTS}, {_PLACE})"
            f" select {_EVENTS}, {_PLACE_OF} from ({rows}) where plain and not repeats",
            {**params, "source": source_id},
        )
    here = {"source": source_id, "first": block.first_line, "count": block.count}
    new = "source_id = $source and line between $first and $first + $count - 1"
    taken_back = read_value(
        connection,
        "create or replace temp table staged as"
        f" with new as (select id, line from audit_events where {new}), again as ("
        "  select line from (select line, row_number() over (partition by id order by line) n"
        "    from new where id in (select id from new group by id having count(*) > 1)) where n > 1"
        # The table of hashes is made of the right side, so that must be the few and not the many.
        "  union select line from new where id in (select id from audit_events"
        f"    where not ({new}) and id in (select id from new)))"
        f" select line, byte_offset, byte_size, {_EVENTS}, false has_payload,"
        f" {_NO_PAYLOAD} from audit_events semi join again using (line) where {new}",
        here,
    )
    if taken_back:
        connection.execute(
            f"delete from audit_events where {new} and line in (select line from staged)", here
        )
    if inserted == block.count:
        return inserted - taken_back, []
    missing = connection.execute(
        "select line - $first from (select unnest(range($first, $first + $count)) line)"
        f" where line not in (select line from audit_events where {new})"
        " and line not in (select line from staged)",
        here,
    ).fetchall()
    return inserted - taken_back, sorted(index for (index,) in missing)


def _insert_events(connection: duckdb.DuckDBPyConnection, rows: str, source_id: int) -> int:
    return int(
        read_value(
            connection,
            f"insert into audit_events ({_EVENTS}, {_PLACE})"
            f" select {_EVENTS}, {_PLACE_OF} from {rows}",
            {"source": source_id},
        )
    )


def _insert_payloads(connection: duckdb.DuckDBPyConnection, rows: str, source_id: int) -> int:
    return int(
        read_value(
            connection,
            f"insert into audit_payloads (event_id, {_PAYLOADS}, {_PLACE}) "
            f"select id, {_STAGED_PAYLOADS}, {_PLACE_OF} from {rows} where has_payload",
            {"source": source_id},
        )
    )


def _merge_again(
    connection: duckdb.DuckDBPyConnection,
    source_id: int,
    raw_line: Callable[[int], bytes],
    result: Merged,
) -> None:
    """Compare rows whose id exists with the stored ones; by SQL if the text is equal."""
    connection.execute(
        "create or replace temp table compared as "
        f"select s.line, s.id, s.has_payload, ({_SAME_EVENT}) same "
        "from staged s semi join again using (line) join audit_events e on s.id = e.id"
    )
    differing = _differing(connection, result, raw_line, "not same", _same_summary)
    # Of those with a payload for an event without one, the first adds it.
    connection.execute(
        "create or replace temp table late as select * from staged semi join ("
        "  select min(line) line from compared c"
        "  where has_payload and line not in (select unnest($bad))"
        "  and not exists (select 1 from audit_payloads p where p.event_id = c.id) group by id"
        ") using (line)",
        {"bad": differing},
    )
    result.merged = _insert_payloads(connection, "late", source_id)
    total = read_value(
        connection,
        "create or replace temp table compared as "
        f"select s.line, s.id, s.has_payload, not s.has_payload or ({_SAME_PAYLOAD}) same "
        "from staged s semi join again using (line)"
        " left join audit_payloads p on s.id = p.event_id "
        "where s.line not in (select unnest($bad)) and s.line not in (select line from late)",
        {"bad": differing},
    )
    differing = _differing(connection, result, raw_line, "not same", _same_details)
    result.duplicates = int(total) - len(differing)


def _same_summary(new: Event, old: Event) -> bool:
    return same_event(new, old)


def _same_details(new: Event, old: Event) -> bool:
    return same_payload(new.wire.get("payload") or {}, old.wire.get("payload") or {})


def _differing(
    connection: duckdb.DuckDBPyConnection,
    result: Merged,
    raw_line: Callable[[int], bytes],
    which: str,
    same: Callable[[Event, Event], bool],
) -> list[int]:
    """The lines that really differ, each noted as a conflict."""
    old = ", ".join(
        [f'e."{name}" old_{name}' for name in _EVENT_COLUMNS]
        + ["p.event_id is not null old_has_payload"]
        + [f'p."{name}" old_{PAYLOAD_PREFIX}{name}' for name in _PAYLOAD_COLUMNS]
    )
    relation = connection.sql(
        f"select s.*, {old} from staged s semi join (select line from compared where {which}) "
        "using (line) join audit_events e on s.id = e.id "
        "left join audit_payloads p on s.id = p.event_id order by s.line"
    )
    differing: list[int] = []
    names = [name for name, _ in STAGED_COLUMNS]
    for batch in relation.to_arrow_reader(1000):
        for row in batch.to_pylist():
            new_event = event_of({name: row[name] for name in names})
            old_event = event_of({name: row[f"old_{name}"] for name in names})
            if not same(new_event, old_event):
                differing.append(row["line"])
                result.rejects.append(
                    Reject(
                        row["line"],
                        row["byte_offset"],
                        RejectReason.CONFLICT,
                        _conflict_detail(new_event, old_event),
                        raw_line(row["line"]),
                    )
                )
    return differing


def _conflict_detail(new: Event, old: Event) -> str:
    names = [
        name
        for name in dict.fromkeys([*old.wire, *new.wire])
        if name != "payload" and not same_event(_only(new, name), _only(old, name))
    ]
    if not names:
        left, right = new.wire.get("payload") or {}, old.wire.get("payload") or {}
        names = [
            f"payload.{name}"
            for name in dict.fromkeys([*right, *left])
            if not same_payload(
                {k: v for k, v in left.items() if k == name},
                {k: v for k, v in right.items() if k == name},
            )
        ]
    return f"event {old.id} is already there with another {', '.join(names)}"


def _only(event: Event, name: str) -> Event:
    """The event with one member, and the time it cannot be without."""
    wire: dict[str, Any] = {"timestamp": "1970-01-01T00:00:00Z"}
    if name in event.wire:
        wire[name] = event.wire[name]
    return Event(wire)
