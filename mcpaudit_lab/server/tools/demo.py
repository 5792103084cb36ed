"""The demonstration server: twelve tools that show how a client or gateway behaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, ListToolsResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcpaudit_lab.record import VERSION, Sanitizer, dumps
from mcpaudit_lab.server.tools.data import DATA_TOOLS
from mcpaudit_lab.server.tools.failure import FAILURE_TOOLS
from mcpaudit_lab.server.tools.identity import identity_tools
from mcpaudit_lab.server.tools.streaming import STREAMING_TOOLS
from mcpaudit_lab.server.tools.tool import DemoTool, ToolError, check_arguments, text_block

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp_types import CallToolRequestParams, PaginatedRequestParams

__all__ = ["demo_server", "demo_tool_groups", "demo_tools"]

_INSTRUCTIONS = """\
The tools of this server compute nothing useful. They are simple and repeatable, to show what \
happens to calls between client and server. Every call is recorded.

- identity: whoami, echo, headers return the caller, the arguments, the headers.
- data: fixed_response, sized_response, lorem return predictable responses.
- failure: error, slow, flaky fail or wait on request.
- streaming: progress, long_output, chatty respond in several parts.

Tools with a seed return the same response for the same seed.
"""


def demo_tools(sanitizer: Sanitizer | None = None) -> tuple[DemoTool, ...]:
    """The twelve tools, in the order of the portal's tool list.

    Args:
        sanitizer: masks secrets in the response of the ``headers`` tool.
    """
    first = identity_tools(sanitizer or Sanitizer())
    return (*first, *DATA_TOOLS, *FAILURE_TOOLS, *STREAMING_TOOLS)


def demo_tool_groups() -> dict[str, str]:
    """Tool name to group, for :class:`~mcpaudit_lab.server.audit.capture.CapturePolicy`."""
    return {tool.name: tool.group for tool in demo_tools()}


def demo_server(sanitizer: Sanitizer | None = None) -> Server[Any]:
    """A new MCP server with the twelve tools, not audited yet.

    A low-level server: arguments reach the tools as sent, and an unknown tool is a JSON-RPC error
    (-32602).

    Args:
        sanitizer: masks secrets in the response of the ``headers`` tool.
    """
    tools = {tool.name: tool for tool in demo_tools(sanitizer)}
    listed = ListToolsResult(tools=[tools[name].to_mcp() for name in sorted(tools)])

    def schema_of(name: str) -> Mapping[str, Any] | None:
        return tools[name].input_schema if name in tools else None

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        del ctx, params
        return listed

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult:
        tool = tools.get(params.name)
        if tool is None:
            raise _unknown(params.name)
        arguments = params.arguments or {}
        try:
            check_arguments(tool.input_schema, arguments)
            return await tool.run(ctx, arguments)
        except ToolError as failure:
            return CallToolResult(content=[text_block(str(failure))], is_error=True)

    server: Server[Any] = Server(
        "mcpaudit-lab",
        version=VERSION,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=schema_of,
    )
    server.middleware.append(_accept_malformed_calls)
    return server


async def _accept_malformed_calls(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Answer malformed calls as the reference server does; the SDK would reject them unaudited."""
    if ctx.method != "tools/call" or ctx.request_id is None:
        return await call_next(ctx)
    params = ctx.params or {}
    if not isinstance(params.get("name"), str):
        raise _unknown("")
    arguments = params.get("arguments")
    if arguments is not None and not isinstance(arguments, Mapping):
        result = {
            "content": [
                {"type": "text", "text": 'validating "arguments": the arguments are not an object'}
            ],
            "isError": True,
        }
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            result["resultType"] = "complete"
        return result
    return await call_next(ctx)


def _unknown(name: str) -> MCPError:
    return MCPError(INVALID_PARAMS, f"unknown tool {dumps(name)}")
