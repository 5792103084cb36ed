"""A server on stdio is audited as any other: a real process, asked by the SDK's client."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from audited import MODES, heard, payload
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from mcpaudit_lab.record import Event
from mcpaudit_lab.record.sanitize import REDACTED

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]

# The whole of what somebody writes to have a server on stdio audited into a file.
PROGRAM = """
import sys
import anyio
from mcp.server.stdio import stdio_server
from mcpaudit_lab.server import Identity, MemoryLogger, add_audit, demo_server


class FileLogger(MemoryLogger):
    def _settle(self, event):
        super()._settle(event)
        if event is not None:
            with open(sys.argv[1], "a", encoding="utf-8") as file:
                file.write(event.to_json() + "\\n")


async def main():
    server = demo_server()
    add_audit(server, FileLogger(), default_identity=Identity("local:me", "anonymous"))
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


anyio.run(main)
"""


def process(tmp_path: Path) -> tuple[StdioServerParameters, Path]:
    program, events = tmp_path / "server.py", tmp_path / "events.jsonl"
    program.write_text(PROGRAM)
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(program), str(events)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return parameters, events


def read_events(path: Path) -> list[Event]:
    return [Event.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


@MODES
async def test_calls_over_stdio_have_their_rows(mode: str, tmp_path: Path) -> None:
    parameters, path = process(tmp_path)
    async with Client(parameters, mode=mode) as client:
        await client.call_tool("echo", {"message": "a\0b", "extras": {"password": "x"}})
        await client.call_tool("progress", {"steps": 2, "step_ms": 1}, progress_callback=heard)
        await client.call_tool("whoami")
        with anyio.move_on_after(0.2):
            await client.call_tool("slow", {"milliseconds": 60_000})
        # Its answer comes after the cancelled call has settled.
        await client.call_tool("error", {"message": "last"})
    echoed, progress, whoami, slow, error = read_events(path)
    assert echoed.parameters == {"message": "a\0b", "extras": {"password": REDACTED}}
    assert (echoed.transport, echoed.session_id, echoed.user_subject) == ("stdio", "", "local:me")
    assert "request_headers" not in payload(echoed)
    assert [item["params"]["message"] for item in payload(progress)["notifications"]] == [
        "step 1/2",
        "step 2/2",
    ]
    assert payload(whoami)["response_result"]["structuredContent"]["subject"] == "local:me"
    assert (slow.success, slow.error_category) == (False, "tool")
    assert payload(slow)["response_result"]["content"][0]["text"] == "context canceled"
    assert (error.success, error.error_category) == (False, "tool")


async def test_a_client_that_leaves_cancels_what_runs_and_it_has_its_row(tmp_path: Path) -> None:
    parameters, path = process(tmp_path)
    program = [parameters.command, *parameters.args]
    async with await anyio.open_process(program, env=parameters.env, stderr=None) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for message in _opening("slow", {"milliseconds": 60_000}):
            await server.stdin.send(json.dumps(message).encode() + b"\n")
        await server.stdout.receive()  # the answer to initialize
        await server.stdin.send(b'{"jsonrpc":"2.0","id":9,"method":"tools/list"}\n')
        await server.stdout.receive()  # the call before it has begun
        await server.stdin.aclose()
        with anyio.fail_after(20):
            assert await server.wait() == 0
    (event,) = read_events(path)
    assert (event.tool_name, event.success, event.error_category) == ("slow", False, "tool")


HEAD = b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo","arguments":'


@pytest.mark.parametrize(
    "line",
    [
        HEAD + b'{"extras":' + b'{"k":' * 10_000 + b"1" + b"}" * 10_000 + b"}}}",
        HEAD + b'{"message":"\\ud800"}}}',
        b"not json",
    ],
    ids=["deep", "surrogate", "garbage"],
)
async def test_a_hostile_line_ends_nothing(line: bytes, tmp_path: Path) -> None:
    parameters, path = process(tmp_path)
    program = [parameters.command, *parameters.args]
    async with await anyio.open_process(program, env=parameters.env, stderr=None) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        opening = _opening("echo", {"message": "after"})
        await server.stdin.send(json.dumps(opening[0]).encode() + b"\n")
        await server.stdout.receive()
        await server.stdin.send(json.dumps(opening[1]).encode() + b"\n" + line + b"\n")
        await server.stdin.send(json.dumps(opening[2]).encode() + b"\n")
        answer = await server.stdout.receive()
        await server.stdin.aclose()
        with anyio.fail_after(20):
            assert await server.wait() == 0
    assert b'"id":1' in answer
    assert [event.parameters for event in read_events(path)] == [{"message": "after"}]


def _opening(tool: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    return [
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        },
    ]
