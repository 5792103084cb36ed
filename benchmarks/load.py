"""Loading an export: ours, DuckDB's bare read, pandas and polars, each in a process of its own.

    python benchmarks/load.py --rows 1000000 --rounds 5

What is timed is the call, from an interpreter that has imported what it needs to a database that
is closed; the contenders take turns. DuckDB's bare statement checks nothing: it is the floor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from export_lines import write_export

from mcpaudit_lab.record import EVENT_FIELDS

_TYPES = {"id": "UUID", "time": "TIMESTAMPTZ", "text": "VARCHAR", "int": "BIGINT"}
_TYPES |= {"bool": "BOOLEAN", "json": "JSON"}
_COLUMNS = ", ".join(f"'{field.name}': '{_TYPES[field.kind]}'" for field in EVENT_FIELDS)

CONTENDERS = {
    "mcpaudit_lab": """
from mcpaudit_lab import Lab
import pyarrow, numpy, duckdb
lab = Lab(database)
def work():
    report = lab.load(export)
    assert report.loaded == report.lines, report
    lab.close()
""",
    "DuckDB, bare": f"""
import duckdb
connection = duckdb.connect(database)
def work():
    connection.execute("create table audit_events as select * from "
                       f"read_ndjson('{{export}}', columns={{{{{_COLUMNS}}}}})")
    connection.close()
""",
    "polars": """
import polars
def work():
    polars.read_ndjson(export, infer_schema_length=None)
""",
    "pandas.read_json": """
import pandas
def work():
    pandas.read_json(export, lines=True)
""",
}

_PROGRAM = """
import json, resource, sys, time
export, database = sys.argv[1:]
{code}
started, before = time.perf_counter(), time.process_time()
work()
print(json.dumps([time.perf_counter() - started, time.process_time() - before,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def run(name: str, export: Path, database: Path) -> tuple[float, float, float] | None:
    """One round of one contender: seconds, processor seconds, peak memory in MiB."""
    database.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(code=CONTENDERS[name]), str(export), str(database)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"{name} cannot read it: {done.stderr.strip().splitlines()[-1][:200]}")
        return None
    seconds, processor, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, processor, memory


def main() -> None:
    """Take turns and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="rounds of pandas and polars")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS))
    options = parser.parse_args()
    names = options.only or list(CONTENDERS)
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "export.jsonl"
        size = write_export(export, options.rows)
        print(f"{options.rows:,} lines, {size / 1e6:,.0f} MB")
        rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for turn in range(options.rounds):
            for name in names:
                if turn < options.slow_rounds or name in list(CONTENDERS)[:2]:
                    result = run(name, export, Path(folder) / "lab.duckdb")
                    rounds[name] += [result] if result else []
    ours = statistics.median(seconds for seconds, _, _ in rounds[names[0]])
    print(f"{'':20}{'seconds':>9}{'processor':>11}{'peak MiB':>10}{'ours / it':>11}")
    for name, results in ((n, r) for n, r in rounds.items() if r):
        columns = zip(*results, strict=True)
        seconds, processor, memory = (statistics.median(column) for column in columns)
        print(f"{name:20}{seconds:9.2f}{processor:11.2f}{memory:10.0f}{ours / seconds:11.2f}")


if __name__ == "__main__":
    main()
