"""What ``Lab.verify`` finds in a lab that was loaded from files."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pytest
from short_run import EDITS

from mcpaudit_lab import Lab
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.lab import EventSet
from mcpaudit_lab.storage import read_value

Edit: TypeAlias = Callable[[duckdb.DuckDBPyConnection, random.Random], str]
# Not compared: computed from extra.
GENERATED = {"trace_id", "span_id"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab of 40 events with payloads from a file of its own, and of a second file."""
    folder = tmp_path_factory.mktemp("loaded")
    with Lab() as whole, Lab(folder / "case.duckdb") as lab:
        whole.load(sample_files(), progress=False)
        ids = whole.events(has="request_params").ids()[:60]
        for name, chosen in (("a.jsonl", ids[:40]), ("b.jsonl", ids[30:])):
            whole.write(folder / name, EventSet(whole, wanted=tuple(chosen)))
            lab.load(folder / name, progress=False)
    return folder / "case.duckdb"


def any_value(kind: str, chance: random.Random) -> Any:
    if kind == "BOOLEAN":
        return chance.random() < 0.5
    if kind in ("BIGINT", "INTEGER"):
        return chance.randrange(1 << 31)
    if kind == "JSON":
        return f'{{"planted": {chance.random()}}}'
    if kind == "UUID":
        return f"00000000-0000-4000-8000-{chance.randrange(16**12):012x}"
    if kind.startswith("TIMESTAMP"):
        return f"2026-01-01 00:00:00.{chance.randrange(10**6):06d}+00"
    return f"planted {chance.random()}"


def change_a_value(connection: duckdb.DuckDBPyConnection, chance: random.Random) -> str:
    table = chance.choice(["audit_events", "audit_payloads", "sources"])
    key = {"audit_events": "id", "audit_payloads": "event_id", "sources": "id"}[table]
    columns = connection.execute(
        "select column_name, data_type from duckdb_columns() where table_name = $table",
        {"table": table},
    ).fetchall()
    name, kind = chance.choice([item for item in columns if item[0] not in GENERATED])
    rows = connection.execute(f"select {key} from {table} order by {key}").fetchall()
    row = chance.choice(rows)[0]
    value = any_value(kind, chance)
    if kind == "BOOLEAN":
        value = not read_value(
            connection, f"select {name} from {table} where {key} = $row", {"row": row}
        )
    connection.execute(
        f"update {table} set {name} = $value where {key} = $row", {"value": value, "row": row}
    )
    return f"{table}.{name} of {row} = {value}"


def drop_a_row(connection: duckdb.DuckDBPyConnection, chance: random.Random) -> str:
    table = chance.choice(["audit_events", "audit_payloads", "sources"])
    rowid = chance.choice(connection.execute(f"select rowid from {table}").fetchall())[0]
    connection.execute(f"delete from {table} where rowid = {rowid:d}")
    return f"{table}: no row {rowid}"


def add_a_row(connection: duckdb.DuckDBPyConnection, chance: random.Random) -> str:
    names = connection.execute(
        "select column_name from duckdb_columns() where table_name = 'audit_events'"
    ).fetchall()
    columns = ", ".join(name for (name,) in names if name not in {*GENERATED, "id"})
    rowid = chance.choice(connection.execute("select rowid from audit_events").fetchall())[0]
    connection.execute(
        f"insert into audit_events (id, {columns}) select uuid(), {columns} from audit_events"
        f" where rowid = {rowid:d}"
    )
    return f"one more of {rowid}"


def swap_payloads(connection: duckdb.DuckDBPyConnection, chance: random.Random) -> str:
    rows = connection.execute("select event_id from audit_payloads order by 1").fetchall()
    (one,), (other,) = chance.sample(rows, 2)
    connection.execute(
        "update audit_payloads set event_id = case event_id when $one then $other::uuid"
        " else $one::uuid end where event_id in ($one, $other)",
        {"one": one, "other": other},
    )
    return f"{one} and {other} swapped"


SOAK = [pytest.mark.soak, pytest.mark.timeout(600)]
WAYS: list[Edit] = [change_a_value, change_a_value, drop_a_row, add_a_row, swap_payloads]


@pytest.mark.parametrize("count", [4, pytest.param(EDITS, marks=SOAK)])
def test_every_random_edit_is_found(count: int, loaded: Path, tmp_path: Path) -> None:
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - the edits are the same in each run
        copy = tmp_path / "copy.duckdb"
        shutil.copy(loaded, copy)
        with Lab(copy) as lab:
            told = chance.choice(WAYS)(lab.connection, chance)
        with Lab(copy, read_only=True) as lab:
            found = lab.verify()
        assert found.faults, f"{seed}: {told}"
        assert not found.holds


def test_an_untouched_lab_holds(loaded: Path) -> None:
    with Lab(loaded, read_only=True) as lab:
        found = lab.verify()
    assert found.holds, found
    assert (found.matched, found.unchecked, found.files, found.loads) == (60, 0, 2, 2)
    assert len(found.chain) == 64


def test_the_chain_grows_and_a_changed_load_breaks_it() -> None:
    with Lab() as lab:
        lab.load(sample_files()[0], progress=False)
        first = lab.verify().chain
        assert lab.load(sample_files()[0], progress=False).loaded == 0
        assert lab.verify().chain == first
        lab.load(sample_files()[1], progress=False)
        assert lab.verify().chain != first
        lab.connection.execute("update sources set loaded_at = loaded_at - interval 1 day")
        assert lab.verify().faults == (
            "changed: source 1 in the ledger",
            "changed: source 2 in the ledger",
        )


def test_a_lab_of_an_earlier_version_gets_its_chain_with_the_next_load(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with Lab(path) as lab:
        lab.load(sample_files()[0], progress=False)
        lab.connection.execute("alter table sources drop column chain")
        found = lab.verify()
        assert (found.faults, found.chain, found.holds) == ((), "", False)
        lab.load(sample_files()[1], progress=False)
        assert lab.verify().holds


def test_a_file_is_loaded_again_in_the_format_that_was_named(tmp_path: Path) -> None:
    frames = (Path(__file__).parent / "data" / "formats" / "mcpsnoop.jsonl").read_bytes()
    # By its first line it is of no format.
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b'{"note": "mine"}\n' + frames)
    with Lab() as lab:
        assert lab.load(path, format="mcpsnoop", progress=False).loaded == 2
        assert lab.verify().holds
    # Inside another format, and in an archive of several.
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        for name in ("docker-json.log", "mcp-vcr.yaml", "mcpsnoop.jsonl"):
            zipped.write(Path(__file__).parent / "data" / "formats" / name, name)
    with Lab() as lab:
        docker = Path(__file__).parent / "data" / "formats" / "docker-json.log"
        assert lab.load([docker, packed], progress=False).loaded
        assert lab.verify().holds, lab.verify()


def test_a_file_that_grew_between_two_loads_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Lab() as whole, Lab() as lab:
        whole.load(sample_files(), progress=False)
        ids = whole.events().ids()
        for count in (5, 9):
            whole.write(path, EventSet(whole, wanted=tuple(ids[-count:])), overwrite=True)
            lab.load(path, progress=False)
        found = lab.verify()
        assert (found.faults, found.matched) == ((), 9)
        path.write_text("")
        assert lab.verify().faults == (f"changed: the file {path}",)
        path.unlink()
        assert not lab.verify().holds
