"""What stops a newcomer: each message says what is wrong, and what to do next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mcpaudit_lab import Lab, LabVersionError, PortalClient, PortalError
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import background_portal

KEY = "first-steps-" + "k" * 32
NO_EXPORTS = {
    "page.html": b"<html>Sign in</html>\n",
    "notes.jsonl": b"hello world\n",
    "table.csv": b"a,b\n1,2\n",
    "other.json": b'{"a":1}\n',
}


def run(*args: object) -> Result:
    unset = dict.fromkeys(("MCPAUDIT_LAB", "MCPAUDIT_DATABASE_URL", "MCPAUDIT_API_KEYS"))
    return CliRunner(env=unset).invoke(commands, [str(arg) for arg in args])


@pytest.mark.parametrize("name", sorted(NO_EXPORTS))
def test_a_file_that_is_no_export_is_called_so(tmp_path: Path, name: str) -> None:
    path, lab = tmp_path / name, tmp_path / "case.duckdb"
    path.write_bytes(NO_EXPORTS[name])
    result = run("load", path, "--lab", lab)
    assert result.exit_code == 1
    assert "No line is an audit event: is this an export of a portal" in result.output
    assert f"mcpaudit-lab rejects --lab {lab}" in result.output


def test_a_bad_line_among_good_ones_is_no_reason_to_doubt_the_file(tmp_path: Path) -> None:
    path, lab = tmp_path / "mixed.jsonl", tmp_path / "case.duckdb"
    with Lab() as sample:
        sample.load(sample_files())
        sample.events(limit=2).write(path)
    path.write_bytes(path.read_bytes() + b"hello\n")
    result = run("load", path, "--lab", lab)
    assert result.exit_code == 1
    assert "No line is an audit event" not in result.output


def test_a_folder_without_exports_says_what_was_looked_for(tmp_path: Path) -> None:
    result = run("load", tmp_path, "--lab", tmp_path / "case.duckdb")
    assert result.exit_code == 2
    assert "(looked for .jsonl, .ndjson, .json, .parquet)" in result.output


@pytest.mark.parametrize("name", [*sorted(NO_EXPORTS), "export.parquet", "empty.jsonl"])
def test_data_given_as_a_lab_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    # DuckDB opens such files as a view in memory: what is loaded would be gone in the end.
    path = tmp_path / name
    if name == "export.parquet":
        with Lab() as sample:
            sample.load(sample_files())
            sample.write(path)
    else:
        path.write_bytes(NO_EXPORTS.get(name, b""))
    before = path.read_bytes()
    with pytest.raises(LabVersionError, match="is not a lab"):
        Lab(path)
    for command in (("load", *sample_files()), ("stats",)):
        result = run(*command, "--lab", path)
        assert result.exit_code == 2
        assert "is not a lab\n" in result.output
        assert "give --lab another name" in result.output
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["case", "case.duckdb", "case.jsonl", "case.csv"])
def test_a_new_lab_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with Lab(path) as lab:
        lab.load(sample_files())
    with Lab(path) as lab:
        assert lab.events().count() == 658


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_is_taken_says_how_to_get_another(tmp_path: Path, taken_port: int) -> None:
    database = f"sqlite:///{tmp_path / 'audit.db'}"
    result = run("serve", "--database", database, "--api-key", f"dev={KEY}", "--port", taken_port)
    assert result.exit_code == 2
    assert f"something listens on port {taken_port} of 127.0.0.1 already" in result.output
    assert "--port 0 for a free one" in result.output
    assert KEY not in result.output


def test_the_address_of_mcp_is_not_that_of_the_portal() -> None:
    with background_portal() as portal:
        wrong = PortalClient(f"{portal.url}/mcp", portal.api_key)
        with wrong, pytest.raises(PortalError, match=r"the one without /mcp") as caught:
            next(wrong.events())
    assert portal.api_key not in str(caught.value)
