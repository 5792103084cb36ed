"""The table of `events.show()` over many events, beside DuckDB's bare query for the same rows.

    python benchmarks/table.py [--events 1000000] [--runs 5]

The bare query selects the same columns in the same order and bounds, as Arrow; ours adds what a
front end gets: Python values of each cell. Milliseconds, median.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcpaudit_lab import Lab
from mcpaudit_lab.lab import column_head
from mcpaudit_lab.record import dumps, format_time

_START = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS = 60


def lines(count: int) -> Iterator[str]:
    """Events of 40 or so tools, 200 users and a session for each 40 calls."""
    chance = random.Random(1)
    for number in range(count):
        success = chance.random() > 0.05
        yield dumps(
            {
                "id": f"00000000-0000-4000-8000-{number:012x}",
                "timestamp": format_time(_START + timedelta(seconds=number)),
                "duration_ms": int(chance.lognormvariate(3, 1)),
                "tool_name": f"tool{int(chance.expovariate(0.3))}",
                "user_subject": f"user{chance.randrange(200)}",
                "session_id": f"s{number // 40}",
                "success": success,
                "error_category": "" if success else "tool",
                "transport": "http",
                "source": "mcp",
            }
        )


def median_ms(ask: Callable[[], object], runs: int) -> float:
    """The median of so many runs, after one that is not counted."""
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken[1:])


def main() -> None:
    """Load, ask both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "lab.duckdb") as lab:
        path = Path(folder) / "events.jsonl"
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in lines(options.events))
        lab.load(path, progress=False)
        table = lab.events().show()
        columns = ", ".join(table.columns)

        def bare(rest: str, select: str = columns) -> Callable[[], object]:
            statement = f"select {select} from audit_events {rest}"
            return lambda: lab.connection.cursor().sql(statement).to_arrow_table()

        half = options.events // 2
        newest, longest = "order by ts desc, id", "order by duration_ms desc, ts desc, id"
        filtered = "where duration_ms > 200 and tool_name = 'tool3'"
        rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
            (
                "first page",
                lambda: table.page(0, _ROWS),
                bare(f"{newest} limit {_ROWS}"),
            ),
            (
                "page in the middle",
                lambda: table.page(half, _ROWS),
                bare(f"{newest} limit {_ROWS} offset {half}"),
            ),
            *(
                (
                    f"head of {name}",
                    lambda name=name: column_head(table, name),  # type: ignore[misc]  # its default
                    bare(f"group by {name}", f"{name}, count(*)"),
                )
                for name in ("duration_ms", "tool_name", "session_id")
            ),
        ]
        print(f"{options.events:,} events; milliseconds, median of {options.runs}")
        print(f"{'':24} {'ours':>8} {'bare':>8} {'ratio':>6}")
        show(rows, options.runs)
        table.sort("duration_ms", descending=True)
        show(
            [
                (
                    "longest, in the middle",
                    lambda: table.page(half, _ROWS),
                    bare(f"{longest} limit {_ROWS} offset {half}"),
                )
            ],
            options.runs,
        )
        table.filter("duration_ms", "> 200")
        table.filter("tool_name", "= tool3")
        show(
            [
                (
                    "filtered, count and page",
                    lambda: (table.count(), table.page(0, _ROWS)),
                    bare(f"{filtered} {longest} limit {_ROWS}"),
                )
            ],
            options.runs,
        )


def show(rows: list[tuple[str, Callable[[], object], Callable[[], object]]], runs: int) -> None:
    """Run each pair and print it."""
    for name, ours, bare in rows:
        mine, floor = median_ms(ours, runs), median_ms(bare, runs)
        print(f"{name:24} {mine:8.1f} {floor:8.1f} {mine / floor:6.1f}")


if __name__ == "__main__":
    main()
