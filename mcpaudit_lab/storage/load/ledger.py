"""Where every row came from: sources, places, rejects, and the proof that a raw line is the one.

``sources`` has one row for each input of each load that brought something new. Each event and each
payload has its place beside it, :data:`PLACE_COLUMNS`; ``rejects`` has the lines that became
neither.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mcpaudit_lab.errors import EventNotFound, SourceChanged, SourceError
from mcpaudit_lab.record import replace_surrogates
from mcpaudit_lab.storage import LEDGER_TABLES, read_value, registered
from mcpaudit_lab.storage.load.inputs import Input, open_input
from mcpaudit_lab.storage.load.ledger_chain import COUNTS, add_link, ensure_chain
from mcpaudit_lab.storage.load.report import FileReport
from mcpaudit_lab.storage.load.staging import Reject

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "LinesOf",
    "Provenance",
    "RowsHash",
    "add_lines_of",
    "add_rejects",
    "add_source",
    "ensure_ledger",
    "next_source_id",
    "places_of",
    "read_raws",
    "request_text",
    "sources_of",
]

_READ_BYTES = 1 << 20
_File: TypeAlias = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one event, or its payload, came from.

    Attributes:
        event_id: the event.
        part: ``event`` or ``payload``, which may come from another source than its event; or
            ``line``, a further line that the event came from: an answer, a notification, a part.
        kind: ``file``, ``archive`` (a file in one), ``stream`` (an open file), or ``database``.
        source: the path, or the database's URL without its password.
        request: the query to a database, else None.
        line: line or row number in the source, from 1.
        byte_offset: where the line starts in the (unpacked) file, or None.
        sha256: of the source as it was read: the file's bytes, or the rows as JSON lines.
        loaded_at: when the load ended, UTC.
        raw: the line's bytes, read again from the source and verified; None if that is not
            possible.
        note: why there is no ``raw``, or an empty text.
        format: what the source was read as, such as ``docker>portal``; None for rows.
        within: the text within the line, where a log has put something around it; else None.
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
    # A line may be megabytes long, and its content is shown only on request.
    raw: bytes | None = field(repr=False)
    note: str = ""
    format: str | None = None
    within: bytes | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values; bytes as text, with bytes that are not UTF-8 escaped."""
        values = asdict(self)
        values["loaded_at"] = self.loaded_at.isoformat()
        for name in ("raw", "within"):
            text = values[name]
            values[name] = None if text is None else text.decode("utf-8", "backslashreplace")
        return values


@dataclass(frozen=True, slots=True)
class LinesOf:
    """The places of an event: its staged number, and ``(line, offset, size)`` of each."""

    event_id: str
    staged_line: int
    places: tuple[tuple[int, int, int], ...]


def ensure_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Add what a lab of an earlier version does not have yet."""
    if not _has_lines(connection):
        for column in ("other bigint", "parts bigint", "format varchar"):
            connection.execute(f"alter table sources add column if not exists {column}")
        connection.execute(LEDGER_TABLES[1])
    ensure_chain(connection)


def _has_lines(connection: duckdb.DuckDBPyConnection) -> bool:
    query = "select count(*) from duckdb_tables() where table_name = 'event_lines' and not internal"
    return bool(read_value(connection, query))


def add_lines_of(
    connection: duckdb.DuckDBPyConnection, source_id: int, rows: Iterable[LinesOf]
) -> None:
    """Give events that were just merged their real lines, and enter their further ones.

    Those of events that came from elsewhere are left out.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [] for name in ("event_id", "staged", "number", "line", "byte_offset", "byte_size")
    }
    for row in rows:
        for number, place in enumerate(row.places):
            values = (row.event_id, row.staged_line, number, *place)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    if not columns["line"]:
        return
    kinds = {name: pa.string() if name == "event_id" else pa.int64() for name in columns}
    table = pa.table({name: pa.array(columns[name], kinds[name]) for name in columns})
    with registered(connection, "mcpaudit_places", table):
        connection.execute(
            "create or replace temp table placed as select p.* replace (p.event_id::uuid as"
            " event_id) from mcpaudit_places p where exists (select 1 from audit_events e where"
            " e.id = p.event_id::uuid and e.source_id = $source and e.line = p.staged)"
            " or exists (select 1 from audit_payloads y where y.event_id = p.event_id::uuid"
            " and y.source_id = $source and y.line = p.staged)",
            {"source": source_id},
        )
    for events, key in (("audit_events", "id"), ("audit_payloads", "event_id")):
        connection.execute(
            f"update {events} t set line = p.line from placed p where p.number = 0"
            f" and p.staged < 0 and t.{key} = p.event_id and t.source_id = $source"
            " and t.line = p.staged",
            {"source": source_id},
        )
    connection.execute(
        "insert into event_lines select event_id, $source, line, byte_offset, byte_size"
        " from placed where number > 0",
        {"source": source_id},
    )


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

    The same bytes under the same name are not a new source: their counts are added to the existing
    one, so that loading twice adds nothing.
    """
    # A file's name need not be UTF-8, and the query may be any text.
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
        for table in ("audit_events", "audit_payloads", "event_lines"):
            connection.execute(f"update {table} set source_id = $old where source_id = $new", ids)
        connection.execute(
            "delete from rejects where source_id = $new and (line, reason) in"
            " (select (line, reason) from rejects where source_id = $old)",
            ids,
        )
        connection.execute("update rejects set source_id = $old where source_id = $new", ids)
        return
    connection.execute(
        "insert into sources by name select $id as id, $kind as kind, $name as name,"
        " $request as request, $sha256 as sha256, $format as format, now() as loaded_at, "
        + ", ".join(f"${count} as {count}" for count in COUNTS),
        {
            **{count: getattr(report, count) for count in COUNTS},
            "id": source_id,
            "kind": kind,
            "name": name,
            "request": request,
            "sha256": report.sha256,
            "format": report.format,
        },
    )
    add_link(connection, source_id)


def sources_of(connection: duckdb.DuckDBPyConnection, event_id: str) -> list[dict[str, Any]]:
    """The places of one event and its payload with their sources, the event's own first.

    Raises:
        EventNotFound: no such event.
    """
    rows = places_of(connection, "(select $id::uuid)", {"id": event_id})
    if not rows:
        raise EventNotFound(f"no event {event_id} in this lab")
    for row in rows:
        del row["event_id"], row["source_id"]
    return rows


def places_of(
    connection: duckdb.DuckDBPyConnection, events: str, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The places of events and their payloads with their sources, by event id.

    Args:
        connection: of the lab.
        events: a table of ids in SQL, as ``(select id from …)``.
        params: the values it binds.
    """
    more, name = "", "null"
    if _has_lines(connection):
        name = "s.format"
        more = (
            " union all select event_id, 'zline', source_id, line, byte_offset, byte_size"
            f" from event_lines where event_id in {events}"
        )
    relation = connection.sql(
        "select r.event_id::varchar as event_id, replace(r.part, 'zline', 'line') part,"
        " r.source_id, s.kind, s.name as source, s.request, r.line,"
        f" r.byte_offset, r.byte_size, s.sha256, s.bytes, s.loaded_at, {name} as format from ("
        "  select id as event_id, 'event' as part, source_id, line, byte_offset, byte_size"
        f"  from audit_events where id in {events}"
        "  union all select event_id, 'payload', source_id, line, byte_offset, byte_size"
        f"  from audit_payloads where event_id in {events}"
        f" {more}) r join sources s on s.id = r.source_id"
        " order by r.event_id, r.part, r.source_id, r.line",
        params=dict(params),
    )
    rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
    return rows


def read_raws(rows: list[dict[str, Any]]) -> list[tuple[bytes | None, str]]:
    """Read lines again from their files; returns each, or why not.

    Each file is read once: hashed completely, and compared with what was loaded.

    Raises:
        SourceChanged: a file is no longer the one that was loaded.
        SourceError: it cannot be read any more.
    """
    found: dict[_File, dict[tuple[int, int], bytes]] = {}
    wanted: dict[_File, set[tuple[int, int]]] = {}
    for row in rows:
        if row["kind"] in ("file", "archive"):
            wanted.setdefault(_file_of(row), set()).add((row["byte_offset"], row["byte_size"]))
    for key, places in wanted.items():
        found[key] = _read_places(*key, sorted(places))
    answers: list[tuple[bytes | None, str]] = []
    for row in rows:
        if row["kind"] in ("file", "archive"):
            answers.append((found[_file_of(row)][row["byte_offset"], row["byte_size"]], ""))
        else:
            answers.append((None, f"a {row['kind']} cannot be read again"))
    return answers


def _file_of(row: dict[str, Any]) -> _File:
    """Path, the name within an archive or None, and SHA-256."""
    if row["kind"] == "file":
        return row["source"], None, row["sha256"]
    request = json.loads(row["request"])
    return request["archive"], request["member"], row["sha256"]


def _read_places(
    path: str, member: str | None, sha256: str, places: list[tuple[int, int]]
) -> dict[tuple[int, int], bytes]:
    source = Input(path, path=Path(path))
    with open_input(source, max_unpacked_bytes=2**63, advance=lambda _: None) as opened:
        found = _slices(opened.readinto, places) if member is None else {}
        _, now = opened.finish()
    if now != sha256:
        raise SourceChanged(f"{path} is not the file that was loaded: its SHA-256 differs")
    if member is not None:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            inner = Input(f"{path}!/{member}", file=file)
            with open_input(inner, max_unpacked_bytes=2**63, advance=lambda _: None) as opened:
                found = _slices(opened.readinto, places)
    return found


def _slices(readinto: Any, places: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The bytes at places of a stream, each an offset and a size, in ascending order."""
    buffer = bytearray(_READ_BYTES)
    position, found = 0, {place: bytearray() for place in places}
    left = list(places)
    while left and (count := readinto(memoryview(buffer))):
        for place in left:
            offset, size = place
            start = max(offset - position, 0)
            if start < count:
                found[place] += buffer[start : min(count, start + size - len(found[place]))]
        position += count
        left = [place for place in left if place[0] + place[1] > position]
    if left:
        raise SourceError("the source ends before the line does")
    return {place: bytes(text) for place, text in found.items()}


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
