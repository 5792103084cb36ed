"""Demonstration tools that respond in several parts: progress reports, content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from mcp_types import CallToolResult, ContentBlock

from mcpaudit_lab.server.tools.tool import DemoTool, object_schema, text_block, tool_result

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

__all__ = ["STREAMING_TOOLS"]

_READ_ONLY = {"readOnlyHint": True}
_CHATTY_BLOCKS = (
    "first block: short",
    "second block: a slightly longer string with multiple words",
    "third block: numbers 1 2 3 4 5",
    "fourth block: unicode; café résumé naïve",
)


def _within(value: Any, default: int, most: int) -> int:
    """A number from the caller, at most ``most``; 0 or less means ``default``."""
    return min(int(value), most) if value > 0 else default


async def _progress(
    ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]
) -> CallToolResult:
    steps = _within(arguments["steps"], 5, 100)
    pause_ms = _within(arguments["step_ms"], 200, 5000)
    for step in range(1, steps + 1):
        await ctx.session.report_progress(step, steps, f"step {step}/{steps}")
        await anyio.sleep(pause_ms / 1000)
    notified = (ctx.meta or {}).get("progress_token") is not None
    return tool_result({"steps": steps, "notified": notified, "done": True})


async def _long_output(
    ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]
) -> CallToolResult:
    del ctx
    blocks = _within(arguments["blocks"], 3, 50)
    chars = _within(arguments["chars"], 256, 65_536)
    filler = "abcdefghij" * (chars // 10 + 1)
    content: list[ContentBlock] = [
        text_block(f"[block {number}] {filler}"[:chars]) for number in range(blocks)
    ]
    return CallToolResult(content=content)


async def _chatty(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx, arguments
    return CallToolResult(content=[text_block(text) for text in _CHATTY_BLOCKS])


STREAMING_TOOLS = (
    DemoTool(
        name="progress",
        group="streaming",
        summary="Emit N progress notifications, then return.",
        description="Emit N progress notifications spaced step_ms apart, then return. The client "
        "must include a progressToken in _meta to receive notifications.",
        input_schema=object_schema(
            "steps",
            "step_ms",
            steps={
                "type": "integer",
                "description": "number of progress notifications to emit; default 5; max 100",
            },
            step_ms={
                "type": "integer",
                "description": "sleep between steps in ms; default 200; max 5000",
            },
        ),
        output_schema=object_schema(
            "steps",
            "notified",
            "done",
            steps={"type": "integer"},
            notified={"type": "boolean"},
            done={"type": "boolean"},
        ),
        run=_progress,
    ),
    DemoTool(
        name="long_output",
        group="streaming",
        summary="Return one CallToolResult containing M text blocks of K characters each.",
        description="Return one CallToolResult containing `blocks` text content items, each of "
        "`chars` characters.",
        input_schema=object_schema(
            "blocks",
            "chars",
            blocks={
                "type": "integer",
                "description": "number of text content blocks to return; default 3; max 50",
            },
            chars={
                "type": "integer",
                "description": "characters per block; default 256; max 65536",
            },
        ),
        annotations=_READ_ONLY,
        run=_long_output,
    ),
    DemoTool(
        name="chatty",
        group="streaming",
        summary="Return a CallToolResult with multiple, varied content blocks (mix of texts).",
        description="Return a CallToolResult with several diverse text content blocks. Useful for "
        "verifying the gateway preserves block ordering and types.",
        input_schema=object_schema(),
        annotations=_READ_ONLY,
        run=_chatty,
    ),
)
