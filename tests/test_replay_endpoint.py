"""Replays and Try-It over HTTP: who may, what is refused, and that each leaves exactly one row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from audited import bare_server, echo
from loopback import connect
from mcp.server import MCPServer
from portals import CSRF, DEV, KEYS, an_event, demo_app, run_app, run_portal, url_of

from mcpaudit_lab.calls.ratelimit import TokenBuckets
from mcpaudit_lab.record import Event
from mcpaudit_lab.server import CapturePolicy, MemoryLogger
from mcpaudit_lab.server.audit.async_logger import AsyncLogger
from mcpaudit_lab.server.audit.identity import Identity
from mcpaudit_lab.server.auth.authentication import Access, Authenticator
from mcpaudit_lab.server.auth.minted_keys import MemoryKeyStore
from mcpaudit_lab.server.auth.sql_buckets import SqlTokenBuckets
from mcpaudit_lab.server.http.app import portal_app
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import mcp_types as types

    from mcpaudit_lab.server.stores.store import EventStore

pytestmark = pytest.mark.anyio

EVENTS = "/api/v1/portal/audit/events"
ASKING = {**DEV, **CSRF}


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


async def replay(http: httpx2.AsyncClient, event_id: str) -> httpx2.Response:
    return await http.post(f"{EVENTS}/{event_id}/replay")


async def rows(http: httpx2.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get(EVENTS)).json()["events"]
    return found


async def test_a_replay_is_one_row_that_a_get_finds_at_once(store: EventStore) -> None:
    async with AsyncLogger(store) as logger, run_portal(logger, headers=ASKING) as http:
        async with connect(url_of(http, "/mcp")) as client:
            await client.call_tool("echo", {"message": "x", "extras": {"deep": [1, {"a": None}]}})
        await logger.flush()
        (original,) = await rows(http)
        answer = await replay(http, original["id"].upper().replace("-", ""))
        assert answer.status_code == 200
        body = answer.json()
        assert list(body) == ["replay_event_id", "replayed_from", "result", "success"]
        assert body["replayed_from"] == original["id"]
        assert list(body["result"]) == ["content", "structuredContent"]
        row = (await http.get(f"{EVENTS}/{body['replay_event_id']}")).json()
        assert len(await rows(http)) == 2
    assert (row["source"], row["transport"]) == ("portal-replay", "http")
    assert row["payload"]["replayed_from"] == original["id"]
    assert row["parameters"] == original["parameters"]
    assert row["remote_addr"].startswith("127.0.0.1:")
    assert row["user_agent"].startswith("python-httpx2/")
    assert row["user_subject"] == "apikey:dev-local"


async def test_a_replay_runs_under_the_one_who_asks_for_it() -> None:
    store = MemoryLogger()
    whoami = an_event(tool_name="whoami", user_subject="apikey:other", parameters=None)
    store.log([original := _with_payload(whoami)])
    async with run_portal(store, headers=ASKING) as http:
        answer = (await replay(http, original.id)).json()
    assert answer["result"]["structuredContent"]["subject"] == "apikey:dev-local"


async def _one_refused(
    originals: Sequence[Event], event_id: str, status: int, error: str, **settings: Any
) -> None:
    store = MemoryLogger()
    store.log(list(originals))
    limiter = TokenBuckets(burst=1, refill_s=1000)
    async with run_portal(store, headers=ASKING, limiter=limiter, **settings) as http:
        answer = await replay(http, event_id)
        assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert len(limiter) == 0, "no token was spent"
    assert len(store.events) == len(originals), "no tool ran"


def an_echo() -> Event:
    """A call that can be made again."""
    return _with_payload(an_event(), request_params={"message": "x"})


def _with_payload(event: Event, **members: Any) -> Event:
    payload = {"jsonrpc_method": "tools/call", **members}
    return Event({**event.wire, "payload": payload})


NO_PARAMS = "original event has no captured request params; cannot replay"
REDACTED = (
    "original event has redacted parameter values; replay would not exercise the same call. "
    "Re-stage manually via Try-It"
)


@pytest.mark.parametrize(
    "params",
    [
        {"password": "[redacted]"},
        {"a": [{"b": ["x", {"c": "[redacted]"}]}]},
        json.loads('{"k":' * 400 + '"[redacted]"' + "}" * 400),
    ],
)
async def test_a_redacted_value_at_any_depth_is_not_replayed(params: dict[str, Any]) -> None:
    event = _with_payload(an_event(), request_params=params)
    await _one_refused([event], event.id, 400, REDACTED)


async def test_what_is_not_exactly_the_mark_is_replayed() -> None:
    store = MemoryLogger()
    params = {"message": "the mark is [redacted] here", "extras": {"[redacted]": 1}}
    store.log([event := _with_payload(an_event(), request_params=params)])
    async with run_portal(store, headers=ASKING) as http:
        assert (await replay(http, event.id)).status_code == 200


@pytest.mark.parametrize(
    "event",
    [
        an_event().summary.with_payload(None),
        _with_payload(an_event(parameters=None), request_truncated=True, request_size_bytes=70_000),
        _with_payload(an_event(parameters=None), request_size_bytes=70_000),
        _with_payload(an_event(parameters={"n": 1})),
        _with_payload(an_event(parameters=None, success=False, error_category="auth")),
    ],
)
async def test_what_nobody_knows_the_arguments_of_is_not_replayed(event: Event) -> None:
    await _one_refused([event], event.id, 400, NO_PARAMS)


async def test_other_refusals_spend_nothing_either() -> None:
    unknown = an_event(tool_name='no"such')
    await _one_refused([unknown], unknown.id, 400, 'tool "no\\"such" is no longer registered')
    await _one_refused([], "nope", 400, "event id is not a valid uuid")
    await _one_refused([], an_event().id, 404, "event not found")


async def test_checks_come_in_the_contracts_order() -> None:
    store = MemoryLogger()
    store.log([an_event()])
    async with run_portal(store, headers={}) as http:
        path = f"{EVENTS}/nope/replay"
        assert (await http.post(path)).status_code == 401
        assert (await http.post(path, headers={"X-API-Key": "wrong", **CSRF})).status_code == 401
        assert (await http.post(path, headers=DEV)).status_code == 403
        assert (await http.post(path, headers=ASKING)).status_code == 400


async def test_without_an_mcp_server_there_is_no_replay() -> None:
    store = MemoryLogger()
    store.log([original := an_event()])
    app = portal_app(bare_server(lambda _, arguments: echo(arguments)), store, KEYS)
    async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=ASKING) as http:
        caller, app.state.portal.caller = app.state.portal.caller, None
        for path in (f"{EVENTS}/{original.id}/replay", f"{EVENTS}/nope/replay"):
            answer = await http.post(path)
            assert answer.status_code == 503
            assert answer.json() == {"error": "MCP server is not available"}
        assert (await http.post("/api/v1/admin/tryit/work")).status_code == 503
        app.state.portal.caller = caller


async def test_nobody_in_particular_replays_nothing() -> None:
    store = MemoryLogger()
    store.log([original := an_event()])
    app = demo_app(store)

    class Nobody(Authenticator):
        async def authenticate(self, headers: Any) -> Access:
            del headers
            return Access(Identity("", ""))

    app.state.portal.auth = Nobody(app.state.portal.auth.keys)
    async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=ASKING) as http:
        assert (await replay(http, original.id)).status_code == 401
        assert (await replay(http, "nope")).status_code == 400, "the id comes first"
    assert len(store.events) == 1


async def test_a_failing_call_is_a_502_with_its_row(store: EventStore) -> None:
    failing = _with_payload(
        an_event(tool_name="error"), request_params={"message": "boom", "as_tool": True}
    )
    store.log([failing])
    async with run_portal(store, headers=ASKING) as http:
        answer = await replay(http, failing.id)
        body = answer.json()
        row = (await http.get(f"{EVENTS}/{body['replay_event_id']}")).json()
    assert answer.status_code == 502
    assert (body["success"], body["result"]["isError"]) == (False, True)
    assert (row["success"], row["error_category"], row["error_message"]) == (
        False,
        "tool",
        "tool returned IsError",
    )


async def test_a_call_that_raises_is_a_502_with_its_reason() -> None:
    server: MCPServer[Any] = MCPServer("yours")

    @server._lowlevel_server.middleware.append
    async def refuse(ctx: Any, call_next: Any) -> Any:
        if ctx.method == "tools/call":
            raise RuntimeError("no")
        return await call_next(ctx)

    @server.tool()
    def work() -> str:
        return "never"

    store = MemoryLogger()
    store.log([original := _with_payload(an_event(tool_name="work", parameters=None))])
    app = portal_app(server, store, KEYS)
    async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=ASKING) as http:
        answer = await replay(http, original.id)
        tried = await http.post("/api/v1/admin/tryit/work", json={"arguments": {}})
        found = (await http.get(f"{EVENTS}/{answer.json()['replay_event_id']}")).json()
    assert answer.status_code == tried.status_code == 502
    assert answer.json()["error"] == tried.json()["error"] == 'calling "tools/call": no'
    assert "result" not in answer.json()
    assert (found["error_category"], found["error_message"]) == (
        "handler",
        'calling "tools/call": no',
    )


async def test_a_call_without_arguments_is_replayed(store: EventStore) -> None:
    async with run_portal(store, headers=ASKING) as http:
        tried = await http.post("/api/v1/admin/tryit/whoami", json={})
        assert tried.status_code == 200
        (original,) = await rows(http)
        answer = await replay(http, original["id"])
        assert answer.status_code == 200
        again = await replay(http, answer.json()["replay_event_id"])
        assert again.status_code == 200


async def test_six_replays_are_one_too_many_for_each_identity() -> None:
    store = MemoryLogger()
    store.log([original := an_echo()])
    clock = [0.0]
    limiter = TokenBuckets(clock=lambda: clock[0])
    keys = {"dev-local": KEYS["dev-local"], "other": "another-key"}
    async with run_portal(store, headers=ASKING, limiter=limiter, keys=keys) as http:
        answers = [await replay(http, original.id) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[-1].headers["retry-after"] == "12"
        clock[0] = 11.9
        late = await replay(http, original.id)
        assert (late.status_code, late.headers["retry-after"]) == (429, "1")
        assert late.json() == {"error": "replay rate limit exceeded; retry in 1s"}
        other = await http.post(
            f"{EVENTS}/{original.id}/replay", headers={"X-API-Key": "another-key"}
        )
        assert other.status_code == 200
        clock[0] = 12
        assert (await replay(http, original.id)).status_code == 200
        told = (await http.get("/api/v1/portal/audit/meta")).json()["replay"]
    assert told == {"burst": 5, "refill_secs": 12, "sustained_min": 5}
    assert len(store.events) == 8


async def test_two_portals_on_one_database_share_the_budget(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    stores = [SqlLogger(url) for _ in range(2)]
    stores[0].log([original := an_echo()])
    limiters = [SqlTokenBuckets(store.engine, burst=3, refill_s=1000) for store in stores]
    async with (
        run_portal(stores[0], headers=ASKING, limiter=limiters[0]) as one,
        run_portal(stores[1], headers=ASKING, limiter=limiters[1]) as two,
    ):
        answers = [(await replay(http, original.id)).status_code for http in (one, two, one, two)]
        assert answers == [200, 200, 200, 429]
        assert len(await rows(one)) == len(await rows(two)) == 4


async def test_a_client_that_hangs_up_loses_no_row() -> None:
    ran, go_on = anyio.Event(), anyio.Event()

    async def work(_: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        ran.set()
        await go_on.wait()
        return await echo(arguments)

    store = MemoryLogger()
    store.log([original := an_event(tool_name="work")])
    logger = AsyncLogger(store)
    app = portal_app(bare_server(work), logger, KEYS)
    async with (
        logger,
        run_app(app) as url,
        logger.subscribe() as heard,
        httpx2.AsyncClient(base_url=url, headers=ASKING) as http,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(replay, http, original.id)
            await ran.wait()
            group.cancel_scope.cancel()
        go_on.set()
        with anyio.fail_after(5):
            stored: Any = await anext(heard)
    assert (stored.event.source, stored.event.success) == ("portal-replay", True)
    assert len(store.events) == 2


async def test_a_tool_that_changes_its_arguments_changes_no_row() -> None:
    async def work(_: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        arguments["list"].append("changed")
        return await echo(dict(arguments))

    params = {"list": ["as sent"]}
    store = MemoryLogger()
    store.log([original := _with_payload(an_event(tool_name="work"), request_params=params)])
    app = portal_app(bare_server(work), store, KEYS)
    async with run_app(app) as url, httpx2.AsyncClient(base_url=url, headers=ASKING) as http:
        for _ in range(2):
            answer = (await replay(http, original.id)).json()
            assert answer["result"]["structuredContent"] == {"list": ["as sent", "changed"]}
    for event in store.events:
        assert event.payload is not None
        assert event.payload.request_params == {"list": ["as sent"]}


async def test_try_it_takes_an_object_and_says_so() -> None:
    store = MemoryLogger()
    async with run_portal(store, headers=ASKING) as http:
        path = "/api/v1/admin/tryit/echo"
        for body in (b"[]", b'{"arguments":[1]}', b"{nope", b"7"):
            answer = await http.post(path, content=body)
            assert answer.status_code == 400
        assert (await http.post(path, json={"arguments": {"message": "x"}})).status_code == 200
        unknown = await http.post("/api/v1/admin/tryit/nosuch", json={"arguments": {}})
        assert unknown.status_code == 502
        assert unknown.json() == {"error": 'calling "tools/call": unknown tool "nosuch"'}
    assert [event.source for event in store.events] == ["portal-tryit"] * 2


async def test_a_minted_key_replays_under_its_own_name() -> None:
    store = MemoryLogger()
    store.log([original := _with_payload(an_event(tool_name="whoami", parameters=None))])
    policy = CapturePolicy()
    async with run_portal(store, headers=ASKING, key_store=MemoryKeyStore(), policy=policy) as http:
        key = (await http.post("/api/v1/admin/keys", json={"name": "ci"})).json()["plaintext"]
        answer = await http.post(f"{EVENTS}/{original.id}/replay", headers={"X-API-Key": key})
        row = (await http.get(f"{EVENTS}/{answer.json()['replay_event_id']}")).json()
    assert (row["user_subject"], row["api_key_name"]) == ("apikey:ci", "ci")
    assert key not in json.dumps(row)
