"""A portal as a process of its own: how it starts, and how it ends under load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from click.testing import CliRunner
from loopback import connect
from mcp.shared.exceptions import MCPError
from portals import DEV, DEV_KEY

from mcpaudit_lab.cli import commands
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.proof import LogSigner
from mcpaudit_lab.server import MemoryLogger
from mcpaudit_lab.server.background import background_portal
from mcpaudit_lab.server.serving import allowed_hosts_for
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

STREAM = "/api/v1/portal/audit/stream"
_READERS = 3
RUN = "from mcpaudit_lab.cli import main; main()"


class Process:
    """A portal in a process of its own."""

    def __init__(self, database: str, *options: str, cwd: Path) -> None:
        command = [sys.executable, "-c", RUN, "serve", "--database", database, "--port", "0"]
        self._popen = subprocess.Popen(
            [*command, *options],
            cwd=Path(__file__).parents[1],
            env={"MCPAUDIT_API_KEYS": f"dev-local={DEV_KEY}", "HOME": str(cwd)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._popen.stderr is not None
        self.told = [self._popen.stderr.readline()]
        self.url = self.told[0].split(",")[0].removeprefix("Portal at ").strip()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stderr is not None
        self.told.extend(self._popen.stderr)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal; gives the exit status and how many seconds the end took."""
        began = time.monotonic()
        self._popen.send_signal(number)
        status = self._popen.wait(30)
        return status, time.monotonic() - began

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait(30)
        self._reader.join(10)
        assert self._popen.stderr is not None
        self._popen.stderr.close()


@contextmanager
def serving(database: str, *options: str, cwd: Path) -> Iterator[Process]:
    process = Process(database, *options, cwd=cwd)
    try:
        yield process
    finally:
        process.close()


def test_the_start_tells_the_key_of_the_log(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'audit.db'}"
    with serving(database, "--log-key-file", str(tmp_path / "key"), cwd=tmp_path) as process:
        answer = httpx2.get(f"{process.url}/api/v1/portal/audit/checkpoint", headers=DEV)
        assert process.end(signal.SIGTERM)[0] == 0
        process.close()
        key = answer.headers["x-log-key"]
        assert f"Its log is signed with {key}\n" in process.told
        assert key == str(LogSigner.from_file(tmp_path / "key").key)
    with serving(database, "--no-log", cwd=tmp_path) as process:
        answer = httpx2.get(f"{process.url}/api/v1/portal/audit/checkpoint", headers=DEV)
        assert answer.status_code == 404
        assert process.end(signal.SIGTERM)[0] == 0
        process.close()
        assert len(process.told) == 1


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


class Load:
    """Eight clients that call without a pause, and readers of the stream."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: set[str] = set()
        self.streamed: set[str] = set()
        self.ended_s: list[float] = []
        self.all_ended = anyio.Event()
        self.enough = anyio.Event()

    async def call(self, client_number: int) -> None:
        with suppress(Exception):
            async with connect(f"{self.url}/mcp", DEV) as client:
                for number in range(100_000):
                    message = f"{client_number}-{number}"
                    try:
                        result = await client.call_tool("echo", {"message": message})
                    except MCPError:
                        return
                    if not result.is_error:
                        self.answered.add(message)
                    if len(self.answered) >= 400:
                        self.enough.set()

    async def listen(self) -> None:
        with suppress(httpx2.HTTPError):
            async with (
                httpx2.AsyncClient(base_url=self.url, headers=DEV, timeout=60) as http,
                http.stream("GET", STREAM) as answer,
            ):
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        event = json.loads(line.removeprefix("data: "))
                        self.streamed.add(event["parameters"]["message"])
        self.ended_s.append(time.monotonic())
        if len(self.ended_s) == _READERS:
            self.all_ended.set()


def stored(database: str) -> dict[str, Any]:
    """Message to event, with its payload."""
    with SqlLogger(database) as store:
        events = [event for page in store.stream(EventFilter(), payloads=True) for event in page]
    found: dict[str, Any] = {}
    for event in events:
        assert event.payload is not None, "an event and its payload are written together"
        params: Any = event.payload.request_params
        assert params == event.parameters
        assert event.payload.response_result is not None
        found[params["message"]] = event
    assert len(found) == len(events)
    return found


async def _under_load(process: Process, load: Load, number: signal.Signals) -> tuple[int, float]:
    async with anyio.create_task_group() as group:
        for client_number in range(8):
            group.start_soon(load.call, client_number)
        for _ in range(_READERS):
            group.start_soon(load.listen)
        with anyio.fail_after(60):
            await load.enough.wait()
        ended = await anyio.to_thread.run_sync(process.end, number)
        with anyio.move_on_after(5):
            await load.all_ended.wait()
        group.cancel_scope.cancel()
    return ended


@pytest.mark.soak
@pytest.mark.anyio
async def test_sigterm_under_eight_clients_loses_nothing_and_takes_under_five_seconds(
    database: str, tmp_path: Path
) -> None:
    with serving(database, cwd=tmp_path) as process:
        load = Load(process.url)
        status, took_s = await _under_load(process, load, signal.SIGTERM)
    assert (status, took_s < 5) == (0, True), (status, took_s, process.told)
    assert len(load.ended_s) == _READERS
    events = await anyio.to_thread.run_sync(stored, database)
    assert load.answered - events.keys() == set()
    assert load.streamed - events.keys() == set()
    assert not [line for line in process.told if "Traceback" in line], process.told


@pytest.mark.soak
@pytest.mark.anyio
async def test_kill_loses_only_what_was_queued_and_rows_are_whole(
    database: str, tmp_path: Path
) -> None:
    with serving(database, cwd=tmp_path) as process:
        load = Load(process.url)
        await _under_load(process, load, signal.SIGKILL)
    events = await anyio.to_thread.run_sync(stored, database)
    assert load.streamed - events.keys() == set(), "what was told of was stored"
    assert len(load.streamed) > 0
    lost = load.answered - events.keys()
    assert lost <= load.answered - load.streamed
    # What one batch holds: a drain of thousands a second leaves no more than that behind.
    assert len(lost) < 200


@pytest.mark.soak
def test_a_portal_that_was_told_to_end_ends_with_0_and_starts_again_on_its_database(
    database: str, tmp_path: Path
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(database, cwd=tmp_path) as process:
            answer = httpx2.post(
                f"{process.url}/api/v1/admin/tryit/echo",
                json={"arguments": {"message": "x"}},
                headers={**DEV, "X-Requested-With": "t"},
            )
            assert answer.status_code == 200
            assert process.end(number)[0] == 0
    with SqlLogger(database) as store:
        assert store.count(EventFilter(source="portal-tryit")) == 2


def _refusal(*options: str, env: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(commands, ["serve", *options], env=env or {})
    assert result.exit_code == 2, result.output
    return result.output


def test_what_cannot_be_served_is_told_without_the_secret(tmp_path: Path) -> None:
    database = ("--database", f"sqlite:///{tmp_path / 'a.db'}")
    assert "nobody could ask" in _refusal(*database)
    assert "--oidc-audience" in _refusal(*database, "--oidc-issuer", "https://i.test")
    told = _refusal(*database, "--api-key", "=s3cret")
    assert "NAME=KEY" in told
    assert "s3cret" not in told
    told = _refusal("--database", "mysql://u:s3cret@h/d", "--api-key", "a=b")
    assert "SQLite or PostgreSQL" in told
    assert "s3cret" not in told
    told = _refusal("--database", "sqlite:////no/such/folder/a.db", "--api-key", "a=b")
    assert "unable to open" in told


def test_names_that_a_request_may_use_follow_from_the_address() -> None:
    loopback = ("localhost", "127.0.0.1", "[::1]")
    assert allowed_hosts_for("127.0.0.1") == loopback
    assert allowed_hosts_for("::") == loopback
    assert allowed_hosts_for("10.0.0.7", ("portal.test",)) == (*loopback, "10.0.0.7", "portal.test")
    assert allowed_hosts_for("fe80::1")[-1] == "[fe80::1]"


# --- in a thread ---------------------------------------------------------------------------------


def test_a_background_portal_lives_as_long_as_its_block() -> None:
    with background_portal() as portal:
        assert portal.api_key not in repr(portal)
        found = httpx2.get(f"{portal.url}/api/v1/portal/me", headers=portal.headers).json()
        assert found["subject"] == "apikey:notebook"
        tools = httpx2.get(f"{portal.url}/api/v1/portal/tools", headers=portal.headers).json()
        assert len(tools["tools"]) == 12
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{portal.url}/healthz")
    assert not [thread for thread in threading.enumerate() if thread.name == "portal"]


def test_a_background_portal_ends_with_its_block_with_a_stream_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    opened, ended = threading.Event(), threading.Event()

    def listen(base_url: str, headers: dict[str, str]) -> None:
        with httpx2.stream("GET", f"{base_url}{STREAM}", headers=headers, timeout=30) as answer:
            opened.set()
            for _ in answer.iter_raw():
                pass
        ended.set()

    with background_portal(database=url) as portal:
        thread = threading.Thread(target=listen, args=(portal.url, portal.headers))
        thread.start()
        assert opened.wait(10)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert ended.wait(5)
    thread.join()


def test_a_background_portal_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="or a database"),
        background_portal(None, MemoryLogger(), database=f"sqlite:///{tmp_path / 'a.db'}"),
    ):
        pass
    with pytest.raises(ValueError, match="database URL"), background_portal(database="nonsense"):
        pass
