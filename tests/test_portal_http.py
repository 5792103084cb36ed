"""What the portal's API gives beyond the recordings: exports, spellings, hostile calls."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import httpx2
import pytest
from audited import MODES
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from portals import CSRF, DEV, DEV_KEY, KEYS, an_event, demo_app, run_app, run_portal, url_of

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.filters.times import format_duration, parse_duration_ns
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.server import MemoryLogger, add_audit
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.http.app import portal_app
from mcpaudit_lab.server.http.portal import PortalOptions
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcpaudit_lab.record import Event
    from mcpaudit_lab.server.stores.store import EventStore

pytestmark = pytest.mark.anyio

AUDIT = "/api/v1/portal/audit"
EVENTS = f"{AUDIT}/events"
EXPORT = f"{AUDIT}/export"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    if request.param == "memory":
        yield MemoryLogger()
        return
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    with SqlLogger(url) as made:
        yield made


async def test_an_export_says_beforehand_whether_it_is_all(store: EventStore) -> None:
    store.log([an_event(number) for number in range(10)])
    options = PortalOptions(export_max_rows=6)
    async with run_portal(store, options=options) as http:
        for query, lines, total, cut in (
            ("", 6, 10, "true"),
            ("?limit=3", 3, 10, "true"),
            ("?limit=600&offset=5", 6, 10, "true"),
            ("?param.n=3", 1, 1, "false"),
            ("?tool=nosuch", 0, 0, "false"),
        ):
            answer = await http.get(f"{EXPORT}{query}")
            assert len(answer.text.splitlines()) == lines
            assert answer.headers["x-export-total"] == str(total)
            assert answer.headers["x-export-truncated"] == cut
        assert (await http.get(f"{AUDIT}/meta")).json()["export"] == {"max_rows": 6}
        head = await http.head(EXPORT)
        assert (head.content, head.headers["x-export-total"]) == (b"", "10")


async def test_an_export_has_payloads_if_asked(store: EventStore) -> None:
    events = [an_event(number) for number in range(3)]
    store.log(events)
    async with run_portal(store) as http:
        lines = (await http.get(f"{EXPORT}?payloads=true")).text.splitlines()
        assert [json.loads(line)["payload"]["request_params"] for line in lines] == [
            {"n": 2}, {"n": 1}, {"n": 0},
        ]  # fmt: skip  # reads better as a list than as a column
        for query in ("", "?payloads=false", "?payloads="):
            assert "payload" not in (await http.get(f"{EXPORT}{query}")).text
        assert (await http.get(f"{EXPORT}?payloads=yes")).status_code == 400


async def test_while_rows_arrive_an_export_has_each_that_was_there_once(store: EventStore) -> None:
    before = [an_event(number) for number in range(3000)]
    store.log(before)
    seen: list[str] = []
    async with run_portal(store) as http, http.stream("GET", EXPORT) as answer:
        async for line in answer.aiter_lines():
            seen.append(json.loads(line)["id"])
            if len(seen) % 500 == 0:
                # Newer ones, and ones in the middle.
                new = [an_event(number) for number in (0, 1500, 9000)]
                await anyio.to_thread.run_sync(store.log, new)
    assert len(seen) == len(set(seen))
    assert {event.id for event in before} <= set(seen)


async def test_a_client_that_leaves_stops_the_export(tmp_path: Path) -> None:
    store = SqlLogger(f"sqlite:///{tmp_path / 'audit.db'}")
    large = "x" * 10_000
    store.log([an_event(number, parameters={"message": large}) for number in range(3000)])
    logger = AsyncLogger(store)
    pages = []
    read_pages = logger.export

    def export(*arguments: Any, **options: Any) -> Any:
        pages.append(read_pages(*arguments, **options))
        return pages[-1]

    logger.export = export  # type: ignore[method-assign]  # to look at what the route reads
    async with logger, run_portal(logger) as http:
        async with http.stream("GET", EXPORT) as answer:
            await anext(answer.aiter_raw())
        for _ in range(500):
            if pages[0]._pages._closed:
                break
            await anyio.sleep(0.01)
        assert pages[0]._pages._closed
        assert pages[0].rows < 3000


async def test_ids_are_found_in_every_spelling(store: EventStore) -> None:
    event = an_event()
    store.log([event])
    plain = UUID(event.id)
    async with run_portal(store) as http:
        for text in (str(plain), str(plain).upper(), plain.hex, plain.urn, f"{{{plain}}}"):
            answer = await http.get(f"{EVENTS}/{text}")
            assert answer.json() == json.loads(event.to_json())


async def test_answers_are_no_page_for_a_browser(store: EventStore) -> None:
    event = an_event(parameters={"message": "<script>&\u2028"})
    store.log([event])
    async with run_portal(store) as http:
        for path in (EVENTS, f"{EVENTS}/{event.id}"):
            text = (await http.get(path)).text
            assert "\\u003cscript\\u003e\\u0026\\u2028" in text
        assert "<script>&" in (await http.get(EXPORT)).text


async def test_a_breakdown_by_anything_else_is_empty() -> None:
    store = MemoryLogger()
    store.log([an_event(success=False), an_event()])
    async with run_portal(store) as http:
        answer = await http.get(f"{AUDIT}/breakdown?by=nonsense")
        assert answer.json() == {"breakdown": [], "by": "nonsense"}
        answer = await http.get(f"{AUDIT}/breakdown?by=success")
        shares = answer.json()["breakdown"]
    assert shares == [
        {"key": "error", "count": 1, "errors": 1},
        {"key": "success", "count": 1, "errors": 0},
    ]


async def test_a_series_of_too_many_points_is_refused_without_a_window() -> None:
    store = MemoryLogger()
    store.log([an_event(number) for number in range(5001)])
    async with run_portal(store) as http:
        answer = await http.get(f"{AUDIT}/timeseries?bucket=1s")
        assert answer.status_code == 400
        assert answer.json() == {"error": "requested time series exceeds 5000 buckets"}
        assert (await http.get(f"{AUDIT}/timeseries?bucket=2s")).status_code == 200


async def test_paging_goes_through_all_in_the_contracts_order(store: EventStore) -> None:
    events = [an_event(number // 3) for number in range(25)]
    store.log(events)
    found: list[str] = []
    async with run_portal(store) as http:
        for offset in range(0, 30, 10):
            page = (await http.get(f"{EVENTS}?limit=10&offset={offset}")).json()
            assert (page["limit"], page["offset"], page["total"]) == (10, offset, 25)
            found += [event["id"] for event in page["events"]]
        assert (await http.get(f"{EVENTS}?limit=0")).json()["limit"] == 50
    by_id = sorted(events, key=lambda event: event.id)
    wanted = sorted(by_id, key=lambda event: event.timestamp, reverse=True)
    assert found == [event.id for event in wanted]


async def test_tools_that_are_not_there_and_tools_of_ones_own() -> None:
    async with run_portal() as http:
        answer = await http.get("/api/v1/portal/tools/no%22such")
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": 'tool "no\\"such" not found'},
        )
        assert "instructions" in (await http.get("/api/v1/portal/instructions")).json()
    server: MCPServer[Any] = MCPServer("yours")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    app = portal_app(server, MemoryLogger(), KEYS)
    async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=DEV) as http:
        (tool,) = (await http.get("/api/v1/portal/tools")).json()["tools"]
        assert (tool["name"], tool["description"]) == ("add", "Add two numbers.")
        assert tool["inputSchema"]["required"] == ["a", "b"]
        app.state.portal.caller = None
        assert (await http.get("/api/v1/portal/tools")).json() == {"tools": []}


async def test_a_store_that_is_away_is_a_503() -> None:
    class Away(MemoryLogger):
        def query(self, wanted: Any, *, payloads: bool = False) -> list[Event]:
            del wanted, payloads
            raise StoreUnavailable("connection refused")

    async with run_portal(Away()) as http:
        answer = await http.get(EVENTS)
        assert (answer.status_code, answer.json()) == (503, {"error": "connection refused"})
        assert answer.headers["retry-after"] == "5"


async def test_readiness_tells_of_events_that_were_left_out() -> None:
    app = demo_app(logger := AsyncLogger(MemoryLogger(), max_events=1, on_full="drop"))
    async with logger, run_app(app) as url, httpx2.AsyncClient(base_url=url) as http:
        assert (await http.get("/readyz")).text == "ready"
        first = await logger.reserve(10)
        (await logger.reserve(10)).commit(an_event())
        assert (await http.get("/readyz")).text == "ready, 1 events dropped"
        first.release()


@MODES
async def test_hostile_arguments_have_their_row(store: EventStore, mode: str) -> None:
    messages = ["a\x00b", "10,000 \u2028 <b>", "日本語 🚀", "x" * 70_000, "9007199254740993"]
    logger = AsyncLogger(store)
    agent = [(b"X-API-Key", DEV_KEY.encode()), (b"User-Agent", b"caf\xe9/1")]
    async with logger, run_portal(logger) as http:
        async with (
            httpx2.AsyncClient(headers=agent, timeout=20) as bare,
            Client(
                streamable_http_client(url_of(http, "/mcp"), http_client=bare), mode=mode
            ) as client,
        ):
            for message in messages:
                await client.call_tool("echo", {"message": message, "extras": {"n": 1e300}})
        await logger.flush()
        rows = (await http.get(EVENTS)).json()["events"]
        details = [loads((await http.get(f"{EVENTS}/{row['id']}")).content) for row in rows]
    assert len(details) == len(messages)
    # The newest comes first.
    for detail, message in zip(reversed(details), messages, strict=True):
        assert isinstance(detail, dict)
        assert detail["parameters"] == {"message": message, "extras": {"n": 1e300}}
        assert (detail["user_agent"], detail["success"]) == ("café/1", True)


@pytest.mark.parametrize(("depth", "status"), [(100, 200), (5000, 502)])
async def test_deep_arguments_are_tried_and_replayed_and_have_their_rows(
    store: EventStore, depth: int, status: int
) -> None:
    extras = b'{"k":' * depth + b"1" + b"}" * depth
    body = b'{"arguments":{"message":"m","extras":%b}}' % extras
    async with run_portal(store, headers={**DEV, **CSRF}) as http:
        answer = await http.post("/api/v1/admin/tryit/echo", content=body)
        # The SDK does not write what is so deep: the call raised, and is recorded as that.
        assert answer.status_code == status
        row: Any = loads((await http.get(f"{EVENTS}?source=portal-tryit")).content)
        event_id = row["events"][0]["id"]
        assert (await http.post(f"{EVENTS}/{event_id}/replay")).status_code == status
        text = (await http.get(EXPORT)).text
    assert text.count(extras.decode()) == 2


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("90s", "1m30s"),
        ("5m", "5m0s"),
        ("720h", "720h0m0s"),
        ("1h30m", "1h30m0s"),
        ("1.5s", "1.5s"),
        (".5m", "30s"),
        ("1500ms", "1.5s"),
        ("250us", "250µs"),
        ("0", "0s"),
        ("1h2m3.000004s", "1h2m3.000004s"),
        ("1500us", "1.5ms"),
    ],
)
def test_durations_are_read_and_written_as_go_does(text: str, written: str) -> None:
    found = parse_duration_ns(text)
    assert found is not None
    assert format_duration(timedelta(microseconds=found // 1000)) == written


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1d", "1h-2m", "٣s", "9999999999h", "1e3s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration_ns(text) is None


def test_a_portal_on_a_server_whose_events_go_elsewhere_is_an_error() -> None:
    server = MCPServer("mine")
    elsewhere, store = AsyncLogger(MemoryLogger()), AsyncLogger(MemoryLogger())
    add_audit(server, elsewhere)
    with pytest.raises(ValueError, match="audited already by another logger"):
        portal_app(server, store, {"me": DEV_KEY})
    assert portal_app(server, elsewhere, {"me": DEV_KEY}).state.portal.logger is elsewhere
