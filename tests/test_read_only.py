"""A lab that may not be written: read-only disks and folders, several processes at once."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from reference_portal import KEY, ReferencePortal
from replaying import captured, counting_server

from mcpaudit_lab import (
    EventFilter,
    Lab,
    LabError,
    LabInUse,
    LabReadOnly,
    LabVersionError,
    PortalClient,
    StreamRecorder,
)
from mcpaudit_lab.cli import commands

# What is asked where nothing may be written. It runs in a process of its own.
ASK = """
import sys
from pathlib import Path
from mcpaudit_lab import Lab, LabReadOnly
path, out = sys.argv[1:]
with Lab(path, read_only=True) as lab:
    events = lab.events()
    original = lab.sql("select id::varchar from audit_events where source = 'mcp' order by ts")
    first = original.fetchall()[0][0]
    assert events.count() == len(events.df()) == len(list(events)) == 6
    assert lab.events(params={"n": 1}).count() == 2
    assert lab.sql("select count(*) from audit_payloads").fetchall() == [(6,)]
    with lab.sandbox() as box:
        assert box.sql("select count(*) from audit_events").fetchall() == [(6,)]
    assert len(events.stats("tool")) == 1
    assert events.breakdown("tool")["count"].sum() == 6
    assert events.timeseries("1m")["count"].sum() == 6
    assert len(lab.compare_replays()) == 3
    assert lab.compare(first, first).verdict == "equal"
    assert lab.provenance(first)[0].raw is not None
    assert len(lab.sources()) == 1 and lab.rejects().empty
    assert "6" in str(lab.overview()) and lab.overview()._repr_html_()
    assert lab.event(first)._repr_html_() and events._repr_html_()
    assert "read-only" in repr(lab)
    # More than memory holds goes elsewhere, too.
    lab.connection.execute("set memory_limit = '60MB'")
    big = "select md5(i::varchar) a, repeat('x', 90) b from range(900000) t(i) order by a"
    assert lab.sql(f"select count(*) from ({big} limit 800000)").fetchall() == [(800000,)]
    assert lab.write(Path(out) / "out.jsonl") == 6
    try:
        lab.load(Path(out) / "out.jsonl")
    except LabReadOnly as error:
        print("refused", error)
"""
READ_ONLY_DISK = (
    *("unshare", "-rm", "sh", "-c"),
    'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"',
)


def case(folder: Path) -> Path:
    """A lab of six events, three of them replays, that was loaded from a file and closed."""
    shutil.copytree(_made(), folder)
    return folder / "case.duckdb"


@cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    atexit.register(shutil.rmtree, folder)
    originals = [captured({"n": n}, number=n) for n in range(3)]
    with Lab() as lab:
        lab.add_events(originals, kind="portal", name="test")
        server, _ = counting_server()
        lab.plan_replay(originals, server, allow="all").run()
        lab.write(folder / "case.jsonl")
    with Lab(folder / "case.duckdb") as lab:
        lab.load(folder / "case.jsonl")
    return folder


def python(*words: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, *map(str, words)], capture_output=True, text=True, check=False
    )


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.stat()
        found[path.name] = (about.st_mtime_ns, about.st_mode, path.read_bytes())
    return found


@contextmanager
def holding(path: Path, *, read_only: bool) -> Iterator[int]:
    """Another process that has the lab open; yields its id."""
    program = (
        f"from mcpaudit_lab import Lab; lab = Lab({str(path)!r}, read_only={read_only});"
        " print('open', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        yield holder.pid
        holder.communicate(b"\n")


def run(*args: object) -> Result:
    return CliRunner(env={"MCPAUDIT_LAB": None}).invoke(commands, [str(arg) for arg in args])


def powerless() -> tuple[str, ...]:
    """Words before a command that take root's power to write everywhere away."""
    if os.getuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root writes into any folder, and there is no setpriv to run without that")
    gone = "-dac_override,-dac_read_search"
    return ("setpriv", f"--bounding-set={gone}", f"--inh-caps={gone}")


def test_on_a_read_only_disk_every_question_is_answered(tmp_path: Path) -> None:
    path = case(tmp_path / "disk")
    probe = subprocess.run([*READ_ONLY_DISK, path.parent, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"this system mounts nothing for us: {probe.stderr.decode()}")
    before = (*READ_ONLY_DISK, str(path.parent))
    writing = python("-c", f"from mcpaudit_lab import Lab; Lab({str(path)!r})", before=before)
    assert "Read-only file system" in writing.stderr
    assert "read_only=True" in writing.stderr
    done = python("-c", ASK, path, tmp_path, before=before)
    assert done.stdout.startswith("refused"), done.stderr


def test_in_a_read_only_folder_every_question_is_answered(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        done = python("-c", ASK, path, tmp_path, before=powerless())
    finally:
        path.parent.chmod(0o700)
    assert done.stdout.startswith("refused"), done.stderr


def test_no_byte_beside_or_in_the_lab_changes(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    before = state_of(path.parent)
    done = python("-c", ASK, path, tmp_path)
    assert done.stdout.startswith("refused"), done.stderr
    assert state_of(path.parent) == before


def test_what_a_killed_writer_left_in_its_log_is_read_and_left_there(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    killed = python(
        "-c",
        "import os; from mcpaudit_lab import Lab;"
        f" lab = Lab({str(path)!r}); lab.connection.execute('delete from rejects');"
        " lab.connection.execute('delete from audit_payloads'); os._exit(9)",
    )
    assert killed.returncode == 9
    before = state_of(path.parent)
    assert len(before["case.duckdb.wal"][2]) > 0
    with Lab(path, read_only=True) as lab:
        assert lab.sql("select count(*) from audit_payloads").fetchall() == [(0,)]
    assert state_of(path.parent) == before


def test_several_processes_read_at_once(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    with holding(path, read_only=True), holding(path, read_only=True):
        with Lab(path, read_only=True) as lab, Lab(path, read_only=True) as other:
            assert lab.events().count() == other.events().count() == 6
        done = run("events", "--lab", path, "--read-only", "--json")
        assert (done.exit_code, len(done.stdout.splitlines())) == (0, 6)


def test_a_lab_that_others_read_names_one_and_offers_to_read_too(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    with holding(path, read_only=True) as pid:
        with pytest.raises(LabInUse, match=rf"{pid} .*read_only=True \(--read-only\)") as caught:
            Lab(path)
        assert (caught.value.pid, caught.value.read_only_works) == (pid, True)
        done = run("events", "--lab", path)
        assert done.exit_code == 2
        assert str(pid) in done.stderr
        assert "--read-only" in done.stderr


@pytest.mark.parametrize("read_only", [False, True])
def test_a_lab_that_another_process_writes_names_that_process(
    tmp_path: Path, read_only: bool
) -> None:
    path = case(tmp_path / "folder")
    with holding(path, read_only=False) as pid:
        with pytest.raises(LabInUse, match=rf"{pid} .*allows no readers meanwhile") as caught:
            Lab(path, read_only=read_only)
        assert (caught.value.pid, caught.value.read_only_works) == (pid, False)


@pytest.mark.parametrize("read_only", [False, True])
def test_one_process_opens_a_lab_in_one_way_at_a_time(tmp_path: Path, read_only: bool) -> None:
    path = case(tmp_path / "folder")
    with Lab(path, read_only=not read_only), pytest.raises(LabInUse, match="this process") as found:
        Lab(path, read_only=read_only)
    assert found.value.pid == os.getpid()
    with Lab(path, read_only=read_only) as lab:
        assert lab.events().count() == 6


def _tail(lab: Lab) -> object:
    with PortalClient("http://portal.test", KEY, transport=ReferencePortal([]).transport) as portal:
        return StreamRecorder(portal.stream(), lab)


def _pull(lab: Lab) -> object:
    server = ReferencePortal([])
    with PortalClient("http://portal.test", KEY, transport=server.transport) as portal:
        try:
            return lab.pull(portal)
        finally:
            assert not server.requests


CHANGES: dict[str, Callable[[Lab], object]] = {
    "load": lambda lab: lab.load("no-such-file.jsonl"),
    "load_database": lambda lab: lab.load_database("sqlite:///no-such.db"),
    "pull": _pull,
    "add_events": lambda lab: lab.add_events([captured()], kind="tail", name="x"),
    "add_lines": lambda lab: lab.add_lines(b"{}\n", kind="tail", name="x"),
    "tail": _tail,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_would_change_it_says_why_it_cannot(
    tmp_path: Path, change: Callable[[Lab], object]
) -> None:
    path = case(tmp_path / "folder")
    before = state_of(path.parent)
    with (
        Lab(path, read_only=True) as lab,
        pytest.raises(LabReadOnly, match=r"case\.duckdb.*read-only.*nothing was changed"),
    ):
        change(lab)
    assert state_of(path.parent) == before


def test_a_replay_is_planned_and_not_one_call_is_sent(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    server, calls = counting_server()
    with Lab(path, read_only=True) as lab:
        plan = lab.plan_replay(lab.events(source="mcp"), server, allow="all")
        assert len(plan.runnable) == 3
        with pytest.raises(LabReadOnly, match="a replay"):
            plan.run()
    assert len(calls) == 0


def test_an_uncertain_call_is_still_refused_by_a_plan(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    server, _ = counting_server()
    with Lab(path) as lab:
        lab.plan_replay(lab.events(source="mcp"), server, allow="all").run(limit=1)
        lab.connection.execute("update replays set status = 'uncertain' where status <> 'waiting'")
    with Lab(path, read_only=True) as lab:
        plan = lab.plan_replay(lab.events(source="mcp"), server, allow="all")
        assert plan.counts()["uncertain"] == 1


def test_a_lab_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no lab.*nix\.duckdb"):
        Lab(tmp_path / "nix.duckdb", read_only=True)
    with pytest.raises(LabError, match="in memory"):
        Lab(read_only=True)
    assert not list(tmp_path.iterdir())


def test_another_version_of_a_lab_is_told_and_left_alone(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    for version, told in (("0", "older version.*open the copy"), ("999", "newer version")):
        with duckdb.connect(str(path)) as connection:
            connection.execute("update lab_meta set value = $v", {"v": version})
        before = state_of(path.parent)
        with pytest.raises(LabVersionError, match=told):
            Lab(path, read_only=True)
        assert state_of(path.parent) == before
    empty = tmp_path / "empty.duckdb"
    duckdb.connect(str(empty)).close()
    with pytest.raises(LabVersionError, match="not a lab"):
        Lab(empty, read_only=True)


ASKING: dict[str, tuple[str, ...]] = {
    "events": (),
    "stats": (),
    "breakdown": (),
    "timeseries": (),
    "sql": ("select count(*) from audit_events",),
    "sources": (),
    "tools": ("--changes",),
    "rejects": (),
    "compare": ("--replays",),
    "write": ("{out}",),
    "show": ("{id}",),
    "notes": ("--history",),
    "bundle": ("{bundle}",),
    "plan": ("--command", "{server}", "--allow-all", "--source", "mcp"),
}


@pytest.mark.parametrize("name", ASKING)
def test_every_command_that_asks_takes_read_only(tmp_path: Path, name: str) -> None:
    path = case(tmp_path / "folder")
    server = tmp_path / "server.py"
    server.write_text(
        "from mcp.server import MCPServer\nserver = MCPServer('s')\n"
        "@server.tool()\ndef work(n: int) -> str:\n    return 'x'\nserver.run()\n"
    )
    before = state_of(path.parent)
    with Lab(path, read_only=True) as lab:
        first = lab.events(limit=1).ids()[0]
    values: dict[str, Any] = {
        "out": tmp_path / "out.jsonl",
        "bundle": tmp_path / "case.zip",
        "id": first,
        "server": f"{sys.executable} {server}",
    }
    words = [word.format(**values) for word in ASKING[name]]
    done = run(name, "--lab", path, "--read-only", *words)
    # The arguments are equal in every replay, so what differs is told by status 1, as is no note.
    assert done.exit_code == (1 if name == "notes" else 0), done.output
    assert state_of(path.parent) == before


WRITING: dict[str, tuple[str, ...]] = {
    "note": ("what was found",),
    "load": ("x.jsonl",),
    "load-database": ("sqlite:///x.db",),
    "pull": ("http://127.0.0.1:1",),
    "replay": ("--command", "false"),
    "demo": (),
}


@pytest.mark.parametrize("name", WRITING)
def test_every_command_that_writes_says_why_it_cannot(tmp_path: Path, name: str) -> None:
    path = case(tmp_path / "folder")
    before = state_of(path.parent)
    done = run(name, "--lab", path, "--read-only", *WRITING[name])
    assert done.exit_code == 2
    assert f"`{name}` writes into the lab" in done.stderr
    assert "nothing was changed" in done.stderr
    assert state_of(path.parent) == before


def test_every_command_that_takes_a_lab_takes_read_only() -> None:
    for name, command in commands.commands.items():
        options = {text for parameter in command.params for text in parameter.opts}
        if name == "record":
            continue  # its --lab is where calls are stored, and nothing is asked of it
        assert ("--lab" in options) == ("--read-only" in options), name
        # mcp opens the lab read-only whatever is said, and serves until it is told to end.
        # So does browse, which needs a terminal.
        if "--lab" in options and name not in ("mcp", "browse"):
            assert name in ASKING or name in WRITING


def test_a_filter_that_sql_cannot_say_is_finished_here(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    chosen = EventFilter(params={("n",): 2})
    with Lab(path, read_only=True) as lab:
        assert lab.events(chosen).count() == 2
        assert len(lab.events(chosen).arrow()) == 2


def test_a_check_reads_its_case_while_others_read_it(tmp_path: Path) -> None:
    path = case(tmp_path / "folder")
    before = state_of(path.parent)
    with holding(path, read_only=True):
        done = run("check", path, "--command", "false", "--allow-all")
    assert "LabInUse" not in done.output
    assert "another process" not in done.output
    assert state_of(path.parent) == before
