"""The Merkle log of a recorder's store: what is recorded can be verified at once."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner
from test_proof_attacks import odd_event, some_event
from test_proof_portal import made

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.lab import Verification, verify_database
from mcpaudit_lab.proof import LogSigner
from mcpaudit_lab.recorder.stores import SqliteCallStore
from mcpaudit_lab.server import SqlLogger, background_portal


def record(store: SqliteCallStore, *events: Event) -> None:
    for event in events:
        store.open([event])
        store.complete([event])


def verified(path: Path) -> Verification:
    key = LogSigner.from_file(Path(f"{path}.log-key")).key
    with Lab() as lab:
        return verify_database(lab, f"sqlite:///{path}", key)


def test_what_was_recorded_is_in_the_log(tmp_path: Path) -> None:
    path, chance = tmp_path / "recorded.db", random.Random(3)  # noqa: S311 - the same each time
    store = SqliteCallStore(path)
    record(store, *map(some_event, range(1, 30)), *(odd_event(n, chance) for n in range(50, 90)))
    store.close()
    found = verified(path)
    assert (found.holds, found.matched) == (True, 69), found
    assert Path(f"{path}.log-key").stat().st_mode & 0o777 == 0o600
    assert CliRunner().invoke(commands, ["verify", str(path)]).exit_code == 0
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update audit_events set success = 0 where id = ?", (made(5).id,))
    assert verified(path).faults == (f"changed: {made(5).id}",)


def test_many_recorders_and_a_portal_make_one_tree(tmp_path: Path) -> None:
    path = tmp_path / "recorded.db"
    first, second = SqliteCallStore(path), SqliteCallStore(path)
    threads = [
        threading.Thread(target=record, args=(store, *map(made, range(start, start + 60))))
        for store, start in ((first, 100), (second, 200))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()
    assert verified(path).matched == 120
    with SqlLogger(f"sqlite:///{path}") as store:
        # It keeps no log: the next one to store catches up.
        store.log([made(1), made(2)])
        third = SqliteCallStore(path)
        record(third, made(3))
        third.close()
        assert verified(path).matched == 123
        with (
            background_portal(None, store, {"me": "key"}) as running,
            PortalClient(running.url, api_key="key") as portal,
            Lab() as lab,
        ):
            store.log([made(4)])
            assert lab.pull(portal, progress=False).verified == 124
    assert verified(path).holds


def test_calls_without_an_answer_are_logged_by_the_next_reader(tmp_path: Path) -> None:
    path = tmp_path / "recorded.db"
    store = SqliteCallStore(path)
    record(store, made(1))
    store.open([made(2)])
    store.close()
    found = verified(path)
    assert (found.matched, found.unchecked, found.faults) == (1, 1, ())
    with (
        SqlLogger(f"sqlite:///{path}") as log,
        background_portal(None, log, {"me": "key"}) as at,
        PortalClient(at.url, api_key="key") as portal,
    ):
        portal.checkpoint()
    assert verified(path).holds
