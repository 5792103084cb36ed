"""Tables as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import LabError
from mcpaudit_lab.formats import guard_formula

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_table"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def write_table(frame: pd.DataFrame, path: Path, *, overwrite: bool) -> Path:
    """Write a frame; the ending of the path decides the format.

    Raises:
        LabError: the file exists, or its ending is none of these.
    """
    ending = path.suffix.lower()
    if ending not in (*_SEPARATORS, ".parquet", ".jsonl"):
        raise LabError(f"{path.name!r}: write .csv, .tsv, .parquet or .jsonl")
    if path.exists() and not overwrite:
        raise LabError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    unfinished = path.with_name(f".{path.name}.part")
    try:
        if ending == ".parquet":
            frame.to_parquet(unfinished, index=False)
        elif ending == ".jsonl":
            frame.to_json(
                unfinished, orient="records", lines=True, date_format="iso", date_unit="us"
            )
        else:
            safe = frame.map(_guarded).rename(columns=guard_formula)
            safe.to_csv(unfinished, sep=_SEPARATORS[ending], index=False)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _guarded(value: Any) -> Any:
    return guard_formula(value) if isinstance(value, str) else value
