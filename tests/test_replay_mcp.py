"""MCP servers as targets: by URL, by command and in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.server import MCPServer
from replaying import (
    Noting,
    call_lines,
    captured,
    counting_server,
    lab_of,
    over_http,
    raw_process,
    says,
    served,
)
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mcpaudit_lab import Event, Lab
from mcpaudit_lab.calls.refusals import RefusalReason
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record.jsontext import dumps, loads
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.server import demo_server

if TYPE_CHECKING:
    from starlette.requests import Request

ROOT = Path(__file__).parents[1]

# Numbers that a float cannot give back, order, nesting, nulls, what other writers escape.
HARD = (
    '{"z":1,"a":1.10,"big":123456789012345678901234567890,"e":1e400,"tiny":1E-7,"zero":-0,"n":null,'
    '"deep":[{"y":[null,{"x":[]}],"b":{}}],"html":"<a href=\'x\'>&amp;</a>","text":"snow \u2603"}'
)


def test_what_goes_over_http_is_what_was_captured_to_the_letter() -> None:
    server, calls = counting_server()
    with over_http(server) as (url, noted), lab_of(captured(loads(HARD))) as lab:
        run = lab.plan_replay(lab.events(), target=url, allow={"work"}).run()
        assert run.counts() == {"succeeded": 1}
        assert noted.arguments() == [HARD[:-1]]
    assert len(calls) == 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_both_eras_carry_the_same_arguments(mode: str) -> None:
    server, _ = counting_server()
    with over_http(server) as (url, noted), lab_of(captured(loads(HARD))) as lab:
        run = lab.plan_replay(lab.events(), target=McpTarget(url, mode=mode), allow="all").run()
        assert run.counts() == {"succeeded": 1}
        sent = loads(noted.bodies[0])
        assert isinstance(sent, dict)
        assert dumps(sent["params"]["arguments"]) == HARD
        assert (b"mcp-session-id" in noted.headers[0]) == (mode == "legacy")


def test_what_a_process_reads_is_what_was_captured_to_the_letter(tmp_path: Path) -> None:
    command, lines = raw_process(tmp_path)
    with lab_of(captured(loads(HARD))) as lab:
        run = lab.plan_replay(lab.events(), target=command, allow={"work"}).run()
        assert run.counts() == {"succeeded": 1}
    sent = loads(lines.read_bytes())
    assert isinstance(sent, dict)
    assert dumps(sent["params"]["arguments"]) == HARD


def test_lone_surrogates_and_deep_nesting_leave_as_they_were(tmp_path: Path) -> None:
    command, lines = raw_process(tmp_path)
    deep: Any = "end"
    for _ in range(400):
        deep = [deep]
    with lab_of(captured({"half": "\ud83d", "deep": deep})) as lab:
        assert lab.plan_replay(lab.events(), target=command, allow="all").run().finished
    assert call_lines(lines)[0]["params"]["arguments"] == {"half": "\ud83d", "deep": deep}


def test_a_call_without_arguments_has_none_again(tmp_path: Path) -> None:
    command, lines = raw_process(tmp_path)
    with lab_of(captured(None)) as lab:
        assert lab.plan_replay(lab.events(), target=command, allow="all").run().finished
    assert "arguments" not in call_lines(lines)[0]["params"]


def test_a_server_of_this_process_sees_what_json_would_bring() -> None:
    server, calls = counting_server()
    with lab_of(captured(loads('{"a":1.10,"n":null,"big":9007199254740993}'))) as lab:
        run = lab.plan_replay(lab.events(), target=server, allow="all").run()
        assert run.counts() == {"succeeded": 1}
    assert calls.arguments == [{"a": 1.1, "n": None, "big": 9007199254740993}]


def test_recorded_calls_give_the_recorded_answers_again() -> None:
    with Lab() as lab:
        lab.load(sample_files())
        events = lab.events(tool="fixed_response", has="response_result")
        plan = lab.plan_replay(events, target=demo_server(), allow="read-only")
        run = plan.run()
        frame = run.df()
        assert set(frame[frame["status"] == "succeeded"]["comparison"]) == {"equal"}
        pairs = lab.compare_replays()
        assert set(frame["replay_id"]) - {""} <= set(pairs["replay"])


def test_the_event_of_a_replay_says_where_it_came_from() -> None:
    server, _ = counting_server(lambda _: says("hello", structuredContent={"x": 1}))
    original = captured({"a": 1})
    with lab_of(original) as lab:
        run = lab.plan_replay(original.id, target=server, allow={"work"}).run()
        event = lab.event(run.states[0].replay_id)
        assert (event.source, event.transport, event.tool_name) == (
            "lab-replay",
            "in-process",
            "work",
        )
        assert event.payload is not None
        assert event.payload.replayed_from == original.id
        assert event.payload.request_params == {"a": 1}
        assert (event.content_blocks, event.response_chars) == (1, 5)
        (source,) = (row for row in lab.sources().to_dict("records") if row["kind"] == "replay")
        assert source["name"] == "in-process:test"
        assert run.run_id in source["request"]
        pairs = lab.compare_replays()
        assert list(pairs["original"]) == [original.id]
        found = run.comparison(original.id)
        assert found.ids == (original.id, event.id)
        assert run.comparison(event.id).ids == found.ids


def test_progress_and_log_messages_are_kept() -> None:
    server = MCPServer("notes")

    @server.tool()
    async def work(n: int) -> str:
        return str(n)

    with Lab() as lab:
        lab.load(sample_files())
        events = [e for e in lab.events(tool="progress", has="notifications") if e.success][:1]
        for mode in ("legacy", "auto"):
            target = McpTarget(demo_server(), mode=mode, name=mode)
            run = lab.plan_replay(events, target=target, allow="all").run()
            replay = lab.event(run.states[0].replay_id)
            assert replay.payload is not None
            assert events[0].payload is not None
            methods = [note.method for note in replay.payload.notifications]
            assert methods == [note.method for note in events[0].payload.notifications]
            assert run.comparison(events[0].id).sections["notifications"].verdict == "equal"


def test_a_tool_that_fails_is_recorded_as_one_that_failed() -> None:
    server, _ = counting_server(lambda _: says("no", isError=True))
    with lab_of(captured({})) as lab:
        run = lab.plan_replay(lab.events(), target=server, allow="all").run()
        assert run.counts() == {"failed": 1}
        event = lab.event(run.states[0].replay_id)
        assert (event.success, event.error_category) == (False, "tool")


def test_a_call_that_raises_has_an_error_and_no_result() -> None:
    def raising(_: dict[str, Any]) -> Any:
        raise ValueError("broken inside")

    server, _ = counting_server(raising)
    with lab_of(captured({})) as lab:
        run = lab.plan_replay(lab.events(), target=server, allow="all").run()
        event = lab.event(run.states[0].replay_id)
        assert event.error_category == "handler"
        assert event.payload is not None
        assert isinstance(event.payload.response_error, dict)
        assert event.payload.response_result is None


# A target that does not do as it should


def broken_mcp(answer: Any) -> tuple[Starlette, list[int]]:
    """A server that shakes hands, and answers a call with ``answer(request)``."""
    count: list[int] = []

    async def endpoint(request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        message: Any = loads(await request.body())
        if message["method"] == "initialize":
            result = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "broken", "version": "1"},
            }
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})
        if message["method"] == "tools/list":
            tools = {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]}
            return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": tools})
        if message["method"] != "tools/call":
            return Response(status_code=202)
        count.append(1)
        found: Response = await answer(request, message, len(count))
        return found

    return Starlette(routes=[Route("/mcp", endpoint, methods=["POST", "GET", "DELETE"])]), count


async def page_502(_: Request, __: Any, ___: int) -> Response:
    return HTMLResponse("<h1>Bad gateway</h1>", 502)


async def fail_500(_: Request, __: Any, ___: int) -> Response:
    return JSONResponse({"error": "oops"}, 500)


async def accepted(_: Request, __: Any, ___: int) -> Response:
    return Response(status_code=202)


async def html_200(_: Request, __: Any, ___: int) -> Response:
    return HTMLResponse("<h1>Hello</h1>")


async def half_a_body(_: Request, __: Any, ___: int) -> Response:
    return Response('{"jsonrpc":"2.0","id":1,"res', media_type="application/json")


async def cut_stream(_: Request, __: Any, ___: int) -> Response:
    return Response(": nothing\n\n", media_type="text/event-stream")


@pytest.mark.parametrize(
    "answer", [page_502, fail_500, accepted, html_200, half_a_body, cut_stream]
)
def test_a_call_without_an_answer_is_uncertain_and_not_sent_again(answer: Any) -> None:
    app, count = broken_mcp(answer)
    first, second = captured({"n": 1}), captured({"n": 2}, number=1)
    with served(app) as url, lab_of(first, second) as lab:
        target = McpTarget(f"{url}/mcp", timeout_s=5)
        plan = lab.plan_replay(lab.events(), target=target, allow="all")
        run = plan.run()
        assert run.counts() == {"uncertain": 2}
        assert run.uncertain == (first.id, second.id)
        assert plan.run() is run
        assert len(count) == 2
        # Nor by another plan, until somebody says so.
        other = lab.plan_replay(lab.events(), target=target, allow="all")
        assert {str(item.refusal.reason) for item in other.items if item.refusal} == {"uncertain"}
        assert other.run().counts() == {"refused": 2}
        assert len(count) == 2
        lab.plan_replay(lab.events(), target=target, allow="all", again=[first.id]).run()
        assert len(count) == 3


def test_an_answer_without_an_end_is_cut_off_and_uncertain() -> None:
    async def endless(_: Request, __: Any, ___: int) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b" " * (1 << 16)
                await anyio.sleep(0.001)

        return StreamingResponse(chunks(), media_type="application/json")

    app, count = broken_mcp(endless)
    with served(app) as url, lab_of(captured({})) as lab:
        target = McpTarget(f"{url}/mcp", timeout_s=20, max_answer_bytes=1 << 20)
        run = lab.plan_replay(lab.events(), target=target, allow="all").run()
        assert run.counts() == {"uncertain": 1}
        assert run.states[0].duration_ms is not None
        assert run.states[0].duration_ms < 20_000
    assert len(count) == 1


def test_an_answer_of_some_megabytes_comes_whole() -> None:
    server, _ = counting_server(lambda _: says("x" * 3_000_000))
    with over_http(server) as (url, _), lab_of(captured({})) as lab:
        run = lab.plan_replay(lab.events(), target=url, allow="all").run()
        assert run.counts() == {"succeeded": 1}
        assert lab.event(run.states[0].replay_id).response_chars == 3_000_000


def test_a_slow_answer_is_uncertain_after_the_time_limit() -> None:
    async def slow(_: Request, __: Any, ___: int) -> Response:
        await anyio.sleep(30)
        return Response()

    app, count = broken_mcp(slow)
    with served(app) as url, lab_of(captured({})) as lab:
        target = McpTarget(f"{url}/mcp", timeout_s=0.3)
        assert lab.plan_replay(lab.events(), target=target, allow="all").run().uncertain
    assert len(count) == 1


def test_a_429_is_waited_for_and_the_call_sent_then() -> None:
    async def limited(_: Request, message: Any, number: int) -> Response:
        if number == 1:
            return Response("slow down", 429)
        if number == 2:
            return Response("slow down", 429, headers={"Retry-After": "0"})
        if number == 3:
            return Response("slow down", 429, headers={"Retry-After": "7"})
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": says("done")})

    app, count = broken_mcp(limited)
    slept: list[float] = []
    with served(app) as url, lab_of(captured({})) as lab:
        plan = lab.plan_replay(lab.events(), target=f"{url}/mcp", allow="all")
        run = plan.run(sleep=slept.append, clock=lambda: 0.0)
        assert run.counts() == {"succeeded": 1}
    assert slept == [1.0, 1.0, 7.0]
    assert len(count) == 4


def test_a_key_does_not_follow_a_redirect_to_another_host() -> None:
    elsewhere, calls = counting_server()

    async def away(_: Request, __: Any, ___: int) -> Response:
        return Response(status_code=307, headers={"Location": other_url})

    app, _ = broken_mcp(away)
    with (
        over_http(elsewhere) as (other_url, noted),
        served(app) as url,
        lab_of(captured({})) as lab,
    ):
        target = McpTarget(f"{url}/mcp", headers={"X-API-Key": "hunter2"})
        run = lab.plan_replay(lab.events(), target=target, allow="all").run()
        assert run.counts() == {"refused": 1}
        assert noted.bodies == []
        assert "hunter2" not in repr(target) + repr(run) + target.name
    assert len(calls) == 0


@pytest.mark.parametrize("status", [400, 405, 413])
def test_a_call_that_http_turns_away_is_refused(status: int) -> None:
    async def turned_away(_: Request, __: Any, ___: int) -> Response:
        return Response("no", status)

    app, _ = broken_mcp(turned_away)
    with served(app) as url, lab_of(captured({})) as lab:
        run = lab.plan_replay(lab.events(), target=f"{url}/mcp", allow="all").run()
        assert run.counts() == {"refused": 1}
        assert str(status) in run.states[0].detail


def test_where_nobody_listens_nothing_was_sent_and_it_can_be_tried_again() -> None:
    server, calls = counting_server()
    app = Noting(server.streamable_http_app())
    events = [captured({"n": n}, number=n) for n in range(3)]
    with lab_of(*events) as lab:
        with served(app) as url:
            target = McpTarget(f"{url}/mcp")
            plan = lab.plan_replay(events, target=target, allow="all")
        run = plan.run()
        assert run.counts() == {"unsent": 1, "waiting": 2}
        assert run.stopped
        assert not run.finished
        assert not run.uncertain
    assert len(calls) == 0


def test_the_connection_is_made_anew_after_one_that_broke(tmp_path: Path) -> None:
    command, lines = raw_process(tmp_path)
    events = [captured({"die": 1}), captured({"n": 2}, number=1)]
    with lab_of(*events) as lab:
        run = lab.plan_replay(events, target=command, allow="all").run()
        assert [state.status for state in run.states] == ["uncertain", "succeeded"]
    assert len(call_lines(lines)) == 2


def test_a_target_that_lists_no_tools_is_unknown_and_says_that_nobody_vouches() -> None:
    with served(Starlette()) as url, lab_of(captured({})) as lab:
        plan = lab.plan_replay(lab.events(), target=url, allow="all")
        assert plan.items[0].verdict == "unknown"
        assert "sent unchecked" in repr(plan)
        read = lab.plan_replay(lab.events(), target=url, allow="read-only")
        assert read.items[0].refusal is not None
        assert read.items[0].refusal.reason is RefusalReason.NOT_ALLOWED


# Interruptions


def test_an_interrupt_waits_for_the_call_on_its_way_and_the_run_goes_on_later() -> None:
    def interrupting(arguments: dict[str, Any]) -> Any:
        if arguments["n"] == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return says("done")

    server, calls = counting_server(interrupting)
    events = [captured({"n": n}, number=n) for n in range(3)]
    with lab_of(*events) as lab:
        plan = lab.plan_replay(events, target=server, allow="all")
        assert threading.current_thread() is threading.main_thread()
        with pytest.raises(KeyboardInterrupt):
            plan.run()
        assert plan.begun is not None
        assert plan.begun.counts() == {"succeeded": 2, "waiting": 1}
        assert plan.run().counts() == {"succeeded": 3}
    assert [found["n"] for found in calls.arguments] == [0, 1, 2]


_KILLED = """
import os, sys
from mcpaudit_lab import Lab
from replaying import counting_server, says

def dying(arguments):
    if arguments["n"] == 1 and len(sys.argv) == 3:
        os._exit(9)
    with open(sys.argv[1] + ".calls", "a") as file:
        file.write(f"{arguments['n']}\\n")
    return says("done")

server, calls = counting_server(dying)
with Lab(sys.argv[1]) as lab:
    run = lab.plan_replay(lab.events(), target=server, allow="all").run()
    print(run.counts())
"""


@pytest.mark.soak
def test_a_killed_process_knows_what_was_sent_and_calls_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with lab_of(*(captured({"n": n}, number=n) for n in range(4)), path=path):
        pass
    program = tmp_path / "killed.py"
    program.write_text(textwrap.dedent(_KILLED))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}

    def go(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(program), str(path), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert go("die").returncode == 9
    with Lab(path) as lab:
        states = lab.sql("select status from replays order by place").fetchall()
        assert states == [("succeeded",), ("sent",), ("waiting",), ("waiting",)]
    done = go()
    assert done.stdout.strip() == "{'succeeded': 3, 'refused': 1}", done.stderr
    assert (tmp_path / "case.duckdb.calls").read_text().split() == ["0", "2", "3"]


def test_a_second_interrupt_does_not_wait_and_the_call_is_uncertain() -> None:
    async def stubborn(_: dict[str, Any]) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(60)
        return says("too late")

    server, calls = counting_server(stubborn)
    with lab_of(captured({}), captured({}, number=1)) as lab:
        plan = lab.plan_replay(lab.events(), target=server, allow="all")
        with pytest.raises(KeyboardInterrupt):
            plan.run()
        assert plan.begun is not None
        assert plan.begun.counts() == {"uncertain": 1, "waiting": 1}
        assert lab.sql("select status from replays order by place").fetchall() == [
            ("uncertain",),
            ("waiting",),
        ]
    assert len(calls) == 1


# What is no target


@pytest.mark.parametrize("target", ["ftp://x", "nonsense", [], 7])
def test_what_is_no_target_is_refused(target: Any) -> None:
    with lab_of(captured({})) as lab, pytest.raises(ReplayError):
        lab.plan_replay(lab.events(), target=target, allow="all")


def test_neither_a_key_in_a_url_nor_one_in_a_command_is_in_the_name() -> None:
    url = McpTarget("https://me:hunter2@example.org/mcp?key=hunter2")
    command = McpTarget(["server", "--key", "hunter2"])
    assert url.name == "https://example.org/mcp"
    assert command.name.startswith("stdio:server#")
    assert "hunter2" not in f"{url!r}{command!r}"


def test_an_event_without_an_id_is_misuse() -> None:
    event = Event({**captured({}).wire, "id": ""})
    server, _ = counting_server()
    with Lab() as lab, pytest.raises(ReplayError, match="without an id"):
        lab.plan_replay([event], target=server, allow="all")


def test_a_transport_can_be_passed_in() -> None:
    seen: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.method)
        return httpx2.Response(503)

    target = McpTarget("http://nowhere.test/mcp", transport=httpx2.MockTransport(handle))
    with lab_of(captured({})) as lab:
        run = lab.plan_replay(lab.events(), target=target, allow="all").run()
        assert run.counts() == {"unsent": 1}
    assert seen
