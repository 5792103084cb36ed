"""The live stream over HTTP: what was stored, in order, once, and an end in time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from loopback import connect
from portals import CSRF, DEV, KEYS, an_event, demo_app, run_app, run_portal, url_of
from recordings import UPSTREAM, seed_postgres

from mcpaudit_lab.record.jsontext import same
from mcpaudit_lab.server import MemoryLogger
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.auth.minted_keys import MemoryKeyStore
from mcpaudit_lab.server.http.portal import PortalOptions
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

if TYPE_CHECKING:
    from pathlib import Path

    from mcpaudit_lab.server.stores.store import EventStore

pytestmark = pytest.mark.anyio

STREAM = "/api/v1/portal/audit/stream"


@dataclass
class Frame:
    """One frame: comments in ``comment``, fields by name."""

    raw: bytes
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        return json.loads(self.fields["data"])


def _parse(raw: bytes) -> Frame:
    lines = raw.decode().split("\n")
    return Frame(raw, dict(line.split(": ", 1) for line in lines if not line.startswith(":")))


@asynccontextmanager
async def listen(
    http: httpx2.AsyncClient, query: str = "", **headers: str
) -> AsyncIterator[AsyncIterator[Frame]]:
    """Open a stream; yields its frames. They end with the answer, which must be whole."""
    async with http.stream("GET", f"{STREAM}{query}", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        yield _frames(answer)


async def _frames(answer: httpx2.Response) -> AsyncIterator[Frame]:
    left = b""
    async for chunk in answer.aiter_raw():
        left += chunk
        while b"\n\n" in left:
            raw, _, left = left.partition(b"\n\n")
            yield _parse(raw)
    assert left == b"", "the last frame was whole"


async def first(frames: AsyncIterator[Frame], count: int) -> list[Frame]:
    """The next frames, comments left out."""
    found: list[Frame] = []
    with anyio.fail_after(10):
        while len(found) < count:
            frame = await anext(frames)
            if frame.fields:
                found.append(frame)
    return found


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    if request.param == "memory":
        yield MemoryLogger()
        return
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    with SqlLogger(url, poll_s=0.05) as made:
        yield made


async def test_a_stored_event_is_a_frame_with_its_number(store: EventStore) -> None:
    event = an_event(parameters={"message": "<b>&\u2028日本"})
    async with run_portal(store) as http, listen(http) as frames:
        opening = await anext(frames)
        assert opening.raw == b": connected"
        store.log([event])
        (frame,) = await first(frames, 1)
    assert list(frame.fields) == ["id", "event", "data"]
    assert (frame.fields["id"], frame.fields["event"]) == ("1", "audit")
    assert frame.fields["data"] == event.summary.to_json(), "nothing escaped, no payload"


async def test_the_headers_are_the_recorded_ones() -> None:
    async with run_portal() as http, http.stream("GET", STREAM) as answer:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["connection"] == "keep-alive"
        assert answer.headers["x-accel-buffering"] == "no"


async def test_a_call_over_mcp_is_in_the_stream_with_its_id() -> None:
    store = MemoryLogger()
    async with (
        run_portal(store) as http,
        listen(http) as frames,
        connect(url_of(http, "/mcp")) as client,
    ):
        await client.call_tool("echo", {"message": "x"})
        (frame,) = await first(frames, 1)
        shown = (await http.get(f"/api/v1/portal/audit/events/{frame.data['id']}")).json()
    shown.pop("payload")
    assert frame.data == shown


async def test_a_quiet_stream_says_that_it_is_alive() -> None:
    options = PortalOptions(keepalive_s=0.02)
    store = MemoryLogger()
    async with run_portal(store, options=options) as http, listen(http) as frames:
        comments = [(await anext(frames)).raw for _ in range(3)]
        store.log([an_event()])
        (frame,) = await first(frames, 1)
    assert comments == [b": connected", b": keepalive", b": keepalive"]
    assert frame.fields["id"] == "1"


async def test_a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice(
    store: EventStore,
) -> None:
    events = [an_event(number) for number in range(30)]
    async with run_portal(store) as http:
        store.log(events[:10])
        async with listen(http, **{"Last-Event-ID": "0"}) as frames:
            seen = await first(frames, 4)
        store.log(events[10:20])
        last = seen[-1].fields["id"]
        async with listen(http, **{"Last-Event-ID": last}) as frames:
            seen += await first(frames, 16)
            store.log(events[20:])
            seen += await first(frames, 10)
    assert [frame.data["id"] for frame in seen] == [event.id for event in events]
    assert [frame.fields["id"] for frame in seen] == [str(number) for number in range(1, 31)]


async def test_a_new_reader_hears_only_of_what_comes(store: EventStore) -> None:
    events = [an_event(number) for number in range(3)]
    async with run_portal(store) as http:
        store.log(events[:2])
        async with listen(http) as frames:
            await anext(frames)
            store.log(events[2:])
            (frame,) = await first(frames, 1)
    assert (frame.data["id"], frame.fields["id"]) == (events[2].id, "3")


async def test_filters_are_those_of_events(store: EventStore) -> None:
    wanted = an_event(1, tool_name="flaky", success=False)
    other = an_event(2, tool_name="flaky")
    async with run_portal(store) as http:
        query = "?tool=flaky&success=false&param.n=1"
        async with listen(http, query, **{"Last-Event-ID": "0"}) as frames:
            store.log([an_event(0), wanted, other])
            (frame,) = await first(frames, 1)
            assert frame.data["id"] == wanted.id
            later = an_event(3, tool_name="flaky", success=False)
            again = an_event(1, tool_name="flaky", success=False)
            store.log([later, again])
            (frame,) = await first(frames, 1)
        assert frame.data["id"] == again.id
        for bad in ("?tool=a;b", "?nope=1"):
            assert (await http.get(f"{STREAM}{bad}")).status_code == 400
        for number in ("x", "-1", "1.5", "9" * 30):
            answer = await http.get(STREAM, headers={"Last-Event-ID": number})
            assert answer.status_code == 400


async def test_a_reader_that_fell_behind_is_told_and_can_fill_the_gap() -> None:
    store = MemoryLogger()
    large = "x" * 20_000
    count = 2000
    events = [an_event(number, parameters={"message": large}) for number in range(count)]
    options = PortalOptions(stream_buffer=4)
    async with run_portal(store, options=options) as http:
        async with listen(http) as frames:
            await anext(frames)
            for event in events:
                store.log([event])
                await anyio.lowlevel.checkpoint()
            live: list[Frame] = []
            told: list[Frame] = []
            while sum(frame.data["missed"] for frame in told) + len(live) < count:
                (frame,) = await first(frames, 1)
                (told if frame.fields["event"] == "gap" else live).append(frame)
        assert told, "40 MB do not fit into the buffers between"
        filled = []
        for gap in told:
            assert "id" not in gap.fields
            resume = {"Last-Event-ID": gap.data["resume_from"]}
            async with listen(http, **resume) as frames:
                filled += await first(frames, gap.data["missed"])
    ids = sorted(int(frame.fields["id"]) for frame in [*live, *filled])
    assert ids == list(range(1, count + 1))


async def test_rows_that_others_insert_are_in_the_stream(
    postgres_database: str,
) -> None:
    store = SqlLogger(postgres_database, poll_s=0.05)
    async with run_portal(store) as http, listen(http) as frames:
        await anext(frames)
        await anyio.to_thread.run_sync(seed_postgres, postgres_database)
        seen = await first(frames, 64)
    assert [int(frame.fields["id"]) for frame in seen] == list(range(1, 65))


async def test_the_recorded_frames_come_again(postgres_database: str) -> None:
    store = SqlLogger(postgres_database)
    seed_postgres(postgres_database)
    raw = (UPSTREAM / "stream" / "stream.http").read_bytes().partition(b"\r\n\r\n")[2]
    recorded = [_parse(part) for part in raw.split(b"\n\n") if part.startswith(b"event")]
    async with run_portal(store) as http, listen(http, **{"Last-Event-ID": "0"}) as frames:
        seen = await first(frames, 672)
    ours = {frame.data["request_id"]: frame for frame in seen}
    assert len(recorded) == 28
    for frame in recorded:
        found, wanted = ours[frame.data["request_id"]].data, frame.data
        # Known differences: ids where there were none, microseconds where there were more.
        assert wanted.pop("id") in ("", found.pop("id"))
        assert wanted.pop("timestamp").startswith(found.pop("timestamp").rstrip("Z"))
        assert same(found, wanted)


async def test_a_revoked_key_ends_its_streams_and_no_others() -> None:
    store = MemoryLogger()
    async with run_portal(store, key_store=MemoryKeyStore(), headers={**DEV, **CSRF}) as http:
        keys = {}
        for name in ("one", "two"):
            answer = await http.post("/api/v1/admin/keys", json={"name": name})
            keys[name] = {"X-API-Key": answer.json()["plaintext"]}
        async with listen(http, **keys["one"]) as ending, listen(http, **keys["two"]) as staying:
            await anext(ending)
            await anext(staying)
            await http.delete("/api/v1/admin/keys/one")
            with anyio.fail_after(2):
                assert [frame async for frame in ending] == []
            store.log([an_event()])
            assert len(await first(staying, 1)) == 1


async def test_streams_end_at_once_when_the_portal_ends() -> None:
    app = demo_app(MemoryLogger())
    with anyio.fail_after(4):
        async with (
            run_app(app) as url,
            httpx2.AsyncClient(base_url=url, headers=DEV) as http,
            listen(http) as one,
            listen(http) as two,
        ):
            await anext(one)
            await anext(two)
            app.state.portal.drain.begin()
            with anyio.fail_after(1):
                assert [frame async for frame in one] == [frame async for frame in two] == []
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200


async def test_a_reader_that_leaves_leaves_nothing_behind() -> None:
    store = MemoryLogger()
    logger = AsyncLogger(store)
    async with logger, run_portal(logger) as http:
        for _ in range(3):
            async with listen(http) as frames:
                await anext(frames)
                assert len(store._subscriptions) == 1
            # The portal hears that a reader left a moment later.
            for _ in range(500):
                if not len(store._subscriptions):
                    break
                await anyio.sleep(0.01)
            assert len(store._subscriptions) == 0


async def test_twenty_readers_hear_of_everything() -> None:
    store = MemoryLogger()
    events = [an_event(number) for number in range(50)]
    heard: list[list[str]] = []
    async with run_app(demo_app(store, keys=KEYS)) as url:
        limits = httpx2.Limits(max_connections=50)
        async with httpx2.AsyncClient(base_url=url, headers=DEV, limits=limits) as http:
            ready = anyio.Semaphore(0)

            async def hear() -> None:
                async with listen(http) as frames:
                    await anext(frames)
                    ready.release()
                    heard.append([frame.data["id"] for frame in await first(frames, 50)])

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(hear)
                for _ in range(20):
                    await ready.acquire()
                for event in events:
                    store.log([event])
                    await anyio.lowlevel.checkpoint()
    assert heard == [[event.id for event in events]] * 20
