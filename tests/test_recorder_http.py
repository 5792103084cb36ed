"""A recorder before a server on HTTP: both eras, what passes untouched, what is stored."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import mcp
import psutil
import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from recording import RECORD, recorded, text_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mcpaudit_lab.formats.jsonrpc import NO_ANSWER
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.recorder.call_writer import CallWriter
from mcpaudit_lab.recorder.serving import open_client, recorder_app
from mcpaudit_lab.recorder.stores import SqliteCallStore

if TYPE_CHECKING:
    from starlette.types import ASGIApp

pytestmark = pytest.mark.anyio

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
ANSWER = {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "done"}]}}
Handler = Callable[[Request], Awaitable[Response]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "recorded.db"


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def run_app(app: ASGIApp, **settings: Any) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, port=0, log_level="critical", timeout_graceful_shutdown=1, **settings
    )
    listener = config.bind_socket()
    server = _Uvicorn(config)
    with listener:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listener])
            await server.ready.wait()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True


@asynccontextmanager
async def record_app(app: ASGIApp, database: Path, **settings: Any) -> AsyncIterator[str]:
    """The address of a recorder before an application."""
    async with run_app(app, **settings) as url, record_url(url, database) as recorder:
        yield recorder


@asynccontextmanager
async def record_url(url: str, database: Path) -> AsyncIterator[str]:
    writer = CallWriter(SqliteCallStore(database))
    tracker = CallTracker("http")
    try:
        async with open_client() as client:
            app = recorder_app(f"{url}/mcp", client, tracker, writer, ["127.0.0.1"])
            async with run_app(app, lifespan="off") as recorder:
                yield recorder
        writer.complete(tracker.finish())
    finally:
        writer.close()


def scripted(handler: Handler) -> Starlette:
    methods = ["GET", "POST", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", handler, methods=methods)])


def rows(database: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("json_response", [False, True])
async def test_the_python_sdk_works_through_it_in_both_eras(
    database: Path, mode: Any, json_response: bool
) -> None:
    server = MCPServer("sdk")

    @server.tool()
    async def work(message: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        if message == "bad":
            raise ValueError(message)
        return message

    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        heard.append(progress)

    app = server.streamable_http_app(json_response=json_response)
    async with record_app(app, database) as url, mcp.Client(f"{url}/mcp", mode=mode) as client:
        answer = await client.call_tool("work", {"message": "hi"}, progress_callback=hear)
        assert answer.structured_content == {"result": "hi"}
        assert (await client.call_tool("work", {"message": "bad"})).is_error
    assert heard == ([] if json_response else [1.0])
    good, bad = recorded(database)
    assert (good.success, good.transport, good.source) == (True, "http", "recorder")
    assert bool(good.session_id) == (mode == "legacy")
    assert good.extra["server_name"] == "sdk"
    assert good.extra["protocol_version"].startswith("2025" if mode == "legacy" else "2026")
    assert good.extra["client_info"]["name"]
    assert good.payload is not None
    assert len(good.payload.notifications) == (0 if json_response else 1)
    headers: Any = good.payload.request_headers
    assert headers["Content-Type"] == ["application/json"]
    assert (bad.success, bad.error_category) == (False, "tool")


async def test_a_challenge_passes_untouched_and_credentials_are_stored_nowhere(
    database: Path,
) -> None:
    async def handler(request: Request) -> Response:
        seen = request.headers.get("authorization")
        assert request.headers["cookie"] == "sid=c00kie"
        challenge = 'Bearer resource_metadata="https://a.example/.well-known/x"'
        response = Response(f"no, {seen}", 401, {"www-authenticate": challenge})
        response.headers.append("www-authenticate", "Basic")
        response.set_cookie("sid", "s3t")
        return response

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        secret = {"Authorization": "Bearer s3cret", "Cookie": "sid=c00kie"}
        answer = await client.post(f"{url}/mcp?key=qu3ry", json=CALL, headers=secret)
    assert answer.status_code == 401
    assert answer.text == "no, Bearer s3cret"
    challenges = answer.headers.get_list("www-authenticate")
    assert [item.split(" ")[0] for item in challenges] == ["Bearer", "Basic"]
    assert answer.headers["set-cookie"].startswith("sid=s3t")
    (event,) = recorded(database)
    assert (event.error_category, event.error_message) == ("auth", "HTTP 401")
    stored = b"".join(path.read_bytes() for path in database.parent.glob("*.db*"))
    assert [word for word in (b"s3cret", b"c00kie", b"qu3ry", b"s3t") if word in stored] == []


async def test_a_request_reaches_the_server_as_it_was_sent(database: Path) -> None:
    async def handler(request: Request) -> Response:
        seen = {
            "method": request.method,
            "target": f"{request.scope['raw_path'].decode()}?{request.url.query}",
            "headers": [(k.decode(), v.decode()) for k, v in request.headers.raw],
            "body": (await request.body()).decode(),
        }
        return Response(json.dumps(seen), 207, {"x-own": "a", "Connection": "x-hop", "x-hop": "1"})

    async with record_app(scripted(handler), database) as url:
        port = int(url.rpartition(":")[2])
        body = b'{"method": "unknown/one",\n "params": [1.10]}'
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(
                b"POST /mcp/%7Euser?a=b%20c HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Two: 1\r\nX-Two: 2\r\n"
                b"Connection: close, x-private\r\nX-Private: 1\r\nTE: trailers\r\n"
                b"Last-Event-ID: 9\r\nMcp-Session-Id: s\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            received = b""
            async for chunk in stream:
                received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 207 ")
    assert b"x-own: a" in head
    assert b"x-hop" not in head
    seen = json.loads(rest)
    assert seen["target"] == "/mcp/%7Euser?a=b%20c"
    assert seen["body"] == body.decode()
    names = [name for name, _ in seen["headers"]]
    assert sorted(name for name in names if name not in ("host", "accept-encoding")) == [
        "content-length",
        "last-event-id",
        "mcp-session-id",
        "x-two",
        "x-two",
    ]


async def test_a_call_is_stored_before_it_is_sent_on_and_events_pass_as_they_come(
    database: Path,
) -> None:
    first_seen = anyio.Event()
    open_calls: list[Any] = []

    async def handler(_: Request) -> Response:
        open_calls.extend(rows(database, "select event from audit_open_calls"))

        async def events() -> AsyncIterator[str]:
            yield ": hello\n\nevent: message\n"
            yield 'data: {"method":"notifications/message","params":{"data":"x"}}\n\n'
            # Never ends unless the client hears of the first event now.
            await first_seen.wait()
            assert rows(database, "select * from audit_events") == []
            yield f"id: 4\ndata: {json.dumps(ANSWER)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        received = b""
        async with client.stream("POST", f"{url}/mcp", json=CALL) as answer:
            async for chunk in answer.aiter_raw():
                received += chunk
                if b"notifications/message" in received:
                    first_seen.set()
                if b"done" in received:
                    # Whole in the store by now; among the events now or in a moment.
                    stored = rows(database, "select event from audit_open_calls")
                    assert not stored or "no answer" not in stored[0][0]
    assert json.loads(open_calls[0][0])["error_message"] == NO_ANSWER
    assert received.endswith(f"id: 4\ndata: {json.dumps(ANSWER)}\n\n".encode())
    (event,) = recorded(database)
    assert event.payload is not None
    assert [item.method for item in event.payload.notifications] == ["notifications/message"]


async def test_an_answer_that_comes_on_a_resumed_stream_completes_its_call(
    database: Path,
) -> None:
    async def handler(request: Request) -> Response:
        if request.method == "POST":
            return Response("id: 1\ndata:\n\n", media_type="text/event-stream")
        assert request.headers["last-event-id"] == "1"
        return Response(f"data: {json.dumps(ANSWER)}\n\n", media_type="text/event-stream")

    session = {"Mcp-Session-Id": "s-1"}
    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        await client.post(f"{url}/mcp", json=CALL, headers=session)
        assert rows(database, "select count(*) from audit_events") == [(0,)]
        await client.get(f"{url}/mcp", headers={**session, "Last-Event-ID": "1"})
    (event,) = recorded(database)
    assert (event.success, event.session_id) == (True, "s-1")


async def test_a_session_that_is_deleted_answers_no_more(database: Path) -> None:
    async def handler(request: Request) -> Response:
        return Response(status_code=202 if request.method == "POST" else 200)

    session = {"Mcp-Session-Id": "s-1"}
    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        await client.post(f"{url}/mcp", json=CALL, headers=session)
        before = rows(database, "select event from audit_open_calls")
        await client.delete(f"{url}/mcp", headers=session)
    assert len(before) == 1
    assert [event.error_message for event in recorded(database)] == [NO_ANSWER]


async def test_the_same_id_of_two_clients_without_session_is_two_calls(database: Path) -> None:
    both = anyio.Event()
    waiting: list[str] = []

    async def handler(request: Request) -> Response:
        name = (await request.json())["params"]["name"]
        waiting.append(name)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        answer = {**ANSWER, "result": {"content": [{"type": "text", "text": name}]}}
        return Response(json.dumps(answer), media_type="application/json")

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:

        async def call(name: str) -> None:
            await client.post(f"{url}/mcp", json={**CALL, "params": {"name": name}})

        async with anyio.create_task_group() as group:
            group.start_soon(call, "a")
            group.start_soon(call, "b")
    for event in recorded(database):
        assert text_of(event) == event.tool_name


async def test_without_a_session_a_client_that_leaves_cancels_its_call(database: Path) -> None:
    left = anyio.Event()

    async def handler(_: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            yield ": begun\n\n"
            try:
                await anyio.sleep_forever()
            finally:
                left.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    async with record_app(scripted(handler), database) as url:
        async with (
            httpx2.AsyncClient() as client,
            client.stream("POST", f"{url}/mcp", json=CALL) as answer,
        ):
            await anext(answer.aiter_raw())
        await left.wait()
    (event,) = recorded(database)
    assert event.error_category == "tool"
    assert event.payload is not None
    assert "context canceled" in str(event.payload.response_result)


async def test_a_server_that_is_away_is_said(database: Path) -> None:
    async with record_url("http://127.0.0.1:1", database) as url, httpx2.AsyncClient() as client:
        answer = await client.post(f"{url}/mcp", json=CALL)
    assert answer.status_code == 502
    (event,) = recorded(database)
    assert event.error_message == "the server cannot be reached: ConnectError"


async def test_other_hosts_and_origins_are_refused(database: Path) -> None:
    async def handler(_: Request) -> Response:
        return Response("reached")

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        for path in ("/mcp", "/healthz"):
            answer = await client.get(f"{url}{path}", headers={"Host": "evil.example"})
            assert answer.status_code == 421
        answer = await client.post(f"{url}/mcp", headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert (await client.get(f"{url}/mcp")).text == "reached"


async def test_a_call_that_cannot_be_stored_never_reaches_the_server(database: Path) -> None:
    reached: list[bytes] = []

    async def handler(request: Request) -> Response:
        reached.append(await request.body())
        return Response(json.dumps(ANSWER), media_type="application/json")

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("alter table audit_open_calls rename to gone")
        answer = await client.post(f"{url}/mcp", json=CALL)
        assert answer.json()["id"] == 7
        assert "not forwarded" in answer.json()["error"]["message"]
        batch = await client.post(f"{url}/mcp", json=[CALL, {**CALL, "id": "b"}])
        assert [item["id"] for item in batch.json()] == [7, "b"]
        large = {**CALL, "params": {"name": "t", "arguments": {"x": "y" * (3 << 20)}}}
        assert "not forwarded" in (await client.post(f"{url}/mcp", json=large)).text
        await client.post(f"{url}/mcp", json={"method": "ping"})
    # Of the large one a part may have been on its way, and was torn off.
    assert [body for body in reached if b"tools/call" in body] == []
    assert b'{"method":"ping"}' in reached


async def test_an_answer_that_cannot_be_stored_is_withheld(database: Path) -> None:
    async def handler(request: Request) -> Response:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("alter table audit_open_calls rename to gone")
        kind = request.headers["accept"]
        text = json.dumps(ANSWER)
        return Response(text if "json" in kind else f"data: {text}\n\n", media_type=kind)

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        for kind in ("application/json", "text/event-stream"):
            answer = await client.post(f"{url}/mcp", json=CALL, headers={"Accept": kind})
            error = json.loads(answer.text.removeprefix("data: "))
            assert error["id"] == 7
            assert "withheld" in error["error"]["message"]
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("alter table gone rename to audit_open_calls")


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_large_requests_and_answers_pass_and_leave_their_sizes(
    database: Path, kind: str
) -> None:
    async def handler(request: Request) -> Response:
        size = len((await request.json())["params"]["arguments"]["x"])
        answer = {"id": 7, "result": {"content": [{"type": "text", "text": "é" * size}]}}
        text = json.dumps(answer, ensure_ascii=False)
        return Response(text if "json" in kind else f"data: {text}\n\n", media_type=kind)

    size = 3 << 20
    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        call = {**CALL, "params": {"name": "t", "arguments": {"x": "y" * size}}}
        answer = await client.post(f"{url}/mcp", json=call)
    assert answer.content.count("é".encode()) == size
    (event,) = recorded(database)
    assert (event.success, event.tool_name, event.response_chars) == (True, "t", 2 * size)
    assert event.payload is not None
    assert (event.payload.request_truncated, event.payload.response_truncated) == (True, True)
    assert event.payload.request_size_bytes == size + len('{"x":""}')


async def test_a_compressed_request_is_refused_and_compressed_answers_are_told(
    database: Path,
) -> None:
    async def handler(_: Request) -> Response:
        return Response(b"\x1f\x8bsomething", headers={"content-encoding": "br"})

    async with record_app(scripted(handler), database) as url, httpx2.AsyncClient() as client:
        packed = await client.post(f"{url}/mcp", content=b"x", headers={"Content-Encoding": "gzip"})
        assert packed.status_code == 415
        async with client.stream("POST", f"{url}/mcp", json=CALL) as answer:
            raw = [chunk async for chunk in answer.aiter_raw()]
        assert b"".join(raw) == b"\x1f\x8bsomething"
    (event,) = recorded(database)
    assert "encoding" in event.error_message


def test_the_command_listens_on_loopback_until_it_is_told_to_end(database: Path) -> None:
    command = [*RECORD, "--database", str(database), "--url", "http://127.0.0.1:1/mcp", "--port"]
    with psutil.Popen([*command, "0"], stderr=-1) as process:
        line = process.stderr.readline().decode()
        assert line.startswith("mcpaudit-lab record: listening on http://127.0.0.1:")
        url = line.split()[-1]
        assert url.endswith("/mcp")
        assert httpx2.post(url, json=CALL).status_code == 502
        process.terminate()
        assert process.wait(timeout=30) == 0 or sys.platform == "win32"
    assert len(recorded(database)) == 1


def test_only_http_is_taken(database: Path) -> None:
    for url in ("ftp://x/mcp", "http://user:secret@x/mcp", "nonsense"):
        command = [*RECORD, "--database", str(database), "--url", url]
        with psutil.Popen(command, stderr=-1) as process:
            said = process.stderr.read()
            assert process.wait() == 2
        assert b"--url takes" in said
        assert b"secret" not in said
