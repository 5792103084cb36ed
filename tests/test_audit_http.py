"""Over HTTP, in both protocol eras, no credential is kept and no call is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from audited import MODES, echo, payload, serve
from loopback import DEV_KEY, connect, post_raw, run_demo, run_http
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer

from mcpaudit_lab.record.jsontext import same
from mcpaudit_lab.record.sanitize import REDACTED
from mcpaudit_lab.server import MemoryLogger, add_audit

if TYPE_CHECKING:
    import mcp_types as types


pytestmark = pytest.mark.anyio


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
        httpx2.AsyncClient(
            headers=[(b"X-API-Key", b"upstream-dev-key"), (b"User-Agent", raw)]
        ) as http,
        Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
    ):
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
        answer = await post_raw(url, body)
        assert (answer.status_code, log.events) == (400, []), "the SDK's parser refuses it"
        async with connect(url) as client:
            await client.call_tool("echo", {"message": "still there"})
    assert len(log.events) == 1


async def test_a_lone_surrogate_has_its_row_in_the_era_that_can_send_one() -> None:
    headers, body = _call("echo", modern=True)
    body["params"]["arguments"] = {"message": "x\ud800y"}
    async with run_demo() as (url, log), httpx2.AsyncClient(headers=headers) as http:
        answer = await http.post(url, content=json.dumps(body).encode())
    assert answer.json()["result"]["structuredContent"] == {"message": "x\ud800y"}
    (event,) = log.events
    assert event.parameters == {"message": "x\ud800y"}
    assert "x\\ud800y" in event.to_json()


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
        "Content-Type": "application/json",
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
            await anext(events)
            event = log.events[-1]
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
