"""A frame of all events: ours through Arrow against DuckDB's own ``.df()`` of the same rows.

python benchmarks/frames.py --rows 1000000 --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from export_lines import write_export

from mcpaudit_lab import Lab


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Take turns in one process and print medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "export.jsonl"
        write_export(export, options.rows)
        lab = Lab(Path(folder) / "lab.duckdb")
        lab.load(export)
        events = lab.events()
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(timed(events.df))
            with warnings.catch_warnings():
                # DuckDB itself advises against it.
                warnings.simplefilter("ignore")
                columns = "extra, source_id, line, byte_offset, byte_size"
                statement = f"select e.* exclude ({columns}) from ({events.sql}) e"
                theirs.append(timed(lab.connection.cursor().sql(statement).df))
        lab.close()
    print(f"{options.rows:,} events, median of {options.rounds}")
    print(f"lab.events().df()    {statistics.median(ours):7.2f} s")
    print(f"DuckDB's own .df()   {statistics.median(theirs):7.2f} s")
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    spread = f"({ratios[0]:.1f} to {ratios[-1]:.1f})"
    print(f"ours is {statistics.median(ratios):.1f} times as fast {spread}")


if __name__ == "__main__":
    main()
