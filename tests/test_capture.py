"""What an event keeps of a call, whatever was sent, answered or notified."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import mcp_types as types
import pytest
from audited import MODES, bare_server, call_raw, echo, heard, payload, says, serve
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from mcpaudit_lab.record import Event
from mcpaudit_lab.record.sanitize import REDACTED, Sanitizer
from mcpaudit_lab.server import (
    CapturePolicy,
    MemoryLogger,
    add_audit,
)

pytestmark = pytest.mark.anyio


async def test_every_content_type_is_kept_as_it_was_sent() -> None:
    content: list[types.ContentBlock] = [
        types.TextContent(type="text", text="text"),
        types.ImageContent(type="image", data="aW1hZ2U=", mime_type="image/png"),
        types.AudioContent(type="audio", data="YXVkaW8=", mime_type="audio/wav"),
        types.ResourceLink(type="resource_link", name="link", uri="file:///a"),
        types.EmbeddedResource(
            type="resource",
            resource=types.TextResourceContents(uri="file:///b", text='{"token": "x"}'),
        ),
        types.EmbeddedResource(
            type="resource", resource=types.BlobResourceContents(uri="file:///c", blob="YmxvYg==")
        ),
    ]

    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return types.CallToolResult(
            content=content, structured_content={"secret": 1, "kept": [1.5, None]}
        )

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        await client.call_tool("work")
    (event,) = log.events
    assert (event.content_blocks, event.response_chars) == (6, 4)
    result = payload(event)["response_result"]
    assert [block["type"] for block in result["content"]] == [
        "text",
        "image",
        "audio",
        "resource_link",
        "resource",
        "resource",
    ]
    assert result["content"][1] == {"type": "image", "data": "aW1hZ2U=", "mimeType": "image/png"}
    assert result["content"][4]["resource"]["text"] == f'{{"token":"{REDACTED}"}}'
    assert result["structuredContent"] == {"secret": REDACTED, "kept": [1.5, None]}


async def test_responses_are_kept_whole_when_asked_for() -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return says('{"token": "x"}')

    server = bare_server(work)
    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(sanitize_responses=False))
    async with Client(server) as client:
        await client.call_tool("work", {"token": "x"})
    assert log.events[0].parameters == {"token": REDACTED}
    result = payload(log.events[0])["response_result"]
    assert result["content"][0]["text"] == '{"token": "x"}'


async def test_an_error_message_is_bounded() -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        raise MCPError(-32000, "x" * 70_000)

    server, log = serve(work)
    async with Client(server) as client:
        with pytest.raises(MCPError):
            await client.call_tool("work")
    assert len(log.events[0].error_message) == 65_536
    assert log.events[0].error_message.endswith("x…")


async def test_progress_and_log_messages_are_kept_in_order() -> None:
    async def work(ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        await ctx.session.report_progress(1, 2, "half")
        with pytest.warns(MCPDeprecationWarning):
            await ctx.session.send_log_message(
                "info", {"token": "x", "n": 1}, related_request_id=ctx.request_id
            )
        await ctx.session.report_progress(2)
        await ctx.session.send_progress_notification("mine", 3, related_request_id=ctx.request_id)
        return says("done")

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        await client.call_tool("work", progress_callback=heard)
    notifications = log.events[0].payload.notifications  # type: ignore[union-attr]  # it has one
    assert [item.method for item in notifications] == [
        "notifications/progress",
        "notifications/message",
        "notifications/progress",
        "notifications/progress",
    ]
    assert [item.params for item in notifications] == [
        {"progressToken": REDACTED, "progress": 1, "total": 2, "message": "half"},
        {"level": "info", "data": {"token": REDACTED, "n": 1}},
        {"progressToken": REDACTED, "progress": 2},
        {"progressToken": REDACTED, "progress": 3.0},
    ]
    times = [item.ts for item in notifications]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]  # none is None


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize(("level", "kept"), [(None, 0), ("debug", 2), ("error", 1)])
async def test_a_log_message_nobody_asked_for_is_not_sent_and_not_kept(
    level: types.LoggingLevel | None, kept: int
) -> None:
    async def work(ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        await ctx.session.send_log_message("info", "a", related_request_id=ctx.request_id)
        await ctx.session.send_log_message("error", "b", related_request_id=ctx.request_id)
        await ctx.session.report_progress(1)
        return says("done")

    server, log = serve(work)
    async with Client(server, log_level=level) as client:
        await client.call_tool("work")
    assert len(payload(log.events[0]).get("notifications", ())) == kept


async def test_notifications_are_kept_up_to_a_number_then_up_to_a_size() -> None:
    async def work(ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        for step in range(arguments["steps"]):
            await ctx.session.report_progress(step, message="m" * arguments["size"])
        return says("done")

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        for steps, size in ((100, 1), (102, 1), (3, 30_000)):
            await client.call_tool("work", {"steps": steps, "size": size}, progress_callback=heard)
    kept = [
        (
            len(payload(event)["notifications"]),
            payload(event).get("notifications_truncated", False),
        )
        for event in log.events
    ]
    assert kept == [(100, False), (100, True), (2, True)]


async def test_a_notification_after_the_end_changes_no_row() -> None:
    sessions: list[Any] = []

    async def work(ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        sessions.append(ctx.session)
        await ctx.session.report_progress(1)
        return says("done")

    server, log = serve(work)
    async with Client(server, mode="legacy") as client:
        await client.call_tool("work", progress_callback=heard)
        before = log.events[0].to_json()
        await sessions[0].report_progress(2)
    assert log.events[0].to_json() == before


@pytest.mark.parametrize(("extra", "truncated"), [(0, False), (1, True)])
async def test_each_side_over_the_limit_is_left_out_whole(extra: int, truncated: bool) -> None:
    async def work(_ctx: Any, arguments: dict[str, Any]) -> types.CallToolResult:
        return says("x" * arguments.get("chars", 0))

    around_request = len('{"m":""}')
    around_response = len('{"content":[{"type":"text","text":""}],"isError":false}')
    server, log = serve(work)
    async with Client(server) as client:
        await client.call_tool("work", {"m": "x" * (65_536 - around_request + extra)})
        await client.call_tool("work", {"chars": 65_536 - around_response + extra})
    request, response = log.events
    assert payload(request)["request_size_bytes"] == 65_536 + extra
    assert payload(request).get("request_truncated", False) is truncated
    assert ("request_params" in payload(request)) is not truncated
    assert request.parameters == {"m": "x" * (65_528 + extra)}, "the row keeps it"
    assert "response_truncated" not in payload(request)
    assert payload(response)["response_size_bytes"] == 65_536 + extra
    assert payload(response).get("response_truncated", False) is truncated
    assert ("response_result" in payload(response)) is not truncated


HOSTILE = pytest.mark.parametrize("text", ["a\0b", "\ud800", "x\udfff\ud800y", "\u2028<&>", "🚀"])


@MODES
@HOSTILE
async def test_hostile_text_has_its_row(mode: str, text: str) -> None:
    server, log = serve(lambda _ctx, arguments: echo(arguments))
    async with Client(server, mode=mode) as client:
        await client.call_tool("work", {"text": text})
    (event,) = log.events
    assert event.parameters == {"text": text}
    assert payload(event)["response_result"]["structuredContent"] == {"text": text}
    assert Event.from_json(event.to_json()) == event


@HOSTILE
async def test_a_hostile_name_has_its_row(text: str) -> None:
    server, log = serve(lambda _ctx, _arguments: echo({}))
    with suppress(MCPError):
        await call_raw(server, {"name": text, "arguments": {text: 1}})
    (event,) = log.events
    assert (event.tool_name, event.parameters) == (text, {text: 1})
    assert Event.from_json(event.to_json()) == event


async def test_nesting_of_ten_thousand_has_its_row(caplog: pytest.LogCaptureFixture) -> None:
    deep: Any = {"password": "x"}
    for _ in range(10_000):
        deep = {"k": deep}
    server, log = serve(lambda _ctx, _arguments: echo({"done": True}))
    await call_raw(server, {"name": "work", "arguments": {"deep": deep}})
    (event,) = log.events
    assert event.success
    assert event.to_json().count('{"k":') == 2 * 10_000
    assert event.to_json().count(REDACTED) == 2
    assert payload(event)["request_size_bytes"] == 60_000 + len(
        '{"deep":{"password":"[redacted]"}}'
    )

    server, log = serve(lambda _ctx, arguments: echo(arguments))
    with pytest.raises(MCPError):
        await call_raw(server, {"name": "work", "arguments": {"deep": deep}})
    (event,) = log.events
    assert (event.error_category, event.parameters is not None) == ("handler", True)
    caplog.clear()


async def test_arguments_that_are_not_json_have_their_row() -> None:
    loop: dict[str, Any] = {"object": object(), "nan": float("nan")}
    loop["loop"] = loop
    server, log = serve(lambda _ctx, _arguments: echo({}))
    await call_raw(server, {"name": "work", "arguments": {"a": loop}})
    (event,) = log.events
    assert event.parameters == {
        "a": {"object": "<object>", "nan": "NaN", "loop": "<cycle>"},
    }


async def test_the_rules_of_the_sanitizer_are_yours() -> None:
    server = bare_server(lambda _ctx, arguments: echo(arguments))
    log = MemoryLogger()
    add_audit(server, log, policy=CapturePolicy(sanitizer=Sanitizer(("max_tokens",))))
    async with Client(server) as client:
        await client.call_tool("work", {"max_tokens": 5, "token": "x"})
    assert log.events[0].parameters == {"max_tokens": REDACTED, "token": "x"}


async def test_a_result_that_asks_for_more_input_is_recorded_as_it_is() -> None:
    async def work(_ctx: Any, arguments: dict[str, Any]) -> Any:
        del arguments
        return types.InputRequiredResult(request_state="sealed")

    server, log = serve(work)
    async with Client(server) as client:
        await client.session.call_tool("work", {}, allow_input_required=True)
    assert payload(log.events[0])["response_result"] == {
        "resultType": "input_required",
        "requestState": "sealed",
    }


@MODES
async def test_what_a_tool_says_about_its_result_is_kept(mode: str) -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return types.CallToolResult(content=[], _meta={"cost": 1, "token": "x"})

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        await client.call_tool("work")
    assert payload(log.events[0])["response_result"] == {
        "content": [],
        "isError": False,
        "_meta": {"cost": 1, "token": REDACTED},
    }


async def test_a_place_is_asked_for_by_size() -> None:
    hints: list[int] = []

    class Sized(MemoryLogger):
        async def reserve(self, size_hint: int) -> Any:
            hints.append(size_hint)
            return await super().reserve(size_hint)

    server = bare_server(lambda _ctx, arguments: echo(arguments))
    log = Sized()
    add_audit(server, log)
    async with Client(server) as client:
        for chars in (1, 30_000, 200_000):
            await client.call_tool("work", {"m": "x" * chars})
    assert hints == sorted(hints)
    sizes = [len(event.to_json()) for event in log.events]
    assert all(size < hint for size, hint in zip(sizes, hints, strict=True))
