"""A recorder between the TypeScript SDK's clients and servers: stdio and streamable HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp
import pytest
from mcp.client.stdio import StdioServerParameters
from recording import RECORD, record_command, recorded

STDIO_SERVER = """
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
const server = new McpServer({ name: "typescript", version: "1.2.3" });
server.registerTool("hello", {}, async () => ({ content: [{ type: "text", text: "from node" }] }));
await server.connect(new StdioServerTransport());
"""

# Sessions, answers as event streams, and a notification of progress before the result.
HTTP_SERVER = """
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const sessions = new Map();

async function open() {
  const server = new McpServer({ name: "typescript-http", version: "4.5.6" });
  server.registerTool("count", {}, async (extra) => {
    const progressToken = extra._meta?.progressToken;
    if (progressToken !== undefined)
      await extra.sendNotification({
        method: "notifications/progress",
        params: { progressToken, progress: 1, total: 2, message: "half" },
      });
    return { content: [{ type: "text", text: "two" }] };
  });
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  await server.connect(transport);
  return transport;
}

const http = createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"];
  const transport = sessions.get(id) ?? (await open());
  await transport.handleRequest(request, response);
  if (request.method === "DELETE") sessions.delete(id);
});
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
"""

HTTP_CLIENT = """
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "typescript-client", version: "7.8.9" });
const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
await client.connect(transport);
const seen = [];
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const result = await client.callTool({ name: "count", arguments: {} }, undefined, {
  onprogress: (progress) => seen.push(progress.message),
});
await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ tools, text: result.content[0].text, seen }));
"""


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the TypeScript SDK and the programs of this module."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("the TypeScript SDK needs Node.js and npm: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "@modelcontextprotocol/sdk@1"],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        pytest.skip("npm cannot install the TypeScript SDK here")
    programs = {"server": STDIO_SERVER, "http": HTTP_SERVER, "client": HTTP_CLIENT}
    for name, text in programs.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


@contextmanager
def first_line_of(command: list[str]) -> Iterator[str]:
    """A running program, and the first line that it prints."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.terminate()
            running.stdout.read()


@contextmanager
def recorded_http(node_folder: Path, database: Path) -> Iterator[str]:
    """The address of a recorder before the HTTP server."""
    with first_line_of(["node", str(node_folder / "http.js")]) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        command = [*RECORD, "--database", str(database), "--url", url, "--port", "0"]
        with first_line_of(command) as told:
            yield next(word.rstrip(".,") for word in told.split() if word.startswith("http://"))


def test_a_typescript_server_on_stdio(tmp_path: Path, node_folder: Path) -> None:
    database = tmp_path / "recorded.db"
    server = ["node", str(node_folder / "server.js")]
    command = record_command("--database", database, server=server)
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)

    async def talk() -> Any:
        async with mcp.Client(parameters, mode="legacy") as client:
            return (await client.call_tool("hello", {})).content[0]

    assert anyio.run(talk).text == "from node"
    (event,) = recorded(database)
    assert event.extra["server_name"] == "typescript"
    assert event.extra["server_info"]["version"] == "1.2.3"


def test_a_typescript_client_and_server_over_http(tmp_path: Path, node_folder: Path) -> None:
    database = tmp_path / "recorded.db"
    with recorded_http(node_folder, database) as url:
        done = subprocess.run(
            ["node", str(node_folder / "client.js"), url],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert json.loads(done.stdout) == {"tools": ["count"], "text": "two", "seen": ["half"]}
    (event,) = recorded(database)
    assert event.transport == "http"
    assert event.session_id
    assert event.extra["client_info"] == {"name": "typescript-client", "version": "7.8.9"}
    assert event.extra["server_info"] == {"name": "typescript-http", "version": "4.5.6"}
    assert event.payload is not None
    assert event.payload.wire["response_result"]["content"][0]["text"] == "two"
    assert [item.method for item in event.payload.notifications] == ["notifications/progress"]


def test_a_python_client_and_a_typescript_server_over_http(
    tmp_path: Path, node_folder: Path
) -> None:
    database = tmp_path / "recorded.db"

    async def talk(url: str) -> Any:
        async with mcp.Client(url, mode="legacy") as client:
            return (await client.call_tool("count", {})).content[0]

    with recorded_http(node_folder, database) as url:
        assert anyio.run(talk, url).text == "two"
    (event,) = recorded(database)
    assert event.extra["server_name"] == "typescript-http"
    assert event.extra["protocol_version"].startswith("2025")
