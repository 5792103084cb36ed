"""Stores of recorded calls: several writers, killed writers, readers meanwhile."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from recording import call_line, record_command, recorded

from mcpaudit_lab import Lab
from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.formats.jsonrpc import NO_ANSWER
from mcpaudit_lab.record import Event, Payload
from mcpaudit_lab.recorder.jsonl_store import JsonlCallStore
from mcpaudit_lab.recorder.stores import CallStore, SqliteCallStore
from mcpaudit_lab.server import SqlLogger, Stored
from mcpaudit_lab.tables.open_calls import recover_calls


def event(*, answered: bool = True, event_id: str = "") -> Event:
    return Event.build(
        id=event_id or str(uuid4()),
        timestamp=datetime.now(UTC),
        duration_ms=1,
        tool_name="echo",
        success=answered,
        error_message="" if answered else NO_ANSWER,
        transport="stdio",
        source="recorder",
        server_name="s",
        payload=Payload.build(jsonrpc_method="tools/call", request_params={"a": 1}),
    )


@pytest.fixture(params=["sqlite", "lines"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CallStore]:
    made: CallStore = (SqliteCallStore if request.param == "sqlite" else JsonlCallStore)(
        tmp_path / "calls"
    )
    yield made
    made.close()


def test_what_a_recorder_was_killed_with_is_found_by_the_next(tmp_path: Path) -> None:
    code = """
import os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_recorder_stores import event
from mcpaudit_lab.recorder.{module} import {name}
store = {name}(Path(sys.argv[1]))
done, under_way = event(), event(answered=False)
store.open([event(answered=False, event_id=done.id), under_way])
store.complete([done])
print(done.id, under_way.id, flush=True)
os.kill(os.getpid(), 9)
"""
    for module, name in (("stores", "SqliteCallStore"), ("jsonl_store", "JsonlCallStore")):
        path = tmp_path / module
        script = code.format(path=sys.path, module=module, name=name)
        killed = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, check=False
        )
        done, under_way = killed.stdout.decode().split()
        if module == "jsonl_store":
            JsonlCallStore(path).close()
        with Lab() as lab:
            if module == "jsonl_store":
                lab.load(path)
            else:
                lab.load_database(f"sqlite:///{path}")
            found = {item.id: item.error_message for item in lab.events()}
        assert found == {done: "", under_way: NO_ANSWER}


def test_a_torn_line_of_a_killed_recorder_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b'{"id":"torn')
    store = JsonlCallStore(path)
    store.complete([event()])
    store.close()
    with Lab() as lab:
        report = lab.load(path)
    assert (report.loaded, report.rejected) == (1, 1)


def test_completed_calls_leave_nothing_open(store: CallStore, tmp_path: Path) -> None:
    for _ in range(20):
        done = event()
        store.open([event(answered=False, event_id=done.id)])
        store.complete([done])
    if isinstance(store, SqliteCallStore):
        with closing(sqlite3.connect(tmp_path / "calls")) as connection:
            while connection.execute("select 1 from audit_open_calls").fetchone():
                pass  # a thread moves them; the test has a time limit
            assert connection.execute("select count(*) from audit_events").fetchone() == (20,)
    else:
        (journal,) = (tmp_path / "calls-recorders").glob("*.open")
        assert journal.stat().st_size == 0


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable):
        SqliteCallStore(tmp_path / "file")
    with pytest.raises(StoreUnavailable):
        JsonlCallStore(tmp_path / "file" / "below")


def test_many_recorders_write_one_database(tmp_path: Path) -> None:
    database = tmp_path / "shared.db"
    sent = b"".join(call_line(n, "echo", message="x") for n in range(100))
    command = record_command("--database", database)
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(sent)
        process.stdin.close()
    for process in processes:
        with process:
            assert process.stdout is not None
            assert process.stdout.read().count(b'"result"') == 100
    assert len(recorded(database)) == 400


def test_a_portal_shows_calls_of_recorders_once_and_whole_as_they_end(tmp_path: Path) -> None:
    database = tmp_path / "live.db"
    store = SqliteCallStore(database)

    async def follow() -> list[Stored]:
        with SqlLogger(f"sqlite:///{database}", poll_s=0.05) as portal:
            async with portal.subscribe() as subscription:
                done = [event() for _ in range(3)]
                store.open([event(answered=False, event_id=item.id) for item in done])
                for item in reversed(done):
                    await anyio.to_thread.run_sync(store.complete, [item])
                found = [await anext(subscription) for _ in done]
            assert [item.event.id for item in found if isinstance(item, Stored)] == [
                item.id for item in reversed(done)
            ]
            return [item for item in found if isinstance(item, Stored)]

    found = anyio.run(follow)
    store.close()
    assert [item.number for item in found] == [1, 2, 3]
    assert all(item.event.success for item in found)
    assert all(item.event.extra == {"server_name": "s"} for item in found)


def test_a_name_of_a_recorder_is_made_into_no_path(tmp_path: Path) -> None:
    database = tmp_path / "calls.db"
    SqliteCallStore(database).close()
    victim = tmp_path / "victim.lock"
    victim.write_text("mine", encoding="ascii")
    under_way = event(answered=False)
    with closing(sqlite3.connect(database)) as connection, connection:
        for name, text in (("../victim", under_way.to_json()), ("x" * 32, "no event")):
            row = (str(uuid4()), name, text)
            connection.execute("insert into audit_open_calls values (?, ?, ?, 0)", row)
    assert recover_calls(database) == 1
    assert victim.read_text(encoding="ascii") == "mine"
    assert [item.id for item in recorded(database)] == [under_way.id]


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    assert recover_calls(tmp_path / "missing.db") == 0
    (tmp_path / "text.db").write_text("text", encoding="ascii")
    assert recover_calls(tmp_path / "text.db") == 0
    assert (tmp_path / "text.db").read_text(encoding="ascii") == "text"
