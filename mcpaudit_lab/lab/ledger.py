"""Where every row came from: sources, places, rejects, and the proof that a raw line is the one.

``sources`` has one row for each input of each load that brought something new. Each event and each
payload has its place beside it, :data:`PLACE_COLUMNS`; ``rejects`` has the lines that became
neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import EventNotFound, SourceChanged, SourceError
from mcpaudit_lab.jsontext import replace_surrogates
from mcpaudit_lab.lab.inputs import Input, open_input
from mcpaudit_lab.lab.report import FileReport
from mcpaudit_lab.lab.selecting import read_value, registered
from mcpaudit_lab.lab.staging import Reject

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "LEDGER_TABLES",
    "PLACE_COLUMNS",
    "Provenance",
    "RowsHash",
    "add_rejects",
    "add_source",
    "next_source_id",
    "read_raw",
    "request_text",
    "sources_of",
]

# Where a row stood: the source, the line's number from 1, and where the line starts and how long it
# is in the (unpacked) file.
PLACE_COLUMNS = {
    "source_id": "integer",
    "line": "bigint",
    "byte_offset": "bigint",
    "byte_size": "bigint",
}

LEDGER_TABLES = (
    (
        "create table sources (id integer, kind varchar, name varchar, request varchar,"
        " sha256 varchar, bytes bigint, lines bigint, loaded bigint, merged bigint,"
        " duplicates bigint, rejected bigint, blank bigint, loaded_at timestamptz)"
    ),
    (
        "create table rejects (source_id integer, file varchar, line bigint, byte_offset bigint,"
        " reason varchar, detail varchar, raw blob)"
    ),
    *(
        f"alter table {table} add column {name} {kind}"
        for table in ("audit_events", "audit_payloads")
        for name, kind in PLACE_COLUMNS.items()
    ),
)

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one event, or its payload, came from.

    Attributes:
        event_id: the event.
        part: ``event`` or ``payload``; a payload may come from another source than its event.
        kind: ``file``, ``stream`` (an open file), or ``database``.
        source: the path, or the database's URL without its password.
        request: what was asked of a database, else None.
        line: line or row number in the source, from 1.
        byte_offset: where the line starts in the (unpacked) file, or None.
        sha256: of the source as it was read: the file's bytes, or the rows as JSON lines.
        loaded_at: when the load ended, UTC.
        raw: the line's bytes, read again from the source and checked; None where it cannot be.
        note: why there is no ``raw``, or an empty text.
    """

    event_id: str
    part: str
    kind: str
    source: str
    request: str | None
    line: int
    byte_offset: int | None
    sha256: str
    loaded_at: datetime
    # A line may be megabytes, and what stands in it is for those who ask for it.
    raw: bytes | None = field(repr=False)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values; ``raw`` as text, bytes that are not UTF-8 escaped."""
        values = asdict(self)
        values["loaded_at"] = self.loaded_at.isoformat()
        values["raw"] = None if self.raw is None else self.raw.decode("utf-8", "backslashreplace")
        return values


def next_source_id(connection: duckdb.DuckDBPyConnection) -> int:
    """The id that the next source gets."""
    return int(read_value(connection, "select coalesce(max(id), 0) + 1 from sources"))


def add_rejects(
    connection: duckdb.DuckDBPyConnection, source_id: int, name: str, rejects: Iterable[Reject]
) -> None:
    """Write rejected lines, raw bytes and all."""
    import pyarrow as pa

    rows = list(rejects)
    if not rows:
        return
    table = pa.table(
        {
            "source_id": pa.array([source_id] * len(rows), pa.int32()),
            "file": pa.array([replace_surrogates(name)] * len(rows), pa.string()),
            "line": pa.array([reject.line for reject in rows], pa.int64()),
            "byte_offset": pa.array([reject.byte_offset for reject in rows], pa.int64()),
            "reason": pa.array([str(reject.reason) for reject in rows], pa.string()),
            "detail": pa.array([replace_surrogates(reject.detail) for reject in rows], pa.string()),
            "raw": pa.array([reject.raw for reject in rows], pa.large_binary()),
        }
    )
    with registered(connection, "mcpaudit_rejects", table):
        connection.execute("insert into rejects select * from mcpaudit_rejects")


def add_source(
    connection: duckdb.DuckDBPyConnection,
    source_id: int,
    kind: str,
    report: FileReport,
    request: str | None = None,
) -> None:
    """Enter a source that was read to its end.

    The same bytes under the same name again are no new source: what they brought is entered under
    the one that is there, so that the same load twice adds nothing.
    """
    # A file's name need not be UTF-8, and what was asked may be any text.
    name = replace_surrogates(report.name)
    request = None if request is None else replace_surrogates(request)
    known = read_value(
        connection,
        "select min(id) from sources where kind = $kind and name = $name and sha256 = $sha256"
        " and request is not distinct from $request",
        {"kind": kind, "name": name, "sha256": report.sha256, "request": request},
    )
    if known is not None:
        ids = {"old": known, "new": source_id}
        for table in ("audit_events", "audit_payloads"):
            connection.execute(f"update {table} set source_id = $old where source_id = $new", ids)
        connection.execute(
            "delete from rejects where source_id = $new and (line, reason) in"
            " (select (line, reason) from rejects where source_id = $old)",
            ids,
        )
        connection.execute("update rejects set source_id = $old where source_id = $new", ids)
        return
    connection.execute(
        "insert into sources values ($id, $kind, $name, $request, $sha256, $bytes, $lines, $loaded,"
        " $merged, $duplicates, $rejected, $blank, now())",
        {**asdict(report), "id": source_id, "kind": kind, "name": name, "request": request},
    )


def sources_of(connection: duckdb.DuckDBPyConnection, event_id: str) -> list[dict[str, Any]]:
    """The places of one event and its payload with their sources, the event's own first.

    Raises:
        EventNotFound: no such event.
    """
    relation = connection.sql(
        "select r.part, s.kind, s.name as source, s.request, r.line, r.byte_offset, r.byte_size,"
        " s.sha256, s.bytes, s.loaded_at from ("
        "  select 'event' as part, source_id, line, byte_offset, byte_size"
        "  from audit_events where id = $id"
        "  union all select 'payload', source_id, line, byte_offset, byte_size"
        "  from audit_payloads where event_id = $id"
        " ) r join sources s on s.id = r.source_id order by r.part",
        params={"id": event_id},
    )
    rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
    if not rows:
        raise EventNotFound(f"no event {event_id} in this lab")
    return rows


def read_raw(row: dict[str, Any]) -> tuple[bytes | None, str]:
    """Read a line again from its file; gives it, or why not.

    The whole file is hashed first and compared with what was loaded.

    Raises:
        SourceChanged: the file is not what was loaded.
        SourceError: it cannot be read any more.
    """
    if row["kind"] != "file":
        return None, f"a {row['kind']} cannot be read again"
    source = Input(row["source"], path=Path(row["source"]))
    with open_input(source, max_unpacked_bytes=2**63, advance=lambda _: None) as opened:
        raw = _slice(opened.readinto, row["byte_offset"], row["byte_size"])
        _, sha256 = opened.finish()
    if sha256 != row["sha256"]:
        raise SourceChanged(f"{row['source']} is not the file that was loaded: its SHA-256 differs")
    return raw, ""


def _slice(readinto: Any, offset: int, size: int) -> bytes:
    """Bytes ``offset`` to ``offset + size`` of a stream."""
    buffer = bytearray(_READ_BYTES)
    position, found = 0, bytearray()
    while len(found) < size and (count := readinto(memoryview(buffer))):
        start = max(offset - position, 0)
        if start < count:
            found += buffer[start : min(count, start + size - len(found))]
        position += count
    if len(found) < size:
        raise SourceError("the source ends before the line does")
    return bytes(found)


class RowsHash:
    """SHA-256 over rows as JSON lines, for sources that are no files."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.bytes = 0

    def update(self, line: bytes) -> None:
        """Add one row, without its LF."""
        self._sha256.update(line + b"\n")
        self.bytes += len(line) + 1

    def hexdigest(self) -> str:
        """The hash so far, in hex."""
        return self._sha256.hexdigest()


def request_text(**request: Any) -> str:
    """A request as it is entered in ``sources``: sorted JSON."""
    return json.dumps(request, ensure_ascii=True, sort_keys=True)
