"""Events out of a lab into a file that loads back equal."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from mcpaudit_lab.errors import LabError
from mcpaudit_lab.formats import WRITERS, EventWriter, WriteReport
from mcpaudit_lab.record import Event
from mcpaudit_lab.storage import (
    CONTRACT_ORDER,
    appearing,
    line_select,
    read_batches,
    read_events,
    row_select,
)
from mcpaudit_lab.storage.load.parquet import write_parquet

if TYPE_CHECKING:
    import duckdb

__all__ = ["write_events"]

_LINES = (".jsonl", ".ndjson")
_PACKED = (".gz", ".zst")
_BATCH_ROWS = 4096


def write_events(
    cursor: duckdb.DuckDBPyConnection,
    path: Path,
    rows: str,
    params: dict[str, Any],
    *,
    overwrite: bool,
    advance: Callable[[int], object],
    format_name: str | None = None,
) -> WriteReport:
    """Write some events, payloads included; returns how many, and what the format cannot carry.

    The package's own formats have the contract's order, newest first; others start with the oldest.

    The file appears whole or not at all, readable by its owner only.

    Raises:
        LabError: an unknown file name suffix, or the file exists.
    """
    name = path.name.removesuffix(path.suffix) if path.suffix in _PACKED else path.name
    suffix = Path(name).suffix
    writer = _writer_for(name, format_name)
    own = suffix in _LINES or (suffix == ".parquet" and path.suffix not in _PACKED)
    if writer is None and not own:
        raise LabError(
            f"{path.name!r}: write .jsonl (or .ndjson), .otlp.json or .csv, also with .gz or .zst;"
            " .parquet; or name a format"
        )
    if path.exists() and not overwrite:
        raise LabError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    with appearing(path) as unfinished:
        if writer is None and suffix == ".parquet":
            return WriteReport(_write_parquet(cursor, unfinished, rows, params, advance))
        with _packing(unfinished, path.suffix) as file:
            if writer is None:
                return WriteReport(_write_lines(cursor, file, rows, params, advance))
            return writer.write(_oldest_first(cursor, rows, params, advance), file)


def _writer_for(name: str, format_name: str | None) -> EventWriter | None:
    """The writer of a foreign format; None for the package's own.

    Raises:
        LabError: an unknown format; the message names the choices.
    """
    if format_name is None or format_name == "portal":
        return next((w for w in WRITERS if w.suffix and name.endswith(w.suffix)), None)
    for writer in WRITERS:
        if writer.name == format_name:
            return writer
    choices = ", ".join(["portal", *(writer.name for writer in WRITERS)])
    raise LabError(f"no format {format_name!r} can be written; the choices are {choices}")


def _oldest_first(
    cursor: duckdb.DuckDBPyConnection,
    rows: str,
    params: dict[str, Any],
    advance: Callable[[int], object],
) -> Iterator[Event]:
    for event in read_events(cursor, rows, params, order="order by ts, id"):
        yield event
        advance(1)


def _write_lines(
    cursor: duckdb.DuckDBPyConnection,
    file: IO[bytes],
    rows: str,
    params: dict[str, Any],
    advance: Callable[[int], object],
) -> int:
    count = 0
    for batch in read_batches(cursor, line_select(rows), params, _BATCH_ROWS):
        ids, lines = (column.to_pylist() for column in batch.columns)
        by_hand = [event_id for event_id, line in zip(ids, lines, strict=True) if line is None]
        if by_hand:
            given = {"ids": by_hand}
            exact = {
                e.id: e for e in read_events(cursor.cursor(), "(select unnest($ids)::uuid)", given)
            }
            lines = [
                f"{exact[event_id].to_json()}\n" if line is None else line
                for event_id, line in zip(ids, lines, strict=True)
            ]
        file.write("".join(lines).encode())
        count += len(lines)
        advance(len(lines))
    return count


def _write_parquet(
    cursor: duckdb.DuckDBPyConnection,
    path: Path,
    rows: str,
    params: dict[str, Any],
    advance: Callable[[int], object],
) -> int:
    reader = cursor.sql(f"{row_select(rows)} {CONTRACT_ORDER}", params=params).to_arrow_reader(
        _BATCH_ROWS
    )

    def batches() -> Iterator[Any]:
        for batch in reader:
            advance(batch.num_rows)
            yield batch

    return write_parquet(path, batches(), reader.schema)


@contextmanager
def _packing(path: Path, suffix: str) -> Iterator[IO[bytes]]:
    if suffix == ".gz":
        # No name and no time in the header: the same events give the same bytes.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            yield cast("IO[bytes]", file)
    elif suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as file:
            yield file
    else:
        with path.open("wb") as file:
            yield file
