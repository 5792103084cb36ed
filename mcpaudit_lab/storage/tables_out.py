"""Tables as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import LabError
from mcpaudit_lab.formats import guard_formula
from mcpaudit_lab.record import json_row
from mcpaudit_lab.storage.frames import to_frame
from mcpaudit_lab.storage.whole_files import appearing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["write_table"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def write_table(table: pa.Table, path: Path, *, overwrite: bool) -> Path:
    """Write a table; the ending of the path decides the format.

    The file appears whole or not at all, readable by its owner only.

    Raises:
        LabError: the file exists, or its ending is none of these.
    """
    ending = path.suffix.lower()
    if ending not in (*_SEPARATORS, ".parquet", ".jsonl"):
        raise LabError(f"{path.name!r}: write .csv, .tsv, .parquet or .jsonl")
    if path.exists() and not overwrite:
        raise LabError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    with appearing(path) as unfinished:
        if ending == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, unfinished)
        elif ending == ".jsonl":
            with unfinished.open("w", encoding="utf-8") as file:
                for batch in table.to_batches(max_chunksize=10_000):
                    file.writelines(f"{json_row(row)}\n" for row in batch.to_pylist())
        else:
            safe = to_frame(table).map(_guarded).rename(columns=guard_formula)
            safe.to_csv(unfinished, sep=_SEPARATORS[ending], index=False)
    return path


def _guarded(value: Any) -> Any:
    return guard_formula(value) if isinstance(value, str) else value
