"""Calls from inside the process leave the rows of the recorded portal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from audited import DEV, bare_server, echo, payload, says, serve
from mcp.server import MCPServer, Server
from mcp.shared.exceptions import MCPError

from mcpaudit_lab.record.jsontext import dumps, same
from mcpaudit_lab.record.sanitize import REDACTED, Sanitizer
from mcpaudit_lab.server import (
    CallOutcome,
    CapturePolicy,
    Identity,
    MemoryLogger,
    Origin,
    add_audit,
    demo_server,
    demo_tool_groups,
    open_in_process,
)

pytestmark = pytest.mark.anyio

UPSTREAM = Path(__file__).parent / "data" / "upstream"
RECORDED = [json.loads(line) for line in (UPSTREAM / "details.jsonl").read_text().splitlines()]
PORTAL_ROWS = [row for row in RECORDED if row["source"] != "mcp"]
VOLATILE = {"id", "timestamp", "duration_ms", "request_id"}
BY_CHANCE = {"lorem", "slow"}


@pytest.mark.parametrize("row", PORTAL_ROWS, ids=lambda row: f"{row['source']}-{row['tool_name']}")
async def test_the_portal_s_own_calls_leave_the_recorded_rows(row: dict[str, Any]) -> None:
    server = demo_server()
    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(tool_groups=demo_tool_groups()))
    event_id = "8018d3b4-cd22-45b1-9d01-22395b791694"
    origin = Origin(
        identity=Identity.from_key(row["api_key_name"]),
        source=row["source"],
        remote_addr=row["remote_addr"],
        user_agent=row["user_agent"],
        replayed_from=row["payload"].get("replayed_from", ""),
        event_id=event_id,
    )
    arguments, result = row.get("parameters"), row["payload"].get("response_result")
    if REDACTED in dumps(arguments):
        arguments = result["structuredContent"]  # an echo, and never redacted there
    async with open_in_process(server) as caller:
        outcome = await caller.call(row["tool_name"], arguments, origin)
    (event,) = log.events
    assert event.id == event_id
    assert outcome.success is event.success is row["success"]
    got = {name: value for name, value in event.wire.items() if name not in VOLATILE}
    wanted = {name: value for name, value in row.items() if name not in VOLATILE}
    if result is not None:
        wanted["payload"] = {**row["payload"], "response_result": Sanitizer().clean(result)}
    if row["tool_name"] in BY_CHANCE:
        for side in (got, wanted):
            side.pop("response_chars")
            side["payload"] = {**side["payload"], "response_result": None}
    assert same(got, wanted), f"\n{dumps(got)}\n{dumps(wanted)}"


async def test_an_answer_is_the_recorded_one() -> None:
    body = (UPSTREAM / "replay" / "fail-error-as-tool-502.http").read_bytes()
    recorded = json.loads(body.partition(b"\r\n\r\n")[2])["result"]
    arguments = {"as_tool": True, "category": "timeout", "message": recorded["content"][0]["text"]}
    async with open_in_process(demo_server()) as caller:
        outcome = await caller.call("error", arguments, Origin())
    assert same(outcome.result, recorded)
    assert not outcome.success


async def test_a_call_that_raises_is_an_outcome(caplog: pytest.LogCaptureFixture) -> None:
    async def work(_ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        if "value" in arguments:
            raise ValueError("no such thing")
        return says("fine")

    server, log = serve(work)
    async with open_in_process(server) as caller:
        unknown = await caller.call("work", {"value": 1}, Origin())
        assert unknown == CallOutcome(None, 'calling "tools/call": no such thing')
        assert not unknown.success
        wrong: Any = 5
        refused = await caller.call(wrong, {}, Origin())
        assert refused == CallOutcome(None, 'calling "tools/call": Invalid request parameters')
        assert (await caller.call("work", None, Origin())).success
    async with open_in_process(demo_server()) as caller:
        nosuch = await caller.call("nosuch", None, Origin())
        assert nosuch.error == 'calling "tools/call": unknown tool "nosuch"'
    assert [event.success for event in log.events] == [False, False, True]
    caplog.clear()


async def test_an_exception_that_cannot_be_shown_has_its_row() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        raise MuteError

    server, log = serve(work)
    server.middleware.pop()  # the SDK's tracing, which would try to show it
    async with open_in_process(server) as caller:
        outcome = await caller.call("work", {}, Origin())
    assert outcome.error == 'calling "tools/call": MuteError'
    assert (log.events[0].success, log.events[0].error_message) == (False, "MuteError")


async def test_arguments_are_copied_however_deep() -> None:
    async def work(_ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        arguments["deep"].clear()
        return says("changed it")

    deep: Any = {"leaf": 1}
    for _ in range(10_000):
        deep = {"k": deep}
    server, log = serve(work)
    async with open_in_process(server) as caller:
        await caller.call("work", {"deep": deep}, Origin(identity=DEV))
    assert deep.keys() == {"k"}
    assert log.events[0].to_json().count('"k"') == 20_000


async def test_a_caller_that_hangs_up_leaves_a_row() -> None:
    running = anyio.Event()

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        running.set()
        await anyio.sleep_forever()
        raise AssertionError

    server, log = serve(work)
    async with open_in_process(server) as caller, anyio.create_task_group() as group:
        group.start_soon(caller.call, "work", {}, Origin(source="portal-replay"))
        await running.wait()
        group.cancel_scope.cancel()
    (event,) = log.events
    assert (event.source, event.success, event.error_category) == ("portal-replay", False, "tool")


async def test_nobody_hears_the_tool_but_the_record() -> None:
    async def work(ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        await ctx.session.report_progress(1)
        await ctx.session.send_resource_updated("file:///a")
        await ctx.session.send_progress_notification("t", 1, related_request_id=ctx.request_id)
        with pytest.raises(MCPError):
            await ctx.session.send_ping()
        with pytest.raises(MCPError):
            await ctx.session.elicit_form("?", {}, related_request_id=ctx.request_id)
        return says("done")

    server, log = serve(work)
    async with open_in_process(server) as caller:
        assert (await caller.call("work", {}, Origin())).success
    methods = [item["method"] for item in payload(log.events[0])["notifications"]]
    assert methods == ["notifications/resources/updated", "notifications/progress"]


async def test_the_server_s_lifespan_is_entered_once() -> None:
    states: list[str] = []

    @asynccontextmanager
    async def lifespan(_server: MCPServer[Any]) -> AsyncIterator[str]:
        states.append("entered")
        yield "state"
        states.append("left")

    server: MCPServer[Any] = MCPServer("yours", lifespan=lifespan)

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    log = MemoryLogger()
    add_audit(server, log)
    async with open_in_process(server) as caller:
        for _ in range(2):
            outcome = await caller.call("add", {"a": 1, "b": 2}, Origin())
        assert [tool["name"] for tool in await caller.list_tools()] == ["add"]
        assert states == ["entered"]
    assert states == ["entered", "left"]
    assert outcome.result is not None
    assert outcome.result["structuredContent"] == {"result": 3}
    assert [event.tool_name for event in log.events] == ["add", "add"]


async def test_all_pages_of_tools_are_listed() -> None:
    async def list_tools(
        _ctx: Any, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        page = int((params and params.cursor) or 0)
        tool = types.Tool(name=f"tool{page}", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[tool], next_cursor=str(page + 1) if page < 2 else None)

    server: Server[Any] = Server("pages", on_list_tools=list_tools)
    async with open_in_process(server) as caller:
        assert [tool["name"] for tool in await caller.list_tools()] == ["tool0", "tool1", "tool2"]
    async with open_in_process(Server("none")) as caller:
        with pytest.raises(MCPError):
            await caller.list_tools()


async def test_an_unaudited_server_can_be_called_too() -> None:
    async with open_in_process(bare_server(lambda _ctx, arguments: echo(arguments))) as caller:
        outcome = await caller.call("work", {"n": 1}, Origin())
    assert outcome.result == {"content": [], "isError": False, "structuredContent": {"n": 1}}
