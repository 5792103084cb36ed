"""What every store does, as one body of tests: in memory, on SQLite, on PostgreSQL.

A module of tests makes a subclass with a fixture ``store`` and gives it the rows to expect.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from filter_corpus import CASES, EVENTS, LABELS, Case
from short_run import each_third

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import JsonDecimal
from mcpaudit_lab.server.stores.aggregates import (
    Stats,
    compute_breakdown,
    compute_stats,
    compute_timeseries,
)
from mcpaudit_lab.server.stores.store import EventStore
from mcpaudit_lab.server.stores.subscriptions import Gap, Stored, Subscription

UPSTREAM = Path(__file__).parent / "data" / "upstream"
ALL = EventFilter()
DETAILS = [Event.from_json(line) for line in (UPSTREAM / "details.jsonl").read_bytes().splitlines()]


def an_event(number: int = 0, payload: dict[str, Any] | None = None, **members: Any) -> Event:
    """An event with an id of its own, ``number`` seconds after midnight."""
    wire: dict[str, Any] = {
        "id": str(uuid4()),
        "timestamp": f"2026-11-24T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
        "duration_ms": 1,
        "tool_name": "echo",
        "success": True,
        "transport": "http",
        "source": "mcp",
        **members,
    }
    return Event(wire if payload is None else {**wire, "payload": payload})


def nested(depth: int) -> Any:
    """A list in a list in a list …."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Each is something that a column of some engine cannot give back.
HOSTILE: dict[str, Event] = {
    "NUL in arguments": an_event(
        parameters={"a\0b": "c\0"}, payload={"request_params": {"a\0b": "c\0"}}
    ),
    "NUL in texts": an_event(tool_name="a\0b", user_agent="\0", error_message="x\0y"),
    "lone surrogates": an_event(
        tool_name="\ud800",
        parameters={"\udfff": ["\ud800x"]},
        payload={"response_result": "\udc00"},
    ),
    "an escaped backslash before u0000": an_event(parameters={"a": "\\u0000", "b": "\\\\ud800"}),
    "Latin-1 as it was read": an_event(user_agent="caf\udce9"),
    "integers over 64 bits": an_event(
        duration_ms=2**70, request_chars=-(2**70), parameters={"n": 10**30, "m": -(2**64)}
    ),
    "integers over 32 bits": an_event(
        content_blocks=2**31, payload={"request_size_bytes": 2**40, "response_size_bytes": -(2**31)}
    ),
    "numbers beyond doubles": an_event(
        parameters={"a": JsonDecimal("1e400"), "b": JsonDecimal("-1e-400"), "c": [1e23, 5e-324]}
    ),
    "numbers beyond numeric": an_event(
        parameters=[JsonDecimal("1e200000"), JsonDecimal("1e-200000")],
        payload={"response_result": JsonDecimal("1e99999999999999999999")},
    ),
    "numbers spelled unusually": an_event(
        parameters=[1.0, JsonDecimal("1.10"), -0.0, JsonDecimal("-0"), 1e-7, 1e16, 1e21, 0.0001]
    ),
    "nesting 10,000 deep": an_event(
        parameters={"deep": nested(10_000)}, payload={"request_params": {"deep": nested(10_000)}}
    ),
    "nesting 1,001 deep": an_event(
        parameters=nested(1001), payload={"request_params": nested(998)}
    ),
    "a time in nanoseconds": an_event(timestamp="2026-11-24T00:00:00.123456789Z"),
    "a time with an offset": an_event(timestamp="2026-11-24T05:30:00+05:30"),
    "a time with zeros": an_event(timestamp="2026-11-24T00:00:00.120000Z"),
    "the first year": an_event(timestamp="0001-01-01T00:00:00Z"),
    "the last year": an_event(timestamp="9999-12-31T23:59:59.999999Z"),
    "an id in capitals": an_event(id=str(uuid4()).upper()),
    "unknown members": an_event(trace={"a": 1}, payload={"jsonrpc_id": 7}),
    "nulls": an_event(parameters=None, session_id=None, payload={"notifications": None}),
    "zeros that the wire leaves out": an_event(
        tool_group="", request_chars=0, parameters={}, payload={"request_truncated": False}
    ),
    "integers as decimals": an_event(duration_ms=5.0, response_chars=JsonDecimal("7.0")),
    "members missing that always stand": Event(
        {"id": str(uuid4()), "timestamp": "2026-11-24T00:00:00Z"}
    ),
    "an empty payload": an_event(payload={}),
    "scalars for documents": an_event(parameters="text", payload={"response_result": 7}),
    "a replay of nothing here": an_event(payload={"replayed_from": str(uuid4())}),
    "a captured time": an_event(payload={"captured_at": "2026-11-24T00:00:00Z"}),
    "a long name in characters that no index compresses": an_event(
        tool_name="".join(chr(0x4E00 + (n * n * 7919) % 20_000) for n in range(5000)),
        session_id="é" * 3000,
    ),
    "a long name that compresses": an_event(tool_name="tt" * 20_000, user_subject="ab\0" * 9000),
    "line separators": an_event(error_message="a\u2028b\u2029c\x85d\x7f\x01\ufeff"),
    "quotes": an_event(tool_name="\"'\\\n\t%s%%:x", parameters={"\"'\\:a": "%s"}),
    "notifications": an_event(
        payload={
            "notifications": [
                {"ts": "2026-11-24T00:00:00Z", "method": "m", "params": {"b": 1, "a": [1.5, None]}}
            ]
        }
    ),
}


def lines_of(pages: Iterator[bytes]) -> list[Event]:
    """The events of an export. A line may have characters that Python calls line ends."""
    text = b"".join(pages).decode()
    assert not text or text.endswith("\n")
    return [Event.from_json(line) for line in text.split("\n")[:-1]]


async def heard(subscription: Subscription, count: int) -> list[Stored | Gap]:
    """The next items of a subscription."""
    async with asyncio.timeout(20):
        return [await anext(subscription) for _ in range(count)]


def numbers(rows: Sequence[Stored | Gap]) -> list[int]:
    """The numbers of events."""
    return [row.number for row in rows if isinstance(row, Stored)]


class LoggerContract:
    """The tests. ``store`` is empty."""

    # Whether the columns hold everything, so that aggregates over hostile values are exact, too.
    is_python = False

    @pytest.fixture
    def store(self) -> Iterator[EventStore]:
        raise NotImplementedError

    # --- in and out -------------------------------------------------------------------------------

    @pytest.mark.parametrize("event", HOSTILE.values(), ids=HOSTILE.keys())
    def test_every_event_is_read_back_equal(self, store: EventStore, event: Event) -> None:
        store.log([event])
        assert store.event(event.id) == event
        assert store.query(ALL, payloads=True) == [event]
        assert store.query(ALL) == [event.summary]
        assert store.after(0, 10, payloads=True) == [Stored(1, event)]
        assert [e for page in store.stream(ALL, payloads=True) for e in page] == [event]
        assert lines_of(store.export(ALL)) == [event.summary]
        assert lines_of(store.export(ALL, payloads=True)) == [event]

    def test_recorded_events_come_back_in_the_order_of_the_contract(
        self, store: EventStore
    ) -> None:
        store.log(DETAILS)
        ordered = contract_order(DETAILS)
        assert store.count(ALL) == len(DETAILS)
        assert store.query(ALL, payloads=True) == ordered
        assert store.query(ALL) == [event.summary for event in ordered]
        assert lines_of(store.export(ALL, payloads=True)) == ordered
        assert [row.event for row in store.after(0, 1000, payloads=True)] == DETAILS

    def test_ties_are_in_order_of_ids(self, store: EventStore) -> None:
        events = [an_event() for _ in range(20)]
        store.log(events)
        assert store.query(ALL) == contract_order(events)
        assert lines_of(store.export(ALL)) == contract_order(events)

    def test_an_empty_store_answers_everything(self, store: EventStore) -> None:
        assert (store.count(ALL), store.query(ALL), store.latest()) == (0, [], 0)
        assert store.event(str(uuid4())) is None
        assert (list(store.stream(ALL)), list(store.export(ALL)), store.after(0, 5)) == ([], [], [])
        assert store.timeseries(ALL, timedelta(minutes=1)) == []
        assert store.breakdown(ALL, "tool") == []
        assert store.stats(ALL) == Stats(0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0)
        store.log([])
        assert store.latest() == 0

    def test_an_id_is_taken_in_every_spelling(self, store: EventStore) -> None:
        event = an_event()
        store.log([event])
        for spelling in (event.id.upper(), event.id.replace("-", ""), f"urn:uuid:{event.id}"):
            assert store.event(spelling) == event
        with pytest.raises(RecordError):
            store.event("nonsense")

    def test_the_same_event_again_is_stored_already(self, store: EventStore) -> None:
        one, two, three = an_event(), an_event(), an_event(payload={"response_result": "a\0"})
        store.log([one, three])
        store.log([one, two, three])
        store.log([two, two])
        assert store.count(ALL) == 3
        assert [row.event for row in store.after(0, 9, payloads=True)] == [one, three, two]

    def test_another_event_with_the_same_id_is_refused_with_its_batch(
        self, store: EventStore
    ) -> None:
        one, other = an_event(), an_event()
        store.log([one])
        for batch in (
            [other, Event({**one.wire, "duration_ms": 2})],
            [one, Event(one.wire | {"a": 1})],
        ):
            with pytest.raises(RecordError, match="another event has this id"):
                store.log(batch)
        new = an_event()
        with pytest.raises(RecordError, match="another event has this id"):
            store.log([new, Event({**new.wire, "duration_ms": 2})])
        assert store.query(ALL) == [one]
        assert store.latest() == 1

    def test_an_event_without_an_id_or_that_is_no_json_is_refused(self, store: EventStore) -> None:
        with pytest.raises(RecordError, match="without an id"):
            store.log([an_event(), an_event(id="")])
        with pytest.raises(RecordError, match="without an id"):
            store.prepare(an_event(id=""))
        with pytest.raises(ValueError, match=r"Out of range|NaN|not JSON"):
            store.prepare(an_event(parameters={"a": float("nan")}))
        with pytest.raises(TypeError):
            store.prepare(an_event(parameters={"a": object()}))
        assert store.count(ALL) == 0

    def test_what_is_prepared_is_stored_and_knows_its_size(self, store: EventStore) -> None:
        event = an_event(payload={"response_result": "x" * 5000})
        prepared = store.prepare(event)
        assert 5000 < prepared.size < 8000
        store.log([prepared, an_event()])
        assert store.event(event.id) == event

    # --- filters ----------------------------------------------------------------------------------

    @pytest.fixture
    def corpus(self, store: EventStore) -> EventStore:
        store.log(list(EVENTS.values()))
        return store

    @pytest.mark.parametrize("first", each_third((0, 1)))
    def test_every_filter_of_the_corpus_selects_what_was_written_by_hand(
        self, corpus: EventStore, first: int
    ) -> None:
        for case in CASES[first::2]:
            self.check(corpus, case)

    def check(self, store: EventStore, case: Case) -> None:
        wanted = case.filter
        labels = case.labels if case.portal is None or self.is_python else case.portal
        everything = contract_order(
            event for event in EVENTS.values() if LABELS[event.id] in labels
        )
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        expected = everything[wanted.offset : end]
        assert store.query(wanted, payloads=True) == expected, case.name
        assert store.count(wanted) == len(everything), case.name
        assert [e.id for page in store.stream(wanted) for e in page] == [e.id for e in expected]
        assert lines_of(store.export(wanted)) == [e.summary for e in expected], case.name
        rows = store.after(0, 1000, wanted)
        assert {row.event.id for row in rows} == {e.id for e in everything}, case.name
        assert rows == sorted(rows, key=lambda row: row.number)
        shares = store.breakdown(wanted, "success")
        assert sum(share.count for share in shares) == len(everything), case.name
        assert store.stats(wanted).total == len(everything), case.name
        points = store.timeseries(wanted, timedelta(seconds=7))
        assert sum(point.count for point in points) == len(everything), case.name

    def test_a_filter_that_needs_a_second_look_is_never_widened(self, store: EventStore) -> None:
        # SQL finds six for each of these; five hold.
        events = [an_event(n, tool_name="a\ud800b", success=n % 2 == 0) for n in range(5)]
        decoy = an_event(2, tool_name="a\ufffdb")
        store.log([*events, decoy])
        ordered = contract_order(events)
        wanted = EventFilter(tool="a\ud800b", limit=2, offset=1)
        assert store.query(wanted) == ordered[1:3]
        assert store.count(wanted) == 5
        pages = store.stream(wanted)
        assert [e for page in pages for e in page] == ordered[1:3]
        assert (pages.rows, pages.more) == (2, True)
        assert lines_of(store.export(wanted)) == ordered[1:3]
        assert [row.event for row in store.after(1, 2, wanted)] == events[1:3]
        assert store.stats(wanted) == compute_stats(events)
        assert store.breakdown(wanted, "success") == compute_breakdown(events, "success", 50)
        bucket = timedelta(seconds=2)
        assert store.timeseries(wanted, bucket) == compute_timeseries(events, bucket)
        payload = {"request_params": {"a": "x\ud800"}}
        store.log([an_event(9, payload)])
        (found,) = store.query(EventFilter(params={"a": "x\ud800"}))
        assert "payload" not in found.wire
        (row,) = store.after(0, 9, EventFilter(params={"a": "x\ud800"}))
        assert "payload" not in row.event.wire

    # --- pages ------------------------------------------------------------------------------------

    def test_a_stream_has_every_event_once_while_others_arrive(self, store: EventStore) -> None:
        events = [an_event(n, parameters={"a": "x" * 400}) for n in range(3000)]
        store.log(events)
        seen: list[Event] = []
        for page in store.stream(ALL):
            seen += page
            store.log([an_event(n) for n in (0, 1500, 80_000)])
        there = {event.id for event in events}
        assert [event for event in seen if event.id in there] == contract_order(events)
        assert len({event.id for event in seen}) == len(seen)

    def test_a_limit_is_kept_and_says_whether_it_left_some_out(self, store: EventStore) -> None:
        events = contract_order(an_event(n) for n in range(1200))
        store.log(events)
        for limit, offset, more in (
            (1200, 0, False),
            (1199, 0, True),
            (700, 500, False),
            (3, 9, True),
        ):
            pages = store.export(EventFilter(limit=limit, offset=offset))
            assert lines_of(pages) == events[offset : offset + limit]
            assert (pages.rows, pages.more) == (limit, more)
        assert store.query(EventFilter(offset=1198)) == events[1198:]
        assert store.query(EventFilter(limit=0)) == []
        nothing = store.stream(EventFilter(limit=0))
        assert (list(nothing), nothing.more) == ([], True)

    def test_a_stream_that_is_closed_ends(self, store: EventStore) -> None:
        store.log([an_event(n) for n in range(1200)])
        pages = store.stream(ALL)
        next(pages)
        pages.close()
        assert list(pages) == []
        unread = store.export(ALL)
        unread.close()
        assert list(unread) == []

    # --- order of commit --------------------------------------------------------------------------

    def test_numbers_follow_each_other_whoever_writes(self, store: EventStore) -> None:
        batches = [[an_event(n) for n in range(7)] for _ in range(24)]
        seen: list[Stored] = []
        done = threading.Event()

        def write(mine: list[list[Event]]) -> None:
            for batch in mine:
                store.log(batch)

        def read() -> None:
            while not done.is_set():
                seen.extend(store.after(seen[-1].number if seen else 0, 50))

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(batches[n::4],)) for n in range(4)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        seen.extend(store.after(seen[-1].number if seen else 0, 1000))
        assert [row.number for row in seen] == list(range(1, 169))
        assert {row.event.id for row in seen} == {event.id for batch in batches for event in batch}
        assert store.latest() == 168

    def test_pages_in_order_of_commit_are_bounded_and_filtered(self, store: EventStore) -> None:
        events = [an_event(n % 10, tool_name=f"t{n % 3}") for n in range(30)]
        store.log(events)
        assert [row.number for row in store.after(4, 5)] == [5, 6, 7, 8, 9]
        found = store.after(4, 3, EventFilter(tool="t1", limit=1))
        assert [(row.number, row.event.tool_name) for row in found] == [
            (5, "t1"),
            (8, "t1"),
            (11, "t1"),
        ]
        assert store.after(30, 5) == []

    # --- aggregates -------------------------------------------------------------------------------

    def test_aggregates_equal_those_computed_in_python(self, store: EventStore) -> None:
        store.log(DETAILS)
        for wanted in (
            ALL,
            EventFilter(success=False),
            EventFilter(params={"size": 16}, q="SIZED"),
        ):
            events = [event for event in DETAILS if wanted.matches(event)]
            assert store.stats(wanted) == compute_stats(events)
            for by in ("tool", "user", "success", "auth_type", "source", "error_category"):
                assert store.breakdown(wanted, by, None) == compute_breakdown(events, by, None)
                assert store.breakdown(wanted, by, 2) == compute_breakdown(events, by, 2)
            for bucket in (timedelta(seconds=90), timedelta(milliseconds=1), timedelta(days=7)):
                assert store.timeseries(wanted, bucket) == compute_timeseries(events, bucket)

    def test_time_before_1970_falls_into_buckets_too(self, store: EventStore) -> None:
        events = [
            an_event(timestamp=f"19{year}-12-31T23:59:{second:02}.9Z")
            for year in (69, 70)
            for second in (1, 58, 59)
        ]
        store.log(events)
        bucket = timedelta(seconds=7)
        assert store.timeseries(ALL, bucket) == compute_timeseries(events, bucket)

    def test_no_bucket_and_no_such_breakdown_are_errors(self, store: EventStore) -> None:
        with pytest.raises(FilterError, match="must be positive"):
            store.timeseries(ALL, timedelta(0))
        with pytest.raises(FilterError, match="tool, user, success"):
            store.breakdown(ALL, "id")

    # --- subscriptions ----------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_subscribers_hear_of_what_is_stored_after_they_came(
        self, store: EventStore
    ) -> None:
        before, events = an_event(), [an_event(payload={"response_result": n}) for n in range(3)]
        store.log([before])
        async with store.subscribe() as one, store.subscribe(EventFilter(success=False)) as two:
            await asyncio.to_thread(store.log, events)
            with pytest.raises(RecordError):
                store.log([an_event(), an_event(id="")])
            failed = an_event(success=False)
            store.log([failed])
            assert await heard(one, 4) == [
                Stored(number, event.summary) for number, event in enumerate([*events, failed], 2)
            ]
            assert await heard(two, 1) == [Stored(5, failed)]
        assert len(self.listeners(store)) == 0

    @pytest.mark.anyio
    async def test_a_subscriber_that_fell_behind_is_told_what_it_missed(
        self, store: EventStore
    ) -> None:
        events = [an_event(tool_name="a" if n % 2 else "b") for n in range(10)]
        async with store.subscribe(EventFilter(tool="a"), buffer=2) as reader:
            store.log(events)
            assert reader.missed == 3
            assert numbers(await heard(reader, 2)) == [2, 4]
            assert await heard(reader, 1) == [Gap(3, 5, 10)]
            store.log([an_event(tool_name="a")])
            assert numbers(await heard(reader, 1)) == [11]
            missed = store.after(5, 99, EventFilter(tool="a"))
            assert [row.number for row in missed if row.number <= 10] == [6, 8, 10]

    @pytest.mark.anyio
    async def test_a_subscriber_resumes_with_nothing_twice_and_nothing_left_out(
        self, store: EventStore
    ) -> None:
        store.log([an_event(n) for n in range(1100)])
        done = threading.Event()

        def write() -> None:
            for _ in range(20):
                store.log([an_event() for _ in range(3)])
            done.set()

        writer = threading.Thread(target=write)
        async with store.subscribe(after=7, buffer=5000) as reader:
            writer.start()
            found = numbers(await heard(reader, 1153))
        writer.join()
        assert found == list(range(8, 1161))
        assert done.is_set()

    @pytest.mark.anyio
    async def test_subscribers_that_leave_or_are_cancelled_leave_nothing_behind(
        self, store: EventStore
    ) -> None:
        entered = asyncio.Event()

        async def listen(after: int | None) -> None:
            async with store.subscribe(after=after) as reader:
                entered.set()
                async for _ in reader:
                    pass

        store.log([an_event()])
        for after in (None, 0):
            entered.clear()
            task = asyncio.create_task(listen(after))
            await entered.wait()
            store.log([an_event() for _ in range(200)])
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hasty = asyncio.create_task(listen(after))
            await asyncio.sleep(0)
            hasty.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hasty
        # Whoever is joining in another thread finds that it has left.
        async with store.subscribe():
            assert len(self.listeners(store)) == 1
        assert len(self.listeners(store)) == 0

    @pytest.mark.anyio
    async def test_subscriptions_end_when_the_store_is_closed(self, store: EventStore) -> None:
        async with store.subscribe() as reader:
            waiting = asyncio.create_task(anext(reader, None))
            await asyncio.sleep(0)
            store.close()
            assert await waiting is None

    @staticmethod
    def listeners(store: EventStore) -> Any:
        return store._subscriptions  # type: ignore[attr-defined]  # of every store of ours
