"""Results of SQL: rows as a frame, an Arrow table or Python values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.record import visible
from mcpaudit_lab.storage.frames import ArrowViews, to_frame
from mcpaudit_lab.storage.queries import read_table
from mcpaudit_lab.storage.tables_out import write_table

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

__all__ = ["SqlResult", "run_sql"]

_SHOWN_ROWS = 20
_CELL_MAX = 160


class SqlResult(ArrowViews):
    """The rows of one statement, read once, when the statement ran.

    Times are UTC. A UUID is text, JSON is text.

    Attributes:
        truncated: whether there were more rows than a bound let through.
    """

    def __init__(self, table: pa.Table, *, truncated: bool = False) -> None:
        self._table = table
        self._read = 0
        self.truncated = truncated

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table; one without columns for a statement without rows."""
        return self._table

    def df(self) -> pd.DataFrame:
        """The rows as a frame; dtypes as in :mod:`mcpaudit_lab.storage.frames`."""
        return to_frame(self.arrow())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of Python values."""
        table = self.arrow()
        columns = [column.to_pylist() for column in table.columns]
        return list(zip(*columns, strict=True))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next rows, at most so many; an empty list after the last."""
        part = SqlResult(self._table.slice(self._read, size))
        self._read += len(part)
        return part.fetchall()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All rows, from the first."""
        return iter(self.fetchall())

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the rows into a file; returns its path.

        Args:
            path: ends in ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl``. In the first two, a text
                that a spreadsheet would run as a formula stands after an apostrophe.
            overwrite: replace an existing file.

        Raises:
            LabError: the file exists, or its ending is none of these.
        """
        return write_table(self.arrow(), Path(path), overwrite=overwrite)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.arrow().column_names)

    def __len__(self) -> int:
        return int(self.arrow().num_rows)

    def __repr__(self) -> str:
        if not self.columns:
            return "SqlResult(no rows)"
        shown = self._table.slice(0, _SHOWN_ROWS)
        lines = to_frame(shown).to_string(max_colwidth=_CELL_MAX).split("\n")
        text = "\n".join(visible(line) for line in lines)
        more = len(self) - shown.num_rows
        end = "\n… and more that were not sent" if self.truncated else ""
        return text + (f"\n… {more:,} more rows" if more > 0 else "") + end


def run_sql(
    cursor: duckdb.DuckDBPyConnection, text: str, params: dict[str, Any] | list[Any]
) -> SqlResult:
    """Run one statement to its end."""
    import pyarrow as pa

    table = read_table(cursor, text, params)
    return SqlResult(pa.table({}) if table is None else table)
