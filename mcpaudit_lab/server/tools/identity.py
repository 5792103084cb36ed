"""Demonstration tools that return the caller, the arguments, and the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpaudit_lab.record import Sanitizer
from mcpaudit_lab.server.audit import current_identity, read_headers
from mcpaudit_lab.server.tools.tool import DemoTool, object_schema, tool_result

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolResult

__all__ = ["identity_tools"]

_READ_ONLY = {"readOnlyHint": True}
_ECHOED = {
    "message": {
        "type": "string",
        "description": "a short message to include verbatim in the response",
    },
    "extras": {
        "type": "object",
        "description": "optional free-form payload echoed unchanged",
        "additionalProperties": True,
    },
}


def identity_tools(sanitizer: Sanitizer) -> tuple[DemoTool, ...]:
    """``whoami``, ``echo`` and ``headers``.

    Args:
        sanitizer: masks secrets in the response of ``headers``.
    """

    async def headers(
        ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]
    ) -> CallToolResult:
        del arguments
        raw = getattr(getattr(ctx.request, "headers", None), "raw", ())
        shown = sanitizer.mask_headers(read_headers(raw))
        return tool_result({"count": len(shown), "headers": shown})

    return (
        DemoTool(
            name="whoami",
            group="identity",
            summary="Return the authenticated identity for the calling MCP session.",
            description="Return the authenticated identity for the calling MCP session.",
            input_schema=object_schema(),
            output_schema=object_schema(
                "subject",
                "auth_type",
                subject={"type": "string"},
                email={"type": "string"},
                name={"type": "string"},
                auth_type={"type": "string"},
                claims={"type": "object", "additionalProperties": True},
            ),
            annotations=_READ_ONLY,
            run=_whoami,
        ),
        DemoTool(
            name="echo",
            group="identity",
            summary="Echo the provided arguments back to the caller.",
            description="Echo back the arguments object exactly as received.",
            input_schema=object_schema(**_ECHOED),
            output_schema=object_schema(**_ECHOED),
            annotations=_READ_ONLY,
            run=_echo,
        ),
        DemoTool(
            name="headers",
            group="identity",
            summary="Return the HTTP headers received by this server, with sensitive values "
            "redacted.",
            description="Return the HTTP headers received by this MCP server, with sensitive "
            "values redacted.",
            input_schema=object_schema(),
            output_schema=object_schema(
                "headers",
                "count",
                headers={
                    "type": "object",
                    "additionalProperties": {
                        "type": ["null", "array"],
                        "items": {"type": "string"},
                    },
                },
                count={"type": "integer"},
            ),
            annotations=_READ_ONLY,
            run=headers,
        ),
    )


async def _whoami(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx, arguments
    who = current_identity()
    shown = {
        "subject": who.subject,
        "email": who.email,
        "name": who.name,
        "auth_type": who.auth_type,
        "claims": dict(who.claims),
    }
    required = ("subject", "auth_type")
    return tool_result({name: value for name, value in shown.items() if value or name in required})


async def _echo(ctx: ServerRequestContext[Any, Any], arguments: dict[str, Any]) -> CallToolResult:
    del ctx
    # As recorded, empty members are not echoed.
    return tool_result({name: value for name, value in arguments.items() if value not in ("", {})})
