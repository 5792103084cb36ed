"""Demonstration tools that fail or delay on request."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import anyio
from mcp_types import CallToolResult

from mcpaudit_lab.server.tools.tool import (
    DemoTool,
    ToolError,
    object_schema,
    text_block,
    tool_result,
)

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

__all__ = ["FAILURE_TOOLS"]

_MAX_SLEEP_MS = 60_000


async def _error(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx
    message = arguments.get("message") or "synthetic error"
    if not arguments.get("as_tool"):
        raise ToolError(message)
    return CallToolResult(
        content=[text_block(message)], structured_content={"triggered": True}, is_error=True
    )


async def _slow(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx
    milliseconds = min(max(int(arguments["milliseconds"]), 0), _MAX_SLEEP_MS)
    started = anyio.current_time()
    await anyio.sleep(milliseconds / 1000)
    return tool_result({"slept_ms": int((anyio.current_time() - started) * 1000)})


async def _flaky(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx
    fail_rate = arguments["fail_rate"]
    roll = _roll(arguments.get("seed") or secrets.token_hex(8), int(arguments.get("call_id", 0)))
    if roll < fail_rate:
        raise ToolError(f"flaky failure (roll={roll:.4f} < rate={fail_rate:.4f})")
    return tool_result({"failed": False, "roll": roll, "fail_rate": fail_rate})


def _roll(seed: str, call_id: int) -> float:
    """A number in [0, 1), the same for the same seed and call."""
    digest = hashlib.sha256(f"{seed}\0{call_id}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


FAILURE_TOOLS = (
    DemoTool(
        name="error",
        group="failure",
        summary="Return an error with a caller-specified message and category.",
        description="Return an error with a caller-specified message. Optionally categorize as "
        "protocol|tool|timeout|auth so audit rows are easy to filter.",
        input_schema=object_schema(
            message={
                "type": "string",
                "description": "error message to return; defaults to 'synthetic error'",
            },
            category={
                "type": "string",
                "description": "optional category label (protocol|tool|timeout|auth) for audit "
                "filtering",
            },
            as_tool={
                "type": "boolean",
                "description": "if true, return CallToolResult.IsError=true instead of a protocol "
                "error",
            },
        ),
        output_schema=object_schema("triggered", triggered={"type": "boolean"}),
        run=_error,
    ),
    DemoTool(
        name="slow",
        group="failure",
        summary="Sleep for the specified milliseconds before returning. Honors context "
        "cancellation.",
        description="Sleep for the specified number of milliseconds, then return. Returns "
        "ctx.Err() if cancelled mid-sleep.",
        input_schema=object_schema(
            "milliseconds",
            milliseconds={
                "type": "integer",
                "description": "how long to sleep before returning, in ms; capped at 60000",
            },
        ),
        output_schema=object_schema("slept_ms", slept_ms={"type": "integer"}),
        run=_slow,
    ),
    DemoTool(
        name="flaky",
        group="failure",
        summary="Fail with probability P (seeded). Same seed + same call number always gives the "
        "same outcome.",
        description="Return success or a synthetic failure based on the supplied probability and "
        "seed. Useful for retry-policy testing.",
        input_schema=object_schema(
            "fail_rate",
            fail_rate={
                "type": "number",
                "description": "probability of failure between 0 and 1",
            },
            seed={
                "type": "string",
                "description": "seed for reproducible outcomes; same seed + N-th call yields the "
                "same outcome",
            },
            call_id={
                "type": "integer",
                "description": "caller-supplied iteration index; combined with seed for "
                "repeatability",
            },
        ),
        output_schema=object_schema(
            "failed",
            "roll",
            "fail_rate",
            failed={"type": "boolean"},
            roll={"type": "number"},
            fail_rate={"type": "number"},
        ),
        run=_flaky,
    ),
)
