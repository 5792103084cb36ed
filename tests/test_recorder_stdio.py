"""A recorder before a stdio server: what passes, what is stored, how it ends."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import mcp
import psutil
import pytest
from mcp.client.stdio import StdioServerParameters
from recording import ECHO, call_line, record_command, recorded, running_recorder, text_of

from mcpaudit_lab import Lab
from mcpaudit_lab.formats.jsonrpc import NO_ANSWER

DIRECT = [sys.executable, "-c", ECHO]
HELLO = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    b'"clientInfo":{"name":"tester","version":"9"}}}\n'
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "calls" / "recorded.db"


def test_everything_passes_as_it_does_without_a_recorder(database: Path) -> None:
    batch = json.dumps([json.loads(call_line("b1", "echo")), {"method": "other"}]).encode()
    sent = b"".join(
        [
            HELLO,
            b"no json at all \xff\xfe\r\n\n",
            b'{"jsonrpc":"2.0","id":1,"method":"never/heard","params":[1.10,{"a":1,"a":2}]}\n',
            b'{"broken": \n',
            batch + b"\n",
            call_line(2, "progress", message="hällo"),
            call_line("2", "error", message="bad"),
            call_line(3, "fail"),
            b'{"id":4,"method":"stderr"}\n',
            b"a torn last line",
        ]
    )
    direct = subprocess.run(DIRECT, input=sent, capture_output=True, check=False)
    through = subprocess.run(
        record_command("--database", database), input=sent, capture_output=True, check=False
    )
    assert (through.stdout, through.stderr) == (direct.stdout, direct.stderr)
    assert through.returncode == direct.returncode == 0
    assert direct.stderr == b"on standard error\n"


def test_each_call_is_an_event_with_payload(database: Path) -> None:
    sent = [
        HELLO,
        call_line(1, "echo", message="hello", password="hunter2"),
        call_line(2, "progress", message="x"),
        call_line("2", "error", message="bad"),
        call_line(3, "fail"),
        call_line(4, "echo", message="y" * 70_000),
    ]
    command = record_command("--database", database, server=[*DIRECT, "--token", "s3cret"])
    subprocess.run(command, input=b"".join(sent), capture_output=True, check=True)
    echo, progress, error, fail, long = recorded(database)
    assert echo.tool_name == "echo"
    assert echo.success
    assert echo.parameters == {"message": "hello", "password": "[redacted]"}
    assert (echo.transport, echo.source, echo.request_id) == ("stdio", "recorder", "1")
    assert echo.extra["client_info"] == {"name": "tester", "version": "9"}
    assert echo.extra["server_name"] == "bare"
    assert echo.extra["server_info"] == {"name": "bare", "version": "3"}
    assert echo.extra["protocol_version"] == "2025-06-18"
    assert echo.extra["command"][-2:] == ["--token", "[redacted]"]
    assert echo.extra["process_id"] > 0
    assert echo.payload is not None
    assert echo.payload.response_result == {
        "content": [{"type": "text", "text": "hello"}],
        "isError": False,
    }
    assert progress.payload is not None
    (notification,) = progress.payload.notifications
    assert notification.method == "notifications/progress"
    assert (error.success, error.error_category) == (False, "tool")
    assert (fail.success, fail.error_category, fail.error_message) == (False, "handler", "no")
    assert long.payload is not None
    assert long.payload.request_truncated
    assert long.payload.response_truncated
    assert long.response_chars == 70_000


def test_a_lab_reads_the_database_with_all_that_is_known(database: Path) -> None:
    command = record_command("--database", database)
    sent = HELLO + call_line(1, "echo", message="hello")
    subprocess.run(command, input=sent, capture_output=True, check=True)
    with Lab() as lab:
        report = lab.load_database(f"sqlite:///{database}")
        assert report.loaded == 1
        (event,) = lab.events(source="recorder")
        assert event.extra["server_name"] == "bare"
        assert event.extra["command"][0] == sys.executable


@pytest.mark.parametrize(("option", "name"), [("--lab", "case.duckdb"), ("--events", "x.jsonl")])
def test_calls_go_into_a_lab_or_lines_instead(option: str, name: str, tmp_path: Path) -> None:
    for number in (1, 2):
        command = record_command(option, tmp_path / name)
        sent = HELLO + call_line(number, "echo") + call_line("open", "never")
        subprocess.run(command, input=sent, capture_output=True, check=True)
    with Lab(tmp_path / name if option == "--lab" else None) as lab:
        if option == "--events":
            report = lab.load(tmp_path / name)
            assert (report.loaded, report.rejected) == (4, 0)
        assert lab.events().count() == 4
        assert [event.error_message for event in lab.events(tool="never")] == [NO_ANSWER] * 2
        assert all(event.extra["server_name"] == "bare" for event in lab.events())


@posix
def test_exit_status_and_signals_are_those_of_the_server(database: Path) -> None:
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line(1, "exit", status=7))
        assert recorder.end()[0] == 7
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line(1, "die"))
        assert recorder.end()[0] == -signal.SIGKILL
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line(1, "echo"))
        recorder.line()
        recorder.process.send_signal(signal.SIGTERM)
        assert recorder.line() == b"told to end\n"
        assert recorder.process.wait() == 5
    assert [event.error_message for event in recorded(database)] == [NO_ANSWER, NO_ANSWER, ""]


def test_a_command_that_is_not_there_is_said(database: Path) -> None:
    with running_recorder("--database", database, server=["no-such-program"]) as recorder:
        status, _, said = recorder.end()
    assert status == 127
    assert b"no such command: no-such-program" in said


@posix
def test_after_kill_9_what_was_answered_is_whole_and_the_rest_is_without_answer(
    database: Path,
) -> None:
    with running_recorder("--database", database) as recorder:
        recorder.send(HELLO, *(call_line(n, "echo", message=f"m{n}") for n in range(1, 51)))
        recorder.send(call_line("open", "never", message="on its way"))
        recorder.line()
        seen = [recorder.answer()["id"] for _ in range(50)]
        # It is sent on when it is in the journal, which may be a moment later.
        with closing(sqlite3.connect(database)) as reader:
            while not reader.execute("select 1 from audit_open_calls").fetchall():
                pass
        server = psutil.Process(recorder.process.pid).children()
        recorder.process.kill()
        recorder.process.wait()
        psutil.wait_procs(server, timeout=30)
    *answered, open_call = recorded(database)
    assert [event.request_id for event in answered] == [str(rpc_id) for rpc_id in seen]
    for event in answered:
        assert text_of(event).startswith("m")
    assert (open_call.success, open_call.error_message) == (False, NO_ANSWER)
    assert open_call.parameters == {"message": "on its way"}
    assert not list(database.parent.glob("*-recorders/*"))


def test_a_recorder_that_lives_keeps_its_open_calls(database: Path) -> None:
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line("open", "never"), call_line(1, "echo"))
        recorder.line()
        assert [event.request_id for event in recorded(database)] == ["1"]
        recorder.end()
    assert [event.request_id for event in recorded(database)] == ["open", "1"]


def rename_table(database: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"alter table {old} rename to {new}")


def test_a_call_that_cannot_be_stored_is_refused_and_not_sent_on(database: Path) -> None:
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line(1, "echo"))
        recorder.line()
        rename_table(database, "audit_open_calls", "gone")
        recorder.send(call_line(2, "exit", status=9))
        answer = recorder.answer()
        assert answer["id"] == 2
        assert "not forwarded" in answer["error"]["message"]
        recorder.send(b'{"id":3,"method":"stderr"}\n')
        assert recorder.answer()["id"] == 3
        status, _, said = recorder.end()
    assert status == 0
    assert b"calls cannot be stored and are refused" in said
    assert b"not recorded: 0; refused: 1" in said


def test_an_answer_that_cannot_be_stored_is_withheld(database: Path) -> None:
    with running_recorder("--database", database) as recorder:
        recorder.send(call_line(1, "never"), call_line(2, "echo"))
        recorder.line()
        recorder.send(call_line(3, "break", message="secret", database=str(database)))
        answer = recorder.answer()
        assert answer["id"] == 3
        assert "withheld" in answer["error"]["message"]
        rename_table(database, "gone", "audit_open_calls")
        recorder.end()
    # The call was stored before it was sent on, and that is what there is of it.
    assert {event.request_id: event.error_message for event in recorded(database)} == {
        "1": NO_ANSWER,
        "2": "",
        "3": NO_ANSWER,
    }


def test_with_pass_what_cannot_be_stored_passes_and_is_counted(database: Path) -> None:
    with running_recorder("--database", database, "--on-store-failure", "pass") as recorder:
        recorder.send(call_line(1, "echo"))
        recorder.line()
        rename_table(database, "audit_open_calls", "gone")
        recorder.send(call_line(2, "echo", message="passes"))
        assert recorder.answer()["result"]["content"][0]["text"] == "passes"
        _, _, said = recorder.end()
    assert b"passed without being recorded" in said
    assert b"refused: 0" in said


@pytest.mark.skipif(not Path("/proc").exists(), reason="the peak of a process is read in /proc")
def test_an_answer_of_50_mb_passes_in_the_memory_of_a_piece(database: Path) -> None:
    with running_recorder("--database", database) as recorder:

        def peak_mib() -> float:
            status = Path(f"/proc/{recorder.process.pid}/status").read_text(encoding="ascii")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) / 1024

        recorder.send(call_line(1, "echo"))
        recorder.line()
        before = peak_mib()
        recorder.send(call_line(2, "big", mib=50))
        line = recorder.line()
        assert len(line) > 50 << 20
        assert json.loads(line)["id"] == 2
        assert peak_mib() - before < 16
        recorder.end()
    event = recorded(database)[-1]
    assert event.success
    assert event.response_chars == 50 << 20
    assert event.payload is not None
    assert event.payload.response_truncated
    assert event.payload.response_size_bytes > 50 << 20


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_memory_stays_flat_over_100_000_calls(database: Path) -> None:
    with running_recorder("--database", database) as recorder:
        process = psutil.Process(recorder.process.pid)
        after: list[int] = []
        for number in range(100_000):
            recorder.send(call_line(number, "echo", message="x" * 100))
            recorder.line()
            if number in (10_000, 99_999):
                after.append(process.memory_info().rss)
        recorder.end()
    assert after[1] - after[0] < 4 << 20


SDK_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("sdk")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

server.run("stdio")
"""


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_python_sdk_works_through_it(database: Path, mode: Any) -> None:
    command = record_command("--database", database, server=[sys.executable, "-c", SDK_SERVER])
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)

    async def talk() -> Any:
        async with mcp.Client(parameters, mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
            return (await client.call_tool("add", {"a": 2, "b": 3})).structured_content

    assert anyio.run(talk) == {"result": 5}
    (event,) = recorded(database)
    assert event.parameters == {"a": 2, "b": 3}
    assert event.extra["server_name"] == "sdk"
    assert event.extra["client_info"]["name"]
    assert event.extra["protocol_version"].startswith("2025" if mode == "legacy" else "2026")
