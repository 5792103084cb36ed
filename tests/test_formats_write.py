"""Events as other tools' files: what they carry comes back, what they cannot carry is reported."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mcpaudit_lab import Event, Lab, LabError
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files

# Members that a span carries, as docs/formats.md lists them.
CARRIED = (
    *("tool_name", "timestamp_ns", "duration_ms", "request_id", "session_id", "success"),
    *("error_message", "transport", "remote_addr", "parameters"),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.load(sample_files(), progress=False)
        yield lab


def made(**members: Any) -> Event:
    wire: dict[str, Any] = {
        "id": "11111111-1111-4111-8111-111111111111",
        "timestamp": "2026-11-24T03:43:43.274318123Z",
        "duration_ms": 12,
        "tool_name": "echo",
        "parameters": {"n": 9007199254740993, "x": "1.10"},
        "success": True,
        "transport": "stdio",
        "source": "recorder",
        "payload": {
            "jsonrpc_method": "tools/call",
            "request_params": {"n": 9007199254740993, "x": "1.10"},
            "response_result": {"content": [{"type": "text", "text": "ok"}]},
        },
    }
    return Event.from_json(json.dumps({**wire, **members}))


def add(lab: Lab, *events: Event) -> None:
    lab.add_events(events, kind="replay", name="test")


def test_a_span_has_all_that_the_conventions_know(lab: Lab, tmp_path: Path) -> None:
    report = lab.write(tmp_path / "all.otlp.json", lab.events(has="request_params"))
    assert report == lab.events(has="request_params").count()
    assert not report.skipped
    with Lab() as other:
        loaded = other.load(tmp_path / "all.otlp.json", progress=False)
        assert loaded.loaded == report
        assert loaded.rejected == 0
        back = {
            event.extra["attributes"]["mcpaudit.event.id"]: event
            for event in other.events(source="otel")
        }
        for event in lab.events(has="request_params"):
            found = back[event.id]
            for name in CARRIED:
                if name == "parameters" and event.parameters is None:
                    continue  # of a caller who was not let in; the span has the request's
                assert getattr(found, name) == getattr(event, name), (name, event.id)
            if event.error_category in ("tool", "handler"):
                assert found.error_category == event.error_category
            assert event.payload is not None
            assert found.payload is not None
            assert found.payload.request_params == event.payload.request_params
            assert found.payload.response_result == event.payload.response_result


def test_numbers_and_times_survive_a_round_trip_through_spans(tmp_path: Path) -> None:
    with Lab() as lab, Lab() as other:
        add(lab, made())
        lab.write(tmp_path / "one.otlp.json.gz")
        other.load(tmp_path / "one.otlp.json.gz", progress=False)
        (event,) = other.events()
        assert event.timestamp_ns % 1_000_000_000 == 274318123
        assert event.parameters == {"n": 9007199254740993, "x": "1.10"}


def test_a_captured_trace_is_the_spans_trace(tmp_path: Path) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with Lab() as lab:
        add(lab, made(trace_id=trace, span_id=caller))
        lab.write(tmp_path / "t.otlp.json")
    document = json.loads((tmp_path / "t.otlp.json").read_text())
    (span,) = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["traceId"] == trace
    assert span["parentSpanId"] == caller
    assert span["spanId"] != caller
    assert span["startTimeUnixNano"] == "1795491823274318123"


def test_what_a_span_cannot_carry_is_counted(tmp_path: Path) -> None:
    with Lab() as lab:
        add(lab, made(user_subject="alice", tool_group="identity", odd={"a": 1}))
        report = lab.write(tmp_path / "t.otlp.json")
    assert report.lost == {"extra.odd": 1, "source": 1, "tool_group": 1, "user_subject": 1}
    assert "user_subject (1)" in report.describe()


HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_is_a_formula(name: str, tmp_path: Path) -> None:
    with Lab() as lab:
        add(lab, made(tool_name=name))
        assert lab.write(tmp_path / "t.csv") == 1
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    cells = dict(zip(header, row, strict=True))
    assert cells["tool_name"] == f"'{name}"
    assert cells["duration_ms"] == "12"
    assert json.loads(cells["payload_request_params"])["n"] == 9007199254740993
    assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in row)


def test_csv_keeps_every_row_and_quotes_what_it_must(lab: Lab, tmp_path: Path) -> None:
    report = lab.write(tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report == lab.events().count()
    assert {row["id"] for row in rows} == set(lab.events().ids())
    assert rows == sorted(rows, key=lambda row: row["ts"])


def test_frames_load_back_as_the_same_calls(lab: Lab, tmp_path: Path) -> None:
    chosen = lab.events(has="request_params", success=True)
    report = lab.write(tmp_path / "frames.jsonl", chosen, format="mcpsnoop")
    assert report == chosen.count()
    with Lab() as other:
        loaded = other.load(tmp_path / "frames.jsonl", progress=False)
        assert loaded.loaded == report
        assert loaded.lines == loaded.loaded + loaded.parts + loaded.other
        calls = sorted((e.timestamp_ns, e.tool_name, e.duration_ms) for e in chosen)
        assert sorted((e.timestamp_ns, e.tool_name, e.duration_ms) for e in other.events()) == calls


def test_a_call_without_messages_is_no_transcript(tmp_path: Path) -> None:
    bare = made()
    wire = {name: value for name, value in bare.wire.items() if name != "payload"}
    with Lab() as lab:
        add(lab, Event(wire))
        report = lab.write(tmp_path / "x.jsonl", format="mcpsnoop")
    assert report == 0
    assert report.skipped == {"its messages were not captured": 1}


def test_a_format_that_cannot_be_written_names_the_choices(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="portal, otel, csv, mcpsnoop"):
        lab.write(tmp_path / "x.jsonl", format="mcpproxy")
    with pytest.raises(LabError, match=r"\.otlp\.json"):
        lab.write(tmp_path / "x.xlsx")
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_what_was_lost(tmp_path: Path) -> None:
    with Lab(tmp_path / "case.duckdb") as lab:
        add(lab, made(user_subject="alice"))
    run = CliRunner(env={"MCPAUDIT_LAB": str(tmp_path / "case.duckdb")})
    told = run.invoke(commands, ["write", str(tmp_path / "x.otlp.json")])
    assert told.exit_code == 0
    assert "this format cannot carry: source (1), user_subject (1)" in told.output
    done = run.invoke(
        commands, ["write", str(tmp_path / "y.jsonl"), "--format", "mcpsnoop", "--json"]
    )
    assert json.loads(done.output)["lost"] == {
        "an event without a session gets one of its own": 1,
        "source": 1,
        "user_subject": 1,
    }
