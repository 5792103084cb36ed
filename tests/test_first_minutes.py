"""Whoever is stopped is told what to do next."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mcpaudit_lab import Lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import background_portal
from mcpaudit_lab.server.background import BackgroundPortal

PROGRESS = "9be46480-fa19-4c60-9b50-8878b96f2759"
POSTGRESQL = "postgresql+psycopg://somebody@127.0.0.1:1/audit"
SQLITE = ("--database", "sqlite:///audit.db", "--api-key", "me=a-key")


def run(*args: object, key: str | None = None) -> Result:
    unset = ("MCPAUDIT_LAB", "MCPAUDIT_DATABASE_URL", "MCPAUDIT_URL")
    runner = CliRunner(env={**dict.fromkeys(unset), "MCPAUDIT_API_KEY": key})
    return runner.invoke(commands, [str(arg) for arg in args])


def stopped(*args: object, key: str | None = None) -> str:
    """What a command says that does nothing."""
    result = run(*args, key=key)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def portal() -> Iterator[BackgroundPortal]:
    with background_portal() as running:
        yield running


def test_without_arguments_it_says_where_to_start() -> None:
    said = stopped()
    assert "Start with `mcpaudit-lab demo`." in said


def test_a_command_without_a_lab_says_how_to_name_or_make_one() -> None:
    said = stopped("events")
    assert "export MCPAUDIT_LAB=FILE" in said
    assert "mcpaudit-lab demo --lab demo.duckdb" in said


@pytest.mark.parametrize(
    "words",
    [
        ("load-database", POSTGRESQL, "--lab", "a.duckdb"),
        ("serve", "--api-key=a=b", "--database", POSTGRESQL),
    ],
)
def test_without_the_driver_of_postgresql_it_says_how_to_install_it(words: tuple[str, ...]) -> None:
    # As where it is not installed: an import of it fails.
    code = "import sys; sys.modules['psycopg'] = None; from mcpaudit_lab.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, check=False, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith("pip install 'mcpaudit-lab[postgres]'\n")


def test_a_port_that_is_taken_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = stopped("serve", *SQLITE, "--port", port)
    assert f"cannot listen on 127.0.0.1, port {port}: " in said
    assert "give --port another number, or 0 for any" in said


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_no_place_to_listen(host: str) -> None:
    assert "of this machine, such as 127.0.0.1" in stopped("serve", *SQLITE, "--host", host)


def test_a_database_that_does_not_open_says_what_to_look_at() -> None:
    said = stopped("serve", "--database", "sqlite:///no/such/folder/a.db", "--api-key", "me=a-key")
    assert "unable to open database file Is its folder there" in said


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("serve", "sqlite:///audit.db or the like, or a PostgreSQL's URL in MCPAUDIT_DATABASE_URL"),
        ("load-database", "a PostgreSQL's URL in MCPAUDIT_DATABASE_URL"),
        ("pull", "such as http://localhost:8080, or set MCPAUDIT_URL"),
    ],
)
def test_a_url_that_is_missing_is_said_with_where_it_may_stand(command: str, hint: str) -> None:
    assert hint in stopped(command)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (None, "it wants a key: pass api_key=, or set MCPAUDIT_API_KEY"),
        ("wrong", "Pass one that it knows, as api_key= or in MCPAUDIT_API_KEY"),
    ],
)
@pytest.mark.parametrize("command", ["pull", "replay"])
def test_a_key_that_is_missing_or_wrong(
    portal: BackgroundPortal, command: str, key: str | None, hint: str
) -> None:
    words: list[object] = ["pull", portal.url, "--lab", "a.duckdb"]
    if command == "replay":
        run("load", *sample_files(), "--lab", "a.duckdb")
        words = ["replay", "--portal", portal.url, "--allow", "progress", "--lab", "a.duckdb"]
        words += ["--again", PROGRESS, PROGRESS]
    result = run(*words, key=key)
    assert result.exit_code in {1, 2}
    assert hint in " ".join(result.output.split())


def test_a_url_that_leads_into_a_portal_is_shortened(portal: BackgroundPortal) -> None:
    said = stopped("pull", f"{portal.url}/mcp", "--lab", "a.duckdb", key=portal.api_key)
    assert f"Its URL has nothing behind it: {portal.url})" in said


def test_a_url_that_is_none_and_one_where_nobody_answers() -> None:
    words = ("--lab", "a.duckdb")
    assert "such as http://localhost:8080" in stopped("pull", "localhost:8080", *words)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "is it running, and is the URL right?" in stopped("pull", nobody, *words)
    run("load", *sample_files(), *words)
    called = run("replay", "--target", nobody, "--allow", "progress", PROGRESS, *words)
    said = " ".join(called.output.split())
    assert "is it the URL of its MCP endpoint" in said
    assert "--target-header NAME=VARIABLE" in said


def test_a_lab_in_use_is_told_before_the_demo_shows_anything() -> None:
    code = (
        "import sys; from mcpaudit_lab import Lab\n"
        "lab = Lab('a.duckdb'); print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        for words in (("demo",), ("events",)):
            said = stopped(*words, "--lab", "a.duckdb")
            assert said.startswith("Error: the lab 'a.duckdb' is open in another process")
            assert "lab.close()" in said
    finally:
        other.communicate()


def test_a_lab_that_is_not_there() -> None:
    said = stopped("events", "--lab", "none.duckdb")
    assert "Make one: mcpaudit-lab load FILES --lab none.duckdb" in said


def test_the_lab_that_the_demo_looked_at_first_has_the_sample() -> None:
    assert run("demo", "--lab", "a.duckdb").exit_code == 0
    with Lab("a.duckdb") as lab:
        assert lab.events().count() == 658
