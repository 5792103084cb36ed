"""Over HTTP, in both protocol eras, an audited call leaves the row the recorded server left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

from mcpaudit_lab.jsontext import dumps, same
from mcpaudit_lab.sanitize import REDACTED, Sanitizer
from mcpaudit_lab.server import MemoryLogger, add_audit
from tests.audited import MODES, echo, heard, payload, serve
from tests.loopback import DEV_KEY, connect, run_demo, run_http

if TYPE_CHECKING:
    import mcp_types as types

    from mcpaudit_lab.events import Event

pytestmark = pytest.mark.anyio

UPSTREAM = Path(__file__).parent / "data" / "upstream"
RECORDED = [json.loads(line) for line in (UPSTREAM / "details.jsonl").read_text().splitlines()]
RULES = Sanitizer()

# What differs from call to call, and the headers, which are the client's.
VOLATILE = {"id", "timestamp", "duration_ms", "request_id", "session_id"}


def comparable(wire: dict[str, Any]) -> dict[str, Any]:
    """An event without what need not be the same, and with responses sanitized."""
    event = {name: value for name, value in wire.items() if name not in VOLATILE}
    content = dict(event.pop("payload"))
    content.pop("request_headers", None)
    content["notifications"] = [
        {name: value for name, value in item.items() if name != "ts"}
        for item in content.get("notifications", ())
    ]
    result = RULES.clean(content.get("response_result"))
    text = dumps(result)
    if 'validating \\"arguments\\"' in text:
        # The wording of validators is their own, and with it the sizes.
        content["response_result"] = result = "a validator's words"
        content.pop("response_size_bytes")
        event.pop("response_chars")
    elif event["tool_name"] in ("lorem", "flaky", "slow", "headers") and isinstance(result, dict):
        # Values by chance or by the clock, or the client's headers; shapes are compared.
        content["response_result"] = _shape(result)
        content.pop("response_size_bytes")
        event.pop("response_chars")
    else:
        content["response_result"] = result
    return {**event, "payload": content}


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items() if name != "headers"}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return value if isinstance(value, bool) else type(value).__name__


def original_arguments(row: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a recorded call as they were sent."""
    arguments: dict[str, Any] | None = row.get("parameters")
    if arguments is not None and arguments.get("message") == "numbers":
        # The store does not know a negative zero; the answer shows that it was one.
        return {**arguments, "extras": {**arguments["extras"], "neg": -0.0}}
    if arguments is not None and row["tool_name"] == "echo" and REDACTED in dumps(arguments):
        if not row["success"]:
            return {**arguments, "password": "secret"}
        return row["payload"]["response_result"]["structuredContent"]  # type: ignore[no-any-return]  # JSON
    return arguments


def repeatable(row: dict[str, Any]) -> bool:
    """Whether a call to our server can be expected to leave the same row."""
    arguments = row.get("parameters") or {}
    by_chance = row["tool_name"] == "flaky" and 0 < arguments.get("fail_rate", 0) < 1
    edge = row.get("user_agent") in ("edge/1", "café/1")
    return (
        row["source"] == "mcp" and row.get("auth_type") is not None and not by_chance and not edge
    )


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One recorded call of each kind: tool, arguments, outcome, caller."""
    kinds = {
        dumps(
            [
                row["tool_name"],
                row.get("parameters"),
                row["success"],
                row.get("user_subject"),
                row.get("remote_addr"),
                row.get("user_agent"),
                bool(row["payload"].get("notifications")),
            ]
        ): row
        for row in rows
    }
    return list(kinds.values())


async def repeat(client: Client, row: dict[str, Any]) -> None:
    """Make a recorded call again, with progress asked for or cancelled as it was."""
    arguments = original_arguments(row)
    cancelled = row["tool_name"] == "slow" and not row["success"]
    wants_progress = bool(row["payload"].get("notifications"))
    try:
        with anyio.move_on_after(0.1 if cancelled else None):
            await client.call_tool(
                row["tool_name"],
                arguments,
                progress_callback=heard if wants_progress else None,
            )
    except MCPError:
        assert row["error_category"] == "handler"


async def test_in_the_handshake_era_the_events_are_the_recorded_ones() -> None:
    rows = distinct([row for row in RECORDED if repeatable(row)])
    callers = {(row["user_subject"], row.get("user_agent"), row.get("remote_addr")) for row in rows}
    assert len(rows) > 130
    assert len(callers) >= 4
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    async with run_demo() as (url, log):
        for subject, user_agent, remote_addr in sorted(callers, key=str):
            key = "upstream-dev-key" if subject == "apikey:dev-local" else "minted-key"
            headers = {"X-API-Key": key, "User-Agent": user_agent or ""}
            if remote_addr:
                headers["X-Forwarded-For"] = f"{remote_addr}, 10.0.0.1"
            mine = [
                row
                for row in rows
                if (row["user_subject"], row.get("user_agent"), row.get("remote_addr"))
                == (subject, user_agent, remote_addr)
            ]
            async with connect(url, headers) as client:
                for row in mine:
                    async with log.subscribe() as events:
                        await repeat(client, row)
                        event = await anext(events)
                    pairs.append((comparable(event.wire), comparable(row)))
                    assert event.session_id
                    sent = payload(event)["request_headers"]
                    assert set(row["payload"]["request_headers"]) & {"Cookie", "X-Multi"} or set(
                        row["payload"]["request_headers"]
                    ) - {"X-Trace-Id", "Authorization"} <= set(sent)
                    assert sent["X-Api-Key"] == [REDACTED]
    assert differences(pairs) == []


def differences(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
) -> list[list[dict[str, Any]]]:
    """The pairs that differ, each as the members that do."""
    found = []
    for got, wanted in pairs:
        if not same(got, wanted):
            sides = [{**side, **side["payload"], "payload": None} for side in (got, wanted)]
            names = sides[0].keys() | sides[1].keys()
            differ = [n for n in names if not same(sides[0].get(n), sides[1].get(n))]
            found.append([{n: side.get(n) for n in differ} for side in sides])
    return found


def edge_calls() -> list[Any]:
    """Recorded raw requests that call a tool, each with the answer it got."""
    found = []
    for path in sorted((UPSTREAM / "mcp").glob("*.req")):
        request = path.read_bytes().partition(b"\r\n\r\n")[2]
        answer = path.with_suffix(".resp").read_bytes()
        if b'"tools/call"' in request and b"200 OK" in answer and b"wrong" not in path.read_bytes():
            found.append(pytest.param(request, answer, id=path.stem))
    return found


# The SDK refuses a body that is not UTF-8, or has a lone surrogate, before anyone sees the call.
REFUSED = {"27-lone-surrogate", "32-invalid-utf8-body"}


@pytest.mark.parametrize(("request_body", "answer"), edge_calls())
async def test_edge_calls_leave_the_recorded_rows(
    request_body: bytes, answer: bytes, request: pytest.FixtureRequest
) -> None:
    last = [line for line in answer.split(b"\n") if line.startswith(b"data: ")][-1]
    reply = json.loads(last[6:])
    async with run_demo() as (url, log):
        got = await _post_raw(url, request_body)
    if request.node.callspec.id in REFUSED:
        assert (got.status_code, log.events) == (400, [])
        return
    (event,) = log.events
    expected = [row for row in RECORDED if _answers(row, reply, event)]
    if b"\\u0000" in request_body:
        assert expected == [], "the reference server lost it"
        assert event.parameters == {"message": "a\0b"}
    elif b"1e400" in request_body:
        assert event.parameters["extras"]["a"] == 9007199254740993  # type: ignore[index,call-overload]  # digits kept
        assert event.parameters["extras"]["b"] == "Infinity"  # type: ignore[index,call-overload]  # there is no such number
        assert event.error_category == "tool"
    else:
        assert expected
        found = [comparable(row) for row in expected]
        assert any(same(comparable(event.wire), row) for row in found), dumps(event.wire)


async def _post_raw(url: str, body: bytes) -> httpx2.Response:
    """Post a body in a session of its own, as the raw client that was recorded did."""
    headers = {
        **DEV_KEY,
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "User-Agent": "edge/1",
    }
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "edge", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(headers=headers) as http:
        opened = await http.post(url, json=hello)
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        http.headers["Mcp-Protocol-Version"] = "2025-06-18"
        return await http.post(url, content=body)


def _answers(row: dict[str, Any], reply: dict[str, Any], event: Event) -> bool:
    """Whether a recorded row is the one of this recorded answer."""
    if row["tool_name"] != event.tool_name or row.get("user_agent") != "edge/1":
        return False
    if "error" in reply:
        return bool(row.get("error_message") == reply["error"]["message"])
    content = row["payload"].get("response_result", {}).get("content", [{}])
    return bool(content == reply["result"]["content"])


async def test_a_wrong_key_leaves_the_recorded_row() -> None:
    wanted = next(
        row
        for row in RECORDED
        if row.get("error_category") == "auth" and row.get("user_agent") == "intruder/6.6"
    )
    arguments = {"message": "with a bad key", "extras": {"password": "x"}}
    headers = {"X-API-Key": "wrong", "User-Agent": "intruder/6.6"}
    async with run_demo() as (url, log), connect(url, headers) as client:
        assert (await client.list_tools()).tools
        with pytest.raises(MCPError) as refused:
            await client.call_tool("echo", arguments)
    recorded = (UPSTREAM / "mcp" / "04-bad-key-tools-call.resp").read_bytes()
    assert b'"error":{"code":0,"message":"not authenticated"}' in recorded
    assert (refused.value.code, refused.value.message) == (0, "not authenticated")
    (event,) = log.events
    got, expected = comparable(event.wire), comparable(wanted)
    # The length of the recorded secret is not known.
    for side in (got, expected):
        side["payload"].pop("request_size_bytes")
    assert same(got, expected), f"\n{dumps(got)}\n{dumps(expected)}"


async def test_in_the_era_without_sessions_only_the_envelope_differs() -> None:
    rows = distinct([row for row in RECORDED if repeatable(row)])
    rows = [row for row in rows if row["user_subject"] == "apikey:dev-local"][:40]
    pairs = []
    async with run_demo() as (url, log), connect(url, mode="2026-07-28") as client:
        await client.list_tools()
        for row in rows:
            async with log.subscribe() as events:
                await repeat(client, row)
                event = await anext(events)
            pair = comparable(event.wire), comparable(row)
            for side in pair:
                for name in ("user_agent", "remote_addr"):
                    side.pop(name, None)
                    side["payload"].pop("request_remote_addr", None)
            pairs.append(pair)
            assert event.session_id == ""
    assert differences(pairs) == []


@MODES
async def test_the_headers_tool_gives_no_credential_away(mode: str) -> None:
    headers = {**DEV_KEY, "Cookie": "a=b", "X-Secret-Thing": "s", "X-Custom": "v1"}
    async with run_demo() as (url, log), connect(url, headers, mode) as client:
        result = await client.call_tool("headers")
    shown = result.structured_content["headers"]
    assert shown["X-Custom"] == ["v1"]
    for name in ("X-Api-Key", "Cookie", "X-Secret-Thing"):
        assert shown[name] == [REDACTED]
        assert payload(log.events[0])["request_headers"][name] == [REDACTED]
    assert "upstream-dev-key" not in log.events[0].to_json()


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"caf\xe9/1", "café/1"), ("café/1".encode(), "café/1"), (b"a\x7fb", "a\x7fb")],
)
async def test_a_user_agent_in_any_encoding_has_its_row(raw: bytes, text: str) -> None:
    async with (
        run_demo() as (url, log),
        httpx2.AsyncClient(headers=[(b"X-API-Key", b"upstream-dev-key"), (b"User-Agent", raw)])
        as http,
        Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
    ):  # fmt: skip
        await client.call_tool("echo", {"message": "latin1 ua"})
    (event,) = log.events
    assert event.user_agent == text
    assert payload(event)["request_headers"]["User-Agent"] == [text]


async def test_a_body_nested_ten_thousand_deep_harms_nobody() -> None:
    deep = b'{"k":' * 10_000 + b"1" + b"}" * 10_000
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":'
        b'{"extras":%b}}}' % deep
    )
    async with run_demo() as (url, log):
        answer = await _post_raw(url, body)
        assert (answer.status_code, log.events) == (400, []), "the SDK's parser refuses it"
        async with connect(url) as client:
            await client.call_tool("echo", {"message": "still there"})
    assert len(log.events) == 1


async def _leave(url: str, headers: dict[str, str], body: dict[str, Any], ran: anyio.Event) -> None:
    """Send a call and hang up as soon as the tool runs."""
    async with httpx2.AsyncClient(headers=headers) as http, anyio.create_task_group() as group:
        group.start_soon(_post, http, url, body)
        await ran.wait()
        group.cancel_scope.cancel()


async def _post(http: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> None:
    await http.post(url, json=body, timeout=30)


def _call(name: str, *, modern: bool) -> tuple[dict[str, str], dict[str, Any]]:
    version = "2026-07-28" if modern else "2025-11-25"
    headers = {
        **DEV_KEY,
        "Accept": "application/json, text/event-stream",
        "Mcp-Protocol-Version": version,
    }
    params: dict[str, Any] = {"name": name, "arguments": {}}
    if modern:
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": name}
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": {"name": "leaver", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return headers, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
async def test_a_client_that_left_has_its_row(modern: bool) -> None:
    ran, go_on = anyio.Event(), anyio.Event()

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        ran.set()
        await go_on.wait()
        return await echo({"done": True})

    server, log = serve(work)
    headers, body = _call("work", modern=modern)
    async with run_http(server) as url, log.subscribe() as events:
        if not modern:
            async with connect(url) as client:
                assert client.session is not None
            opened = await _open_session(url)
            headers["Mcp-Session-Id"] = opened
        await _leave(url, headers, body, ran)
        if not modern:
            # The handshake era lets a tool go on when its caller is gone.
            go_on.set()
        with anyio.fail_after(10):
            event = await anext(events)
    assert (event.tool_name, event.user_subject) == ("work", "apikey:dev-local")
    if modern:
        assert (event.success, event.error_category) == (False, "tool")
        text = payload(event)["response_result"]["content"][0]["text"]
        assert text == "context canceled"
    else:
        assert event.success
        assert payload(event)["response_result"]["structuredContent"] == {"done": True}
    assert len(log.events) == 1


async def _open_session(url: str) -> str:
    async with httpx2.AsyncClient(headers=_call("", modern=False)[0]) as http:
        hello = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "leaver", "version": "1"},
            },
        }
        answer = await http.post(url, json=hello)
        return str(answer.headers["mcp-session-id"])


async def test_every_caller_has_rows_under_its_own_name() -> None:
    async with run_demo() as (url, log):
        for mode in ("legacy", "2026-07-28"):
            async with (
                connect(url, {"X-API-Key": "upstream-dev-key"}, mode) as dev,
                connect(url, {"Authorization": "Bearer minted-key"}, mode) as runner,
            ):
                for client in (dev, runner, dev):
                    await client.call_tool("whoami")
    assert [event.api_key_name for event in log.events] == [
        "dev-local",
        "ci-runner",
        "dev-local",
    ] * 2
    for event in log.events:
        told = payload(event)["response_result"]["structuredContent"]["subject"]
        assert told == event.user_subject


async def test_somebody_s_own_server_is_audited_over_http() -> None:
    server: MCPServer[Any] = MCPServer("yours")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    log = MemoryLogger()
    add_audit(server, log)
    low = server.middleware
    assert low[0].__class__.__name__ == "AuditMiddleware"
    async with run_http(server._lowlevel_server) as url:
        for mode in ("legacy", "2026-07-28"):
            async with connect(url, mode=mode) as client:
                await client.list_tools()
                assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {
                    "result": 3
                }
    assert [event.transport for event in log.events] == ["http", "http"]
    first, second = (payload(event)["response_result"] for event in log.events)
    assert same(first, second)
