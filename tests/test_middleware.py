"""Every tool call of an audited server becomes one event that says what was sent and answered."""

from __future__ import annotations

import logging
from collections import UserDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as types
import pytest
from audited import DEV, MODES, bare_server, call_raw, echo, heard, payload, says, serve
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotation
from mcp.shared.exceptions import MCPError

from mcpaudit_lab.record import Event
from mcpaudit_lab.record.sanitize import REDACTED
from mcpaudit_lab.server import (
    AuditMiddleware,
    CapturePolicy,
    Identity,
    MemoryLogger,
    Origin,
    add_audit,
    demo_server,
    demo_tool_groups,
    use_origin,
)

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

pytestmark = pytest.mark.anyio


@MODES
async def test_a_call_becomes_one_event(mode: str) -> None:
    async def work(_ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        return says(f"hé {arguments['n']}", structured_content={"n": arguments["n"]})

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        with use_origin(Origin(identity=DEV)):
            await client.call_tool("work", {"n": 1, "password": "hunter2"})
        await client.list_tools()

    (event,) = log.events
    assert event.id
    assert event.request_id not in ("", event.id)
    assert (event.user_subject, event.auth_type, event.api_key_name) == (
        "apikey:dev-local",
        "apikey",
        "dev-local",
    )
    assert event.wire["success"] is True
    assert (event.transport, event.source) == ("stdio", "mcp")
    assert event.parameters == {"n": 1, "password": REDACTED}
    assert (event.content_blocks, event.response_chars) == (1, 5)
    assert payload(event) == {
        "jsonrpc_method": "tools/call",
        "request_params": {"n": 1, "password": REDACTED},
        "request_size_bytes": 31,
        "response_result": {
            "content": [{"type": "text", "text": "hé 1"}],
            "isError": False,
            "structuredContent": {"n": 1},
        },
        "response_size_bytes": len(
            '{"content":[{"text":"hé 1","type":"text"}],"isError":false,'
            '"structuredContent":{"n":1}}'.encode()
        ),
    }
    assert log.reserved == 0


@MODES
async def test_a_tool_that_changes_its_arguments_changes_no_row(mode: str) -> None:
    async def work(ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        arguments["list"].append("changed")
        arguments["new"] = True
        ctx.params["arguments"].clear()
        return says("done")

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        await client.call_tool("work", {"list": [1]})
    assert log.events[0].parameters == {"list": [1]}
    assert payload(log.events[0])["request_params"] == {"list": [1]}


@MODES
async def test_an_answer_that_says_is_error_is_a_tool_failure(mode: str) -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return says("no", is_error=True)

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        await client.call_tool("work")
    (event,) = log.events
    assert (event.success, event.error_category, event.error_message) == (False, "tool", "")
    assert payload(event)["response_result"]["isError"] is True
    assert "response_error" not in payload(event)


@MODES
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MCPError(-32000, "out of order", {"secret": 1}), "out of order"),
        (ValueError("no such thing"), "no such thing"),
        (KeyError(), "KeyError"),
        (ExceptionGroup("both", [ValueError()]), "both (1 sub-exception)"),
    ],
)
async def test_a_tool_that_raises_is_a_handler_failure(
    mode: str, error: Exception, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        raise error

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        with pytest.raises(MCPError):
            await client.call_tool("work", {"a": 1})
    (event,) = log.events
    assert (event.success, event.error_category, event.error_message) == (False, "handler", message)
    assert event.parameters == {"a": 1}
    assert payload(event)["response_error"] == {"category": "handler", "message": message}
    assert "response_result" not in payload(event)
    caplog.clear()


async def test_a_refusal_of_the_sdk_does_not_repeat_what_was_sent() -> None:
    server, log = serve(lambda _ctx, _arguments: None)
    with pytest.raises(MCPError):
        await call_raw(server, {"name": "work", "arguments": {"a": 1}, "inputResponses": "hunter2"})
    (event,) = log.events
    assert event.error_message == "Invalid request parameters"
    assert "hunter2" not in event.to_json()


@pytest.mark.parametrize("value", [object(), {"deep": [print]}])
async def test_a_result_that_does_not_serialize_has_its_row(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return types.CallToolResult(content=[], structured_content={"value": value})

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        with pytest.raises(MCPError):
            await client.call_tool("work", {"a": 1})
    (event,) = log.events
    assert (event.success, event.error_category) == (False, "handler")
    assert "serialize" in event.error_message
    caplog.clear()


@MODES
async def test_a_call_cancelled_by_its_caller_is_recorded_as_such(mode: str) -> None:
    running = anyio.Event()

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        running.set()
        await anyio.sleep_forever()
        raise AssertionError

    server, log = serve(work)
    async with log.subscribe() as events, Client(server, mode=mode) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "work", {"a": 1})
            await running.wait()
            group.cancel_scope.cancel()
        await anext(events)
        event = log.events[-1]
    assert (event.success, event.error_category, event.error_message) == (False, "tool", "")
    assert event.parameters == {"a": 1}
    assert payload(event)["response_result"] == {
        "content": [{"type": "text", "text": "context canceled"}],
        "isError": True,
    }
    assert (event.response_chars, event.content_blocks) == (16, 1)
    assert payload(event)["response_size_bytes"] == 70
    assert log.events == [event]


async def test_a_server_that_ends_records_what_was_running() -> None:
    running = anyio.Event()

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        running.set()
        await anyio.sleep_forever()
        raise AssertionError

    server, log = serve(work)

    async def call(client: Client) -> None:
        with pytest.raises(MCPError):
            await client.call_tool("work")

    async with anyio.create_task_group() as group, Client(server, mode="legacy") as client:
        group.start_soon(call, client)
        await running.wait()
    assert [event.error_category for event in log.events] == ["tool"]
    assert log.reserved == 0


async def test_no_place_in_the_log_means_no_call() -> None:
    ran: list[int] = []

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        ran.append(1)
        return says("done")

    server = bare_server(work)
    log = MemoryLogger(max_events=1)
    add_audit(server, log)
    async with Client(server) as client:
        await client.call_tool("work")
        with pytest.raises(MCPError, match=r"not run.*audit log is full") as refused:
            await client.call_tool("work")
    assert refused.value.code == types.INTERNAL_ERROR
    assert (len(ran), len(log.events), log.reserved) == (1, 1, 0)


class _BrokenLogger(MemoryLogger):
    async def reserve(self, size_hint: int) -> Any:
        del size_hint
        return self

    def commit(self, event: Event) -> None:
        raise OSError(event.id)

    def release(self) -> None: ...


async def test_a_logger_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    server = bare_server(lambda _ctx, arguments: echo(arguments))
    add_audit(server, _BrokenLogger())
    async with Client(server) as client:
        result = await client.call_tool("work", {"n": 1})
    assert result.structured_content == {"n": 1}
    assert "could not be stored" in caplog.text


async def test_an_event_that_cannot_be_made_leaves_a_bare_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(UserDict[str, str]):
        def get(self, *args: Any) -> Any:
            raise RuntimeError(args)

    policy = CapturePolicy(tool_groups=Broken())
    server, log = serve(lambda _ctx, arguments: echo(arguments), policy)
    async with Client(server) as client:
        await client.call_tool("work", {"password": "hunter2"})
    (event,) = log.events
    assert (event.tool_name, event.success, event.error_category) == ("work", False, "handler")
    assert event.payload is None
    assert "hunter2" not in caplog.text


async def test_a_server_is_audited_once() -> None:
    server, log = serve(lambda _ctx, arguments: echo(arguments))
    with pytest.raises(ValueError, match="audited already"):
        add_audit(server, log)


@pytest.mark.parametrize(
    ("answer", "success", "message"),
    [
        ({"content": [], "isError": True}, False, ""),
        (None, True, ""),
        (types.CallToolResult(content=[]), True, ""),
        (types.ErrorData(code=-32000, message="vetoed"), False, "vetoed"),
        (["no result"], False, "a tool call returned an unsupported type: list"),
    ],
)
async def test_what_another_middleware_answers_is_recorded(
    answer: Any, success: bool, message: str
) -> None:
    async def answers(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            return cast("HandlerResult", answer)
        return await call_next(ctx)

    server, log = serve(lambda _ctx, arguments: echo(arguments))
    server.middleware.append(answers)
    with suppress(MCPError):
        await call_raw(server, {"name": "work"})
    (event,) = log.events
    assert (event.success, event.error_message) == (success, message)


async def test_what_was_sent_is_recorded_though_another_middleware_rewrites_it() -> None:
    async def rewrite(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            ctx = replace(ctx, params={"name": "work", "arguments": {"n": 2}})
        return await call_next(ctx)

    server, log = serve(lambda _ctx, arguments: echo(arguments))
    server.middleware.append(rewrite)
    async with Client(server, mode="legacy") as client:
        await client.call_tool("work", {"n": 1})
    assert log.events[0].parameters == {"n": 1}
    assert payload(log.events[0])["response_result"]["structuredContent"] == {"n": 2}


@MODES
async def test_a_server_of_the_high_level_kind_is_audited_in_one_line(mode: str) -> None:
    server: MCPServer[Any] = MCPServer("yours")

    @server.tool()
    async def add(a: int, b: int, ctx: Context[Any, Any]) -> int:
        await ctx.report_progress(1, 1)
        return a + b

    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(tool_groups={"add": "sums"}))

    async with Client(server, mode=mode) as client:
        assert (await client.call_tool("add", {"a": "1", "b": 2}, progress_callback=heard)).content
        await client.call_tool("nope", {})
        await client.call_tool("add", {"a": "x", "b": 2})
    added, unknown, refused = log.events
    assert added.tool_group == "sums"
    assert added.parameters == {"a": "1", "b": 2}, "as sent, not as coerced"
    assert payload(added)["response_result"]["structuredContent"] == {"result": 3}
    assert len(payload(added).get("notifications", ())) == (1 if mode == "legacy" else 0)
    assert (unknown.tool_name, unknown.error_category) == ("nope", "tool")
    assert (refused.success, refused.error_category) == (False, "tool")


async def test_other_requests_and_notifications_are_not_recorded() -> None:
    server, log = serve(lambda _ctx, arguments: echo(arguments))
    async with Client(server, mode="legacy") as client:
        await client.list_tools()
        with pytest.raises(MCPError):
            await client.list_prompts()
    assert log.events == []


async def test_eight_callers_at_once_lose_nothing() -> None:
    server = demo_server()
    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(tool_groups=demo_tool_groups()))

    async def call(mode: str, number: int) -> None:
        async with Client(server, mode=mode) as client:
            for turn in range(25):
                with use_origin(Origin(identity=Identity.from_key(f"k{number}"))):
                    await client.call_tool("echo", {"message": f"{number}-{turn}"})

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(call, "legacy" if number % 2 else "auto", number)
    assert len(log.events) == 200
    assert len({event.id for event in log.events}) == 200
    assert all(
        event.user_subject == f"apikey:k{event.parameters['message'].split('-')[0]}"  # type: ignore[index,call-overload]  # an object
        for event in log.events
    )


def test_the_middleware_works_without_a_policy_of_its_own() -> None:
    audit = AuditMiddleware(MemoryLogger())
    assert audit.policy == CapturePolicy()
    assert logging.getLogger("mcpaudit_lab.server.audit.middleware").handlers == []
