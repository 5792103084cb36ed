"""What loads exactly, what is rejected line by line, what stops a load: each with its outcome."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from short_run import each_third

from mcpaudit_lab import Event, Lab, LabError, LabInUse, LabVersionError, RecordError, SourceError
from mcpaudit_lab.errors import RejectReason, SourceChanged
from mcpaudit_lab.storage.load.inputs import Input, open_input

ID = "d90d37e9-209e-4110-aa38-f2780b834e84"
OTHER = "f226cf42-7a54-4f9c-bff5-ed044ebd8cf6"
TIME = "2026-11-24T03:43:43.274318Z"


def line(
    event_id: str = ID, *, time: str = TIME, parameters: str | None = None, **more: str
) -> str:
    """One export line, as text, so that a test can say what stands in it to the letter."""
    members = [
        f'"id":"{event_id}"',
        f'"timestamp":"{time}"',
        '"duration_ms":1',
        '"tool_name":"echo"',
    ]
    if parameters is not None:
        members.append(f'"parameters":{parameters}')
    members += ['"success":true', '"transport":"http"', '"source":"mcp"']
    members += [f'"{name}":{value}' for name, value in more.items()]
    return "{" + ",".join(members) + "}"


def load_bytes(data: bytes) -> Lab:
    lab = Lab()
    report = lab.load(io.BytesIO(data))
    counted = report.loaded + report.merged + report.duplicates + report.rejected + report.blank
    assert report.lines == counted
    return lab


def only_event(text: str) -> Event:
    lab = load_bytes((text + "\n").encode("utf-8", "surrogatepass"))
    assert lab.rejects().empty
    (event,) = lab.events()
    return event


GOOD = {
    "nul": r'{"a":"x\u0000y"}',
    "lone surrogate": r'{"a":"\ud800","\udc00k":[1]}',
    "keys that differ in case": '{"key":1,"Key":2,"KEY":3}',
    "over 64 bits": (
        '{"n":123456789012345678901234567890,"m":-9223372036854775809,"u":18446744073709551616}'
    ),
    "beyond a double": '{"n":1e400,"m":-1e400,"tiny":1e-400}',
    "one and one point zero": (
        '{"i":1,"f":1.0,"e":1e0,"z":0,"nz":-0,"nf":-0.0,"t":1.10,"h":100.00}'
    ),
    "many digits": '{"n":0.12345678901234567890123,"p":9007199254740993,"q":9007199254740993.0}',
    "small": '{"n":0.0000001,"m":1E5,"k":1e+5,"j":1.5E-7}',
    "sql": (
        """{"a'; drop table audit_events; --":"'; drop table audit_events; --","""
        """"$p":"$1 ? :x %s"}"""
    ),
    "html": '{"<script>alert(1)</script>":"<img src=x onerror=alert(1)>","&":"\\u003c\\u0026"}',
    "empty things": '{"":"","o":{},"l":[],"n":null,"d":{"":{"":[]}}}',
    "a string like a time": '{"t":"2026-11-24","u":"d90d37e9-209e-4110-aa38-f2780b834e84","n":"5"}',
    "not an object": "[1,2,{}]",
    "odd separators": '{"a":"\u2028\u2029\x7f\ufeff","b":"a\\/b"}',
    "a key that starts with a colon": '{"a":"x,",":b":1,"c:":{":":2}}',
    "commas and braces in texts": '{"a":",}","b":",]","c":"[{\\"a\\":1,\\"a\\":2}]"}',
}


@pytest.mark.parametrize("parameters", GOOD.values(), ids=GOOD.keys())
def test_a_value_comes_out_as_it_went_in(parameters: str) -> None:
    text = line(parameters=parameters)
    event = only_event(text)
    assert event == Event.from_json(text)


@pytest.mark.parametrize("parameters", GOOD.values(), ids=GOOD.keys())
def test_a_value_in_a_payload_comes_out_as_it_went_in(parameters: str) -> None:
    payload = (
        f'{{"jsonrpc_method":"tools/call","request_params":{parameters},'
        f'"response_result":{parameters}}}'
    )
    text = line(payload=payload)
    event = only_event(text)
    assert event == Event.from_json(text)


@pytest.mark.parametrize(
    "time",
    [
        TIME,
        "2026-11-24T03:43:43Z",
        "2026-11-24T03:43:43.120000Z",
        "2026-11-24T03:43:43.1234567Z",
        "2026-11-24T03:43:43.274318123Z",
        "2026-11-23T22:43:43.274318-05:00",
        "2026-11-24t03:43:43z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "1969-07-20T20:17:40.5+05:45",
    ],
)
def test_a_time_comes_out_as_it_went_in(time: str) -> None:
    event = only_event(line(time=time))
    assert event.wire["timestamp"] == time
    assert event.timestamp == Event.from_json(line(time=time)).timestamp


@pytest.mark.parametrize(
    "spelling",
    [ID.upper(), ID.replace("-", ""), f"urn:uuid:{ID}", f"{{{ID}}}", f"URN:UUID:{ID.upper()}"],
)
def test_an_id_is_found_in_any_spelling_and_keeps_its_own(spelling: str) -> None:
    lab = load_bytes(line(spelling).encode() + b"\n")
    assert lab.events().ids() == [ID]
    assert lab.event(spelling).wire["id"] == spelling


def test_unknown_members_and_odd_but_legal_values_are_kept() -> None:
    text = line(
        future='{"a":[1.10]}',
        user_email="null",
        request_chars="1.0",
        response_chars="12345678901234567890",
    )
    event = only_event(text)
    assert event == Event.from_json(text)
    assert event.extra == Event.from_json(text).extra


def test_a_hostile_tool_name_comes_out_as_it_went_in() -> None:
    name = json.dumps("<b>'; drop table audit_events; --\x00\x1b[31m\u202e../../etc/passwd\"\\")
    text = line().replace('"echo"', name)
    assert only_event(text) == Event.from_json(text)


def test_of_a_key_given_twice_the_last_counts_and_the_raw_line_has_both(tmp_path: Path) -> None:
    text = line(parameters='{"a":1,"b":{"c":[{"x":1,"y":0,"x":2}]},"a":"last"}')
    path = tmp_path / "twice.jsonl"
    path.write_text(text + "\n")
    lab = Lab()
    lab.load(path)
    (event,) = lab.events()
    assert event.parameters == {"a": "last", "b": {"c": [{"x": 2, "y": 0}]}}
    (provenance,) = lab.provenance(ID)
    assert provenance.raw == text.encode()


def test_a_member_given_twice_counts_once_with_its_last_value() -> None:
    text = line().replace('"tool_name":"echo"', '"tool_name":"first","tool_name":"last"')
    assert only_event(text).tool_name == "last"


def test_crlf_bom_and_blank_lines() -> None:
    data = b"\xef\xbb\xbf" + f"{line()}\r\n\r\n  \t\n{line(OTHER)}\r\n\n".encode()
    lab = load_bytes(data)
    assert set(lab.events().ids()) == {ID, OTHER}
    source = lab.sources().iloc[0]
    assert (source["lines"], source["loaded"], source["blank"], source["rejected"]) == (5, 2, 3, 0)


def test_a_last_line_without_an_end_loads_if_it_is_whole() -> None:
    assert load_bytes(line().encode()).events().ids() == [ID]


def test_white_space_around_and_inside_a_line() -> None:
    text = "  " + line(parameters='{ "a" : [ 1 , 1.50 ] }').replace(",", " , ") + " \t"
    assert only_event(text) == Event.from_json(text)


def test_ten_thousand_levels_of_nesting(tmp_path: Path) -> None:
    for nested in ('{"k":' * 10_000 + "1" + "}" * 10_000, "[" * 10_000 + "1.10" + "]" * 10_000):
        text = line(parameters=f'{{"d":{nested}}}')
        lab = load_bytes(text.encode() + b"\n")
        (event,) = lab.events()
        assert event == Event.from_json(text)
        copy = tmp_path / f"copy-{len(text)}.jsonl"
        lab.write(copy)
        again = Lab()
        again.load(copy)
        assert list(again.events()) == [event]


@pytest.mark.soak
def test_a_line_of_64_mib() -> None:
    filler = "x" * (64 << 20)
    text = line(parameters=f'{{"big":"{filler}"}}')
    lab = load_bytes(f"{line(OTHER)}\n{text}\n".encode())
    assert lab.events().count() == 2
    assert lab.event(ID).parameters == {"big": filler}


BAD: dict[str, tuple[bytes, RejectReason]] = {
    "not json": (b"nope", RejectReason.NOT_JSON),
    "half": (b'{"id":', RejectReason.NOT_JSON),
    "trailing comma": (line().encode()[:-1] + b",}", RejectReason.NOT_JSON),
    "trailing comma inside": (line(parameters='{"a":[1,]}').encode(), RejectReason.NOT_JSON),
    "two values": (line().encode() + b" {}", RejectReason.NOT_JSON),
    "control character": (line(parameters='{"a":"\x01"}').encode(), RejectReason.NOT_JSON),
    "invalid utf-8": (line(parameters='{"a":"§"}').encode("latin-1"), RejectReason.INVALID_UTF8),
    "surrogate in utf-8": (
        line(parameters='{"a":"\ud800"}').encode("utf-8", "surrogatepass"),
        RejectReason.INVALID_UTF8,
    ),
    "nan": (line(parameters='{"a":NaN}').encode(), RejectReason.NAN_OR_INFINITY),
    "nan in a list": (line(parameters="[1,NaN]").encode(), RejectReason.NAN_OR_INFINITY),
    "infinity": (line(parameters='{"a":[-Infinity]}').encode(), RejectReason.NAN_OR_INFINITY),
    "nan outside": (
        line().replace('"duration_ms":1', '"duration_ms":NaN').encode(),
        RejectReason.NAN_OR_INFINITY,
    ),
    "nan as DuckDB spells it": (line(parameters='{"a":nan}').encode(), RejectReason.NOT_JSON),
    "inf as DuckDB spells it": (line(parameters='{"a":{"b":inf}}').encode(), RejectReason.NOT_JSON),
    "not an object": (b"[]", RejectReason.NOT_AN_OBJECT),
    "a text": (b'"event"', RejectReason.NOT_AN_OBJECT),
    "null": (b"null", RejectReason.NOT_AN_OBJECT),
    "no id": (line().replace(f'"id":"{ID}",', "").encode(), RejectReason.NO_ID),
    "empty id": (line("").encode(), RejectReason.NO_ID),
    "null id": (line().replace(f'"{ID}"', "null").encode(), RejectReason.NO_ID),
    "id no uuid": (line("nope").encode(), RejectReason.BAD_ID),
    "id too long": (line(ID + "0").encode(), RejectReason.BAD_ID),
    "id a number": (line().replace(f'"{ID}"', "5").encode(), RejectReason.BAD_FIELD),
    "no time": (line().replace(f'"timestamp":"{TIME}",', "").encode(), RejectReason.NO_TIME),
    "no zone": (line(time="2026-11-24T03:43:43").encode(), RejectReason.BAD_TIME),
    "no such day": (line(time="2026-02-30T03:43:43Z").encode(), RejectReason.BAD_TIME),
    "no such hour": (line(time="2026-02-20T24:00:00Z").encode(), RejectReason.BAD_TIME),
    "a leap second": (line(time="2016-12-31T23:59:60Z").encode(), RejectReason.BAD_TIME),
    "year zero": (line(time="0000-01-01T00:00:00Z").encode(), RejectReason.BAD_TIME),
    "before year one": (line(time="0001-01-01T00:00:00+01:00").encode(), RejectReason.BAD_TIME),
    "a unix time": (line(time="1795491825").encode(), RejectReason.BAD_TIME),
    "success a text": (line().replace("true", '"true"').encode(), RejectReason.BAD_FIELD),
    "duration a text": (
        line().replace('"duration_ms":1', '"duration_ms":"1"').encode(),
        RejectReason.BAD_FIELD,
    ),
    "half a millisecond": (
        line().replace('"duration_ms":1', '"duration_ms":1.5').encode(),
        RejectReason.BAD_FIELD,
    ),
    "tool a number": (line().replace('"echo"', "5").encode(), RejectReason.BAD_FIELD),
    "payload a text": (line(payload='"x"').encode(), RejectReason.BAD_FIELD),
    "notifications no list": (
        line(payload='{"jsonrpc_method":"x","notifications":{"a":1}}').encode(),
        RejectReason.BAD_FIELD,
    ),
    "headers a list": (
        line(payload='{"jsonrpc_method":"x","request_headers":[1]}').encode(),
        RejectReason.BAD_FIELD,
    ),
    "replayed from nowhere": (
        line(payload='{"jsonrpc_method":"x","replayed_from":"y"}').encode(),
        RejectReason.BAD_ID,
    ),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_rejected_with_its_place_and_the_rest_loads(
    bad: bytes, reason: RejectReason
) -> None:
    lab = load_bytes(b"\n" + bad + b"\n" + line(OTHER).encode() + b"\n")
    assert lab.events().ids() == [OTHER]
    (reject,) = lab.rejects().to_dict("records")
    assert (reject["line"], reject["reason"], reject["byte_offset"]) == (2, reason, 1)
    assert bytes(reject["raw"]) == bad
    assert reject["detail"]


@pytest.mark.parametrize("case", each_third(BAD.values()), ids=BAD.keys())
def test_strict_raises_on_the_first_bad_line_and_loads_nothing(
    case: tuple[bytes, RejectReason],
) -> None:
    bad, reason = case
    lab = Lab()
    with pytest.raises(RecordError, match="<stream>, line 2") as caught:
        lab.load(io.BytesIO(line(OTHER).encode() + b"\n" + bad + b"\n"), strict=True)
    assert caught.value.reason is reason
    assert lab.events().count() == 0
    assert lab.sources().empty


def test_a_torn_last_line_is_called_so() -> None:
    lab = load_bytes(f"{line(OTHER)}\n{line()[:60]}".encode())
    (reject,) = lab.rejects().to_dict("records")
    assert (reject["line"], reject["reason"]) == (2, "torn")
    assert bytes(reject["raw"]) == line()[:60].encode()


def test_the_raw_text_of_a_reject_is_kept_whatever_it_is() -> None:
    raw = bytes(range(1, 256)).replace(b"\n", b"")
    lab = load_bytes(raw + b"\n" + line().encode() + b"\n")
    (reject,) = lab.rejects().to_dict("records")
    assert bytes(reject["raw"]) == raw


@pytest.mark.parametrize("cut", [1, 8, 200])
def test_a_truncated_gzip_stops_the_load_and_changes_nothing(tmp_path: Path, cut: int) -> None:
    whole = gzip.compress("".join(line(ID[:-6] + f"{n:06x}") + "\n" for n in range(2000)).encode())
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(whole[:-cut])
    with Lab(tmp_path / "case.duckdb") as lab:
        with pytest.raises(SourceError, match="gzip"):
            lab.load(path)
        assert lab.events().count() == 0
        assert lab.sources().empty
        path.write_bytes(whole)
        assert lab.load(path).loaded == 2000


def test_damaged_compression_stops_the_load(tmp_path: Path) -> None:
    data = bytearray(gzip.compress((line() + "\n").encode() * 100))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged gzip"):
        Lab().load(path)


def test_a_file_that_unpacks_to_too_much_stops_the_load(tmp_path: Path) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = tmp_path / "bomb.jsonl.gz"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(compressor.compress(b" " * (1 << 20)))
        file.write(compressor.flush())
    lab = Lab()
    with pytest.raises(SourceError, match="unpacks to more than 33,554,432 bytes"):
        lab.load(path, max_unpacked_bytes=32 << 20)
    assert lab.load(path, max_unpacked_bytes=65 << 20).blank == 1


def test_a_file_that_changes_while_it_is_read_stops_the_load(tmp_path: Path) -> None:
    path = tmp_path / "live.jsonl"
    path.write_text(line() + "\n")
    opened = open_input(Input(str(path), path=path), max_unpacked_bytes=1, advance=lambda _: None)
    with opened:
        opened.read(10)
        with path.open("a") as writer:
            writer.write(line(OTHER) + "\n")
        with pytest.raises(SourceChanged, match="changed while it was read; nothing was loaded"):
            opened.finish()


def test_a_full_disk_stops_the_load_and_changes_nothing(tmp_path: Path) -> None:
    export = tmp_path / "events.jsonl"
    with export.open("w") as file:
        for number in range(40_000):
            parameters = f'{{"a":"{os.urandom(200).hex()}"}}'
            file.write(line(ID[:-6] + f"{number:06x}", parameters=parameters) + "\n")
    lab_file = tmp_path / "case.duckdb"
    with Lab(lab_file) as lab:
        lab.load(io.BytesIO(line(OTHER).encode()))
    program = f"""
import resource, signal
from mcpaudit_lab import Lab, LabError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lab = Lab({str(lab_file)!r})
# No file may grow beyond this, which is what a full disk looks like to a writer.
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    lab.load({str(export)!r})
except LabError as error:
    print("refused:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "refused: the lab could not be written, nothing was changed" in done.stdout, done.stderr
    with Lab(lab_file) as lab:
        assert lab.events().ids() == [OTHER]
        assert len(lab.sources()) == 1


def test_a_lab_in_use_by_another_process_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    Lab(path).close()
    program = (
        f"from mcpaudit_lab import Lab; lab = Lab({str(path)!r});"
        " print('open', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(LabInUse, match="open in another process"):
            Lab(path)
        holder.communicate(b"\n")
    Lab(path).close()


def test_a_lab_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with Lab(path) as lab:
        lab.connection.execute("update lab_meta set value = '999' where key = 'format'")
    with pytest.raises(LabVersionError, match="newer version"):
        Lab(path)


def test_a_file_that_is_no_lab_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(LabVersionError, match="is not a lab"):
        Lab(path)
    import duckdb

    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("create table mine (i integer)")
    with pytest.raises(LabVersionError, match="but not a lab"):
        Lab(foreign)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"cannot make the lab.*an existing, writable folder"):
        Lab(tmp_path / "missing" / "case.duckdb")


def test_a_lab_for_which_there_is_no_space_is_said_to_need_some(tmp_path: Path) -> None:
    code = (
        "import resource, signal\n"
        "from mcpaudit_lab import Lab, LabError\n"
        "import duckdb\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    Lab('case.duckdb')\nexcept LabError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.stdout.startswith("cannot make the lab 'case.duckdb': "), done.stderr
    assert done.stdout.endswith("with free space)\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing.jsonl", "missing/*.jsonl"])
def test_an_input_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"no such file|no file matches"):
        Lab().load(tmp_path / name)


def test_text_files_and_utf16_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.jsonl"
    path.write_text(line(), encoding="utf-16")
    with pytest.raises(SourceError, match="UTF-16"):
        Lab().load(path)
    path.write_text(line())
    with path.open() as file, pytest.raises(SourceError, match="binary mode"):
        Lab().load(file)
    with pytest.raises(TypeError, match="a path or an open file"):
        Lab().load([5])  # type: ignore[list-item]  # the mistake


def test_a_file_whose_name_is_not_utf_8_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_text(f"{line()}\nno event\n", encoding="utf-8")
    with Lab() as lab:
        report = lab.load(path)
        assert (report.loaded, report.rejected) == (1, 1)
        assert lab.load(path).duplicates == 1
        assert [Path(name).name for name in lab.sources()["name"]] == ["caf\ufffd.jsonl"]
        assert [Path(name).name for name in lab.rejects()["file"]] == ["caf\ufffd.jsonl"]
        with pytest.raises(SourceError):
            lab.provenance(ID)


def test_where_events_came_from_may_be_any_text() -> None:
    with Lab() as lab:
        event = Event.from_json(line())
        lab.add_events([event], kind="tail", name="a\ud800", request="b\ud800")
        assert lab.sources()[["name", "request"]].to_numpy().tolist() == [["a\ufffd", "b\ufffd"]]
