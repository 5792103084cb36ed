"""Lines into staged rows: the plain ones by DuckDB, the others by Python, the rest into rejects.

``staged`` is a temporary table of the connection that loads: a line's place and its columns. What
is in it was read exactly. :mod:`mcpaudit_lab.storage.load.merge` takes it from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.record import Event, loads
from mcpaudit_lab.storage import STAGED_COLUMNS, plain_parameters, plain_select, registered, row_of
from mcpaudit_lab.storage.load.blocks import Block

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = [
    "Careful",
    "Reject",
    "plain_lines",
    "stage_block",
    "stage_carefully",
    "stage_events",
    "stage_select",
]

# DuckDB scans an Arrow table in parallel by its batches.
_BATCH_ROWS = 8192
_PLACE = "line, byte_offset, byte_size"
_ARROW_TYPES = {
    "BIGINT": "int64",
    "BOOLEAN": "bool_",
    "VARCHAR": "string",
    "JSON": "string",
    "UUID": "string",
}


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is not loaded, and why."""

    line: int
    byte_offset: int | None
    reason: RejectReason
    detail: str
    raw: bytes


@dataclass(slots=True)
class Careful:
    """What became of the lines that Python read and that are not in ``staged``."""

    blank: int = 0
    other: int = 0
    rejects: list[Reject] = field(default_factory=list)


def stage_block(connection: duckdb.DuckDBPyConnection, block: Block) -> list[int]:
    """Put the plain lines of a block into ``staged``; returns the indices of the others."""
    with plain_lines(connection, block, payloads=True) as (rows, params):
        connection.execute(f"create or replace temp table staged as {rows}", params)
    others = connection.execute("select line from staged where not plain or repeats").fetchall()
    if others:
        connection.execute("delete from staged where not plain or repeats")
    staged = connection.execute("select count(*) from staged").fetchall()[0][0]
    if len(others) + staged == block.count:
        return sorted(line - block.first_line for (line,) in others)
    # Lines that are not UTF-8 were not even asked for.
    present = connection.execute("select line from staged").fetchall()
    return sorted(set(range(block.count)) - {line - block.first_line for (line,) in present})


@contextlib.contextmanager
def plain_lines(
    connection: duckdb.DuckDBPyConnection, block: Block, *, payloads: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """The block's lines as rows in SQL, see :func:`.storage.plain_lines.plain_select`."""
    text, invalid = _texts(block)
    with registered(connection, "mcpaudit_lines", _line_table(block, text, invalid)):
        yield (
            plain_select("mcpaudit_lines", payloads=payloads),
            plain_parameters(payloads=payloads),
        )


def _texts(block: Block) -> tuple[pa.Array, list[int]]:
    """The lines as an Arrow array without a copy, and the indices of lines that are not UTF-8."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(block.starts), pa.py_buffer(block.data)]
    text = pa.Array.from_buffers(pa.large_string(), block.count, buffers)
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        invalid = [index for index in range(block.count) if not _is_utf8(block.line(index))]
        binary = pa.Array.from_buffers(pa.large_binary(), block.count, buffers)
        keep = [index for index in range(block.count) if index not in set(invalid)]
        return binary.take(pa.array(keep, pa.int64())).cast(pa.large_string()), invalid
    return text, []


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _line_table(block: Block, text: pa.Array, invalid: list[int]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    places = [
        np.arange(block.first_line, block.first_line + block.count),
        block.offsets,
        block.sizes,
    ]
    if invalid:
        places = [np.delete(place, invalid) for place in places]
    names = [*_PLACE.split(", "), "text"]
    # pa.array() of a NumPy array would import pandas, which takes a quarter of a second.
    numbers = [
        pa.Array.from_buffers(pa.int64(), len(place), [None, pa.py_buffer(place)])
        for place in places
    ]
    batch = pa.RecordBatch.from_arrays([*numbers, text], names=names)
    rows = batch.num_rows
    return pa.Table.from_batches(
        [batch.slice(start, _BATCH_ROWS) for start in range(0, rows, _BATCH_ROWS)] or [batch]
    )


def _is_proof(raw: bytes) -> bool:
    """Whether a line is one of those that an export with proofs has besides events."""
    if not raw.startswith(_PROOF_STARTS):
        return False
    with contextlib.suppress(RecordError, RecursionError):
        found: Any = loads(raw)
        return frozenset(found) in _PROOF_MEMBERS
    return False


def stage_carefully(
    connection: duckdb.DuckDBPyConnection, block: Block, indices: list[int]
) -> Careful:
    """Read lines in Python, exactly, and add the events to ``staged``."""
    result = Careful()
    events: list[tuple[int, int, int, Event]] = []
    # Both are made anew each time they are asked for.
    offsets, sizes = block.offsets, block.sizes
    for index in indices:
        raw = block.line(index)
        if not raw.strip(b" \t\r\n"):
            result.blank += 1
            continue
        line, offset = block.first_line + index, int(offsets[index])
        try:
            events.append((line, offset, int(sizes[index]), _read_event(raw)))
        except RecordError as error:
            if _is_proof(raw):
                result.other += 1
                continue
            reason, detail = error.reason, error.detail
            if block.torn and index == block.count - 1 and reason in _TORN_REASONS:
                reason, detail = RejectReason.TORN, f"the last line has no end: {detail}"
            result.rejects.append(Reject(line, offset, reason, detail, raw))
    if events:
        stage_events(connection, events, replace=False)
    return result


_PROOF_STARTS = (b'{"proof_of":', b'{"checkpoint":')
_PROOF_MEMBERS = (
    frozenset(("proof_of", "index", "path")),
    frozenset(("checkpoint", "log_key")),
)
_TORN_REASONS = (RejectReason.NOT_JSON, RejectReason.INVALID_UTF8)


def _read_event(raw: bytes) -> Event:
    event = Event.from_json(raw)
    if not event.wire.get("id"):
        raise RecordError(RejectReason.NO_ID, "there is no id")
    return event


def stage_events(
    connection: duckdb.DuckDBPyConnection,
    events: Iterable[tuple[int, int | None, int | None, Event]],
    *,
    replace: bool,
) -> None:
    """Put events into ``staged``, each with its line, byte offset and byte size (or None).

    Args:
        connection: the connection that loads.
        events: events with an id.
        replace: empty the table first; otherwise they are added.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in _PLACE.split(", ")}
    columns.update({name: [] for name, _ in STAGED_COLUMNS})
    for line, offset, size, event in events:
        columns["line"].append(line)
        columns["byte_offset"].append(offset)
        columns["byte_size"].append(size)
        for name, value in row_of(event).items():
            columns[name].append(value)
    kinds = {**dict.fromkeys(_PLACE.split(", "), "BIGINT"), **dict(STAGED_COLUMNS)}
    table = pa.table(
        {name: pa.array(values, _arrow_type(kinds[name])) for name, values in columns.items()}
    )
    select = f"select {_PLACE}, {_cast_list()} from mcpaudit_rows"
    with registered(connection, "mcpaudit_rows", table):
        stage_select(connection, select, replace=replace)


def _arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind == "TIMESTAMPTZ":
        return pa.timestamp("us", tz="UTC")
    return getattr(pa, _ARROW_TYPES[kind])()


def _cast_list() -> str:
    return ", ".join(f'"{name}"::{kind} "{name}"' for name, kind in STAGED_COLUMNS)


def stage_select(connection: duckdb.DuckDBPyConnection, select: str, *, replace: bool) -> None:
    """Put the rows of a SELECT of place and columns into ``staged``."""
    if replace:
        connection.execute(f"create or replace temp table staged as {select}")
    else:
        connection.execute(f"insert into staged by name {select}")
