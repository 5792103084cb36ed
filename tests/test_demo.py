"""The sample is what its README says, and the demo shows it."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from rich.console import Console

import mcpaudit_lab
from mcpaudit_lab import Event, Lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import run_demo, sample_files

UPSTREAM = Path(__file__).parent / "data" / "upstream"
PROGRESS = "9be46480-fa19-4c60-9b50-8878b96f2759"
PACKAGE = str(Path(mcpaudit_lab.__file__).parents[1])
ITS_REPLAY = "8018d3b4-cd22-45b1-9d01-22395b791694"


def sample_lines(number: int) -> list[bytes]:
    with gzip.open(sample_files()[number]) as file:
        return file.read().splitlines()


@pytest.fixture(scope="module")
def demo() -> str:
    """What the demo prints, plain."""
    console = Console(file=io.StringIO(), width=1000, highlight=False)
    run_demo(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_sample_is_the_part_of_the_recordings_that_its_readme_names() -> None:
    chosen = [
        line
        for line in (UPSTREAM / "export.jsonl").read_bytes().splitlines()
        if len(line) < 4096 and re.fullmatch("[a-z_]{1,40}", json.loads(line)["tool_name"])
    ]
    assert sample_lines(0) == chosen
    ids = {json.loads(line)["id"] for line in chosen}
    assert sample_lines(1) == [
        line
        for line in (UPSTREAM / "details.jsonl").read_bytes().splitlines()
        if json.loads(line)["id"] in ids and len(line) < 16384
    ]
    readme = sample_files()[0].with_name("README.md").read_text(encoding="utf-8")
    assert f"{len(sample_lines(0))} summaries" in readme
    assert f"{len(sample_lines(1))} of these events" in readme


def test_the_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in sample_files()) < 300_000


def test_the_sample_has_something_of_everything() -> None:
    with Lab() as lab:
        lab.load(sample_files())
        events = lab.events
        assert set(events(success=False).breakdown("error_category")["key"]) == {
            "tool",
            "handler",
            "auth",
        }
        assert events(has="notifications").count()
        assert events(has="replayed_from").count() == len(lab.compare_replays()) == 12
        assert set(lab.compare_replays()["verdict"]) == {"equal", "changed"}
        redacted = lab.sql(
            "select count(*) from audit_payloads where request_params::varchar like '%[redacted]%'"
        )
        assert redacted.fetchall()[0][0] > 10
        truncated = "select count(*) from audit_payloads where response_truncated"
        assert lab.sql(truncated).fetchall()[0][0] > 0


def test_the_demo_tells_what_was_loaded(demo: str) -> None:
    assert re.search(r"together +964 +658 +306 +0 +0 +0\n", demo)
    assert (
        "658 tool calls from 2026-11-24 03:43:43.274 to 03:51:31.878 UTC, 306 of them with request"
    ) in demo


def test_the_demo_counts_as_the_lab_does(demo: str) -> None:
    with Lab() as lab:
        lab.load(sample_files())
        for row in lab.events().stats(by="tool").itertuples():
            assert re.search(rf"^{row.key} +{row.total} +{row.errors} ", demo, re.MULTILINE)
        kinds = lab.sql(
            "select tool_name, error_category, count(*) from audit_events where not success"
            " group by all"
        ).fetchall()
    for tool, category, count in kinds:
        assert re.search(rf"^{tool} +{category} +{count} ", demo, re.MULTILINE)


def test_the_demo_shows_a_comparison_and_explains_it_rightly(demo: str) -> None:
    assert f"changed: 2 value, 1 removed\n  left   {PROGRESS}  progress" in demo
    assert "The client had asked for progress, the replay did not" in demo
    with Lab() as lab:
        lab.load(sample_files())
        original, replay = lab.event(PROGRESS).payload, lab.event(ITS_REPLAY).payload
    assert original is not None
    assert replay is not None
    # The protocol sends progress to who gave a token, and only then.
    (notification,) = original.notifications
    assert notification.params == {
        "message": "step 1/1",
        "progress": 1,
        "progressToken": "[redacted]",
        "total": 1,
    }
    assert replay.notifications == ()
    assert replay.replayed_from == PROGRESS


def test_the_commands_it_ends_with_work(demo: str, tmp_path: Path) -> None:
    lab = str(tmp_path / "demo.duckdb")
    shown = re.findall(r"^  mcpaudit-lab (.+?)(?:  #.*)?$", demo, re.MULTILINE)
    assert len(shown) == 6
    for command in shown:
        args = [lab if word == "demo.duckdb" else word for word in shlex.split(command)]
        if args[:2] == ["load", "FILES"]:
            args = ["load", *map(str, sample_files()), "--lab", str(tmp_path / "case.duckdb")]
        result = CliRunner(env={"MCPAUDIT_LAB": lab}).invoke(commands, args)
        assert result.exit_code == (1 if args[0] == "compare" else 0), result.output


def test_the_code_it_ends_with_works(demo: str) -> None:
    code = demo.partition("or in a notebook\n")[2]
    lines = [line.strip() for line in code.splitlines() if line.startswith("  ")]
    names: dict[str, object] = {}
    exec("\n".join(lines[:-1]), names)  # noqa: S102 - what the demo tells people to run
    assert len(eval(lines[-1], names)) == 26  # noqa: S307 - the same


def test_a_kept_sample_is_not_offered_again(tmp_path: Path) -> None:
    lab = tmp_path / "kept.duckdb"
    for _ in range(2):
        result = CliRunner().invoke(commands, ["demo", "--lab", str(lab)])
        assert result.exit_code == 0
        assert f"export MCPAUDIT_LAB={lab}" in result.stdout
        assert "demo --lab" not in result.stdout
    with Lab(lab) as kept:
        assert kept.events().count() == 658


def test_the_demo_stays_on_the_loopback_and_leaves_no_file(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def deny(event, args):\n"
        "    if event == 'socket.connect' and args[1][0] != '127.0.0.1':\n"
        "        raise SystemExit('network!')\n"
        "sys.addaudithook(deny)\n"
        "from mcpaudit_lab.cli import commands\n"
        "commands(['demo'])\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    used_s = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": PACKAGE,
            "TMPDIR": str(temporary),
            "HTTP_PROXY": "http://192.0.2.1:3128",
        },
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert found.stderr == b""
    assert list(tmp_path.iterdir()) == [temporary]
    assert list(temporary.iterdir()) == []
    # Ten seconds are promised; the processor's, since many tests may run at once.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used_s < 10


# The portal


def test_the_demo_calls_a_portal_and_loads_what_it_recorded(demo: str) -> None:
    live = demo.partition("\nThe recorded sample")[0]
    assert re.search(
        r"^A portal on SQLite at http://127\.0\.0\.1:\d+: 6 calls by", live, re.MULTILINE
    )
    rows = re.findall(r"^2\S+ \S+ +(\w+) +(\w+) +\d+ +apikey:notebook", live, re.MULTILINE)
    assert rows == [
        ("echo", "ok"),
        ("lorem", "ok"),
        ("progress", "ok"),
        ("error", "tool"),
        ("flaky", "tool"),
        ("echo", "ok"),
    ]
    assert "6 calls, 6 events. The tool that reports progress sent 3 notifications." in live


def test_the_demo_plans_what_it_replays_and_says_why_not_the_rest(demo: str) -> None:
    live = demo.partition("\nThe recorded sample")[0]
    planned = re.findall(r"^[-0-9a-f]{36} +(\w+) +(ready|refused)(?: +(\w+))?", live, re.MULTILINE)
    assert planned == [
        ("echo", "ready", ""),
        ("lorem", "ready", ""),
        ("progress", "refused", "not_allowed"),
        ("error", "refused", "not_allowed"),
        ("flaky", "refused", "not_allowed"),
        ("echo", "refused", "redacted"),
    ]
    assert "2 replays: 2 equal\n  echo: 1 equal\n  lorem: 1 equal\n" in live
    assert "correct horse" not in demo


def test_the_portal_of_the_demo_ends_and_has_lost_nothing(demo: str) -> None:
    assert demo.endswith("The portal has ended: 8 events stored, 0 left in the queue, 0 lost.\n")
    url = re.search(r"http://127\.0\.0\.1:\d+", demo)
    assert url is not None
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url[0]}/healthz")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)]
)
def test_a_portal_that_is_kept_serves_until_it_is_told_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    code = "from mcpaudit_lab.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--keep"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PACKAGE, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown: list[str] = []
        for line in process.stdout:
            shown.append(line.strip())
            if line.startswith('  portal.tryit("echo"'):
                break
        lines = shown[shown.index("or in a notebook", shown.index("In a shell")) + 1 :]
        names: dict[str, Any] = {}
        exec("\n".join(lines[:2]), names)  # noqa: S102 - what the demo tells people to run
        with names["portal"]:
            assert len(eval(lines[2], names)) == 3  # noqa: S307 - the same
            assert not eval(lines[3], names).is_error  # noqa: S307 - the same
        for line in shown:
            if line.startswith("curl ") and "/events" in line:
                words = shlex.split(line)
                name, _, value = words[2].partition(": ")
                assert httpx2.get(words[3], headers={name: value}).json()["total"] == 9
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == 0
    assert "The portal has ended: 9 events stored, 0 left in the queue, 0 lost." in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_demo_fits_a_terminal(width: int) -> None:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False
    )
    run_demo(console)
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    assert max(map(len, text.splitlines())) <= width


def test_every_event_of_the_sample_can_be_read() -> None:
    for number in (0, 1):
        for line in sample_lines(number):
            assert Event.from_json(line).to_json()
