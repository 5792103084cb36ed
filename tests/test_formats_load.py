"""Other recorders' files in a lab: told by content, counted, and led back to their lines."""

from __future__ import annotations

import bz2
import gzip
import importlib.metadata
import io
import json
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mcpaudit_lab import EventFilter, FilterError, Lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.errors import SourceChanged, SourceError, UnknownFormat
from mcpaudit_lab.formats import Found, Line, Outcome, Reader, Tally, recognise
from mcpaudit_lab.record import Event
from mcpaudit_lab.storage.load.report import LoadReport

SAMPLES = Path(__file__).parent / "data" / "formats"
SNOOP = (SAMPLES / "mcpsnoop.jsonl").read_bytes()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def adds_up(report: LoadReport) -> bool:
    return all(
        one.lines
        == one.loaded
        + one.merged
        + one.duplicates
        + one.rejected
        + one.blank
        + one.other
        + one.parts
        for one in report
    )


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_a_sample_is_loaded_and_again_it_is_all_duplicates(lab: Lab, path: Path) -> None:
    first = lab.load(path)
    assert adds_up(first)
    assert first.loaded >= 1
    assert not first.rejected
    before = lab.sources().to_dict("records")
    again = lab.load(path)
    assert adds_up(again)
    assert (again.loaded, again.duplicates) == (0, first.loaded)
    assert lab.sources().to_dict("records") == before


def test_events_come_out_of_the_lab_as_the_reader_made_them(lab: Lab) -> None:
    lab.load(SAMPLES / "mcpsnoop.jsonl")
    (call,) = lab.events(tool="forecast", success=True)
    assert call.wire["timestamp"] == "2026-11-20T10:00:03.000Z"
    assert call.extra["command"] == ["python", "weather.py"]
    assert call.payload is not None
    assert len(call.payload.notifications) == 1


def test_provenance_names_every_line_of_a_call(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_bytes(SNOOP)
    lab.load(path)
    (call,) = lab.events(success=True)
    found = lab.provenance(call.id)
    assert [(p.part, p.line) for p in found] == [
        ("event", 7),
        ("payload", 7),
        ("line", 8),
        ("line", 9),
    ]
    lines = SNOOP.split(b"\n")
    assert all(p.raw == lines[p.line - 1] and p.format == "mcpsnoop" for p in found)
    assert all(p.within is None for p in found)
    path.write_bytes(SNOOP + b"\n")
    with pytest.raises(SourceChanged):
        lab.provenance(call.id)


def test_provenance_gives_the_text_within_a_logs_line(lab: Lab) -> None:
    lab.load(SAMPLES / "cri.log")
    (call,) = lab.events(tool="echo")
    found = lab.provenance(call.id)
    assert [(p.part, p.line) for p in found] == [("event", 2), ("line", 3)]
    assert all(p.raw and p.raw.startswith(b"2026-11-24T04:00:00.2Z stdout") for p in found)
    text = b"".join(p.within or b"" for p in found)
    assert Event.from_json(text) == call
    assert found[0].to_dict()["within"].startswith('{"id"')


def test_several_events_of_one_line_keep_their_places(lab: Lab) -> None:
    lab.load(SAMPLES / "otlp-traces.json")
    for call in lab.events():
        assert {p.line for p in lab.provenance(call.id)} == {1}
    # The same ids again with other content are conflicts, each with its line.
    changed = (
        (SAMPLES / "otlp-traces.json")
        .read_bytes()
        .replace(b"sess-9", b"sess-9")
        .replace(b"Oslo", b"Rome")
    )
    report = lab.load(io.BytesIO(changed))
    assert adds_up(report)
    assert (report.rejected, report.duplicates) == (1, 1)
    assert lab.rejects()["line"].tolist() == [1]


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("", bytes)],
)
def test_what_is_packed_is_unpacked_several_streams_too(
    lab: Lab, tmp_path: Path, ending: str, pack: Any
) -> None:
    half = len(SNOOP) // 2
    path = tmp_path / f"frames.{ending}"
    path.write_bytes(pack(SNOOP[:half]) + pack(SNOOP[half:]))
    report = lab.load(path)
    assert (report.loaded, report.parts) == (2, 3)
    (call,) = lab.events(success=True)
    assert len(lab.provenance(call.id)) == 4


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
@pytest.mark.parametrize("cut", [1, 30])
def test_a_cut_off_archive_stops_the_load(lab: Lab, tmp_path: Path, pack: Any, cut: int) -> None:
    path = tmp_path / "frames.packed"
    path.write_bytes(pack(SNOOP)[:-cut])
    with pytest.raises(SourceError, match="damaged"):
        lab.load(path)
    assert lab.events().count() == 0


def test_an_xz_file_cannot_ask_for_more_memory_than_is_allowed(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "frames.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST}]
    # The dictionary's size stands in the header; the packer itself would take gigabytes for it.
    small = lzma.compress(SNOOP, filters=[{**filters[0], "dict_size": 1 << 16}])
    assert small[12:14] == b"\x02\x00"
    block = bytearray(small[12:24])
    block[4] = 36
    import zlib

    block[8:12] = zlib.crc32(bytes(block[:8])).to_bytes(4, "little")
    path.write_bytes(small[:12] + bytes(block) + small[24:])
    with pytest.raises(SourceError, match=r"damaged xz: .*[Mm]emory"):
        lab.load(path)


def test_what_unpacks_to_too_much_stops_the_load(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "bomb.xz"
    path.write_bytes(lzma.compress(SNOOP + b"\n" * 10_000_000))
    with pytest.raises(SourceError, match="unpacks to more"):
        lab.load(path, max_unpacked_bytes=1_000_000)


def make_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_is_the_files_in_it_and_a_readme_is_named(lab: Lab, tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "case.zip",
        **{
            "../../frames.jsonl": SNOOP,
            "deep/trace.json.xz": lzma.compress((SAMPLES / "otlp-traces.json").read_bytes()),
            "README.md": b"# hello\n",
            "empty/": b"",
            "inner.zip": make_zip(tmp_path / "i.zip", x=SNOOP).read_bytes(),
        },
    )
    report = lab.load(path)
    assert adds_up(report)
    assert [one.name for one in report] == [
        f"{path}!/../../frames.jsonl",
        f"{path}!/deep/trace.json.xz",
    ]
    assert report.skipped == (f"{path}!/README.md", f"{path}!/inner.zip")
    assert "README.md" in str(report)
    assert report.to_dict()["skipped"] == list(report.skipped)
    (call,) = lab.events(success=True, source="mcpsnoop")
    found = lab.provenance(call.id)
    assert [p.kind for p in found] == ["archive"] * 4
    assert found[0].raw == SNOOP.split(b"\n")[6]
    assert lab.load(path).loaded == 0
    with path.open("rb") as file:
        assert Lab().load(io.BytesIO(file.read())).loaded == report.loaded
    assert not (tmp_path.parent / "frames.jsonl").exists()


def test_a_zip_that_is_too_large_or_damaged_stops_the_load(lab: Lab, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "bomb.zip", a=b"\n" * 5_000_000, b=SNOOP)
    with pytest.raises(SourceError, match="max_unpacked_bytes"):
        lab.load(path, max_unpacked_bytes=1_000_000)
    data = bytearray(make_zip(tmp_path / "bad.zip", a=SNOOP).read_bytes())
    data[60] ^= 255
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        lab.load(tmp_path / "bad.zip")
    with pytest.raises(UnknownFormat, match="no file of a known format"):
        lab.load(make_zip(tmp_path / "no.zip", readme=b"hello\n"))
    assert lab.events().count() == 0


def test_a_folder_leaves_out_what_is_of_no_format(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "frames.log").write_bytes(SNOOP)
    (tmp_path / "README").write_text("hello")
    report = lab.load(tmp_path)
    assert (report.loaded, report.skipped) == (2, (str(tmp_path / "README"),))
    with pytest.raises(UnknownFormat, match="README is of no format"):
        lab.load(tmp_path / "README")
    (tmp_path / "logs" / "frames.log").unlink()
    with pytest.raises(UnknownFormat, match="no exports"):
        lab.load(tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"7z\xbc\xaf\x27\x1crest", "7z archive"),
        (b"SQLite format 3\x00" + b"\x00" * 50, "SQLite"),
        (b"\x00\x01\x02", "binary"),
        (b"hello \x1b[31mworld\n", "text that begins with 'hello"),
        (b'{"hello": 1}\n', "JSON that begins with"),
    ],
)
def test_a_file_of_no_format_stops_the_load_and_lists_the_formats(
    lab: Lab, tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "what"
    path.write_bytes(data)
    with pytest.raises(UnknownFormat) as caught:
        lab.load(path)
    message = str(caught.value)
    assert said in message
    assert "\x1b" not in message
    assert all(name in message for name in ("mcpsnoop", "mcpproxy-go", "mcp-vcr", "OTLP", "ZIP"))


def test_a_format_may_be_named_and_must_be_one(lab: Lab) -> None:
    frames = SNOOP.split(b"\n")
    # The first record says nothing; the user does.
    data = b'{"note": "mine"}\n' + b"\n".join(frames)
    with pytest.raises(UnknownFormat):
        lab.load(io.BytesIO(data))
    report = lab.load(io.BytesIO(data), format="mcpsnoop")
    assert (report.loaded, report.rejected) == (2, 1)
    with pytest.raises(SourceError, match="no format 'nonsense'"):
        lab.load(io.BytesIO(data), format="nonsense")


def test_missing_frames_are_in_the_report(lab: Lab) -> None:
    frames = SNOOP.split(b"\n")
    report = lab.load(io.BytesIO(b"\n".join(frames[:4] + frames[6:])))
    assert "2 frames are missing" in str(report)
    assert "2 frames are missing" in report._repr_html_()


def test_a_lab_of_an_earlier_version_takes_them_too(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with Lab(path) as lab:
        lab.load(SAMPLES / "docker-json.log")
        for column in ("other", "parts", "format"):
            lab.connection.execute(f"alter table sources drop column {column}")
        lab.connection.execute("drop table event_lines")
    with Lab(path) as lab:
        (first, *_) = lab.events()
        assert lab.provenance(first.id)[0].format is None
        assert lab.load(SAMPLES / "mcpsnoop.jsonl").parts == 3
        assert lab.sources()["parts"].tolist()[-1] == 3


def test_what_is_beyond_the_columns_is_a_filter_and_a_column(lab: Lab) -> None:
    lab.load(SAMPLES)
    assert lab.events(extra={"server_name": "files"}).count() == 3
    named: dict[str, Any] = {"extra.client_info.version": "1.2"}
    assert lab.events(**named).count() == 2
    assert lab.events(extra={"native_id": 7}).count() == 1
    assert lab.events(EventFilter.from_query("extra.client_hint=probe")).count() == 1
    wanted = EventFilter(extra={"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    assert EventFilter.from_query(wanted.to_query()) == wanted
    assert [wanted.matches(e) for e in lab.events(source="otel")] == [True, True]
    assert {e.id for e in lab.events(wanted)} == {e.id for e in lab.events(source="otel")}
    frame = lab.events(source="mcpsnoop").df(columns=["tool_name", "extra.server_info.name"])
    assert frame["extra.server_info.name"].tolist() == ["weather", "weather"]
    assert "extra" in wanted.describe()
    with pytest.raises(FilterError, match="member of every record"):
        EventFilter(extra={"timestamp": "x"})


def test_extra_with_a_lone_surrogate_is_found_all_the_same(lab: Lab) -> None:
    wire = {"id": "0" * 31 + "1", "timestamp": "2026-01-01T00:00:00Z", "tool_name": "t"}
    lab.add_events([Event({**wire, "odd": "\ud800", "kind": "é"})], kind="test", name="x")
    assert lab.events(extra={"kind": "é"}).count() == 1
    assert lab.events(extra={"kind": "e"}).count() == 0


def test_the_command_line_lists_and_takes_formats(tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(commands, ["load", "--formats"])
    assert listed.exit_code == 0
    assert "mcpsnoop" in listed.output
    assert run(commands, ["load"]).exit_code == 2
    lab_path = str(tmp_path / "case.duckdb")
    frames = str(SAMPLES / "mcpsnoop.jsonl")
    loaded = run(commands, ["load", frames, "--lab", lab_path, "--format", "mcpsnoop", "--json"])
    assert loaded.exit_code == 0, loaded.output
    assert json.loads(loaded.output)["parts"] == 3
    found = run(commands, ["events", "--lab", lab_path, "--extra", "server_name=weather", "--json"])
    assert found.output.count("forecast") >= 2


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    for line in lines:
        assert not tally.wrapped
        number = int(line.text.split()[1])
        event = Event.build(
            id=f"{number:032x}", timestamp="2026-01-01T00:00:00Z", tool_name="own", source="own"
        )
        yield Found(event, line.places)


OWN = Reader("own", "a format of one's own", _read, None, lambda text: text.startswith("OWN "))


class _EntryPoint:
    name = "own"

    @staticmethod
    def load() -> object:
        return OWN


def test_another_packages_reader_needs_no_change_here(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognise, "entry_points", lambda group: [_EntryPoint] if group else [])
    recognise.readers.cache_clear()
    try:
        assert lab.load(io.BytesIO(b"OWN 1\nOWN 2\n")).loaded == 2
        assert "own" in lab.formats()["name"].tolist()
    finally:
        recognise.readers.cache_clear()


def test_the_entry_point_group_is_the_one_in_the_docs() -> None:
    assert recognise.GROUP == "mcpaudit_lab.formats"
    assert not importlib.metadata.entry_points(group="mcpaudit_lab.no_such_group")
