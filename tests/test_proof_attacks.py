"""Random edits of a portal's database, of a lab's neighbours and of the log: all are found."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from short_run import EDITS
from test_proof_portal import AUDIT, made

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.errors import TamperError
from mcpaudit_lab.lab import Verification, verify_database, verify_export
from mcpaudit_lab.proof import LogKey, LogSigner
from mcpaudit_lab.record import JsonDecimal, loads
from mcpaudit_lab.server import SqlLogger, background_portal
from mcpaudit_lab.server.stores import EventLog

Edit: TypeAlias = Callable[[sqlite3.Connection, random.Random], str]
COUNT = 24
TABLES = {
    "audit_events": "id",
    "audit_payloads": "event_id",
    "audit_tree_leaves": "place",
    "audit_tree_nodes": "rowid",
    "audit_checkpoints": "size",
}


def some_event(number: int) -> Event:
    """Every third has what no column can hold exactly."""
    event = made(number)
    if number % 3:
        return event
    return Event({**event.wire, "unknown_member": {"n": number}, "user_agent": f"agent {number}"})


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LogKey]:
    """A portal's SQLite file of 24 events that its log covers, and the log's key."""
    path = tmp_path_factory.mktemp("attacked") / "audit.db"
    with SqlLogger(f"sqlite:///{path}") as store:
        store.log([some_event(number) for number in range(1, COUNT + 1)])
        serve_once(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return path, LogSigner.from_file(Path(f"{path}.log-key")).key


def serve_once(store: SqlLogger) -> None:
    with (
        background_portal(None, store, {"me": "key"}) as running,
        PortalClient(running.url, api_key="key") as portal,
    ):
        portal.checkpoint()


def verified(path: Path, key: LogKey) -> Verification:
    with Lab() as lab:
        return verify_database(lab, f"sqlite:///{path}", key)


def other_value(value: Any, chance: random.Random) -> Any:
    """A value that differs in a byte, a bit or a digit."""
    if value is None:
        return chance.choice(["x", 1])
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(8))
    if isinstance(value, str) and value:
        place = chance.randrange(len(value))
        letter = chance.choice([c for c in "abcdefghij0123456789" if c != value[place]])
        return value[:place] + letter + value[place + 1 :]
    return "x" if value == "" else None


def change_a_value(connection: sqlite3.Connection, chance: random.Random) -> str:
    table = chance.choice(list(TABLES))
    columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
    rows = connection.execute(f"select rowid, * from {table} order by rowid").fetchall()
    row = chance.choice(rows)
    place = chance.randrange(len(columns))
    value = other_value(row[place + 1], chance)
    connection.execute(f"update {table} set {columns[place]} = ? where rowid = ?", (value, row[0]))
    return f"{table}.{columns[place]} of row {row[0]}: {row[place + 1]!r} is {value!r}"


def drop_a_row(connection: sqlite3.Connection, chance: random.Random) -> str:
    table = chance.choice(list(TABLES))
    rows = [row[0] for row in connection.execute(f"select rowid from {table} order by rowid")]
    # The oldest events may go: that is what retention does.
    row = chance.choice(rows[1:] if table == "audit_events" else rows)
    connection.execute(f"delete from {table} where rowid = ?", (row,))
    return f"{table}: no row {row}"


def drop_the_newest(connection: sqlite3.Connection, chance: random.Random) -> str:
    count = chance.randrange(1, COUNT)
    newest = f"(select id from audit_events order by commit_number desc limit {count:d})"
    connection.execute(f"delete from audit_payloads where event_id in {newest}")
    connection.execute(f"delete from audit_events where id in {newest}")
    return f"the newest {count} are gone"


def swap_rows(connection: sqlite3.Connection, chance: random.Random) -> str:
    ids = [row[0] for row in connection.execute("select id from audit_events order by id")]
    one, other = chance.sample(ids, 2)
    table, key = chance.choice([("audit_events", "id"), ("audit_payloads", "event_id")])
    for old, new in ((one, "swapped"), (other, one), ("swapped", other)):
        connection.execute(f"update {table} set {key} = ? where {key} = ?", (new, old))
    return f"{table}: {one} and {other} swapped"


def cut_the_log(connection: sqlite3.Connection, chance: random.Random) -> str:
    size = chance.randrange(1, COUNT)
    connection.execute("delete from audit_tree_leaves where place >= ?", (size,))
    connection.execute("delete from audit_tree_nodes where height = 0 and place >= ?", (size,))
    return f"the log is cut at {size}"


def edited(path: Path, chance: random.Random) -> str:
    """Edit a database; what the database itself refuses is no edit."""
    while True:
        with (
            contextlib.suppress(sqlite3.IntegrityError),
            closing(sqlite3.connect(path)) as connection,
            connection,
        ):
            return chance.choice(WAYS)(connection, chance)


WAYS: list[Edit] = [
    *(change_a_value, change_a_value, change_a_value, drop_a_row, drop_the_newest),
    *(swap_rows, cut_the_log),
]


@pytest.mark.parametrize(
    "count", [8, pytest.param(EDITS, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_every_random_edit_of_a_database_is_found(
    count: int, database: tuple[Path, LogKey], tmp_path: Path
) -> None:
    path, key = database
    missed = []
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - the edits are the same in each run
        copy = tmp_path / "audit.db"
        shutil.copy(path, copy)
        told = edited(copy, chance)
        found = verified(copy, key)
        if found.holds:
            missed.append(f"{seed}: {told}")
    assert missed == []


def odd_event(number: int, chance: random.Random) -> Event:
    """An event with values that columns, JSON or canonical JSON may spoil."""
    values: list[Any] = [
        *(1.10, 10**30, JsonDecimal("1e400"), JsonDecimal("1.000000000000000000001"), -0.0),
        *(
            "\ud800",
            "\x00",
            "\u202e",
            "e\u0301",
            {"": [None, True]},
            [],
            {},
            "2026-01-01",
            2**53 + 1,
        ),
    ]
    wire = {**made(number).wire, "user_agent": chance.choice(["", "a", "\ud800\x00"])}
    arguments = {f"k{n}": chance.choice(values) for n in range(chance.randrange(6))}
    payload = {**wire["payload"], "request_params": arguments}
    if chance.random() < 0.3:
        payload["unknown"] = chance.choice(values)
    if chance.random() < 0.3:
        wire["unknown"] = chance.choice(values)
    return Event({**wire, "parameters": arguments, "payload": payload})


@pytest.mark.parametrize(
    "count", [6, pytest.param(EDITS, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_nothing_untouched_is_an_alarm(count: int, tmp_path: Path) -> None:
    signer = LogSigner.from_file(tmp_path / "key")
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - the events are the same in each run
        path = tmp_path / f"{seed}.db"
        with SqlLogger(f"sqlite:///{path}") as store:
            for _ in range(chance.randrange(1, 4)):
                numbers = chance.sample(range(1, 10_000), chance.randrange(1, 5))
                store.log([odd_event(number, chance) for number in numbers])
                EventLog(store, signer).sync()
        found = verified(path, signer.key)
        assert found.holds, f"{seed}: {found}"
        path.unlink()


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_every_changed_byte_of_an_export_with_proofs_is_found(
    count: int, database: tuple[Path, LogKey], tmp_path: Path
) -> None:
    path, key = tmp_path / "export.jsonl", str(database[1])
    with (
        SqlLogger(f"sqlite:///{database[0]}") as store,
        background_portal(None, store, {"me": "key"}) as running,
        PortalClient(running.url, api_key="key") as portal,
    ):
        data = portal._exchange.ask("GET", f"{AUDIT}/export?proofs=true").body
    path.write_bytes(data)
    assert verify_export(path, key).holds
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - the edits are the same in each run
        place = chance.randrange(len(data))
        byte = (data[place] + chance.randrange(1, 256)) % 256
        path.write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
        found = verify_export(path, key)
        # What does not change a value, such as the case of an escape, is the same event.
        assert not found.holds or same_values(path.read_bytes(), data), f"byte {place} is {byte}"


def same_values(left: bytes, right: bytes) -> bool:
    return [loads(line) for line in left.splitlines()] == [loads(x) for x in right.splitlines()]


def test_an_untouched_database_holds(database: tuple[Path, LogKey]) -> None:
    path, key = database
    found = verified(path, key)
    assert found.holds, found
    assert found.matched == COUNT


def test_a_restored_copy_and_a_new_key_are_found_by_the_next_pull(tmp_path: Path) -> None:
    path, old = tmp_path / "audit.db", tmp_path / "old.db"

    def pulled(lab: Lab, key: str = "key") -> None:
        with (
            SqlLogger(f"sqlite:///{path}") as store,
            background_portal(None, store, {"me": key}) as running,
            PortalClient(running.url, api_key=key) as portal,
        ):
            portal.url = "http://portal.test"
            lab.pull(portal, progress=False)

    with SqlLogger(f"sqlite:///{path}") as store:
        store.log([made(1), made(2)])
        serve_once(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    shutil.copy(path, old)
    with SqlLogger(f"sqlite:///{path}") as store:
        store.log([made(3)])
    with Lab() as lab:
        pulled(lab)
        shutil.copy(old, path)
        with pytest.raises(TamperError, match="was cut off: its log had 3 events and has 2"):
            pulled(lab)
    # The rows are changed, and the log is made anew with another key.
    with Lab() as lab:
        pulled(lab)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update audit_events set duration_ms = 5")
            for table in ("audit_tree_nodes", "audit_tree_leaves", "audit_checkpoints"):
                connection.execute(f"delete from {table}")
        Path(f"{path}.log-key").unlink()
        with pytest.raises(TamperError, match="not signed by the known key"):
            pulled(lab)
        with Lab() as fresh:
            # Who has never pulled before cannot tell.
            pulled(fresh)
