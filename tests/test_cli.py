"""The command line: what it answers, in which form, with which exit status."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import MetaData, create_engine
from sqlalchemy.engine import make_url

from mcpaudit_lab import Event, EventFilter, Lab, LabError, __version__
from mcpaudit_lab.cli import commands
from mcpaudit_lab.cli.status import CommandGroup
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.record import escape_json, json_row
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

UPSTREAM = Path(__file__).parent / "data" / "upstream"
EXPORT = UPSTREAM / "export.jsonl"
DETAILS = UPSTREAM / "details.jsonl"
PROGRESS = "9be46480-fa19-4c60-9b50-8878b96f2759"
ITS_REPLAY = "8018d3b4-cd22-45b1-9d01-22395b791694"
NOBODY = "00000000-0000-4000-8000-000000000000"
# Whatever could command a terminal; a line feed between lines is ours.
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "\x1b[31m\x1b]0;owned\x07\x00\x9b2J\u202egpj.exe\r\n\u2028[bold]x[/bold]"


def run(
    *args: object, stdin: bytes | None = None, environment: dict[str, str] | None = None
) -> Result:
    unset = dict.fromkeys(("MCPAUDIT_LAB", "MCPAUDIT_DATABASE_URL", "FORCE_COLOR", "NO_COLOR"))
    runner = CliRunner(env={**unset, **(environment or {})})
    return runner.invoke(commands, [str(arg) for arg in args], input=stdin)


@pytest.fixture(scope="module")
def sample() -> list[Event]:
    """The events of the sample, with the payloads it has."""
    events: dict[str, Event] = {}
    for path in sample_files():
        with gzip.open(path) as file:
            events.update({event.id: event for event in map(Event.from_json, file)})
    return list(events.values())


@contextmanager
def started(*args: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command line as a process, ended with the block."""
    # Whoever runs the tests in the background has told them, and their children, to ignore SIGINT.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mcpaudit_lab.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(result: Result) -> list[Any]:
    return [loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with the sample."""
    path = tmp_path_factory.mktemp("case") / "case.duckdb"
    result = run("load", *sample_files(), "--lab", path)
    assert result.exit_code == 0, result.output
    return path


# Help


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mcpaudit_lab.cli import commands\n"
        "try: commands(['events', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'pandas', 'pyarrow', 'numpy', 'rich', 'sqlalchemy', 'tqdm'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stderr == "[]\n"
    assert found.stdout.startswith("Usage: ")


def test_help_lists_the_commands_in_the_order_of_work() -> None:
    text = run("--help").stdout
    names = re.findall(r"^  ([a-z-]+)  ", text.split("Commands:")[1], re.MULTILINE)
    assert names == list(commands.commands)
    assert names[0] == "demo"
    assert "Exit status:\n    0  success" in text


@pytest.mark.parametrize("name", list(commands.commands))
def test_every_command_explains_itself(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    if name != "demo":
        assert "Exit status: " in result.stdout
        assert "--lab FILE" in result.stdout or name in (
            "serve",
            "check",
            "wrap",
            "unwrap",
            "verify",
            "tail",
            "completion",
        )


def test_the_version_is_the_package_version() -> None:
    assert run("--version").stdout == f"mcpaudit-lab, version {__version__}\n"


# Loading


def test_a_load_counts_every_line(tmp_path: Path) -> None:
    lab = tmp_path / "a.duckdb"
    result = run("load", EXPORT, DETAILS, "--lab", lab)
    assert result.exit_code == 0
    assert re.search(r"together +994 +672 +322 +0 +0 +0\n", result.stdout)
    assert f"The lab {lab} holds 672 events." in result.stdout
    again = run("load", EXPORT, DETAILS, "--json", environment={"MCPAUDIT_LAB": str(lab)})
    (report,) = lines(again)
    assert (report["lines"], report["duplicates"], report["loaded"]) == (994, 994, 0)
    assert [item["name"] for item in report["files"]] == [str(EXPORT), str(DETAILS)]
    assert lab.stat().st_mode & 0o777 == 0o600


def test_rejected_lines_are_status_one_and_the_rest_is_loaded(tmp_path: Path) -> None:
    lab, torn = tmp_path / "a.duckdb", tmp_path / "torn.jsonl"
    torn.write_bytes(EXPORT.read_bytes()[:2000])
    result = run("load", torn, "--lab", lab)
    assert result.exit_code == 1
    assert "rejected, torn: 1" in result.stdout
    assert f"mcpaudit-lab rejects --lab {lab}" in result.stdout
    rejects = run("rejects", "--lab", lab, "--json")
    assert rejects.exit_code == 1
    (reject,) = lines(rejects)
    assert (reject["reason"], reject["line"]) == ("torn", 4)
    assert base64.b64decode(reject["raw"]) == torn.read_bytes().splitlines()[-1]
    assert "torn" in run("rejects", "--lab", lab).stdout


def test_a_strict_load_of_a_bad_line_loads_nothing(tmp_path: Path) -> None:
    lab, bad = tmp_path / "a.duckdb", tmp_path / "bad.jsonl"
    bad.write_bytes(EXPORT.read_bytes()[:2000])
    result = run("load", bad, "--lab", lab, "--strict")
    assert result.exit_code == 2
    assert f"{bad}, line 4: " in result.stderr
    assert "(torn)" in result.stderr
    assert run("events", "--lab", lab).exit_code == 1


def test_standard_input_can_be_loaded(tmp_path: Path) -> None:
    result = run(
        "load", "-", "--lab", tmp_path / "a.duckdb", stdin=gzip.compress(DETAILS.read_bytes())
    )
    assert result.exit_code == 0
    assert "holds 322 events" in result.stdout


def test_a_missing_file_is_an_error_and_names_it(tmp_path: Path) -> None:
    result = run("load", tmp_path / "none.jsonl", "--lab", tmp_path / "a.duckdb")
    assert result.exit_code == 2
    assert "no such file" in result.stderr
    assert result.stdout == ""


def test_a_lab_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    result = run("load", EXPORT, "--lab", tmp_path / "no" / "folder" / "a.duckdb")
    assert result.exit_code == 2
    assert "cannot make the lab" in result.stderr


def test_a_file_that_is_no_lab_is_an_error(tmp_path: Path) -> None:
    other = tmp_path / "a.txt"
    other.write_text("x" * 100)
    result = run("events", "--lab", other)
    assert result.exit_code == 2
    assert "is not a lab\nIf a newer version wrote it, update" in result.stderr


def test_what_was_written_loads_back_equal(case: Path, tmp_path: Path) -> None:
    file, copy = tmp_path / "flaky.jsonl.zst", tmp_path / "copy.duckdb"
    written = run("write", file, "--tool", "flaky", "--lab", case, "--json")
    assert written.exit_code == 0
    assert lines(written) == [{"file": str(file), "events": 60}]
    assert run("load", file, "--lab", copy).exit_code == 0
    asked = ("events", "--tool", "flaky", "--payloads", "--json", "--lab")
    assert run(*asked, copy).stdout == run(*asked, case).stdout


def test_a_file_that_is_there_is_not_replaced_unless_told(case: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("mine")
    refused = run("write", file, "--lab", case)
    assert (refused.exit_code, file.read_text()) == (2, "mine")
    assert "--overwrite replaces it" in refused.stderr
    assert run("write", file, "--lab", case, "--overwrite").stdout == f"658 events are in {file}.\n"


def test_nothing_to_write_writes_no_file(case: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    result = run("write", file, "--tool", "nix", "--lab", case)
    assert result.exit_code == 1
    assert result.stdout == 'No event matches: tool "nix".\n'
    assert not file.exists()


def test_an_unknown_format_is_an_error(case: Path, tmp_path: Path) -> None:
    result = run("write", tmp_path / "a.xlsx", "--lab", case)
    assert result.exit_code == 2
    assert ".parquet" in result.stderr


def test_sources_have_their_sha256(case: Path) -> None:
    rows = lines(run("sources", "--lab", case, "--json"))
    assert [row["name"] for row in rows] == [str(path) for path in sample_files()]
    assert [row["loaded"] + row["merged"] for row in rows] == [658, 306]
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in rows)
    assert all(row["loaded_at"].endswith("Z") for row in rows)
    assert "details.jsonl.gz" in run("sources", "--lab", case).stdout


def test_a_lab_without_rejects_says_so(case: Path) -> None:
    result = run("rejects", "--lab", case)
    assert (result.exit_code, result.stdout) == (0, "Every line was loaded.\n")
    assert run("rejects", "--lab", case, "--json").stdout == ""


# A portal's database


@pytest.fixture(scope="module")
def portal_url(postgres_module_database: str) -> str:
    """The recorded rows in a PostgreSQL of their own."""
    engine = create_engine(postgres_module_database, **ENGINE_OPTIONS)
    metadata = MetaData()
    portal_tables(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name in ("audit_events", "audit_payloads"):
            statements = (UPSTREAM / "pg" / f"{name}.sql").read_text(encoding="utf-8")
            connection.exec_driver_sql(statements.replace("%", "%%"))
    engine.dispose()
    return postgres_module_database


def test_a_database_is_loaded_from_the_url_in_the_environment(
    portal_url: str, tmp_path: Path
) -> None:
    lab = tmp_path / "a.duckdb"
    result = run("load-database", "--lab", lab, environment={"MCPAUDIT_DATABASE_URL": portal_url})
    assert result.exit_code == 0, result.output
    assert "holds 672 events" in result.stdout
    export = run("load", EXPORT, "--lab", lab, "--json")
    assert lines(export)[0]["duplicates"] == 672


def test_filters_choose_what_is_copied(portal_url: str, tmp_path: Path) -> None:
    result = run(
        "load-database", portal_url, "--tool", "flaky", "--failed", "--lab", tmp_path / "a"
    )
    assert result.exit_code == 0
    assert "holds 26 events" in result.stdout


def test_no_message_shows_a_password(portal_url: str, tmp_path: Path) -> None:
    url = make_url(portal_url).set(password="hush-hush", database="none_such")
    text = url.render_as_string(hide_password=False)
    result = run("load-database", text, "--lab", tmp_path / "a")
    assert result.exit_code == 2
    assert "none_such" in result.stderr
    assert "hush-hush" not in result.output


# Asking


def test_events_are_listed_newest_first(case: Path) -> None:
    newest, second = "9e799222-60af-4d5a-bc86-4df340002126", "cd19e335-dca9-4df4-ae3c-2a4dc2b940e3"
    result = run("events", "--failed", "--tool", "echo", "--limit", 2, "--lab", case)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "time (UTC)               tool  outcome  ms  user              id",
        f"2026-11-24 03:51:31.620  echo  tool      0  apikey:dev-local  {newest}",
        f"2026-11-24 03:50:15.049  echo  auth     71                    {second}",
    ]


def test_a_table_that_stops_says_so_and_json_does_not_stop(case: Path) -> None:
    table = run("events", "--lab", case).stdout.splitlines()
    assert len(table) == 1 + 50 + 1
    assert table[-1] == "50 of 658 events; --limit 658 shows all."
    assert len(lines(run("events", "--json", "--lab", case))) == 658
    assert len(run("events", "--limit", 658, "--lab", case).stdout.splitlines()) == 659


def test_json_events_are_the_recorded_ones(case: Path, sample: list[Event]) -> None:
    listed = run("events", "--json", "--payloads", "--lab", case).stdout.splitlines()
    assert list(map(Event.from_json, listed)) == contract_order(sample)


def test_json_columns_keep_every_digit(tmp_path: Path) -> None:
    lab, file = tmp_path / "a.duckdb", tmp_path / "a.jsonl"
    numbers = '{"big":123456789012345678901234567890,"point":1.10,"huge":1e400,"é":"\\u202e"}'
    file.write_text(
        f'{{"id":"{NOBODY}","timestamp":"2026-11-24T00:00:00.123456789Z","duration_ms":9007199254740993,'
        f'"tool_name":"t","success":true,"parameters":{numbers},'
        f'"payload":{{"request_params":{numbers}}}}}\n'
    )
    assert run("load", file, "--lab", lab).exit_code == 0
    columns = "ts,duration_ms,parameters,param.big,param.point,param.huge,param.none,replayed_from"
    text = run("events", "--columns", columns, "--lab", lab, "--json").stdout
    assert text == (
        '{"ts":"2026-11-24T00:00:00.123456Z","duration_ms":9007199254740993,'
        f'"parameters":{numbers},'
        '"param.big":123456789012345678901234567890,"param.point":1.1,"param.huge":1e400,"param.none":null,'
        '"replayed_from":null}\n'
    )
    whole = run("events", "--json", "--lab", lab).stdout
    assert "00.123456789Z" in whole
    assert numbers in whole


def test_columns_may_be_paths(case: Path) -> None:
    result = run(
        "events",
        "--param",
        "extras.user.id=alice",
        "--limit",
        1,
        "--lab",
        case,
        "--columns",
        "tool_name,param.extras.user.id",
        "--columns",
        "header.x-trace-id,response.isError",
    )
    assert result.stdout.splitlines() == [
        "tool_name  param.extras.user.id  header.x-trace-id  response.isError",
        "echo       alice                                    false",
    ]


def test_payload_columns_join_the_others(case: Path) -> None:
    (row,) = lines(
        run(
            "events",
            "--columns=id",
            "--payloads",
            "--limit=1",
            "--has=replayed_from",
            "--json",
            "--lab",
            case,
        )
    )
    assert list(row)[:3] == ["id", "jsonrpc_method", "request_params"]
    assert isinstance(row["request_params"], dict)


@pytest.mark.parametrize(
    ("options", "query"),
    [
        (["--tool", "flaky", "--failed"], "tool=flaky&success=false"),
        (["--tool", "flaky", "--tool", "slow"], "tool=flaky&tool=slow"),
        (["--succeeded", "--user", "apikey:ci-runner"], "success=true&user=apikey:ci-runner"),
        (["--session", "TXD7HFF2CCWDK5PBITBWMXJCWJ"], "session=TXD7HFF2CCWDK5PBITBWMXJCWJ"),
        (["--error-category", "auth"], "error_category=auth"),
        (["--source", "portal-replay"], "source=portal-replay"),
        (["--tool-group", "failure"], "tool_group=failure"),
        (["--auth-type", "apikey"], "auth_type=apikey"),
        (["--q", "NOSUCH"], "q=NOSUCH"),
        (["--min-duration-ms", "100"], "min_duration_ms=100"),
        (["--from", "2026-11-24T03:51:00Z"], "from=2026-11-24T03:51:00Z"),
        (["--to", "2026-11-24T03:43:43.3Z"], "to=2026-11-24T03:43:43.3Z"),
        (["--since", "2026-11-24T03:51:00Z"], "since=2026-11-24T03:51:00Z"),
        (["--has", "notifications"], "has=notifications"),
        (["--param", "extras.code=200"], "param.extras.code=200"),
        (["--response", "isError=true"], "response.isError=true"),
        (["--header", "user-agent=intruder/6.6"], "header.user-agent=intruder/6.6"),
    ],
)
def test_options_and_query_string_ask_what_the_filter_means(
    case: Path, sample: list[Event], options: list[str], query: str
) -> None:
    wanted = sum(map(EventFilter.from_query(query).matches, sample))
    assert wanted
    for asked in (options, ["--filter", query]):
        (row,) = lines(run("stats", *asked, "--json", "--lab", case))
        assert row["total"] == wanted


def test_filters_add_up(case: Path) -> None:
    condition = "tool = flaky and not success"
    assert run("stats", "--where", condition, "--json", "--lab", case).stdout == (
        run("stats", "--tool", "flaky", "--failed", "--json", "--lab", case).stdout
    )
    wrong = run("events", "--where", "tool = flaky and", "--lab", case)
    assert wrong.exit_code == 2
    assert "character 17: expected a name" in wrong.stderr
    result = run("stats", "--tool", "flaky", "--filter", "success=false", "--json", "--lab", case)
    assert lines(result)[0]["total"] == 26
    paged = run("events", "--filter", "tool=flaky&limit=3&offset=1", "--json", "--lab", case)
    assert len(lines(paged)) == 3
    assert run("events", "--filter", "limit=3", "--limit", 2, "--lab", case).exit_code == 2


def test_statistics_for_people_and_programs(case: Path) -> None:
    table = run("stats", "--by", "source", "--lab", case)
    assert table.stdout.splitlines()[0].split() == [
        "source", "calls", "failed", "rate", "avg", "ms", "p50", "p95", "users", "tools",
    ]  # fmt: skip  # reads better as a list than as a column
    (row,) = lines(run("stats", "--tool", "flaky", "--lab", case, "--json"))
    assert (row["total"], row["errors"]) == (60, 26)


def test_a_breakdown_counts_each_value(case: Path) -> None:
    assert lines(run("breakdown", "--by", "source", "--json", "--lab", case)) == [
        {"key": "mcp", "count": 625, "errors": 110},
        {"key": "portal-tryit", "count": 17, "errors": 5},
        {"key": "portal-replay", "count": 16, "errors": 4},
    ]
    assert "  calls  failed" in run("breakdown", "--lab", case).stdout


def test_a_time_series_has_times_with_a_zone(case: Path) -> None:
    rows = lines(run("timeseries", "--bucket", "10m", "--json", "--lab", case))
    assert [(row["time"], row["count"]) for row in rows] == [
        ("2026-11-24T03:40:00Z", 628),
        ("2026-11-24T03:50:00Z", 30),
    ]
    assert "2026-11-24 03:43:00.000" in run("timeseries", "--lab", case).stdout


# SQL


def test_sql_is_answered_as_a_table_or_json(case: Path) -> None:
    statement = (
        "select tool_name, count(*) n from audit_events group by all order by n desc limit 2"
    )
    assert run("sql", statement, "--lab", case).stdout.splitlines() == [
        "tool_name    n",
        "echo       202",
        "error       60",
    ]
    assert lines(run("sql", "-", "--json", "--lab", case, stdin=statement.encode())) == [
        {"tool_name": "echo", "n": 202},
        {"tool_name": "error", "n": 60},
    ]


def test_sql_values_of_every_kind_have_json(case: Path) -> None:
    result = run(
        "sql",
        "--json",
        "--lab",
        case,
        "select 170141183460469231731687303715884105727 big, 1.10 d, 'nan'::double n, "
        "'-inf'::double i, 'ab'::blob b, [1, 2] l, {'a': 1} s, map {'k': true} m, "
        "interval '1 month 2 days' v, date '2026-01-02' dt, time '10:00' t, "
        "timestamp '2026-01-02 03:04:05' ts, null z, 1 as x, 2 as x",
    )
    assert result.stdout == (
        '{"big":170141183460469231731687303715884105727,"d":1.10,"n":"NaN","i":"-Infinity",'
        '"b":"YWI=","l":[1,2],"s":{"a":1},"m":[["k",true]],"v":[1,2,0],"dt":"2026-01-02",'
        '"t":"10:00:00","ts":"2026-01-02T03:04:05","z":null,"x":1,"x_2":2}\n'
    )


@pytest.mark.parametrize(
    "statement",
    [
        "delete from audit_events",
        "drop table audit_events",
        "commit; drop table audit_events",
        "select 1; drop table audit_events",
        "create table x as select 1",
    ],
)
@pytest.mark.parametrize("options", [(), ("--untrusted",)])
def test_sql_does_not_change_the_lab(case: Path, statement: str, options: tuple[str, ...]) -> None:
    result = run("sql", statement, *options, "--lab", case)
    assert result.exit_code == 2 or options
    assert run("stats", "--json", "--lab", case).stdout.startswith('{"total":658,')


def test_untrusted_sql_reads_no_file(case: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    statement = f"select * from read_csv('{secret}')"
    assert run("sql", statement, "--lab", case).exit_code == 0
    refused = run("sql", statement, "--untrusted", "--lab", case)
    assert refused.exit_code == 2
    assert "disabled" in refused.stderr


def test_untrusted_sql_is_bounded_in_time_and_rows(case: Path) -> None:
    forever = "select count(*) from range(100000000000) t(i) where hash(i) % 7 = 3"
    late = run("sql", forever, "--untrusted", "--timeout", "0.2", "--lab", case)
    assert late.exit_code == 2
    assert "more than 0.2 s" in late.stderr
    many = run("sql", "select * from range(100001)", "--untrusted", "--json", "--lab", case)
    assert many.stderr == "cut after 100,000 rows\n"


def test_a_statement_without_rows_is_done(case: Path) -> None:
    assert run("sql", "/* nothing */", "--lab", case).exit_code == 0


# Looking


def test_an_event_is_shown_by_its_first_digits(case: Path) -> None:
    whole = run("show", PROGRESS, "--lab", case)
    assert whole.exit_code == 0
    assert whole.stdout.startswith("progress  ok  3 ms")
    assert run("show", PROGRESS[:6].upper(), "--lab", case).stdout == whole.stdout
    assert run("show", f"{{{PROGRESS.upper()}}}", "--lab", case).stdout == whole.stdout


def test_digits_of_several_events_are_refused(tmp_path: Path) -> None:
    lab, file = tmp_path / "a.duckdb", tmp_path / "a.jsonl"
    ids = [f"abcd{n:04}-0000-4000-8000-000000000000" for n in range(2)]
    file.write_text(
        "".join(f'{{"id":"{i}","timestamp":"2026-11-24T00:00:00Z","tool_name":"t"}}\n' for i in ids)
    )
    run("load", file, "--lab", lab)
    result = run("show", "abcd", "--lab", lab)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: several ids begin with abcd:\n  {ids[0]}\n  {ids[1]}\nGive more digits.\n"
    )


@pytest.mark.parametrize("text", ["abc", "echo", "'; drop table", "%%%%", ""])
def test_what_is_no_id_is_refused(case: Path, text: str) -> None:
    result = run("show", "--lab", case, "--", text)
    assert result.exit_code == 2
    assert "is not an event id" in result.stderr


def test_an_event_as_json_is_the_detail_answer(case: Path, sample: list[Event]) -> None:
    recorded = next(event for event in sample if event.id == PROGRESS)
    assert Event.from_json(run("show", PROGRESS, "--json", "--lab", case).stdout) == recorded


def test_provenance_gives_the_raw_line(case: Path) -> None:
    (found,) = lines(run("show", PROGRESS, "--provenance", "--json", "--lab", case))
    assert found["event"]["id"] == PROGRESS
    event, payload = found["provenance"]
    for item, path in ((event, sample_files()[0]), (payload, sample_files()[1])):
        with gzip.open(path) as file:
            assert file.read().splitlines()[item["line"] - 1].decode() == item["raw"]
    text = run("show", PROGRESS, "--provenance", "--lab", case).stdout
    assert "Provenance of the event\n" in text
    assert event["sha256"] in text


def test_a_source_that_changed_is_an_error_after_the_event(tmp_path: Path) -> None:
    lab, file = tmp_path / "a.duckdb", tmp_path / "a.jsonl"
    file.write_bytes(DETAILS.read_bytes())
    run("load", file, "--lab", lab)
    file.write_bytes(DETAILS.read_bytes() + b"\n")
    result = run("show", PROGRESS, "--provenance", "--lab", lab)
    assert result.exit_code == 2
    assert result.stdout.startswith("progress  ok")
    assert "is not the file that was loaded" in result.stderr


def test_a_comparison_shows_what_changed(case: Path) -> None:
    result = run("compare", PROGRESS[:8], ITS_REPLAY[:8], "--lab", case)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "changed: 2 value, 1 removed"
    (found,) = lines(run("compare", PROGRESS, ITS_REPLAY, "--json", "--lab", case))
    assert found["verdict"] == "changed"
    assert found["counts"]["value"] == 2


def test_ignored_paths_are_left_aside(case: Path) -> None:
    ignore = ("--ignore", "**.notified", "--ignore", "notifications")
    result = run("compare", PROGRESS, ITS_REPLAY, *ignore, "--lab", case)
    assert result.exit_code == 0
    assert result.stdout.startswith("equal\n")
    assert run("compare", PROGRESS, ITS_REPLAY, "--ignore", "a..b", "--lab", case).exit_code == 2


def test_every_replay_is_compared(case: Path) -> None:
    result = run("compare", "--replays", "--json", "--lab", case)
    assert result.exit_code == 1
    rows = lines(result)
    assert len(rows) == 12
    assert sum(row["verdict"] == "equal" for row in rows) == 10
    assert rows[-1]["changed"][-1] == "notifications[0]"
    shown = run("compare", "--replays", "--lab", case).stdout.splitlines()
    assert shown[0] == "12 replays: 10 equal, 2 changed"
    example = "summary.error_category: 1 of 3, a text (72202d82 0fed720a)"
    assert any(example in line for line in shown)
    assert run("compare", "72202d82", "0fed720a", "--lab", case).exit_code == 1


def test_replays_can_be_chosen(case: Path) -> None:
    echoes = run("compare", "--replays", "--tool", "echo", "--lab", case)
    assert echoes.exit_code == 0
    assert echoes.stdout == "8 replays: 8 equal\n  echo: 8 equal\n"
    none = run("compare", "--replays", "--tool", "lorem", "--lab", case)
    assert (none.exit_code, none.stdout) == (1, "The lab has no replays.\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give the ids of two events, or --replays"),
        ([PROGRESS], "give the ids of two events, or --replays"),
        ([PROGRESS, "--replays"], "give two ids, or --replays"),
        ([PROGRESS, ITS_REPLAY, "--tool", "x"], "filters go with --replays"),
        ([PROGRESS, NOBODY], f"no event {NOBODY} in this lab"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_an_error(
    case: Path, args: list[str], message: str
) -> None:
    result = run("compare", *args, "--lab", case)
    assert result.exit_code == 2
    assert message in result.stderr


# How it ends


@pytest.mark.parametrize(
    "args",
    [
        ["events", "--tool", "nix"],
        ["events", "--tool", "nix", "--json"],
        ["events", "--tool", "nix", "--json", "--columns", "id"],
        ["stats", "--tool", "nix"],
        ["stats", "--tool", "nix", "--by", "user"],
        ["breakdown", "--tool", "nix"],
        ["timeseries", "--tool", "nix"],
        ["sql", "select 1 where false"],
        ["show", NOBODY],
        ["show", "00000000"],
    ],
)
def test_no_answer_is_status_one(case: Path, args: list[str]) -> None:
    result = run(*args, "--lab", case)
    assert result.exit_code == 1
    assert "Error" not in result.output
    if "--json" in args:
        assert result.stdout == ""


def test_a_lab_without_anything_has_no_sources(tmp_path: Path) -> None:
    Lab(tmp_path / "a.duckdb").close()
    assert run("sources", "--lab", tmp_path / "a.duckdb").exit_code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["events", "--has", "bogus"], "choose from request_params"),
        (["events", "--filter", "tol=echo"], 'unknown filter "tol"'),
        (["events", "--since", "soon"], "90m, 24h, 7d"),
        (["events", "--from", "2026-11-31"], "out of range"),
        (["events", "--param", "x"], "write PATH=VALUE"),
        (["events", "--header", "=x"], "write NAME=VALUE"),
        (["events", "--param", "a..b=1"], "segment of the path is empty"),
        (["events", "--columns", "nix"], "no column 'nix'; choose from id, ts, "),
        (["events", "--limit", "0"], "x>=1"),
        (["stats", "--by", "nix"], "tool, user"),
        (["breakdown", "--by", "nix"], "tool, user"),
        (["timeseries", "--bucket", "soon"], "90s"),
        (["sql", "select nonsense"], 'column "nonsense"'),
        (["nix"], "No such command"),
    ],
)
def test_wrong_usage_is_status_two_and_says_what_to_write(
    case: Path, args: list[str], message: str
) -> None:
    result = run(*args, environment={"MCPAUDIT_LAB": str(case)})
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_question_makes_no_lab(tmp_path: Path) -> None:
    lab = tmp_path / "none.duckdb"
    result = run("events", "--lab", lab)
    assert result.exit_code == 2
    assert f"there is no lab {lab}\nMake one: mcpaudit-lab load FILES --lab {lab}" in result.stderr
    assert not lab.exists()


def test_no_lab_at_all_names_option_and_variable() -> None:
    result = run("events")
    assert result.exit_code == 2
    assert "'--lab'" in result.stderr
    assert "MCPAUDIT_LAB" in result.stderr


def test_a_lab_in_use_is_an_error_that_says_what_to_do(case: Path) -> None:
    with Lab(case), started("events", "--lab", case) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == b""
    assert b"is open in another process" in err
    assert b"lab.close()" in err
    assert b"Traceback" not in err


def test_a_closed_pipe_is_quiet(case: Path) -> None:
    with started("events", "--json", "--payloads", "--lab", case) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id":')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE


def test_an_interrupted_load_loads_nothing(tmp_path: Path) -> None:
    lab = tmp_path / "a.duckdb"
    with started("load", "-", "--lab", lab, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(EXPORT.read_bytes())
        process.stdin.flush()
        while not lab.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err == b"interrupted\n"
    assert run("events", "--lab", lab).exit_code == 1


def test_an_interrupt_ends_a_long_statement(case: Path, tmp_path: Path) -> None:
    lab = tmp_path / "a.duckdb"
    shutil.copy(case, lab)
    forever = "select count(*) from range(100000000000) t(i) where hash(i) % 7 = 3"
    with started("sql", forever, "--lab", lab) as process:
        # Made when the lab was opened, just before the statement runs.
        while not Path(f"{lab}.wal").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (RuntimeError("Query interrupted"), 130, "interrupted\n"),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device\n"),
        (
            PermissionError(13, "Permission denied", "a\x1b"),
            2,
            "Error: a\\x1b: Permission denied\n",
        ),
        (LabError(""), 2, "Error: LabError\n"),
    ],
)
def test_what_goes_wrong_ends_with_a_status_and_a_message(
    error: BaseException, status: int, message: str
) -> None:
    @click.group(cls=CommandGroup)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (status, message)


def test_a_mistake_of_ours_is_not_hidden() -> None:
    @click.group(cls=CommandGroup)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise RuntimeError("a mistake")

    assert isinstance(CliRunner().invoke(group, ["fail"]).exception, RuntimeError)


# Hostile data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which every text is hostile: values, keys, names of files, rejected lines."""
    folder = tmp_path_factory.mktemp("hostile")
    names = (
        "request_id session_id user_subject user_email auth_type api_key_name tool_name tool_group "
        "error_message error_category transport source remote_addr user_agent"
    )
    texts = dict.fromkeys([*names.split(), "\x1b[2Jextra"], HOSTILE)
    tree = {HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}
    events = []
    for number, said in enumerate((HOSTILE, f"{HOSTILE}!")):
        payload: dict[str, Any] = {
            "jsonrpc_method": HOSTILE,
            "request_params": tree,
            "request_headers": {HOSTILE: [HOSTILE]},
            "request_remote_addr": HOSTILE,
            "response_result": {"content": [{"type": "text", "text": said}], HOSTILE: HOSTILE},
            "response_error": {"message": HOSTILE},
            "notifications": [{"method": HOSTILE, "params": tree}],
            HOSTILE: HOSTILE,
        }
        if number:
            payload["replayed_from"] = NOBODY
        events.append(
            {
                "id": f"00000000-0000-4000-8000-00000000000{number}",
                "timestamp": f"2026-11-24T00:00:0{number}Z",
                **texts,
                "parameters": tree,
                "payload": payload,
            }
        )
    file = folder / "a\x1b[31m\u202e.jsonl"
    bad = f'{{"id":"{HOSTILE}'.encode().replace(b"\n", b"") + b"\xff\x1b\n"
    file.write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in events) + bad)
    lab = folder / "lab\x1b]0;x\x07.duckdb"
    result = run("load", file, "--lab", lab)
    assert result.exit_code == 1, result.output
    assert_shown(result)
    return lab


def assert_shown(result: Result) -> None:
    text = COLOURS.sub("", result.output)
    assert not COMMANDS.search(text), ascii(text)


QUESTIONS = [
    ["events"],
    ["events", "--payloads"],
    ["events", "--columns", "tool_name,parameters,extra"],
    ["events", "--tool", HOSTILE],
    ["events", "--tool", f"{HOSTILE}?"],
    ["events", "--columns", HOSTILE],
    ["events", "--filter", HOSTILE],
    ["events", "--param", f"{HOSTILE}=x"],
    ["events", "--has", HOSTILE],
    ["show", NOBODY],
    ["show", NOBODY, "--provenance"],
    ["show", HOSTILE],
    ["show", f"abcd{HOSTILE}"],
    ["compare", NOBODY, f"{NOBODY[:-1]}1"],
    ["compare", "--replays"],
    ["compare", NOBODY, NOBODY, "--ignore", HOSTILE],
    *(["stats", "--by", by] for by in ("tool", "user", "session", "error_category", "user_agent")),
    ["breakdown", "--by", "tool"],
    ["breakdown", "--by", HOSTILE],
    ["timeseries"],
    ["sql", "select * from audit_events join audit_payloads on id = event_id"],
    ["sql", 'select tool_name as "\x1b[31m\u202e" from audit_events'],
    ["sql", "select cast(tool_name as integer) from audit_events"],
    ["sql", f"select '{HOSTILE}' nonsense nonsense".replace("\x00", "")],
    ["sql", "--untrusted", "select tool_name, cast(tool_name as integer) from audit_events"],
    ["sources"],
    ["rejects"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: ascii(" ".join(question))[:50])
@pytest.mark.parametrize(
    "form",
    ["terminal", *(pytest.param(form, marks=pytest.mark.soak) for form in ("plain", "json"))],
)
def test_no_character_of_the_data_commands_the_terminal(
    hostile: Path, question: list[str], form: str
) -> None:
    args = [*question, "--lab", str(hostile)]
    environment = {"FORCE_COLOR": "1", "COLUMNS": "100"} if form == "terminal" else {}
    result = run(*args, *(["--json"] if form == "json" else []), environment=environment)
    assert result.exit_code in {0, 1, 2}
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert_shown(result)
    assert "\x1b[1mx" not in result.output


def test_hostile_json_reads_back_equal(hostile: Path) -> None:
    newest, oldest = map(
        Event.from_json,
        run("events", "--json", "--payloads", "--lab", hostile).stdout.splitlines(),
    )
    assert newest.tool_name == HOSTILE
    assert oldest.payload is not None
    assert oldest.payload.request_params == {HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}


@pytest.mark.parametrize("text", ["plain é 日本", "\u202e", "\x7f\x9b", "\U000e0041", "😀\u200d"])
def test_escaped_json_means_the_same(text: str) -> None:
    escaped = escape_json(json.dumps(text, ensure_ascii=False))
    assert escaped.isprintable()
    assert json.loads(escaped) == text


def test_a_row_is_one_line_of_json() -> None:
    row = {"d": Decimal("1.50"), "n": None, "t": "x\ny", "j": '{"a":1.0}', "k": None}
    assert json_row(row, {"j", "k"}) == '{"d":1.50,"n":null,"t":"x\\ny","j":{"a":1.0},"k":null}'


def test_what_the_encoding_lacks_is_escaped(hostile: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with started("show", NOBODY, "--lab", hostile, env=environment) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.isascii()


# On a terminal


COLOURFUL = {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm"}


def test_a_terminal_gets_colours_and_lines_that_fit(case: Path) -> None:
    for args in (["events"], ["stats", "--by", "tool"], ["compare", "--replays"], ["breakdown"]):
        text = run(*args, "--lab", case, environment=COLOURFUL).stdout
        assert "\x1b[1m" in text
        assert max(map(len, COLOURS.sub("", text).splitlines())) <= 80


def test_no_color_is_respected(case: Path) -> None:
    text = run("events", "--lab", case, environment={**COLOURFUL, "NO_COLOR": "1"}).stdout
    assert "\x1b[3" not in text


def test_a_pipe_gets_plain_text(case: Path) -> None:
    assert "\x1b" not in run("events", "--lab", case, environment={"TERM": "xterm"}).stdout


def test_every_summary_in_the_help_is_whole_at_80_columns() -> None:
    names = re.compile(r"^  ([a-z-]+) +(\S.*)$", re.MULTILINE)
    result = CliRunner(env={"COLUMNS": "80"}).invoke(commands, ["--help"], terminal_width=80)
    listed = dict(names.findall(result.output.partition("Commands:")[2].partition("Exit")[0]))
    assert set(listed) == set(commands.commands)
    for name, text in listed.items():
        whole = " ".join((commands.commands[name].help or "").partition("\n\n")[0].split())
        assert text.rstrip(".") == whole.rstrip("."), name
        assert whole.endswith("."), name


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.jsonl", b"", "empty.jsonl is empty"),
        ("blank.jsonl", b"\n  \n", "blank.jsonl holds no event"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "empty.jsonl.gz holds no event"),
        ("page.json", b'{"events":[],"total":0}', "page.json holds no event"),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_without_an_event_is_named(
    tmp_path: Path, name: str, content: bytes, told: str, as_json: bool
) -> None:
    lab = tmp_path / "case.duckdb"
    (tmp_path / name).write_bytes(content)
    result = run("load", tmp_path / name, "--lab", lab, *["--json"] * as_json)
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path / told}\n")
    if as_json:
        assert json.loads(result.stdout)["lines"] == content.count(b"\n")
    result = run("load", EXPORT, tmp_path / name, "--lab", lab)
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path / told}\n")
    with Lab(lab) as opened:
        assert opened.events().count() > 0


def test_nothing_on_standard_input_is_told(tmp_path: Path) -> None:
    result = run("load", "-", "--lab", tmp_path / "case.duckdb", stdin=b"")
    assert result.exit_code == 1
    assert result.stderr.endswith("is empty\n")


def test_a_parquet_file_without_a_row_is_named(tmp_path: Path) -> None:
    with Lab() as lab:
        lab.write(tmp_path / "none.parquet")
    result = run("load", tmp_path / "none.parquet", "--lab", tmp_path / "case.duckdb")
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path}/none.parquet holds no event\n")


@pytest.mark.parametrize("others", [(), (EXPORT,)])
def test_a_pattern_or_folder_without_a_file_is_named_and_makes_no_lab(
    tmp_path: Path, others: tuple[Path, ...]
) -> None:
    lab = tmp_path / "lab" / "case.duckdb"
    lab.parent.mkdir()
    (tmp_path / "folder").mkdir()
    for name in ("*.nix", "\x1b[31m*", "folder"):
        result = run("load", *others, tmp_path / name, "--lab", lab)
        assert result.exit_code == 1
        assert name.replace("\x1b", "\\x1b") in result.stderr.replace("\\\\", "\\")
        assert "nothing was loaded" in result.stderr
        assert not COMMANDS.search(result.stderr)
        assert not lab.exists()
    assert run("load", tmp_path / "one.jsonl", "--lab", lab).exit_code == 2


@pytest.mark.parametrize(
    ("noise", "told"),
    [
        ('{"version":1,"noise":{"echo":["a"],"flaky":[],"echo":["b"]}}', "names 'echo' twice"),
        ('{"version":1,"noise":{"echo":["a"]},"noise":{}}', "names 'noise' twice"),
        ('{"version":1,"noise":{"ecko":["a"],"echo":["a"]}}', "noise is given for 'ecko'"),
        ('{"version":1,"noise":{"e\\u001b[2J":["a"]}}', "noise is given for 'e\\\\x1b[2J'"),
    ],
)
def test_noise_that_says_something_else_than_was_meant_calls_nothing(
    tmp_path: Path, noise: str, told: str
) -> None:
    path = tmp_path / "noise.json"
    path.write_text(noise)
    trace = tmp_path / "called"
    result = run(
        *("check", DETAILS, "--noise", path, "--allow-all", "--tool", "flaky"),
        *("--command", f"touch {trace}"),
    )
    assert result.exit_code == 2
    assert told in result.stderr
    assert not COMMANDS.search(result.stderr)
    assert not trace.exists()


def test_one_event_is_told_in_the_singular(tmp_path: Path) -> None:
    lab = tmp_path / "case.duckdb"
    run("load", EXPORT, "--lab", tmp_path / "all.duckdb")
    one = run(
        "write", tmp_path / "one.jsonl", "--filter", "limit=1", "--lab", tmp_path / "all.duckdb"
    )
    assert one.stdout == f"1 event is in {tmp_path}/one.jsonl.\n"
    loaded = run("load", tmp_path / "one.jsonl", "--lab", lab)
    assert loaded.stdout.endswith("holds 1 event.\n")
