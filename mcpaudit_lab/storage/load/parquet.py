"""Parquet as this package writes it: one row for each event, its payload's columns beside it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import SourceError
from mcpaudit_lab.storage import STAGED_COLUMNS, registered
from mcpaudit_lab.storage.load.inputs import OpenInput
from mcpaudit_lab.storage.load.staging import stage_select

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["PARQUET_MAGIC", "read_parquet", "write_parquet"]

PARQUET_MAGIC = b"PAR1"
_MARK = b"mcpaudit_lab.format"
_FORMAT = b"1"
_BATCH_ROWS = 50_000


def read_parquet(connection: duckdb.DuckDBPyConnection, opened: OpenInput) -> Iterator[int]:
    """Stage a file's rows batch by batch; returns how many each time.

    Raises:
        SourceError: it is damaged, or not one that :meth:`Lab.write` made.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = opened.source.name
    source: Any = opened.source.path or io.BytesIO(opened.read(1 << 62))
    try:
        with pq.ParquetFile(source) as file:
            _check(file.schema_arrow, name)
            line = 1
            for batch in file.iter_batches(_BATCH_ROWS):
                _stage(connection, pa.Table.from_batches([batch]), line)
                yield batch.num_rows
                line += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name}: damaged Parquet: {error}") from None


def _check(schema: pa.Schema, name: str) -> None:
    wanted = {column for column, _ in STAGED_COLUMNS}
    if (schema.metadata or {}).get(_MARK) != _FORMAT or set(schema.names) != wanted:
        raise SourceError(f"{name} is Parquet, but not as Lab.write makes it")


def _stage(connection: duckdb.DuckDBPyConnection, table: pa.Table, first_line: int) -> None:
    columns = ", ".join(f'"{name}"::{kind} "{name}"' for name, kind in STAGED_COLUMNS)
    with registered(connection, "mcpaudit_parquet", table):
        stage_select(
            connection,
            f"select {first_line} - 1 + row_number() over () as line, null::bigint byte_offset,"
            f" null::bigint byte_size, {columns} from mcpaudit_parquet",
            replace=True,
        )


def write_parquet(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write rows; returns how many. Columns are :data:`STAGED_COLUMNS`, ids and JSON as text."""
    import pyarrow.parquet as pq

    marked = schema.with_metadata({_MARK: _FORMAT})
    count = 0
    with pq.ParquetWriter(path, marked, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(marked.metadata))
            count += batch.num_rows
    return count
