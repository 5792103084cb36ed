"""What a lab writes loads back equal."""

from __future__ import annotations

import gzip
import io
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcpaudit_lab import Event, Lab, LabError, SourceError

UPSTREAM = Path(__file__).parent / "data" / "upstream"
ODD = [
    (
        '{"id":"D90D37E9-209E-4110-AA38-F2780B834E00",'
        '"timestamp":"2026-11-24T03:43:43.274318123-05:00",'
        '"duration_ms":123456789012345678901,"tool_name":"a\\ud800\\u0000\\"\\n",'
        '"parameters":{"n":1.10,"b":1e400,"s":"\\udfff"},"success":false,"transport":"",'
        '"source":"","user_agent":"","future":[1.0],'
        '"payload":{"jsonrpc_method":"","response_truncated":true,"later":{"x":null}}}'
    ),
    (
        '{"id":"00000000-0000-4000-8000-000000000001","timestamp":"0001-01-01T00:00:00Z",'
        '"duration_ms":0,"tool_name":"echo \\u001b[31m","success":true,"transport":"http",'
        '"source":"mcp","payload":{}}'
    ),
]
NAMES = ["a.jsonl", "b.ndjson", "c.jsonl.gz", "d.jsonl.zst", "e.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_back_equal_payloads_included(tmp_path: Path, name: str) -> None:
    lab = Lab()
    lab.load([UPSTREAM / "export.jsonl", UPSTREAM / "details.jsonl"])
    lab.load(io.BytesIO("\n".join(ODD).encode()))
    path = tmp_path / name
    assert lab.write(path) == 674
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Lab()
    report = again.load(path)
    assert (report.lines, report.loaded) == (674, 674)
    events = list(again.events())
    assert events == list(lab.events())
    for line in ODD:
        assert Event.from_json(line) in events
    assert lab.load(path).duplicates == 674
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_chosen_part_is_written_in_order(tmp_path: Path) -> None:
    lab = Lab()
    lab.load(UPSTREAM / "details.jsonl")
    flaky = lab.events(tool="flaky")
    assert flaky.write(tmp_path / "flaky.jsonl") == flaky.count()
    lines = (tmp_path / "flaky.jsonl").read_text().splitlines()
    assert [Event.from_json(line).id for line in lines] == flaky.ids()


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    lab = Lab()
    lab.load(UPSTREAM / "details.jsonl")
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        lab.write(tmp_path / name)
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.jsonl.gz").read_bytes()).count(b"\n") == 322


def test_a_recorded_line_is_written_as_it_was_read(tmp_path: Path) -> None:
    lab = Lab()
    lab.load(UPSTREAM / "export.jsonl")
    lab.write(tmp_path / "again.jsonl")
    ours = (tmp_path / "again.jsonl").read_text().split("\n")
    theirs = (UPSTREAM / "export.jsonl").read_text().split("\n")
    # The reference server escapes U+2028 and U+2029, which JSON does not ask for.
    assert [a for a, b in zip(ours, theirs, strict=True) if a != b and "\\u202" not in b] == []


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    lab = Lab()
    lab.load(UPSTREAM / "details.jsonl")
    with pytest.raises(LabError, match="overwrite=True"):
        lab.write(path)
    assert path.read_text() == "mine"
    assert lab.write(path, overwrite=True) == 322


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.parquet.gz", "a.gz"])
def test_a_name_that_says_no_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match=r"\.jsonl"):
        Lab().write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot write"):
        Lab().write(tmp_path / "missing" / "a.jsonl")


def test_parquet_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"id": ["x"]}), path)
    with pytest.raises(SourceError, match=r"not as Lab\.write makes it"):
        Lab().load(path)
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(SourceError, match="damaged Parquet"):
        Lab().load(path)


def test_parquet_loads_from_an_open_file(tmp_path: Path) -> None:
    lab = Lab()
    lab.load(UPSTREAM / "details.jsonl")
    lab.write(tmp_path / "a.parquet")
    again = Lab()
    with (tmp_path / "a.parquet").open("rb") as file:
        assert again.load(file).loaded == 322
    provenance = again.provenance(again.events().ids()[0])[0]
    assert (provenance.line, provenance.byte_offset) == (1, None)
