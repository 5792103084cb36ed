"""Plans, noise, checks and their commands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from replaying import captured, counting_server, lab_of, over_http, raw_process, says

from mcpaudit_lab import Event, Lab, LoadReport
from mcpaudit_lab.calls.pace import Pace, Pacer, parse_pace
from mcpaudit_lab.calls.refusals import PlanVerdict, RefusalReason
from mcpaudit_lab.calls.tools import facts_of, schema_check
from mcpaudit_lab.cli import commands
from mcpaudit_lab.errors import EventNotFound, FilterError, LabError, ReplayError
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.replay.check import check_run, junit_xml
from mcpaudit_lab.replay.mcp_wire import retry_after_s
from mcpaudit_lab.replay.noise import Noise
from mcpaudit_lab.replay.planning import Allowed

DOCS = Path(__file__).parents[1] / "docs"


def reasons(lab: Lab, server: Any, **options: Any) -> list[str]:
    plan = lab.plan_replay(lab.events(), server, **options)
    return [str(item.refusal.reason) if item.refusal else "" for item in plan.items]


# Verdicts


def test_each_reason_of_an_event_itself() -> None:
    server, calls = counting_server()
    whole = captured({"a": 1})
    events = [
        captured({"a": 1}, error_category="auth", success=False),
        whole.summary,
        captured({"a": 1}, number=2, tool=""),
        captured([1], number=3),
        captured({"a": 1}, number=4, tool="gone"),
        captured({"a": "[redacted]"}, number=5),
        captured({"a": 1}, number=6),
    ]
    truncated = {**captured(None, number=1).wire}
    truncated["payload"] = {**truncated["payload"], "request_truncated": True}
    other = {**captured({}, number=7).wire}
    other["payload"] = {**other["payload"], "jsonrpc_method": "prompts/get"}
    events += [Event(truncated), Event(other)]
    with lab_of(*events) as lab:
        plan = lab.plan_replay(events, server, allow="all")
        found = {item.event.id: item for item in plan.items}
        told = [found[event.id].refusal for event in events]
        assert [str(refusal.reason) if refusal else "" for refusal in told] == [
            "not_authenticated",
            "no_payload",
            "not_a_call",
            "not_a_call",
            "tool_missing",
            "redacted",
            "",
            "truncated",
            "not_a_call",
        ]
        assert plan.counts()["refused"] == 8
        frame = plan.df()
        assert list(frame["verdict"]).count("ready") == 1
        assert list(frame["paths"][frame["reason"] == "redacted"]) == [["a"]]
        assert str(frame["ts"].dtype) == "datetime64[us, UTC]"
        assert "refused" in str(plan)
        assert len(plan) == 9
    assert len(calls) == 0


READ_ONLY = {"readOnlyHint": True}
DESTROYS = {"readOnlyHint": False, "destructiveHint": True}


@pytest.mark.parametrize(
    ("annotations", "allow", "reason"),
    [
        (None, None, "not_allowed"),
        (None, "all", ""),
        (None, "work", ""),
        (None, ["work"], ""),
        (None, ["all"], "not_allowed"),
        (None, ["read-only"], "not_allowed"),
        (None, "read-only", "not_allowed"),
        (READ_ONLY, "read-only", ""),
        (DESTROYS, "read-only", "destructive"),
        (DESTROYS, "all", "destructive"),
        (DESTROYS, {"work"}, ""),
        ({"readOnlyHint": False}, "all", "destructive"),
        ({"readOnlyHint": False, "destructiveHint": False}, "all", ""),
        ({"title": "Work"}, "all", ""),
        ({**READ_ONLY, "destructiveHint": True}, "all", ""),
        (READ_ONLY, Allowed(frozenset({"x"}), read_only=True), ""),
    ],
)
def test_nothing_runs_that_is_not_allowed(annotations: Any, allow: Any, reason: str) -> None:
    server, calls = counting_server(annotations=annotations)
    with lab_of(captured({})) as lab:
        assert reasons(lab, server, allow=allow) == [reason]
        lab.plan_replay(lab.events(), server, allow=allow).run()
    assert len(calls) == (0 if reason else 1)


def test_arguments_that_no_longer_fit_are_refused_with_the_place() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "x": {"type": "number"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    server, _ = counting_server(schema=schema)
    events = [captured({"n": n}, number=n) for n in range(2)]
    events += [captured({"x": 1}, number=2), captured({"n": "1"}, number=3)]
    with lab_of(*events) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all")
        told = [
            item.refusal and (str(item.refusal.reason), item.refusal.paths) for item in plan.items
        ]
        assert told == [None, None, ("does_not_fit", ("$",)), ("does_not_fit", ("n",))]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://evil.test/schema"},
        {"type": 7},
        {"properties": 3},
        {"$schema": "urn:nonsense", "$ref": "#/nowhere"},
    ],
)
def test_a_schema_that_is_none_vouches_for_nothing_and_nothing_is_fetched(schema: Any) -> None:
    assert schema_check(schema)({"a": 1}) is None
    server, _ = counting_server(schema={"type": "object", **schema} if "$ref" in schema else None)
    assert server is not None


def test_numbers_of_the_record_are_numbers_for_a_schema() -> None:
    schema = {"properties": {"n": {"type": "integer"}, "x": {"multipleOf": 0.5}}}
    assert schema_check(schema)(loads('{"n":1e3,"x":1.50}')) == []
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert schema_check({"properties": {}})(deep) is None


def test_what_is_known_of_a_tool_that_says_nothing() -> None:
    tool = facts_of({"name": "x"})
    assert (tool.read_only, tool.repeatable, tool.destructive, tool.schema) == (
        False,
        False,
        False,
        None,
    )


def test_replays_whose_originals_are_there_are_left_out() -> None:
    server, calls = counting_server()
    with lab_of(captured({})) as lab:
        lab.plan_replay(lab.events(), server, allow="all").run()
        again = lab.plan_replay(lab.events(), server, allow="all")
        assert (len(again), again.left_out) == (1, 1)
        assert "left out: 1 replay of these" in repr(again)
        again.run()
        only = lab.plan_replay(lab.events(source="lab-replay"), server, allow="all")
        assert len(only) == 2
    assert len(calls) == 2


# Running


def test_a_limit_stops_and_the_next_run_goes_on_in_another_plan_too() -> None:
    server, calls = counting_server()
    with lab_of(*(captured({"n": n}, number=n) for n in range(5))) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all")
        assert plan.run(limit=2).counts() == {"succeeded": 2, "waiting": 3}
        assert plan.run(limit=1).counts() == {"succeeded": 3, "waiting": 2}
        other = lab.plan_replay(lab.events(source="mcp"), server, allow="all")
        assert other.run().counts() == {"succeeded": 5}
        assert other.run().finished
        assert [found["n"] for found in calls.arguments] == [0, 1, 2, 3, 4]
        # All of it done, the same plan made anew is meant anew.
        lab.plan_replay(lab.events(source="mcp"), server, allow="all").run()
    assert len(calls) == 10


def test_a_run_stops_on_what_it_is_told() -> None:
    server, calls = counting_server(
        lambda arguments: says("x", isError=arguments["n"] == 1), annotations=READ_ONLY
    )
    events = [captured({"n": n}, number=n, result=says("x", isError=False)) for n in range(4)]

    def fresh() -> Any:
        lab = lab_of(*events)
        return lab.plan_replay(lab.events(), server, allow="all")

    assert fresh().run(stop_on="failed").counts() == {"succeeded": 1, "failed": 1, "waiting": 2}
    assert fresh().run(stop_on={"changed"}).stopped == "a result changed"
    run = fresh().run(stop_on=lambda row: row["tool_name"] == "work")
    assert run.counts() == {"succeeded": 1, "waiting": 3}
    assert "stop_on" in repr(run)
    for wrong in ({"stop_on": "nonsense"}, {"repeat": 0}, {"limit": -1}, {"rate": "fast"}):
        with pytest.raises(ReplayError):
            fresh().run(**wrong)
    assert len(calls) == 5


def test_the_frame_of_a_run_has_every_call_and_every_refusal() -> None:
    server, _ = counting_server(lambda _: says("changed"))
    refused = captured({}, tool="gone", number=1)
    with lab_of(captured({}), refused) as lab:
        run = lab.plan_replay(lab.events(), server, allow="all").run()
        frame = run.df()
        assert list(frame["status"]) == ["succeeded", "refused"]
        assert list(frame["comparison"]) == ["changed", ""]
        assert frame["added"][0] == 1
        assert frame["attempt"].tolist() == [1, 0]
        with pytest.raises(EventNotFound):
            run.comparison(refused.id)


# Noise


def noisy() -> Any:
    count = iter(range(1000))
    return lambda arguments: says(
        "done", structuredContent={"at": next(count), "n": arguments["n"], "drift": 1}
    )


def test_what_differs_between_replays_is_noise_and_the_rest_is_drift(tmp_path: Path) -> None:
    server, calls = counting_server(noisy(), annotations={"idempotentHint": True})
    recorded = says("done", structuredContent={"at": -1, "n": 1, "drift": "1"}, isError=False)
    with lab_of(captured({"n": 1}, result=recorded)) as lab:
        run = lab.plan_replay(lab.events(), server, allow="all").run(repeat=3)
        assert run.counts() == {"succeeded": 3}
        assert dict(run.noise) == {"work": ("response.structuredContent.at",)}
        drift = run.drift()
        assert set(drift["path"]) == {"response.structuredContent.drift"}
        assert set(drift["kind"]) == {"type"}
        assert (drift["original"][0], drift["replay"][0]) == ("1", 1)
        assert len(run.drift({})) == 6
        frame = lab.compare_replays(noise=run.noise)
        assert set(frame["type"]) == {1}
        assert set(frame["value"]) == {0}
        path = tmp_path / "noise.json"
        run.noise.add("work", "**.drift").save(path)
        masked = Noise.read(path)
        assert set(lab.compare_replays(noise=masked)["verdict"]) == {"equal"}
        assert '"response.structuredContent.at"' in path.read_text()
    assert len(calls) == 3


def test_only_tools_that_say_so_or_are_named_are_called_again() -> None:
    for hints, allow, times in (
        (None, "all", 1),
        (None, {"work"}, 3),
        ({"idempotentHint": True}, "all", 3),
        (READ_ONLY, "read-only", 3),
    ):
        server, calls = counting_server(annotations=hints)
        with lab_of(captured({})) as lab:
            run = lab.plan_replay(lab.events(), server, allow=allow).run(repeat=3)
            assert run.finished
            assert not run.noise
        assert len(calls) == times


def test_a_run_begun_with_other_repeats_does_not_go_on() -> None:
    server, _ = counting_server()
    with lab_of(captured({}), captured({}, number=1)) as lab:
        plan = lab.plan_replay(lab.events(), server, allow={"work"})
        plan.run(limit=1)
        with pytest.raises(ReplayError, match="repeat=1"):
            plan.run(repeat=2)


def test_a_status_drift_is_told_as_one() -> None:
    server, _ = counting_server(lambda _: says("done", isError=True))
    with lab_of(captured({}, result=says("done", isError=False))) as lab:
        run = lab.plan_replay(lab.events(), server, allow="all").run()
        drift = run.drift()
        assert set(drift["kind"]) == {"status"}
        assert "response.isError" in set(drift["path"])


def test_noise_is_a_value_that_people_edit(tmp_path: Path) -> None:
    noise = Noise({"b": ["x", "x", "a"], "a": ["response.y"], "c": []})
    assert dict(noise) == {"a": ("response.y",), "b": ("a", "x")}
    assert (len(noise), list(noise)) == (2, ["a", "b"])
    assert dict(noise.remove("b", "x")) == {"a": ("response.y",), "b": ("a",)}
    assert dict(noise.remove("b")) == {"a": ("response.y",)}
    assert dict(noise | {"a": ["z"]})["a"] == ("response.y", "z")
    assert "response.y" in repr(noise)
    with pytest.raises(FilterError):
        noise.add("a", "..")
    path = tmp_path / "noise.json"
    for text in (
        "{",
        "[]",
        '{"version":2,"noise":{}}',
        '{"version":1,"noise":{"a":"x"}}',
        '{"version":1,"noise":{"a":[".."]}}',
    ):
        path.write_text(text)
        with pytest.raises(ReplayError):
            Noise.read(path)


# Rates


def test_rates_are_read_and_kept_to() -> None:
    assert parse_pace("10/s") == Pace(1, 0.1)
    assert parse_pace("1/12s") == Pace(1, 12.0)
    assert parse_pace("5/m") == Pace(1, 12.0)
    assert parse_pace(4) == Pace(1, 0.25)
    assert parse_pace(None) is None
    for wrong in ("0/s", "x", 0, -1, float("inf")):
        with pytest.raises(ReplayError):
            parse_pace(wrong)
    with pytest.raises(ReplayError):
        Pace(0, 1)
    assert Pace(5, 12).wait_s(7) == 24
    assert str(Pace(1, 0)) == "without a limit"
    useless: list[dict[str, Any]] = [{}, {"replay": 1}, {"replay": {}}]
    useless.append({"replay": {"burst": 0, "refill_secs": 1}})
    for meta in useless:
        assert Pace.of_meta(meta) is None
    assert Pace.of_meta({"replay": {"burst": 2, "refill_secs": 3}}) == Pace(2, 3.0)
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pacer = Pacer(Pace(2, 10), lambda: now[0], sleep)
    for _ in range(4):
        pacer.wait()
    assert slept == [10.0, 10.0]
    pacer.hold(0)
    pacer.wait()
    assert slept == [10.0, 10.0, 1.0]


def test_retry_after_is_seconds_or_a_date() -> None:
    from datetime import UTC, datetime

    def now() -> datetime:
        return datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)

    for header, seconds in (
        ("", 1.0),
        ("0", 1.0),
        ("7", 7.0),
        ("999999999999", 3600.0),
        ("nonsense", 1.0),
        ("-5", 1.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:30 GMT", 1.0),
    ):
        assert retry_after_s(header, now) == seconds


# The command line


def command(*words: str, **environment: str) -> Result:
    return CliRunner(env={"MCPAUDIT_LAB": None, **environment}).invoke(commands, list(words))


def case_file(tmp_path: Path, *events: Event) -> Path:
    path = tmp_path / f"case{len(events)}.jsonl"
    with lab_of(*events) as lab:
        lab.write(path)
    return path


def test_plan_and_replay_on_the_command_line(tmp_path: Path) -> None:
    words, lines = raw_process(tmp_path)
    target = ["--command", " ".join(words)]
    path = tmp_path / "case.duckdb"
    recorded = says("done")
    ready = captured({"a": 1}, result=recorded)
    with lab_of(ready, captured({"password": "[redacted]"}, number=1, result=recorded), path=path):
        pass
    lab = ["--lab", str(path)]
    planned = command("plan", *lab, *target, "--allow", "work")
    assert planned.exit_code == 1, planned.output
    assert "redacted" in planned.output
    assert "1 ready, 1 refused (1 redacted)" in planned.output
    rows = command("plan", *lab, *target, "--allow", "work", "--json").output.splitlines()
    assert len(rows) == 2
    one = command("plan", *lab, ready.id[:8], *target, "--allow-all")
    assert one.exit_code == 0, one.output
    assert not lines.read_text()
    done = command(
        *("replay", *lab, *target, "--allow", "work", "--repeat", "2"),
        *("--secret", "password=PASSWORD", "--save-noise", str(tmp_path / "noise.json")),
        PASSWORD="hunter2",
    )
    assert "4 succeeded" in done.output, done.output
    assert "hunter2" not in done.output
    assert "hunter2" in lines.read_text()
    assert done.exit_code == 0
    assert Noise.read(tmp_path / "noise.json") == {}
    edited = command("replay", *lab, ready.id, *target, "--allow", "work", "--edit", "a=[2]")
    assert edited.exit_code == 1
    assert '"a":[2]' in lines.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan"], "one of --portal"),
        (["plan", "--target", "http://x/", "--command", "y"], "one of --portal"),
        (["plan", "--target", "ftp://x"], "http://"),
        (["plan", "--target", "http://127.0.0.1:1/", "--secret", "x"], "NAME=VARIABLE"),
        (["plan", "--target", "http://127.0.0.1:1/", "--secret", "x=NO_SUCH_VARIABLE"], "NO_SUCH"),
        (["plan", "--target", "http://127.0.0.1:1/", "--edit", "x=y"], "NAME=JSON"),
        (["replay", "--target", "http://127.0.0.1:1/", "--target-header", "=X"], "NAME=VARIABLE"),
    ],
)
def test_misuse_of_the_command_line_is_told(words: list[str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with lab_of(captured({}), path=path):
        pass
    result = command(words[0], "--lab", str(path), *words[1:])
    assert result.exit_code == 2
    assert told in result.output


def test_check_tells_drift_from_the_same_and_writes_junit(tmp_path: Path) -> None:
    server, _ = counting_server(lambda arguments: says(f"{arguments.get('n')}!"))
    same = captured({"n": 1}, result=says("1!", isError=False))
    drifted = captured({"n": 2}, number=1, result=says("two\x1b[31m", isError=True))
    gone = captured({}, tool="gone", number=2)
    redacted = captured({"token": "***"}, number=3)
    junit = tmp_path / "junit.xml"
    with over_http(server) as (url, _):
        only_same = case_file(tmp_path, same)
        good = command("check", str(only_same), "--target", url, "--allow-all")
        assert (good.exit_code, good.output.strip()) == (
            0,
            "1 the same, 0 drifted, 0 without an answer, 0 not checked",
        )
        case = case_file(tmp_path, same, drifted, gone, redacted)
        bad = command(*("check", str(case), "--target", url, "--allow-all", "--junit", str(junit)))
        assert bad.exit_code == 1
        assert "1 the same, 2 drifted, 0 without an answer, 1 not checked" in bad.output
        assert "\x1b" not in bad.output
        # A detail of several lines stands in one line of the table, without escapes.
        assert "value summary.success: false -> true; value response" in bad.output
        # What drifted is told by place too.
        assert "2 answers: 1 equal, 1 changed" in bad.output
        assert "response.content[*].text: 1 of 2, a text (" in bad.output
        # Not even an attempt of what is not allowed.
        nothing = command("check", str(case), "--target", url, "--tool", "work")
        assert nothing.exit_code == 2
        noise = tmp_path / "noise.json"
        Noise({"work": ["response", "summary"]}).save(noise)
        quiet = command(
            *("check", str(case), "--target", url, "--allow", "work", "--tool", "work"),
            *("--noise", str(noise), "--json"),
        )
        assert quiet.exit_code == 0, quiet.output
        assert quiet.output.count('"same"') == 2
    suite = ET.fromstring(junit.read_text()).find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    failure = suite.findall("testcase/failure")[0]
    assert "response.content[0].text" in (failure.text or "")


def test_check_leaves_the_case_as_it_was_and_tells_a_dead_target(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with lab_of(captured({}), path=path):
        pass
    result = command("check", str(path), "--target", "http://127.0.0.1:1/mcp", "--allow-all")
    assert result.exit_code == 1
    assert "1 without an answer" in result.output
    with Lab(path) as lab:
        assert len(lab.events()) == 1
        assert not lab.sql("select * from duckdb_tables() where table_name = 'replays'").fetchall()


def test_junit_is_xml_whatever_the_log_says() -> None:
    name = (
        "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0x2028, 0xD800, 0xFFFE, 0xFFFF))) + "]]>\"'<&"
    )
    server, _ = counting_server(lambda _: says(name.replace("\ud800", ""), isError=True))
    with lab_of(captured({}), captured({}, tool=name, number=1)) as lab:
        run = lab.plan_replay(lab.events(), target=server, allow="all").run()
        report = junit_xml(check_run(run, Noise()), target=name)
    suite = ET.fromstring(report.encode()).find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
    assert "\\uffff" in str(suite.get("name"))


@pytest.mark.parametrize("broken", ['{"id": "x"}', "cut", "contradiction"])
def test_a_case_that_cannot_be_read_to_its_end_is_no_success(broken: str, tmp_path: Path) -> None:
    server, calls = counting_server()
    good = captured({"n": 1})
    line = {
        "cut": captured({"n": 2}).to_json()[:80],
        "contradiction": captured({"n": 3}, id=good.id).to_json(),
    }.get(broken, broken)
    case = tmp_path / "case.jsonl"
    case.write_text(f"{good.to_json()}\n{line}\n", encoding="utf-8")
    with over_http(server) as (url, _):
        result = command("check", str(case), "--target", url, "--allow-all")
    assert result.exit_code == 2, result.output
    assert "case.jsonl" in result.output
    assert "line 2" in result.output
    assert not calls.arguments


def test_noise_that_an_editor_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "noise.json"
    Noise({"work": ["**.at"]}).save(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Noise.read(path) == Noise({"work": ["**.at"]})


# The documentation


def test_every_reason_is_on_the_page_about_replay() -> None:
    text = (DOCS / "replay.md").read_text(encoding="utf-8")
    wanted = [*RefusalReason, *PlanVerdict]
    assert [name for name in wanted if not re.search(rf"`{name}`", text)] == []


class FullLab(Lab):
    """A lab that takes no replays."""

    def add_events(self, events: Iterable[Event], *, kind: str, **settings: Any) -> LoadReport:
        if kind == "replay":
            raise LabError("the disk is full")
        return super().add_events(events, kind=kind, **settings)


def test_a_call_whose_outcome_cannot_be_written_is_not_sent_again() -> None:
    server, calls = counting_server()
    with FullLab() as lab:
        lab.add_events([captured({"a": 1})], kind="portal", name="test")
        plan = lab.plan_replay(lab.events(), server, allow={"work"})
        with pytest.raises(LabError, match="disk is full"):
            plan.run()
        run = plan.run()
        assert run.counts() == {"uncertain": 1}
        assert len(run.uncertain) == len(calls) == 1
        assert reasons(lab, server, allow={"work"}) == ["uncertain"]
