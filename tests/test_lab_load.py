"""Loading: counts that add up, late payloads, conflicts, the ledger, one transaction."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from short_run import each_third

from mcpaudit_lab import Event, EventNotFound, Lab, LabError, LoadReport, RecordError, SourceError
from mcpaudit_lab.errors import SourceChanged
from mcpaudit_lab.record.jsontext import dumps, loads

UPSTREAM = Path(__file__).parent / "data" / "upstream"
EXPORT, DETAILS = UPSTREAM / "export.jsonl", UPSTREAM / "details.jsonl"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def adds_up(report: LoadReport) -> bool:
    return all(
        f.lines == f.loaded + f.merged + f.duplicates + f.rejected + f.blank for f in report
    ) and report.lines == (
        report.loaded + report.merged + report.duplicates + report.rejected + report.blank
    )


def test_every_recorded_detail_line_comes_back_equal() -> None:
    lab = Lab()
    report = lab.load(DETAILS)
    assert (report.lines, report.loaded) == (322, 322)
    for line in lines_of(DETAILS):
        event = Event.from_json(line)
        assert lab.event(event.id) == event


def test_every_recorded_export_line_comes_back_equal_and_in_order() -> None:
    lab = Lab()
    assert lab.load(EXPORT).loaded == 672
    assert list(lab.events()) == [Event.from_json(line) for line in lines_of(EXPORT)]


@pytest.mark.parametrize("order", [(EXPORT, DETAILS), (DETAILS, EXPORT)], ids=["late", "early"])
def test_summaries_and_details_come_together_in_either_order(order: tuple[Path, Path]) -> None:
    lab = Lab()
    first, second = (lab.load(path) for path in order)
    assert adds_up(first)
    assert adds_up(second)
    if order[0] == EXPORT:
        assert (first.loaded, second.merged, second.duplicates) == (672, 322, 0)
    else:
        assert (first.loaded, second.loaded, second.duplicates) == (322, 350, 322)
    assert lab.events().count() == 672
    details = Event.from_json(lines_of(DETAILS)[0])
    assert lab.event(details.id) == details


def test_the_same_load_again_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(DETAILS.read_bytes() + b"broken\n\n" + b'{"id":"x"}\n')
    lab = Lab()
    first = lab.load([path, EXPORT])
    tables = ("audit_events", "audit_payloads", "sources", "rejects")
    before = {name: lab.sql(f"select count(*) from {name}").fetchall() for name in tables}
    again = lab.load([path, EXPORT])
    assert {name: lab.sql(f"select count(*) from {name}").fetchall() for name in tables} == before
    assert (again.loaded, again.merged, again.rejected) == (0, 0, first.rejected)
    assert again.duplicates == 322 + 672
    assert adds_up(again)


def test_what_was_deleted_is_loaded_again_under_its_old_source() -> None:
    lab = Lab()
    lab.load(EXPORT)
    lab.sql("delete from audit_events where tool_name = 'flaky'")
    assert lab.load(EXPORT).loaded == 60
    assert len(lab.sources()) == 1


def test_one_file_may_hold_an_event_many_times() -> None:
    detail = lines_of(DETAILS)[0]
    summary = Event.from_json(detail).summary.to_json().encode()
    lab = Lab()
    report = lab.load(io.BytesIO(b"\n".join([summary, summary, detail, detail, summary]) + b"\n"))
    (counts,) = report.files
    assert (counts.loaded, counts.merged, counts.duplicates) == (1, 1, 3)
    assert list(lab.events()) == [Event.from_json(detail)]


def test_a_different_event_under_the_same_id_is_a_conflict_and_the_first_stays() -> None:
    first = Event.from_json(lines_of(EXPORT)[0])
    other = Event({**first.wire, "tool_name": "another", "parameters": {"n": 1}})
    lab = Lab()
    report = lab.load(io.BytesIO(f"{first.to_json()}\n{other.to_json()}\n".encode()))
    assert (report.loaded, report.rejected, report.reasons) == (1, 1, {"conflict": 1})
    (reject,) = lab.rejects().to_dict("records")
    assert (reject["line"], reject["reason"]) == (2, "conflict")
    assert "tool_name, parameters" in reject["detail"]
    assert bytes(reject["raw"]) == other.to_json().encode()
    assert list(lab.events()) == [first]


def test_a_different_payload_is_a_conflict_and_the_first_stays() -> None:
    event = Event.from_json(lines_of(DETAILS)[0])
    other = Event({**event.wire, "payload": {**event.wire["payload"], "request_size_bytes": 7}})
    lab = Lab()
    lab.load(io.BytesIO(event.to_json().encode()))
    report = lab.load(io.BytesIO(other.to_json().encode()))
    assert (report.rejected, report.duplicates, report.merged) == (1, 0, 0)
    assert "payload.request_size_bytes" in lab.rejects().iloc[0]["detail"]
    assert list(lab.events()) == [event]


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "2026-11-24T03:51:31.878104999Z"},
        {"timestamp": "2026-11-23T22:51:31.878104-05:00"},
        {"id": "F97C5CC8-117E-4E18-99B8-B57F1990C82C"},
        {"error_message": "", "user_email": None},
        {"duration_ms": 15.0},
        {"parameters": {"size": 70000.0}},
    ],
    ids=["nanoseconds", "zone", "id", "zeros", "integral", "number"],
)
def test_another_spelling_of_the_same_is_a_duplicate(change: dict[str, Any]) -> None:
    line = lines_of(EXPORT)[0]
    lab = Lab()
    lab.load(io.BytesIO(line))
    other = Event({**Event.from_json(line).wire, **change})
    report = lab.load(io.BytesIO(other.to_json().encode()))
    assert (report.duplicates, report.rejected) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"success": False},
        {"parameters": {"size": 70001}},
        {"parameters": {"size": True}},
        {"new": 1},
        {"timestamp": "2026-11-24T03:51:31.878105Z"},
    ],
)
def test_a_small_difference_is_one(change: dict[str, Any]) -> None:
    line = lines_of(EXPORT)[0]
    lab = Lab()
    lab.load(io.BytesIO(line))
    other = Event({**Event.from_json(line).wire, **change})
    assert lab.load(io.BytesIO(other.to_json().encode())).rejected == 1


# What comes out is what Python reads, whichever way a line took


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=8),
)
_trees = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
_numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)


@st.composite
def wire_texts(draw: st.DrawFn) -> str:
    """A line as some server might write it: any spelling, any order, keys twice, white space."""
    tree = dumps(draw(_trees), ascii_only=draw(st.booleans()))
    number = draw(_numbers)
    parameters = draw(
        st.sampled_from(
            [tree, f'{{"n":{number},"t":{tree}}}', f'{{"a":{number},"b":[{{"a":1,"a":{number}}}]}}']
        )
    )
    members = [
        f'"id":"{draw(st.uuids())}"',
        '"timestamp":"2026-11-24T03:43:43.5Z"',
        f'"duration_ms":{draw(st.sampled_from(["0", "7", "7.0", "123456789012345678901"]))}',
        f'"tool_name":{dumps(draw(st.text(max_size=6)))}',
        f'"parameters":{parameters}',
        '"success":true',
        '"transport":"http"',
        '"source":"mcp"',
    ]
    if draw(st.booleans()):
        members.append(f'"user_agent":{dumps(draw(st.text(max_size=6)), ascii_only=True)}')
    if draw(st.booleans()):
        members.append(
            f'"payload":{{"jsonrpc_method":"tools/call","request_params":{parameters},'
            f'"response_result":{tree}}}'
        )
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    return "{" + draw(st.sampled_from([",", ", ", " ,\t"])).join(members) + "}"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(wire_texts(), min_size=1, max_size=15, unique_by=lambda text: text))
def test_the_lab_reads_what_python_reads(texts: list[str]) -> None:
    expected = {(event := Event.from_json(text)).id: event for text in texts}
    with Lab() as lab:
        report = lab.load(io.BytesIO("".join(f"{text}\n" for text in texts).encode()))
        assert adds_up(report)
        assert {event.id: event for event in lab.events()} == expected


# Where inputs come from


def test_paths_globs_folders_and_open_files(tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "deep"
    folder.mkdir(parents=True)
    lines = lines_of(EXPORT)
    (folder / "a.jsonl").write_bytes(b"\n".join(lines[:10]))
    (folder.parent / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[10:20])))
    with pa.CompressedOutputStream(pa.OSFile(str(folder / "c.ndjson.zst"), "wb"), "zstd") as packed:
        packed.write(b"\n".join(lines[20:30]))
    (folder / "notes.txt").write_text("not an export")
    lab = Lab()
    assert lab.load(tmp_path / "exports").loaded == 30
    assert lab.load(str(tmp_path / "exports" / "**" / "*.jsonl*")).duplicates == 20
    with (folder / "a.jsonl").open("rb") as file:
        report = lab.load([file, folder / "c.ndjson.zst", folder / "c.ndjson.zst"])
        assert not file.closed
    assert [f.duplicates for f in report] == [10, 10]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no exports in the folder"):
        lab.load(tmp_path / "empty")


def pages() -> list[str]:
    return sorted(
        path.name
        for path in (UPSTREAM / "events").glob("*.http")
        if b'"events":[' in path.read_bytes()
    )


@pytest.mark.parametrize("name", each_third(pages()))
def test_a_saved_page_of_events_loads(name: str) -> None:
    head, _, body = (UPSTREAM / "events" / name).read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/")
    page: Any = loads(body)
    # The body alone comes below, once: it is read by the same code when the head is off.
    with Lab() as lab:
        report = lab.load(io.BytesIO(head + b"\r\n\r\n" + body))
        assert report.lines == report.loaded == len(page["events"])
        assert list(lab.events()) == [Event(event) for event in page["events"]]


@pytest.mark.parametrize("name", ["default.http", "q=percent.http"])
def test_a_saved_page_without_its_head_loads(name: str) -> None:
    body = (UPSTREAM / "events" / name).read_bytes().partition(b"\r\n\r\n")[2]
    page: Any = loads(body)
    with Lab() as lab:
        report = lab.load(io.BytesIO(body))
        assert report.lines == report.loaded == len(page["events"])
        assert list(lab.events()) == [Event(event) for event in page["events"]]


def test_a_saved_page_over_many_lines_loads() -> None:
    body = (UPSTREAM / "events" / "default.http").read_bytes().partition(b"\r\n\r\n")[2]
    pretty = json.dumps(json.loads(body), indent=2)
    lab = Lab()
    assert lab.load(io.BytesIO(pretty.encode())).loaded == 50
    assert [event.id for event in lab.events()] == [e["id"] for e in json.loads(body)["events"]]


def test_a_saved_export_answer_loads_with_its_head() -> None:
    lab = Lab()
    assert lab.load(UPSTREAM / "export" / "full.http").loaded == 672
    (provenance,) = lab.provenance(lab.events().ids()[100])
    assert provenance.raw == lines_of(EXPORT)[100]


def test_a_detail_answer_over_several_lines_and_a_list_load(tmp_path: Path) -> None:
    details = [json.loads(line) for line in lines_of(DETAILS)[:3]]
    pretty, listed = tmp_path / "pretty.json", tmp_path / "list.json"
    pretty.write_text("\ufeff" + json.dumps(details[0], indent=4, ensure_ascii=False))
    listed.write_text(json.dumps(details, indent=1))
    lab = Lab()
    report = lab.load([pretty, listed])
    assert [(f.lines, f.loaded) for f in report] == [(1, 1), (3, 2)]
    assert lab.event(details[0]["id"]) == Event(details[0])
    raw = lab.provenance(details[1]["id"])[0].raw
    assert raw is not None
    assert json.loads(raw) == details[1]
    raw = lab.provenance(details[0]["id"])[0].raw
    assert raw is not None
    assert raw.decode() == json.dumps(details[0], indent=4, ensure_ascii=False)


def test_what_only_looks_like_a_document_is_read_as_lines() -> None:
    lab = Lab()
    report = lab.load(io.BytesIO(b"[\n{\n" + lines_of(EXPORT)[0] + b"\n"))
    assert (report.lines, report.loaded, report.rejected) == (3, 1, 2)


# The ledger


def test_sources_say_what_was_read() -> None:
    lab = Lab()
    lab.load(EXPORT)
    (source,) = lab.sources().to_dict("records")
    assert source["sha256"] == hashlib.sha256(EXPORT.read_bytes()).hexdigest()
    assert (source["kind"], source["bytes"]) == ("file", EXPORT.stat().st_size)
    assert source["lines"] == 672
    assert source["name"] == str(EXPORT)
    assert abs(source["loaded_at"].timestamp() - time.time()) < 60


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_the_raw_line_is_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "details.jsonl"
    data = DETAILS.read_bytes()
    path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
    lab = Lab()
    lab.load(path)
    for number, line in list(enumerate(lines_of(DETAILS), start=1))[::40]:
        event, payload = lab.provenance(Event.from_json(line).id)
        assert (event.part, event.line, event.raw) == ("event", number, line)
        assert (payload.part, payload.line, payload.raw) == ("payload", number, line)
        assert event.to_dict()["raw"] == line.decode()


def test_a_payload_that_came_later_has_a_provenance_of_its_own() -> None:
    lab = Lab()
    lab.load([EXPORT, DETAILS])
    event, payload = lab.provenance(Event.from_json(lines_of(DETAILS)[7]).id)
    assert (event.source, payload.source) == (str(EXPORT), str(DETAILS))
    assert payload.line == 8


def test_a_file_that_is_not_the_one_loaded_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "details.jsonl"
    path.write_bytes(DETAILS.read_bytes())
    lab = Lab()
    lab.load(path)
    event_id = lab.events().ids()[0]
    path.write_bytes(DETAILS.read_bytes().replace(b"echo", b"ECHO", 1))
    with pytest.raises(SourceChanged, match="SHA-256 differs"):
        lab.provenance(event_id)
    path.write_bytes(b"")
    with pytest.raises(SourceError):
        lab.provenance(event_id)
    path.unlink()
    with pytest.raises(SourceError):
        lab.provenance(event_id)


def test_an_open_file_cannot_be_read_again_and_says_so() -> None:
    lab = Lab()
    lab.load(io.BytesIO(lines_of(EXPORT)[0]))
    (provenance,) = lab.provenance(lab.events().ids()[0])
    assert (provenance.raw, provenance.note) == (None, "a stream cannot be read again")
    with pytest.raises(EventNotFound, match="no event"):
        lab.provenance("00000000-0000-4000-8000-000000000000")


def test_the_report_prints_what_happened() -> None:
    report = Lab().load([EXPORT, DETAILS])
    assert repr(report) == (
        "LoadReport(2 files: 994 lines, 672 loaded, 322 merged, 0 duplicates, 0 rejected, 0 blank)"
    )
    assert report.to_dict()["lines"] == 994
    assert str(report).splitlines()[-1].split() == [
        "together",
        "994",
        "672",
        "322",
        "0",
        "0",
        "0",
        "2,648,885",
    ]
    with pytest.raises(AttributeError):
        report.total("nonsense")


# One transaction


def test_an_error_in_the_second_file_undoes_the_first(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(EXPORT.read_bytes())[:-20])
    lab = Lab(tmp_path / "case.duckdb")
    with pytest.raises(SourceError):
        lab.load([DETAILS, broken])
    for name in ("audit_events", "audit_payloads", "sources", "rejects"):
        assert lab.sql(f"select count(*) from {name}").fetchall() == [(0,)]


@pytest.mark.parametrize(
    "delay_s",
    [0.3, *(pytest.param(delay_s, marks=pytest.mark.soak) for delay_s in (0.05, 0.6, 0.9, 1.3))],
)
def test_a_load_that_is_killed_leaves_all_or_nothing(tmp_path: Path, delay_s: float) -> None:
    export, path = tmp_path / "big.jsonl", tmp_path / "case.duckdb"
    line = Event.from_json(lines_of(EXPORT)[3]).wire
    with export.open("w") as file:
        for number in range(60_000):
            line["id"] = f"00000000-0000-4000-8000-{number:012x}"
            file.write(json.dumps(line) + "\n" if number % 7 == 0 else dumps(line) + "\n")
    with Lab(path) as lab:
        lab.load(DETAILS)
    program = (
        f"from mcpaudit_lab import Lab; lab = Lab({str(path)!r}); print('go', flush=True);"
        f" lab.load({str(export)!r}); print('done', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        # Whenever it hits: the test is that every moment will do.
        time.sleep(delay_s)
        os.kill(child.pid, signal.SIGKILL)
    with Lab(path) as lab:
        assert lab.events().count() in (322, 60_322)
        assert len(lab.sources()) == (1 if lab.events().count() == 322 else 2)
        assert lab.load(export).lines == 60_000
        assert lab.events().count() == 60_322


def test_an_interrupt_undoes_the_load_and_the_lab_goes_on(tmp_path: Path) -> None:
    class Interrupting(io.BytesIO):
        def readinto(self, _buffer: Any, /) -> int:
            raise KeyboardInterrupt

    lab = Lab(tmp_path / "case.duckdb")
    with pytest.raises(KeyboardInterrupt):
        lab.load([DETAILS, Interrupting(b"x")])
    assert lab.events().count() == 0
    assert lab.load(DETAILS).loaded == 322


def test_a_lab_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    before = os.umask(0)
    try:
        with Lab(path) as lab:
            lab.load(DETAILS)
            lab.connection.execute("create table mine as select 1 as i")
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
    with Lab(path) as lab:
        assert lab.events().count() == 322


def test_a_closed_lab_says_so(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "case.duckdb")
    lab.close()
    lab.close()
    assert repr(lab).endswith("closed)")
    with pytest.raises(LabError, match="closed"):
        lab.events().count()


def test_an_event_is_found_by_id_or_not() -> None:
    lab = Lab()
    lab.load(EXPORT)
    with pytest.raises(EventNotFound, match="no event 00000000"):
        lab.event("00000000-0000-4000-8000-000000000000")
    with pytest.raises(RecordError):
        lab.event("nope")


def test_a_report_shows_hostile_names_and_reasons_as_data(tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>\x1b[31m.jsonl"
    path.write_bytes(b"broken\n" + lines_of(DETAILS)[0] + b"\n")
    report = Lab().load(path)
    html = report._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html
    assert "1 not_json" in html
    assert "\x1b" not in str(report) + html
    assert "rejected: 1 not_json" in str(report)


def test_events_that_came_by_no_file_are_added_with_their_source() -> None:
    events = [Event.from_json(line) for line in lines_of(DETAILS)[:2500]]
    lines = b"".join(event.to_json().encode() + b"\n" for event in events)
    with Lab() as lab:
        report = lab.add_events(iter(events), kind="portal", name="http://p", request="asked")
        assert report.loaded == len(events)
        again = lab.add_events(events[:3], kind="tail", name="http://p")
        assert (again.loaded, again.duplicates) == (0, 3)
        assert adds_up(report)
        assert adds_up(again)
        for part in lab.provenance(events[-1].id):
            assert (part.kind, part.source, part.request) == ("portal", "http://p", "asked")
            assert part.sha256 == hashlib.sha256(lines).hexdigest()
            assert part.line == len(events)
        changed = Event({**events[0].wire, "duration_ms": 123_456})
        with pytest.raises(RecordError, match="conflict"):
            lab.add_events([changed], kind="replay", name="http://p", strict=True)
        assert lab.event(events[0].id) == events[0]


def test_an_event_without_an_id_is_rejected_and_the_others_are_added() -> None:
    first, second = (Event.from_json(line) for line in lines_of(DETAILS)[:2])
    unnamed = Event({**first.wire, "id": ""})
    with Lab() as lab:
        report = lab.add_events([unnamed, second], kind="tail", name="http://p")
        assert (report.loaded, report.rejected) == (1, 1)
        assert adds_up(report)
        reject = lab.rejects().iloc[0]
        assert (reject["line"], reject["reason"]) == (1, "no_id")
        assert reject["raw"] == unnamed.to_json().encode()
        with pytest.raises(RecordError, match="no id"):
            lab.add_events([unnamed], kind="tail", name="http://p", strict=True)
