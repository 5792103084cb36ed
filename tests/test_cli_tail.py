"""The commands ``tail`` and ``completion``, and pages of ``--html`` and ``--open``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mcpaudit_lab import Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import BackgroundPortal, background_portal

pytestmark = pytest.mark.timeout(60)

PROGRESS = ("9be46480-fa19-4c60-9b50-8878b96f2759", "8018d3b4-cd22-45b1-9d01-22395b791694")
PROGRAM = [sys.executable, "-c", "from mcpaudit_lab.cli import main; main()"]


def run(*args: object, **environment: str) -> Result:
    runner = CliRunner(env={"MCPAUDIT_LAB": None, "FORCE_COLOR": None, **environment})
    return runner.invoke(commands, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def portal() -> Iterator[BackgroundPortal]:
    with background_portal() as served:
        yield served


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "case.duckdb"
    with Lab(path) as lab:
        lab.load(sample_files())
    return path


def started(portal: BackgroundPortal, *options: str) -> subprocess.Popen[str]:
    """A tail in a process of its own, which already gets what is stored."""
    environment = {**os.environ, "MCPAUDIT_API_KEY": portal.api_key, "NO_COLOR": "1"}
    return subprocess.Popen(
        [*PROGRAM, "tail", portal.url, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Calls:
    """Calls a tool again and again, so that a tail that has just begun sees one."""

    def __init__(self, portal: BackgroundPortal) -> None:
        self._portal = portal
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _call(self) -> None:
        with PortalClient(self._portal.url, self._portal.api_key) as client:
            while not self._ended.is_set():
                client.tryit("echo", {"message": "\x1b[31mhello\u202e"})
                client.tryit("error", {"message": "no", "as_tool": True})
                time.sleep(0.2)


def test_a_tail_prints_calls_as_they_come_and_ends(portal: BackgroundPortal) -> None:
    with Calls(portal), started(portal, "--count", "4") as process:
        told, trouble = process.communicate(timeout=40)
    assert (process.returncode, trouble) == (0, "")
    lines = told.splitlines()
    assert len(lines) == 4
    assert any("! tool" in line for line in lines)
    assert any('"message":"\\u001b[31mhello' in line or "hello" in line for line in lines)
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_a_tail_filters_and_writes_json_for_programs(portal: BackgroundPortal) -> None:
    options = ("--where", "tool != echo", "--json", "--count", "2")
    with Calls(portal), started(portal, *options) as process:
        told, _ = process.communicate(timeout=40)
    assert [json.loads(line)["tool_name"] for line in told.splitlines()] == ["error", "error"]


def test_ctrl_c_ends_a_tail_without_a_traceback(portal: BackgroundPortal) -> None:
    with Calls(portal), started(portal) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, trouble = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in trouble


def test_a_tail_without_a_key_says_so(portal: BackgroundPortal) -> None:
    result = run("tail", portal.url, MCPAUDIT_API_KEY="wrong")
    assert result.exit_code == 2
    assert "key" in result.stderr or "401" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_where_the_shell_looks(shell: str, tmp_path: Path) -> None:
    places = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    shown = run("completion", shell)
    assert shown.exit_code == 0
    assert "_MCPAUDIT_LAB_COMPLETE" in shown.stdout
    done = run("completion", shell, "--install", **places)
    assert done.exit_code == 0, done.output
    (written,) = (path for path in tmp_path.rglob("*mcpaudit-lab*") if path.is_file())
    assert written.read_text() == shown.stdout
    assert str(written) in done.stdout


def test_the_program_completes_its_commands() -> None:
    environment = {**os.environ, "_MCPAUDIT_LAB_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": "mcpaudit-lab comp", "COMP_CWORD": "1"}
    done = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,compare", "plain,completion"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("show", PROGRESS[0]), "audit event"),
        (("compare", *PROGRESS), "comparison of two audit events"),
        (("compare", "--replays"), "12 replays"),
    ],
)
def test_a_page_is_written_for_its_owner_and_opened(
    args: tuple[str, ...], words: str, case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def see(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", see)
    page = tmp_path / "page.html"
    result = run(*args, "--lab", case, "--html", page, "--open")
    assert result.exit_code in (0, 1)
    assert result.stdout == f"Written to {page}.\n"
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert words in text
    assert "default-src 'none'" in text
    assert text.count("<style>") == 2
    assert page.stat().st_mode & 0o777 == 0o600
    assert opened == [page.as_uri()]
