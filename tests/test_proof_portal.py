"""A portal's log: proofs over HTTP, pulls that remember, and tampering that is found."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.errors import PortalError, TamperError
from mcpaudit_lab.lab import verify_database
from mcpaudit_lab.portal.tail.log_watch import LogWatch
from mcpaudit_lab.proof import (
    LogKey,
    LogSigner,
    leaf_of,
    open_checkpoint,
    verify_consistency,
    verify_inclusion,
)
from mcpaudit_lab.record import ToolList
from mcpaudit_lab.server import MemoryLogger, SqlLogger, background_portal
from mcpaudit_lab.server.stores import EventLog
from mcpaudit_lab.storage import PortalLogs

AUDIT = "/api/v1/portal/audit"


def made(number: int) -> Event:
    return Event.from_json(
        json.dumps(
            {
                "id": str(UUID(int=(4 << 76) | (8 << 60) | number)),
                "timestamp": f"2026-11-24T00:00:{number % 60:02d}.{number:06d}Z",
                "duration_ms": number,
                "tool_name": "echo",
                "parameters": {"n": number, "exact": 1.10},
                "success": True,
                "transport": "http",
                "source": "mcp",
                "payload": {
                    "jsonrpc_method": "tools/call",
                    "request_params": {"n": number},
                    "response_result": {"content": []},
                },
            }
        )
    )


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'audit.db'}"
        return
    # The key of a log in PostgreSQL is in the user's data folder.
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    yield request.getfixturevalue("postgres_database")


@contextmanager
def portal_on(database: str, *events: Event) -> Iterator[tuple[SqlLogger, PortalClient]]:
    with SqlLogger(database) as store:
        if events:
            store.log(list(events))
        with (
            background_portal(None, store, {"me": "key"}) as running,
            PortalClient(running.url, api_key="key") as portal,
        ):
            # Always the same name, as a portal behind one address has it.
            portal.url = "http://portal.test"
            yield store, portal


def ask(portal: PortalClient, path: str) -> Any:
    return portal._exchange.ask("GET", f"{AUDIT}/{path}")


def until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def change(database: str, statement: str, **values: Any) -> None:
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def test_an_event_is_proven_by_its_own_hash_and_a_signed_root(database: str) -> None:
    events = [made(number) for number in range(1, 8)]
    with portal_on(database, *events) as (_, portal):
        note, told = portal.checkpoint() or ("", "")
        key = LogKey.parse(told)
        checkpoint = open_checkpoint(note, key)
        assert checkpoint.size == 7
        for event in events:
            proof = ask(portal, f"proof?id={event.id}").json("proof")
            whole = portal.event(event.id)
            assert leaf_of(whole).value.hex() == proof["leaf"]
            path = [bytes.fromhex(item) for item in proof["path"]]
            assert verify_inclusion(leaf_of(whole).value, proof["index"], 7, path, checkpoint.root)
        first = open_checkpoint(note, key)
        portal_event = made(8)
        _.log([portal_event])
        second = open_checkpoint((portal.checkpoint() or ("", ""))[0], key)
        found = ask(portal, f"consistency?from={first.size}&to={second.size}").json("c")
        steps = [bytes.fromhex(item) for item in found["path"]]
        assert verify_consistency(first.size, second.size, first.root, second.root, steps)


@pytest.mark.parametrize("query", ["proof?id=x", "consistency?from=9&to=1", "leaves?from=a&to=1"])
def test_a_malformed_request_is_refused(tmp_path: Path, query: str) -> None:
    with (
        SqlLogger(f"sqlite:///{tmp_path / 'a.db'}") as store,
        background_portal(None, store, {"me": "key"}) as running,
    ):
        found = httpx2.get(f"{running.url}{AUDIT}/{query}", headers={"X-API-Key": "key"})
        assert found.status_code == 400


def test_a_pull_verifies_what_it_fetched_and_a_lab_can_do_so_later(database: str) -> None:
    with portal_on(database, *map(made, range(1, 21))) as (store, portal), Lab() as lab:
        report = lab.pull(portal, progress=False)
        assert (report.verified, report.unverified) == (20, 0)
        assert "verified 20 of 20 in the portal's log" in str(report)
        store.log([made(21)])
        again = lab.pull(portal, progress=False)
        assert (again.new, again.verified) == (1, 1)
        found = lab.verify()
        assert (found.matched, found.faults, found.holds) == (21, (), True)
        with lab.writing() as connection:
            connection.execute("update audit_events set duration_ms = 99 where duration_ms = 5")
        assert lab.verify().faults == (f"changed: {made(5).id} of http://portal.test",)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update audit_events set duration_ms = 99 where id = :id", "changed"),
        ("update audit_events set tool_name = 'other' where id = :id", "changed"),
        ("update audit_payloads set response_result = null where event_id = :id", "changed"),
        ("delete from audit_events where id = :id", "dropped"),
    ],
)
def test_a_row_that_was_changed_or_dropped_is_named(
    database: str, statement: str, told: str
) -> None:
    wrong = made(7).id
    with portal_on(database, *map(made, range(1, 12))) as (_, portal), Lab() as first:
        first.pull(portal, progress=False)
    change(database, "delete from audit_payloads where event_id = :id", id=wrong) if (
        told == "dropped"
    ) else None
    change(database, statement, id=wrong)
    with portal_on(database) as (_, portal), Lab() as lab:
        with pytest.raises(TamperError) as caught:
            lab.pull(portal, progress=False)
        assert caught.value.faults == (f"{told}: {wrong}",)


@pytest.mark.parametrize("tells_log", [True, False])
def test_a_row_that_is_changed_after_a_pull_is_found_by_the_next_one(
    database: str, monkeypatch: pytest.MonkeyPatch, tells_log: bool
) -> None:
    wrong = made(7).id
    with portal_on(database, *map(made, range(1, 12))) as (_, portal), Lab() as lab:
        if not tells_log:
            monkeypatch.setattr(portal, "checkpoint", lambda: None)
        lab.pull(portal, progress=False)
        loads = lab.sql("select count(*) n from sources").df().n[0]
        assert lab.pull(portal, progress=False).changed == 0
        change(database, "update audit_events set tool_name = 'other' where id = :id", id=wrong)
        if tells_log:
            with pytest.raises(TamperError) as caught:
                lab.pull(portal, progress=False)
            assert caught.value.faults == (f"changed: {wrong}",)
        else:
            report = lab.pull(portal, progress=False)
            assert (report.changed, report.new) == (1, 0)
            assert "1 event is changed at the portal since an earlier pull" in str(report)
        assert lab.event(wrong).tool_name == made(7).tool_name
        assert lab.sql("select count(*) n from sources").df().n[0] == loads


def test_an_event_that_comes_during_a_pull_is_no_alarm(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with portal_on(database, *map(made, range(1, 12))) as (store, portal), Lab() as lab:
        listed = portal.tool_lists

        def later() -> list[ToolList]:
            store.log([made(30)])
            return listed()

        monkeypatch.setattr(portal, "tool_lists", later)
        report = lab.pull(portal, progress=False)
        assert (report.complete, report.verified) == (True, 11)
        monkeypatch.undo()
        again = lab.pull(portal, progress=False)
        assert (again.new, again.verified) == (1, 1)
        assert lab.verify().matched == 12


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("update audit_events set extra = 'no JSON' where id = $id", "changed"),
        ("update audit_payloads set response_size_bytes = 7 where event_id = $id", "changed"),
        ("delete from audit_events where id = $id", "dropped"),
    ],
)
def test_what_is_changed_in_a_lab_is_named(database: str, change: str, told: str) -> None:
    wrong = made(3).id
    with portal_on(database, *map(made, range(1, 6))) as (_, portal), Lab() as lab:
        lab.pull(portal, progress=False)
        lab.connection.execute(change, {"id": wrong})
        assert lab.verify().faults == (f"{told}: {wrong} of {portal.url}",)


def test_a_tail_remembers_the_log_and_tells_of_another_one(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with portal_on(database, *map(made, range(1, 4))) as (store, portal), Lab() as lab:
        watch = LogWatch(portal, lab, every_s=0.05)
        watch.start()
        until(lambda: watch.checks > 1)
        assert watch.tampered is None
        store.log([made(5)])
        until(lambda: PortalLogs(lab.connection.cursor()).known()[0].size == 4)
        # Nothing was pulled yet: the pull compares all four.
        assert lab.pull(portal, progress=False).verified == 4
        answer = ("another\n", str(LogKey("another", bytes(32))))
        monkeypatch.setattr(portal, "checkpoint", lambda: answer)
        until(lambda: watch.tampered is not None)
        watch.stop()


def test_a_tail_with_a_lab_follows_the_log(database: str) -> None:
    with (
        background_portal(database=database) as running,
        PortalClient(running.url, running.api_key) as portal,
        Lab() as lab,
        portal.tail(into=lab) as tail,
    ):
        log = tail._log
        assert log is not None
        until(lambda: log.checks > 0)
        assert tail.status.problem == ""
        log.tampered = TamperError("the tree was replaced", [])
        assert tail.status.problem == "TAMPERED: the tree was replaced"


def test_what_retention_removes_is_no_alarm(database: str) -> None:
    with portal_on(database, *map(made, range(1, 12))) as (_, portal), Lab() as lab:
        lab.pull(portal, progress=False)
        change(database, "delete from audit_payloads where event_id = :id", id=made(1).id)
        change(database, "delete from audit_events where id = :id", id=made(1).id)
        assert lab.pull(portal, progress=False).complete
        assert lab.verify().holds


def test_an_old_copy_a_new_tree_and_a_new_key_are_found(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    database, key = f"sqlite:///{path}", Path(f"{path}.log-key")
    with portal_on(database, *map(made, range(1, 6))) as (_, portal):
        portal.checkpoint()
    shutil.copy(path, tmp_path / "old.db")
    with Lab() as lab:
        with portal_on(database, *map(made, range(6, 9))) as (_, portal):
            lab.pull(portal, progress=False)
        shutil.copy(path, tmp_path / "new.db")
        shutil.copy(tmp_path / "old.db", path)
        with portal_on(database) as (_, portal), pytest.raises(TamperError, match="cut off"):
            lab.pull(portal, progress=False)
        more = map(made, range(20, 30))
        with (
            portal_on(database, *more) as (_, portal),
            pytest.raises(TamperError, match="replaced"),
        ):
            lab.pull(portal, progress=False)
        shutil.copy(tmp_path / "new.db", path)
        key.unlink()
        with portal_on(database) as (_, portal), pytest.raises(TamperError, match="known key"):
            lab.pull(portal, progress=False)


def test_two_portals_on_one_database_make_one_tree(database: str) -> None:
    with portal_on(database) as (one, portal), SqlLogger(database) as two:
        for number in range(1, 21, 2):
            one.log([made(number)])
            two.log([made(number + 1)])
            portal.checkpoint()
        with Lab() as lab:
            assert lab.pull(portal, progress=False).verified == 20


def exported(portal: PortalClient, query: str) -> bytes:
    return bytes(portal._exchange.ask("GET", f"{AUDIT}/export?{query}").body)


def test_an_export_proves_itself(database: str, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    with portal_on(database, *map(made, range(1, 21))) as (store, portal):
        store.log([made(30)])
        path.write_bytes(exported(portal, "proofs=true"))
        part = exported(portal, "proofs=true&limit=3")
        assert b"payloads=true" in exported_error(portal, "proofs=true&payloads=false")
        plain = exported(portal, "payloads=true")
        _, key = portal.checkpoint() or ("", "")
    assert path.read_bytes().startswith(plain)
    found = verify(path)
    assert found.exit_code == 0, found.output
    assert "verified 21 of 21 events" in found.output
    assert verify(path, "--log-key", key).exit_code == 0
    assert verify(path, "--log-key", LogKey("other", bytes(32))).exit_code == 1
    packed = tmp_path / "part.jsonl.gz"
    packed.write_bytes(gzip.compress(part))
    assert "verified 3 of 3 events" in verify(packed).output
    with Lab() as lab:
        report = lab.load(path, progress=False)
        assert (report.loaded, report.other, report.rejected) == (21, 22, 0)
        # What only looks like such a line is rejected as any other.
        broken = b'{"proof_of":"x"}\n{"checkpoint":1\n'
        report = lab.load(io.BytesIO(plain + broken), progress=False)
        assert (report.duplicates, report.other, report.rejected) == (21, 0, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    changed: list[tuple[list[bytes], str]] = [
        ([lines[0].replace(b'"n":30', b'"n":31'), *lines[1:]], f"changed: {made(30).id}"),
        (lines[1:], f"dropped: {made(30).id}"),
        ([lines[0], *lines], f"twice: {made(30).id}"),
        ([b"{\n", *lines], "unreadable: line 1"),
    ]
    for content, told in changed:
        path.write_bytes(b"".join(content))
        found = verify(path)
        assert found.exit_code == 1
        assert told in found.output
    path.write_bytes(b"".join(lines[:21]))
    assert verify(path).exit_code == 2


def exported_error(portal: PortalClient, query: str) -> bytes:
    with pytest.raises(PortalError) as caught:
        exported(portal, query)
    return str(caught.value).encode()


def test_a_key_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    database = f"sqlite:///{path}"

    def pulled(lab: Lab, log_key: str | None = None) -> tuple[int | None, str]:
        with portal_on(database) as (_, portal):
            _, key = portal.checkpoint() or ("", "")
            return lab.pull(portal, log_key=log_key, progress=False).verified, key

    with SqlLogger(database) as store:
        store.log([made(1), made(2)])
    with Lab() as lab:
        verified, old = pulled(lab)
        assert verified == 2
        Path(f"{path}.log-key").unlink()
        with SqlLogger(database) as store:
            store.log([made(3)])
        with pytest.raises(TamperError, match="not signed by the known key"):
            pulled(lab)
        new = str(LogSigner.from_file(Path(f"{path}.log-key")).key)
        assert new != old
        assert pulled(lab, new) == (1, new)
        assert pulled(lab)[0] == 0
        assert lab.verify().matched == 3
    assert verify(path, "--log-key", new, "--log-key", old).exit_code == 0
    assert "not signed by a known key" in verify(path, "--log-key", new).output


WRITER = """
import sys
from pathlib import Path
from mcpaudit_lab.proof import LogSigner
from mcpaudit_lab.server import SqlLogger
from mcpaudit_lab.server.stores import EventLog
sys.path.insert(0, sys.argv[1])
from test_proof_portal import made
first = int(sys.argv[4])
with SqlLogger(sys.argv[2]) as store:
    log = EventLog(store, LogSigner.from_file(Path(sys.argv[3])))
    for number in range(first, first + 40):
        store.log([made(number)])
        if number % 3 == 0:
            log.sync()
"""


@pytest.mark.soak
def test_several_processes_on_one_database_make_one_tree(database: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), database, str(key)]
    writers = [subprocess.Popen([*command, str(first)]) for first in (1, 101, 201)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with Lab() as lab:
        with SqlLogger(database) as store:
            signer = LogSigner.from_file(key)
            EventLog(store, signer).sync()
        found = verify_database(lab, database, signer.key)
    assert found.holds, found
    assert found.matched == 120


def test_a_commit_is_signed_without_being_asked_for(database: str) -> None:
    with portal_on(database) as (store, _):
        store.log([made(1)])

        def signed() -> bool:
            engine = create_engine(database)
            with engine.connect() as connection:
                query = text("select coalesce(max(size), 0) from audit_checkpoints")
                size = connection.execute(query).scalar()
            engine.dispose()
            return size == 1

        until(signed)


def test_a_portal_without_a_log_has_nothing_to_verify_with() -> None:
    with (
        background_portal(None, MemoryLogger(), {"me": "key"}) as running,
        PortalClient(running.url, api_key="key") as portal,
        Lab() as lab,
    ):
        assert portal.checkpoint() is None
        report = lab.pull(portal, progress=False)
        assert report.verified is None
        assert str(lab.verify()).startswith("nothing to verify with")
        assert not lab.verify().holds


def verify(*args: object, **env: str) -> Result:
    return CliRunner(env=env).invoke(commands, ["verify", *map(str, args)])


def test_the_command_line_verifies_a_database_a_portal_and_a_lab(tmp_path: Path) -> None:
    path, lab_path = tmp_path / "audit.db", tmp_path / "case.duckdb"
    database = f"sqlite:///{path}"
    with SqlLogger(database) as store:
        store.log([made(number) for number in range(1, 12)])
        with background_portal(None, store, {"me": "key"}) as running:
            assert verify(running.url, MCPAUDIT_API_KEY="key").exit_code == 0
            with PortalClient(running.url, api_key="key") as portal, Lab(lab_path) as lab:
                lab.pull(portal, progress=False)
    assert verify(lab_path).exit_code == 0
    assert verify(path).exit_code == 0, verify(path).output
    assert "verified 11 of 11 events" in verify(path).output
    change(database, "update audit_events set success = 0 where id = :id", id=made(3).id)
    found = verify(path)
    assert found.exit_code == 1
    assert f"changed: {made(3).id}" in found.output
    Path(f"{path}.log-key").unlink()
    assert verify(path).exit_code == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("create table t (x)")
    assert verify(tmp_path / "empty.db").exit_code == 2
