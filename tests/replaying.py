"""Targets for replays: servers that note every byte they get, and labs with calls to replay."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import mcp_types as types
import uvicorn
from mcp.server import Server

from mcpaudit_lab import Event, Lab, Payload
from mcpaudit_lab.record.jsontext import loads

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

START = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)

Tool = Callable[[dict[str, Any]], Any]


def captured(
    arguments: Any = None,
    *,
    tool: str = "work",
    number: int = 0,
    result: Any = None,
    **members: Any,
) -> Event:
    """A captured call with its payload."""
    answer = {"content": [], "isError": False, **(result or {})}
    payload = Payload.build(
        jsonrpc_method="tools/call", request_params=arguments, response_result=answer
    )
    values: dict[str, Any] = {
        "id": str(uuid4()),
        "timestamp": START + timedelta(seconds=number),
        "tool_name": tool,
        "success": not answer["isError"],
        "content_blocks": len(answer["content"]),
        "transport": "http",
        "source": "mcp",
        "parameters": arguments,
        "payload": payload,
        **members,
    }
    return Event.build(**values)


def lab_of(*events: Event, path: Path | None = None) -> Lab:
    """A lab with these events."""
    lab = Lab(path)
    lab.add_events(events, kind="portal", name="test")
    return lab


@dataclass
class Calls:
    """What a tool was called with."""

    arguments: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.arguments)


def counting_server(
    tool: Tool | None = None,
    *,
    name: str = "work",
    schema: dict[str, Any] | None = None,
    annotations: dict[str, Any] | None = None,
) -> tuple[Server[Any], Calls]:
    """A server of one tool that notes its calls; it answers ``tool(arguments)``."""
    calls = Calls()

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        del ctx
        calls.arguments.append(params.arguments or {})
        result = {"content": []} if tool is None else tool(params.arguments or {})
        if isinstance(result, Awaitable):
            result = await result
        return types.CallToolResult.model_validate(result)

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del ctx, params
        listed: dict[str, Any] = {"name": name, "inputSchema": schema or {"type": "object"}}
        if annotations is not None:
            listed["annotations"] = annotations
        return types.ListToolsResult(tools=[types.Tool.model_validate(listed)])

    return Server("test", on_call_tool=call_tool, on_list_tools=list_tools), calls


def says(text: str, **members: Any) -> dict[str, Any]:
    """An answer of one text."""
    return {"content": [{"type": "text", "text": text}], **members}


# HTTP


class Noting:
    """Notes the bodies of ``tools/call`` requests as they came, and their headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()

        async def noted() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            if not message.get("more_body") and b'"tools/call"' in body:
                self.bodies.append(bytes(body))
                self.headers.append(dict(scope["headers"]))
                body.clear()
            return message

        await self.app(scope, noted, send)

    def arguments(self) -> list[str]:
        """The text of the arguments in each call."""
        texts = []
        for body in self.bodies:
            params = cast("dict[str, Any]", loads(body))["params"]
            assert params["name"]
            start = body.decode().index('"arguments":') + len('"arguments":')
            texts.append(body.decode()[start:].rstrip("}"))
        return texts


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve an application on loopback while the block runs; yields its base URL."""
    started = threading.Event()

    class Telling(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1
    )
    listener = config.bind_socket()
    server = Telling(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        assert started.wait(20)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def over_http(server: Server[Any]) -> Iterator[tuple[str, Noting]]:
    """A server over streamable HTTP: its URL, and what it gets."""
    app = Noting(server.streamable_http_app())
    with served(app) as url:
        yield f"{url}/mcp", app


# stdio

_PROGRAM = """
import json, sys
calls = open(sys.argv[1], "a", encoding="utf-8", buffering=1)
for line in sys.stdin:
    message = json.loads(line)
    method, answer = message["method"], None
    if method == "initialize":
        answer = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "raw", "version": "1"}}
    elif method == "tools/list":
        answer = {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        calls.write(line)
        if "die" in message["params"].get("arguments", {}):
            sys.exit(1)
        answer = {"content": [{"type": "text", "text": "done"}]}
    if answer is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}), flush=True)
"""


def raw_process(folder: Path) -> tuple[list[str], Path]:
    """A command that speaks MCP on stdio and writes the lines of calls into a file as they came."""
    program, lines = folder / "raw_server.py", folder / "calls.jsonl"
    program.write_text(_PROGRAM)
    lines.touch()
    return [sys.executable, str(program), str(lines)], lines


def call_lines(lines: Path) -> list[dict[str, Any]]:
    """The calls that such a process got."""
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
