"""The queue before a store: nothing is lost, whatever the database does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from logger_contract import ALL, HOSTILE, an_event, heard, numbers
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from mcpaudit_lab.errors import AuditUnavailable, StoreUnavailable
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.stores.memory import MemoryLogger
from mcpaudit_lab.server.stores.sql_logger import SqlLogger
from mcpaudit_lab.server.stores.store import AuditLogger
from mcpaudit_lab.server.stores.subscriptions import Stored

if TYPE_CHECKING:
    from own_postgres import OwnPostgres

_MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def open_store(path: Path) -> SqlLogger:
    return SqlLogger(f"sqlite:///{path}", busy_timeout_s=0.001, poll_s=0.02)


class Lock:
    """Another process that has the file to itself: nobody else can write."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("begin exclusive")

    def release(self) -> None:
        self._connection.close()


async def commit(log: AuditLogger, *events: Event) -> None:
    for event in events:
        (await log.reserve(1000)).commit(event)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.001)


def stored(path: Path) -> list[Event]:
    with open_store(path) as store:
        return store.query(ALL, payloads=True)


# --- the usual ------------------------------------------------------------------------------------


async def test_what_is_committed_is_stored_and_can_be_read_after_a_flush(path: Path) -> None:
    events = [an_event(n, payload={"response_result": n}) for n in range(50)]
    async with AsyncLogger(open_store(path)) as log:
        await log.flush()
        await commit(log, *events)
        await log.flush()
        assert await log.query(ALL, payloads=True) == contract_order(events)
        assert await log.count(ALL) == 50
        assert await log.event(events[3].id) == events[3]
        assert [row.event for row in await log.after(0, 99, payloads=True)] == events
        assert await log.latest() == 50
        assert (await log.stats(ALL)).total == 50
        assert [share.key for share in await log.breakdown(ALL, "tool")] == ["echo"]
        assert sum(point.count for point in await log.timeseries(ALL, _MINUTE)) == 50
        assert [e for page in [p async for p in log.stream(ALL)] for e in page] == [
            event.summary for event in contract_order(events)
        ]
        export = log.export(EventFilter(limit=9), payloads=True)
        assert sum([chunk.count(b"\n") async for chunk in export]) == 9
        assert (export.rows, export.more) == (9, True)
        status = log.status()
        assert (status.stored, status.queued, status.reserved, status.held_bytes) == (50, 0, 0, 0)
        assert status.ready
    assert not log.status().ready
    assert stored(path) == contract_order(events)


async def test_a_place_is_used_once_or_given_back() -> None:
    store = MemoryLogger()
    async with AsyncLogger(store) as log:
        one, two = an_event(), an_event()
        place = await log.reserve(70)
        assert (log.status().reserved, log.status().held_bytes) == (1, 70)
        place.commit(one)
        place.commit(two)
        place.release()
        other = await log.reserve(70)
        other.release()
        other.release()
        other.commit(two)
        await log.flush()
        assert (log.status().reserved, log.status().held_bytes) == (0, 0)
    assert store.events == [one]


async def test_what_is_changed_after_the_commit_changes_no_row(path: Path) -> None:
    arguments = {"a": [1]}
    event = an_event(parameters=arguments, payload={"request_params": arguments})
    async with AsyncLogger(open_store(path)) as log:
        lock = Lock(path)
        await commit(log, event)
        arguments["a"].append(2)
        lock.release()
        await log.flush()
        found = await log.event(event.id)
    assert found is not None
    assert found.parameters == {"a": [1]}


async def test_hostile_events_are_stored_in_one_batch_with_the_others(path: Path) -> None:
    events = [*HOSTILE.values(), an_event()]
    async with AsyncLogger(open_store(path)) as log:
        lock = Lock(path)
        await commit(log, *events)
        lock.release()
        await log.flush()
        assert (log.status().stored, log.status().rejected) == (len(events), 0)
    assert stored(path) == contract_order(events)


async def test_a_commit_in_a_cancelled_task_counts(path: Path) -> None:
    event = an_event()
    async with AsyncLogger(open_store(path)) as log:
        place = await log.reserve(10)

        async def call() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                place.commit(event)

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert stored(path) == [event]


async def test_several_event_loops_share_one_logger(path: Path) -> None:
    events = [[an_event(n) for n in range(100)] for _ in range(4)]
    log = AsyncLogger(open_store(path), max_events=20, batch_events=7)

    async def calls(mine: list[Event]) -> None:
        await asyncio.gather(*(commit(log, event) for event in mine))
        await log.flush()

    threads = [threading.Thread(target=asyncio.run, args=(calls(mine),)) for mine in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await log.count(ALL) == 400
    assert await log.aclose() == 0


async def test_a_place_for_a_loop_that_is_gone_goes_to_the_next(path: Path) -> None:
    log = AsyncLogger(open_store(path), max_events=1, timeout_s=60)
    place = await log.reserve(1)
    gone = asyncio.new_event_loop()

    async def ask() -> None:
        await log.reserve(1)

    task = gone.create_task(ask())
    await asyncio.to_thread(gone.run_until_complete, asyncio.sleep(0))
    gone.close()
    waiting = asyncio.create_task(log.reserve(1))
    await asyncio.sleep(0)
    place.release()
    (await waiting).release()
    assert log.status().reserved == 0
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # its loop cannot end it
    assert await log.aclose() == 0


# --- full -----------------------------------------------------------------------------------------


async def test_a_call_is_refused_when_no_place_comes_free_in_time(path: Path) -> None:
    events = [an_event(n) for n in range(3)]
    log = AsyncLogger(open_store(path), max_events=3, timeout_s=0.02)
    lock = Lock(path)
    await commit(log, *events[:2])
    place = await log.reserve(1)
    with pytest.raises(AuditUnavailable, match=r"was full for 0\.02 s"):
        await log.reserve(1)
    place.commit(events[2])
    with pytest.raises(AuditUnavailable):
        await log.reserve(1)
    lock.release()
    await log.flush()
    (await log.reserve(1)).release()
    assert await log.aclose() == 0
    assert stored(path) == contract_order(events)


async def test_bytes_are_bounded_too_but_one_event_may_be_larger(path: Path) -> None:
    log = AsyncLogger(open_store(path), max_bytes=1000, timeout_s=0)
    large = await log.reserve(5000)
    with pytest.raises(AuditUnavailable):
        await log.reserve(1)
    large.release()
    small = [await log.reserve(400) for _ in range(2)]
    with pytest.raises(AuditUnavailable):
        await log.reserve(400)
    small[0].release()
    lock = Lock(path)
    # What was reserved is taken, however large it turns out to be.
    small[1].commit(an_event(payload={"response_result": "x" * 3000}))
    assert log.status().held_bytes > 3000
    with pytest.raises(AuditUnavailable):
        await log.reserve(1)
    lock.release()
    assert await log.aclose() == 0
    assert len(stored(path)) == 1


async def test_those_who_wait_get_places_in_turn_and_those_who_leave_none(path: Path) -> None:
    log = AsyncLogger(open_store(path), max_events=2, timeout_s=20)
    first = [await log.reserve(1) for _ in range(2)]
    order: list[int] = []

    async def call(number: int) -> None:
        place = await log.reserve(1)
        order.append(number)
        place.release()

    tasks = [asyncio.create_task(call(n)) for n in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    first[0].release()
    # Given a place and cancelled before it could use it.
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert order == [2, 3]
    first[1].release()
    assert log.status().reserved == 0
    waiting = [await log.reserve(1) for _ in range(2)]
    refused = asyncio.create_task(log.reserve(1))
    await asyncio.sleep(0)
    closing = asyncio.create_task(log.aclose())
    with pytest.raises(AuditUnavailable, match="closed"):
        await refused
    for place in waiting:
        place.release()
    assert await closing == 0


async def test_dropping_is_a_choice_counted_and_in_the_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [100.0]
    log = AsyncLogger(
        open_store(path), max_events=2, on_full="drop", clock=lambda: now_s[0], timeout_s=60
    )
    lock = Lock(path)
    kept = [an_event(n) for n in range(3)]
    await commit(log, *kept[:2])
    with caplog.at_level(logging.ERROR):
        await commit(log, *(an_event() for _ in range(3)))
        now_s[0] += 5
        await commit(log, an_event())
    assert [r.message for r in caplog.records] == [
        "the audit queue is full: 1 events were dropped",
        "the audit queue is full: 3 events were dropped",
    ]
    assert log.status().dropped == 4
    late = await log.reserve(1)
    lock.release()
    await log.flush()
    late.commit(kept[2])
    unused = await log.reserve(1)
    unused.release()
    assert await log.aclose() == 0
    assert (log.status().dropped, stored(path)) == (4, contract_order(kept))


# --- bad events -----------------------------------------------------------------------------------


async def test_an_event_that_the_database_refuses_stands_alone_in_the_end(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spill = tmp_path / "rejected.jsonl"
    secret = "s3cret"
    there = an_event(parameters={"a": secret})
    with open_store(path) as store:
        store.log([there])
    events = [an_event(n) for n in range(100)]
    bad = Event({**there.wire, "duration_ms": 99, "error_message": "\ud800"})
    log = AsyncLogger(open_store(path), spill=spill)
    lock = Lock(path)
    await commit(log, *events[:37], bad, *events[37:])
    lock.release()
    with caplog.at_level(logging.ERROR):
        await log.flush()
    status = log.status()
    assert (status.stored, status.rejected) == (100, 1)
    assert f"{there.id} was not stored: RecordError conflict" in caplog.text
    assert secret not in caplog.text
    assert await log.aclose() == 0
    assert stored(path) == contract_order([there, *events])
    assert Event.from_json(spill.read_text()) == bad


async def test_an_event_that_is_no_json_disturbs_nobody(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = an_event(), an_event(parameters={"a": object()})
    async with AsyncLogger(open_store(path), spill=tmp_path / "rejected.jsonl") as log:
        await commit(log, bad, an_event(id=""), good)
        await log.flush()
        assert (log.status().stored, log.status().rejected, log.status().reserved) == (1, 2, 0)
    assert f"{bad.id} was not stored: TypeError" in caplog.text
    assert f"{bad.id} could not be written to the spill file" in caplog.text
    assert "without id was not stored: RecordError no_id" in caplog.text
    assert stored(path) == [good]


async def test_an_event_stored_by_a_try_whose_answer_was_lost_is_stored_once(path: Path) -> None:
    """The connection may break after the commit; then all is tried again."""

    class Forgetful(SqlLogger):
        answers_lost = 2

        def log(self, events: Any) -> None:
            super().log(events)
            if self.answers_lost:
                self.answers_lost -= 1
                raise StoreUnavailable("the answer was lost")

    store = Forgetful(f"sqlite:///{path}")
    events = [an_event(n) for n in range(5)]
    async with AsyncLogger(store, sleep=lambda _: None) as log, log.subscribe() as reader:
        await commit(log, *events)
        await log.flush()
        assert numbers(await heard(reader, 5)) == [1, 2, 3, 4, 5]
        assert (log.status().stored, log.status().rejected) == (5, 0)
    assert stored(path) == contract_order(events)


# --- pace -----------------------------------------------------------------------------------------


class Batches:
    """A store that notes how many events came together."""

    def __init__(self, store: Any) -> None:
        self.sizes: list[int] = []
        self.store = store
        log = store.log

        def noting(events: Any) -> None:
            log(events)
            self.sizes.append(len(events))

        store.log = noting


async def test_after_a_quiet_moment_an_event_is_stored_at_once_and_then_several_together(
    path: Path,
) -> None:
    batches = Batches(open_store(path))
    # A minute: whoever waits for the pace here waits for too long.
    async with AsyncLogger(batches.store, pace_s=60) as log:
        await commit(log, an_event())
        await until(lambda: batches.sizes == [1])
        await commit(log, *(an_event(n) for n in range(1, 20)))
        assert (batches.sizes, log.status().queued) == ([1], 19)
        await log.flush()
        assert batches.sizes == [1, 19]
        await commit(log, *(an_event(n) for n in range(20, 30)))
    assert batches.sizes == [1, 19, 10], "the end does not wait either"
    assert len(stored(path)) == 30


@pytest.mark.parametrize(
    "limits",
    [{"batch_events": 10}, {"max_events": 20}, {"max_bytes": 40_000}, {"max_events": 3}],
    ids=["a batch", "half the places", "half the bytes", "calls that wait"],
)
async def test_what_is_enough_is_stored_whatever_the_pace(
    path: Path, limits: dict[str, int]
) -> None:
    batches = Batches(open_store(path))
    async with AsyncLogger(batches.store, pace_s=60, **limits) as log:  # type: ignore[arg-type]  # of ints
        await commit(log, an_event())
        await until(lambda: batches.sizes == [1])
        events = [an_event(n, payload={"response_result": "x" * 2000}) for n in range(1, 12)]
        await commit(log, *events)
        await until(lambda: len(batches.sizes) > 1)


# --- away -----------------------------------------------------------------------------------------


async def test_events_wait_while_the_database_is_away_and_are_stored_when_it_is_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    waits: list[float] = []
    store = open_store(path)
    lock = Lock(path)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now_s[0] += seconds
        if now_s[0] > 20:
            lock.release()

    log = AsyncLogger(store, clock=lambda: now_s[0], sleep=sleep)
    events = [an_event(n) for n in range(100)]
    with caplog.at_level(logging.WARNING):
        async with log.subscribe() as reader:
            await commit(log, *events)
            await log.flush()
            assert numbers(await heard(reader, 64)) == list(range(1, 65))
    assert waits[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(waits[6:]) == {2.0}
    assert sum("is unavailable" in record.message for record in caplog.records) == 1
    assert "is available again after 21.1 s" in caplog.text
    assert (log.status().stored, log.status().away_s) == (100, None)
    assert await log.aclose() == 0
    assert stored(path) == contract_order(events)


async def test_a_database_that_is_away_shows_in_the_status(path: Path) -> None:
    now_s = [10.0]
    slept = threading.Event()

    def sleep(_: float) -> None:
        slept.wait()

    log = AsyncLogger(open_store(path), clock=lambda: now_s[0], sleep=sleep)
    lock = Lock(path)
    await commit(log, an_event())
    await until(lambda: log.status().away_s is not None)
    now_s[0] = 25.0
    assert (log.status().away_s, log.status().ready, log.status().queued) == (15.0, False, 1)
    lock.release()
    slept.set()
    assert await log.aclose() == 0


async def test_a_disk_that_fills_loses_nothing(path: Path) -> None:
    store = open_store(path)
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar_one()
    store.engine.dispose()
    most = [pages + 20]

    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"pragma max_page_count = {most[0]}")

    sqlalchemy_event.listen(store.engine, "checkout", limit)
    tries: list[float] = []

    def sleep(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == 4:
            most[0] = 10_000

    events = [an_event(n, payload={"response_result": "x" * 9000}) for n in range(100)]
    async with AsyncLogger(store, sleep=sleep, batch_events=10) as log:
        await commit(log, *events)
        await log.flush()
        assert (log.status().stored, log.status().rejected) == (100, 0)
    assert len(tries) == 4
    assert stored(path) == contract_order(events)


async def test_a_postgresql_that_is_stopped_and_started_loses_nothing(
    own_postgres: OwnPostgres,
) -> None:
    stopped = threading.Event()
    seen = threading.Event()
    tries: list[float] = []

    def sleep(seconds: float) -> None:
        stopped.wait()
        tries.append(seconds)
        if len(tries) == 3:
            seen.wait(60)
            own_postgres.control("start")

    events = [an_event(n, payload={"response_result": "x\0"}) for n in range(300)]
    store = SqlLogger(own_postgres.url, poll_s=0.02)
    log = AsyncLogger(store, sleep=sleep, batch_events=50)
    async with log.subscribe(buffer=1000) as reader:
        await commit(log, *events[:100])
        await asyncio.to_thread(own_postgres.control, "stop")
        stopped.set()
        await commit(log, *events[100:])
        with pytest.raises(StoreUnavailable):
            await log.count(ALL)
        seen.set()
        await log.flush()
        assert len(tries) >= 3
        assert numbers(await heard(reader, 300)) == list(range(1, 301))
    assert (log.status().stored, log.status().rejected) == (300, 0)
    assert await log.query(ALL, payloads=True) == contract_order(events)
    assert await log.aclose() == 0


# --- the end --------------------------------------------------------------------------------------


async def test_closing_waits_for_calls_that_run_and_for_the_queue(path: Path) -> None:
    events = [an_event(n) for n in range(20)]
    log = AsyncLogger(open_store(path), batch_events=3)
    place = await log.reserve(1)
    await commit(log, *events[1:])
    closing = asyncio.create_task(log.aclose())
    await until(lambda: log.status().closed)
    with pytest.raises(AuditUnavailable, match="closed"):
        await log.reserve(1)
    place.commit(events[0])
    assert await closing == 0
    assert stored(path) == contract_order(events)


async def test_what_is_left_after_the_time_limit_is_reported_and_spilled(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spill = tmp_path / "left.jsonl"
    parked, go_on = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        parked.set()
        go_on.wait()

    log = AsyncLogger(open_store(path), spill=spill, sleep=sleep, batch_events=2)
    events = [an_event(n, tool_name="\ud800") for n in range(5)]
    late = await log.reserve(1)
    lock = Lock(path)
    await commit(log, *events[:4])
    await asyncio.to_thread(parked.wait)
    flushing = asyncio.create_task(log.flush())
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        assert await log.aclose(timeout_s=0.01) == 4
        await flushing
        late.commit(events[4])
    assert await log.aclose(timeout_s=0.01) == 0, "a second time there is nothing left"
    go_on.set()
    lock.release()
    assert "4 audit events were not stored" in caplog.text
    assert all(event.id in caplog.text for event in events)
    assert log.status().rejected == 5
    assert [Event.from_json(line) for line in spill.read_text().splitlines()] == events
    assert stored(path) == []


async def test_a_logger_that_was_never_used_closes(path: Path) -> None:
    log = AsyncLogger(open_store(path))
    assert await log.aclose() == 0


def run_script(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


COMMIT_AND_END = """
import asyncio, sys
from logger_contract import an_event
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

log = AsyncLogger(SqlLogger(sys.argv[1]), batch_events=10)

async def main():
    for n in range(500):
        (await log.reserve(1)).commit(an_event(n))

asyncio.run(main())
"""


async def test_a_process_that_ends_without_closing_stores_its_queue(path: Path) -> None:
    process = run_script(COMMIT_AND_END, f"sqlite:///{path}")
    await asyncio.to_thread(process.communicate)
    assert process.returncode == 0
    assert len(stored(path)) == 500


COMMIT_FOREVER = """
import asyncio, sys
from logger_contract import an_event
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

log = AsyncLogger(SqlLogger(sys.argv[1]), batch_events=10)

async def main():
    n = 0
    while True:
        (await log.reserve(1)).commit(an_event(n % 80_000, payload={"response_result": "x" * 500}))
        n += 1
        if n % 100 == 0:
            await log.flush()
            print(n, flush=True)

asyncio.run(main())
"""


async def test_after_kill_9_what_was_flushed_is_there_and_rows_are_whole(path: Path) -> None:
    process = run_script(COMMIT_FOREVER, f"sqlite:///{path}")
    assert process.stdout is not None
    flushed = 0
    while flushed < 500:
        flushed = int(await asyncio.to_thread(process.stdout.readline))
    process.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(process.communicate)
    flushed = max([flushed, *map(int, rest.split())])
    with open_store(path) as store:
        rows = store.after(0, 1_000_000, payloads=True)
        assert len(rows) >= flushed
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert all(
            row.event.payload is not None and row.event.payload.response_result == "x" * 500
            for row in rows
        )
        store.log([an_event()])
        assert store.latest() == len(rows) + 1


# --- listening ------------------------------------------------------------------------------------


async def test_a_write_that_failed_never_shows(path: Path) -> None:
    there = an_event()
    async with AsyncLogger(open_store(path)) as log, log.subscribe() as reader:
        await commit(log, there)
        await log.flush()
        lock = Lock(path)
        bad, good = Event({**there.wire, "duration_ms": 7}), an_event()
        await commit(log, bad, good)
        lock.release()
        assert await heard(reader, 2) == [Stored(1, there), Stored(2, good)]


# --- exports --------------------------------------------------------------------------------------


@asynccontextmanager
async def a_full_logger(store: SqlLogger) -> AsyncIterator[AsyncLogger]:
    store.log([an_event(n) for n in range(2000)])
    async with AsyncLogger(store) as log:
        yield log


async def test_an_export_that_is_left_stops_its_query(postgres_database: str) -> None:
    async with a_full_logger(SqlLogger(postgres_database)) as log:
        store: Any = log.store
        sleeping = text(
            "select count(*) from pg_stat_activity where query = :query and state = 'active'"
        )

        def asleep() -> bool:
            with store.engine.connect() as connection:
                found = connection.execute(sleeping, {"query": "select pg_sleep(3600)"})
                return bool(found.scalar_one())

        @sqlalchemy_event.listens_for(store.engine, "before_cursor_execute", retval=True)
        def slow(*details: Any) -> tuple[str, Any]:
            statement, parameters = details[2], details[3]
            if "ORDER BY e.ts" in statement:
                return "select pg_sleep(3600)", ()
            return statement, parameters

        async def leave() -> None:
            async for _ in log.export(ALL):
                pass

        task = asyncio.create_task(leave())
        await until(asleep)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not asleep())
        assert await log.count(ALL) == 2000


async def test_an_export_that_is_left_between_pages_holds_nothing(path: Path) -> None:
    async with a_full_logger(open_store(path)) as log:
        store: Any = log.store
        exporting: Any = log.export(ALL)
        async with aclosing(aiter(exporting)) as pages:
            await anext(pages)
            assert store.engine.pool.checkedout() == 0
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
