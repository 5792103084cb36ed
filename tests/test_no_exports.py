"""What is no export, and what is no lab: it is said, and left as it was."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mcpaudit_lab import Lab, LabVersionError
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files

NO_EXPORTS = {
    "page.html": b"<html>Sign in</html>\n",
    "notes.jsonl": b"hello world\n",
    "table.csv": b"a,b\n1,2\n",
    "other.json": b'{"a":1}\n',
    "array.json": b'[{"id":1}]\n',
    "notes.txt": b"hello",
}
NOTHING = {"empty.jsonl": b"", "blank.jsonl": b"\n\n"}


def run(*args: object) -> Result:
    unset = dict.fromkeys(("MCPAUDIT_LAB", "MCPAUDIT_DATABASE_URL", "MCPAUDIT_API_KEYS"))
    return CliRunner(env=unset).invoke(commands, [str(arg) for arg in args])


@pytest.mark.parametrize(("name", "content"), NO_EXPORTS.items())
def test_a_file_of_no_format_loads_nothing_and_says_what_could_be_loaded(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path, lab = tmp_path / name, tmp_path / "case.duckdb"
    path.write_bytes(content)
    result = run("load", path, "--lab", lab)
    assert result.exit_code == 2
    assert f"{name} is of no format that can be read: it looks like " in result.stderr
    assert "a portal's exports" in result.stderr
    assert "mcpsnoop" in result.stderr


@pytest.mark.parametrize(("name", "content"), NOTHING.items())
def test_an_empty_file_says_where_exports_come_from(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path, lab = tmp_path / name, tmp_path / "case.duckdb"
    path.write_bytes(content)
    result = run("load", path, "--lab", lab)
    assert result.exit_code == 1
    assert "No line of it is an audit event." in result.output
    assert "/api/v1/portal/audit/export" in result.output
    assert "mcpaudit-lab rejects" not in result.output


def test_a_bad_line_among_good_ones_is_no_reason_to_doubt_the_file(tmp_path: Path) -> None:
    path, lab = tmp_path / "mixed.jsonl", tmp_path / "case.duckdb"
    with Lab() as sample:
        sample.load(sample_files())
        sample.events(limit=2).write(path)
    path.write_bytes(path.read_bytes() + b"hello\n")
    result = run("load", path, "--lab", lab)
    assert result.exit_code == 1
    assert "No line of it" not in result.output


def test_a_folder_without_exports_says_what_was_looked_for(tmp_path: Path) -> None:
    result = run("load", tmp_path, "--lab", tmp_path / "case.duckdb")
    assert result.exit_code == 1
    assert "no exports in the folder" in result.output


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
    for command in (("load", *sample_files()), ("stats",), ("demo",)):
        result = run(*command, "--lab", path)
        assert result.exit_code == 2
        assert "is not a lab\n" in result.output
        assert "give --lab another name" in result.output
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == [name]


def test_a_sqlite_file_given_as_a_lab_is_refused_without_asking_the_network(tmp_path: Path) -> None:
    # DuckDB would fetch its extension for such files.
    path = tmp_path / "audit.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (i integer)")
        connection.commit()
    with pytest.raises(LabVersionError, match=r"is not a lab$"):
        Lab(path)
    assert [child.name for child in tmp_path.iterdir()] == ["audit.db"]
    said = run("load-database", f"sqlite:///{path}", "--lab", tmp_path / "new.duckdb")
    assert said.exit_code == 2
    assert "is it the database of a portal" in " ".join(said.output.split())


@pytest.mark.parametrize("name", ["case", "case.duckdb", "case.jsonl", "case.csv"])
def test_a_new_lab_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with Lab(path) as lab:
        lab.load(sample_files())
    with Lab(path) as lab:
        assert lab.events().count() == 658
