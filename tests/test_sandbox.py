"""SQL that is not trusted reaches its copy of the events and nothing else."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from short_run import each_third

from mcpaudit_lab import Lab, SandboxError
from mcpaudit_lab.lab.sandbox import Sandbox

DETAILS = Path(__file__).parent / "data" / "upstream" / "details.jsonl"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.load(DETAILS)
        yield lab


@pytest.fixture(scope="module")
def box(lab: Lab) -> Iterator[Sandbox]:
    with lab.sandbox(timeout_s=10) as box:
        yield box


def test_it_answers_as_the_lab_does(lab: Lab, box: Sandbox) -> None:
    text = (
        "select tool_name, count(*) as n, min(ts) as first,"
        " any_value(response_result->>'$.isError')"
        " from audit_events join audit_payloads on id = event_id where duration_ms >= $ms"
        " group by all order by n desc, tool_name"
    )
    assert box.sql(text, {"ms": 1}).fetchall() == lab.sql(text, {"ms": 1}).fetchall()


def test_it_sees_only_the_events_it_was_given(lab: Lab) -> None:
    chosen = lab.events(tool="flaky")
    with lab.sandbox(chosen) as box:
        assert box.sql("select distinct tool_name from audit_events").fetchall() == [("flaky",)]
        assert box.sql("select count(*) from audit_payloads").fetchall() == [(chosen.count(),)]
        for name in ("sources", "rejects", "lab_meta"):
            with pytest.raises(SandboxError, match="does not exist"):
                box.sql(f"select * from {name}")


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a secret file and another lab."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text("password\nhunter2\n")
    with Lab(folder / "other.duckdb") as other:
        other.load(DETAILS)
    return folder


ATTEMPTS = {
    "read_csv": "select * from read_csv('{secret}')",
    "read_text": "select * from read_text('{secret}')",
    "read_blob": "select * from read_blob('{secret}')",
    "read_json": "select * from read_json('{secret}')",
    "read_parquet": "select * from read_parquet('{secret}')",
    "by name": "select * from '{secret}'",
    "sniff": "select * from sniff_csv('{secret}')",
    "glob": "select * from glob('{folder}/*')",
    "copy to": "copy audit_events to '{folder}/stolen.csv'",
    "copy from": "copy audit_events from '{secret}'",
    "export": "export database '{folder}/stolen'",
    "import": "import database '{folder}'",
    "attach lab": "attach '{lab}' as other",
    "attach memory": "attach ':memory:' as other",
    "attach new": "attach '{folder}/new.duckdb' as other",
    "install": "install httpfs",
    "load": "load httpfs",
    "http": "select * from read_csv('{web}/x.csv')",
    "http by name": "select * from '{web}/x.parquet'",
    "secret": "create secret (type s3, key_id 'a', secret 'b')",
    "table": "create table mine as select 1",
    "delete": "delete from audit_events",
    "set": "set enable_external_access = true",
    "unlock": "set lock_configuration = false",
    "reset": "reset enable_external_access",
    "pragma": "pragma enable_profiling",
    "log": "set log_query_path = '{folder}/log'",
    "profile": "pragma profiling_output = '{folder}/profile'",
    "python variable": "select * from order",
    "two statements": "select 1; select 2",
}


@pytest.mark.parametrize("attempt", each_third(ATTEMPTS.values()), ids=ATTEMPTS.keys())
def test_it_reaches_no_file_no_network_and_no_other_lab(
    box: Sandbox, outside: Path, web: tuple[str, list[str]], attempt: str
) -> None:
    folder, secret = outside, outside / "secret.csv"
    before = sorted(p.name for p in folder.iterdir())
    statement = attempt.format(
        secret=secret, folder=folder, lab=folder / "other.duckdb", web=web[0]
    )
    with pytest.raises(SandboxError) as caught:
        box.sql(statement)
    assert "hunter2" not in str(caught.value)
    assert sorted(p.name for p in folder.iterdir()) == before
    assert web[1] == []
    assert box.sql("select count(*) from audit_events").fetchall() == [(322,)]


@pytest.mark.parametrize(
    "statement",
    [
        "select sum(a.range * b.range) from range(1000000) a, range(1000000) b",
        # One step of DuckDB, which does not look for an interrupt.
        (
            "select length(list_aggregate(list_transform(range(100000000), lambda x: x::varchar),"
            " 'string_agg', ','))"
        ),
    ],
    ids=["rows", "one value"],
)
def test_a_statement_that_takes_too_long_is_stopped(lab: Lab, statement: str) -> None:
    with lab.sandbox(timeout_s=1) as box:
        started = time.monotonic()
        with pytest.raises(SandboxError, match="took more than 1 s"):
            box.sql(statement)
        # The processor's time is a second clock, ten seconds later.
        assert time.monotonic() - started < 8


def test_a_statement_that_takes_too_much_memory_is_stopped(lab: Lab) -> None:
    with lab.sandbox(memory_bytes=64 << 20) as box, pytest.raises(SandboxError, match="emory"):
        box.sql("select list(range) from range(100000000)")


def test_rows_beyond_the_bound_are_announced(lab: Lab) -> None:
    with lab.sandbox(max_rows=100) as box:
        result = box.sql("select id from audit_events order by ts")
        assert (len(result), result.truncated) == (100, True)
        assert "not sent" in repr(result)
        assert not box.sql("select 1").truncated


def test_nothing_is_left_behind(lab: Lab) -> None:
    with lab.sandbox() as box:
        folder = Path(box._folder.name)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_secret_in_the_environment_is_not_handed_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCPAUDIT_API_KEY", "hunter2")
    with lab.sandbox() as box, pytest.raises(SandboxError) as caught:
        box.sql("select getenv('MCPAUDIT_API_KEY')")
    assert "hunter2" not in str(caught.value)
