"""Other recorders' files, odd features included."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mcpaudit_lab.errors import SourceError
from mcpaudit_lab.formats import Bad, Found, Tally, choose, read_lines
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import dumps

SAMPLES = Path(__file__).parent / "data" / "formats"


class Read:
    """What a reader made of some bytes."""

    def __init__(self, data: bytes | str, format_name: str | None = None) -> None:
        self.data = data.encode() if isinstance(data, str) else data
        chosen = choose(self.data, whole=True, name=format_name)
        assert chosen is not None, "of no format"
        self.name = chosen.name
        self.tally = Tally()
        source = io.BytesIO(self.data)
        outcomes = list(chosen.read(read_lines(source.read, b"", self.tally), self.tally))
        self.found = [outcome for outcome in outcomes if isinstance(outcome, Found)]
        self.bad = [outcome for outcome in outcomes if isinstance(outcome, Bad)] + self.tally.bad
        t = self.tally
        assert t.lines == len(self.found) + len(self.bad) + t.blank + t.other + t.parts
        assert len({one.event.id for one in self.found}) <= len(self.found)
        for one in self.found:
            # What is found is a record that can be written and read again.
            assert Event.from_json(one.event.to_json()) == one.event
            assert chosen.reader.name in (one.event.source, "portal")

    @property
    def events(self) -> list[Event]:
        return [one.event for one in self.found]

    @property
    def only(self) -> Event:
        (event,) = self.events
        return event

    def texts(self, number: int = 0) -> list[bytes]:
        """The bytes at the places of an event."""
        return [self.data[p.offset : p.offset + p.size] for p in self.found[number].places]


def lines(*values: Any) -> str:
    return "".join((v if isinstance(v, str) else dumps(v)) + "\n" for v in values)


def payload(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = event.wire["payload"]
    return found


# What logs put around a line

FORMATS = ["mcpsnoop.jsonl", "mcpproxy-activity.jsonl", "otlp-traces.json", "mcp-vcr.yaml"]


def docker(texts: list[str]) -> str:
    when = "2026-11-24T04:00:00Z"
    logs = ["booting", *texts, "{}"]
    return lines(*({"log": f"{t}\n", "stream": "stdout", "time": when} for t in logs))


def cri(texts: list[str]) -> str:
    when = "2026-11-24T04:00:00.1+00:00"
    halves = []
    for text in texts:
        half = len(text) // 2
        halves += [f"{when} stdout P {text[:half]}", f"{when} stderr F noise"]
        halves.append(f"{when} stdout F {text[half:]}")
    return lines(*halves)


def journald(texts: list[str]) -> str:
    return lines(
        *(
            {"__REALTIME_TIMESTAMP": "1", "MESSAGE": list(t.encode()) if n % 2 else t}
            for n, t in enumerate(texts)
        )
    )


def sequence(texts: list[str]) -> str:
    return "".join(f"\x1e{text}\n" for text in texts)


def stream(texts: list[str]) -> str:
    frames = (f"id: {n}\r\nevent: audit\r\ndata: {t}\r\n\r\n" for n, t in enumerate(texts))
    return ": connected\r\n\r\n" + "".join(frames)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("wrap", [docker, cri, journald, sequence, stream])
def test_every_format_reads_the_same_out_of_every_log(name: str, wrap: Any) -> None:
    text = (SAMPLES / name).read_text()
    plain = Read(text)
    if wrap is docker and name.endswith("yaml"):
        # The last line of the log would be a part of the document.
        text = text.rstrip() + "\n# {}"
    if wrap is sequence and name.endswith("yaml"):
        texts = [text.rstrip("\n")]
    else:
        texts = text.rstrip("\n").split("\n")
    if wrap is cri and name.endswith("yaml"):
        return
    wrapped = Read(
        wrap(texts) if wrap is not docker or not name.endswith("yaml") else _docker(texts)
    )
    assert wrapped.name.endswith(f">{plain.name}")
    assert [e.to_json() for e in wrapped.events] == [e.to_json() for e in plain.events]
    assert not wrapped.bad


def _docker(texts: list[str]) -> str:
    logs = ["booting", *texts]
    return lines(*({"log": f"{t}\n", "stream": "stdout", "time": "t"} for t in logs))


def test_docker_joins_a_long_line_per_stream() -> None:
    text = (SAMPLES / "mcpproxy-activity.jsonl").read_text().split("\n")[0]
    parts = [text[:100], text[100:200], text[200:] + "\n"]
    log: list[dict[str, Any]] = []
    for part in parts:
        log.append({"log": part, "stream": "stdout", "time": "t"})
        log.append({"log": "x\n", "stream": "stderr", "time": "t"})
    read = Read(lines(*log))
    assert read.only.tool_name == "read_file"
    assert [place.line for place in read.found[0].places] == [1, 3, 5]
    assert (read.tally.parts, read.tally.other) == (2, 3)


def test_a_torn_line_of_a_log_is_bad_and_none_is_lost() -> None:
    whole = docker((SAMPLES / "mcpproxy-activity.jsonl").read_text().split("\n")[:1])
    read = Read(whole + '{"log":"{\\"id\\"')
    assert len(read.events) == 1
    assert [one.reason for one in read.bad] == ["not_json"]
    cut = Read(cri(["{}"]) + '2026-11-24T04:00:00Z stdout F {"id":\n', "portal")
    assert [one.reason for one in cut.bad] == ["not_json"]


def test_frames_of_several_data_lines_and_torn_ones() -> None:
    (event, *_) = (SAMPLES / "docker-json.log").read_text().split("\n")
    text = json.loads(event)["log"].strip()
    half = text.index(",") + 1
    read = Read(
        f"retry: 5\n\ndata:{text[:half]}\ndata: {text[half:]}\nid: 9\n\ndata: {text[:40]}\n"
    )
    assert read.only.tool_name == "sized_response"
    assert [place.line for place in read.found[0].places] == [3, 4, 5]
    assert [one.reason for one in read.bad] == ["not_json"]


def test_a_sequence_may_break_its_records_over_lines() -> None:
    record = json.loads((SAMPLES / "otlp-traces.json").read_text())
    read = Read(
        f"\x1e{json.dumps(record, indent=1)}\n\x1e\n\x1e{dumps(record)}\x1e{dumps(record)}\n"
    )
    assert read.name == "json-seq>otel"
    assert len(read.events) == 6


# mcpsnoop


def frame(seq: int, direction: str, raw: Any = None, **more: Any) -> dict[str, Any]:
    found = {
        "session_id": "s-1",
        "server_label": "w",
        "seq": seq,
        "ts": f"2026-11-20T10:00:{seq:02d}.123456789Z",
        "direction": direction,
        "transport": "http",
    }
    return {**found, **({} if raw is None else {"raw": raw}), **more}


def asked(id_: Any, **arguments: Any) -> dict[str, Any]:
    params = {"name": "t", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}


def replied(id_: Any, text: str = "ok") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "result": {"content": [{"type": "text", "text": text}]}}


def test_the_sample_of_mcpsnoop_is_two_calls() -> None:
    read = Read((SAMPLES / "mcpsnoop.jsonl").read_bytes())
    good, failed = read.events
    assert (good.tool_name, good.success, good.duration_ms) == ("forecast", True, 55)
    assert good.wire["timestamp"] == "2026-11-20T10:00:03.000Z"
    assert good.parameters == {"city": "Oslo"}
    assert good.transport == "stdio"
    assert payload(good)["response_result"] == {
        "content": [{"type": "text", "text": "Oslo: rain"}],
        "isError": False,
    }
    assert [n["method"] for n in payload(good)["notifications"]] == ["notifications/progress"]
    assert "request_size_bytes" not in payload(good)
    assert "user_subject" not in good.wire
    assert (failed.success, failed.error_category) == (False, "tool")
    assert good.extra["command"] == ["python", "weather.py"]
    assert good.extra["client_info"] == {"name": "probe", "version": "1.2"}
    assert good.extra["server_name"] == "weather"
    assert good.extra["protocol_version"] == "2025-06-18"
    assert [place.line for place in read.found[0].places] == [7, 8, 9]
    assert all(text.startswith(b"{") and text.endswith(b"}") for text in read.texts())
    assert (read.tally.parts, read.tally.other) == (3, 7)


def test_missing_frames_are_reported_and_late_ones_are_not_missing() -> None:
    frames = [frame(seq, "stderr", text="x") for seq in (2, 5, 4, 9)]
    read = Read(lines(*frames))
    assert read.tally.notes == ["session s-1: 5 frames are missing"]


def test_connections_share_ids_and_answers_stay_apart() -> None:
    read = Read(
        lines(
            frame(1, "c2s", asked(1, who="a"), conn_id="A"),
            frame(2, "c2s", asked(1, who="b"), conn_id="B"),
            frame(3, "s2c", replied(1, "b"), conn_id="B", status=200),
            frame(4, "s2c", replied(1, "a"), conn_id="A"),
        )
    )
    told = {
        str(e.parameters): payload(e)["response_result"]["content"][0]["text"] for e in read.events
    }
    assert told == {"{'who': 'b'}": "b", "{'who': 'a'}": "a"}
    assert read.events[0].extra["http_status"] == 200
    assert read.events[0].extra["connection"] == "B"


def test_what_the_recorder_cut_off_is_marked_and_no_answer_is_made_up() -> None:
    long = dumps(asked(7, text="y" * 50))
    read = Read(
        lines(
            frame(1, "c2s", text=long[:90], truncated=True),
            frame(2, "s2c", text=dumps(replied(7, "z" * 50))[:60], truncated=True),
            frame(3, "s2c", text="not json at all"),
        )
    )
    event = read.only
    assert (event.tool_name, event.success, event.duration_ms) == ("t", True, 1000)
    assert payload(event)["request_truncated"] is True
    assert payload(event)["response_truncated"] is True
    assert "response_result" not in payload(event)
    assert read.tally.other == 1


def test_bad_frames_are_rejected_and_the_rest_is_read() -> None:
    read = Read(
        lines(
            frame(1, "c2s", asked(1)),
            "{broken",
            "[]",
            {**frame(2, "c2s", asked(2)), "ts": "yesterday"},
            {"hello": 1},
            "",
            frame(3, "s2c", replied(1)),
        )
    )
    assert len(read.events) == 1
    reasons = [str(one.reason) for one in read.bad]
    assert reasons == ["not_json", "not_an_object", "bad_time", "bad_field"]
    assert read.tally.blank == 1


def test_a_batch_counts_each_of_its_messages() -> None:
    read = Read(
        lines(
            frame(1, "c2s", [asked(1), asked(2)], batch=True),
            frame(2, "s2c", [replied(2), replied(1)], batch=True),
        )
    )
    assert len({event.id for event in read.events}) == 2
    assert (read.tally.lines, read.tally.parts) == (4, 2)
    assert {tuple(place.line for place in one.places) for one in read.found} == {(1, 2)}


def export() -> dict[str, Any]:
    call = {
        "index": 0,
        "id": "2",
        "method": "tools/call",
        "direction": "c2s",
        "state": "completed",
        "status": "ok",
        "is_tool": True,
        "tool_name": "forecast",
        "is_error": False,
        "started_at": "2026-11-20T10:00:03Z",
        "ended_at": "2026-11-20T10:00:03.055Z",
        "duration_ms": 55.0,
        "params": {"name": "forecast", "arguments": {"city": "Oslo"}},
        "result": {"content": [{"type": "text", "text": "Oslo: rain"}]},
    }  # fmt: skip - one member a line would be a page
    error = {"code": -32000, "message": "gone"}
    failed = {**call, "index": 1, "error": error}
    del failed["result"]
    pending = {**call, "index": 2, "state": "pending"}
    del pending["result"], pending["ended_at"]
    other = {**call, "index": 3, "method": "tools/list", "is_tool": False}
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    events = [
        {"seq": 7, "timestamp": "2026-11-20T10:00:03Z", "direction": "c2s", "call_index": 0},
        {
            "seq": 8,
            "timestamp": "2026-11-20T10:00:03.02Z",
            "direction": "s2c",
            "call_index": 0,
            "raw": progress,
        },
        {"seq": 9, "timestamp": "2026-11-20T10:00:04Z", "direction": "stderr", "text": "x"},
    ]  # fmt: skip - as above
    return {
        "generated_at": "2026-11-20T11:00:00Z",
        "session": {"id": "s-1", "label": "w", "transport": "stdio", "missing_frames": 2},
        "capabilities": {"protocol_version": "2025-06-18", "server_info": {"name": "weather"}},
        "calls": [call, failed, pending, other],
        "events": events,
    }


@pytest.mark.parametrize("indent", [None, 2])
def test_the_export_of_mcpsnoop_is_its_calls(indent: int | None) -> None:
    read = Read(json.dumps(export(), indent=indent, ensure_ascii=False).replace("rain", "röin"))
    good, failed, pending = read.events
    assert (good.tool_name, good.duration_ms, good.success, good.transport) == (
        "forecast",
        55,
        True,
        "stdio",
    )
    assert good.extra["server_name"] == "weather"
    assert [n["params"] for n in payload(good)["notifications"]] == [{"progress": 1}]
    assert (failed.error_category, failed.error_message) == ("handler", "gone")
    assert payload(failed)["response_error"]["code"] == -32000
    assert (pending.success, pending.error_message) == (False, "no answer was recorded")
    assert read.tally.notes == ["session s-1: 2 frames are missing"]
    assert (read.tally.lines, read.tally.parts, read.tally.other) == (7, 2, 2)
    assert json.loads(read.texts(1)[0])["error"]["message"] == "gone"
    assert len({event.id for event in read.events}) == 3


def test_an_export_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(SourceError, match="cut off"):
        Read(json.dumps(export(), indent=1)[:-400])


# mcpproxy-go


def activity(**more: Any) -> dict[str, Any]:
    found = {
        "id": "01JD0000000000000000000001",
        "type": "tool_call",
        "source": "mcp",
        "server_name": "files",
        "tool_name": "read_file",
        "status": "success",
        "timestamp": "2026-11-21T08:00:01.123456789+01:00",
        "session_id": "s-77",
        "request_id": "r-1",
    }  # fmt: skip - one member a line would be a page
    return {**found, **more}


def test_the_sample_of_mcpproxy_is_three_calls_and_a_decision() -> None:
    good, failed, cut = Read((SAMPLES / "mcpproxy-activity.jsonl").read_bytes()).events
    assert good.wire["timestamp"] == "2026-11-21T08:00:01.123456789Z"
    assert payload(good)["response_result"] == {"content": [{"type": "text", "text": "file 1"}]}
    assert (payload(good)["request_size_bytes"], payload(good)["response_size_bytes"]) == (24, 50)
    assert (good.extra["server_name"], good.extra["origin"]) == ("files", "mcp")
    assert good.extra["native_id"] == "01JD0000000000000000000001"
    assert (failed.success, failed.error_category, failed.error_message) == (
        False,
        "handler",
        "no such file",
    )
    assert payload(cut)["response_truncated"] is True
    assert payload(cut)["response_result"] == '{"content":[{"type":"text","text":"cut'


@pytest.mark.parametrize("later", [False, True])
def test_a_mirror_and_a_decision_belong_to_the_call_of_their_request(later: bool) -> None:
    call = activity(user_id="u", user_email="u@x", work_session_id="w", parent_id="p")
    mirror = activity(id="M", type="internal_tool_call", tool_name="call_tool_read")
    decision = activity(id="D", type="policy_decision", status="allowed", metadata={"reason": "ok"})
    rows = [decision, mirror, call]
    read = Read(lines(*(rows[::-1] if later else rows)))
    event = read.only
    assert event.tool_name == "read_file"
    assert (event.user_subject, event.user_email) == ("u", "u@x")
    assert (event.extra["work_session_id"], event.extra["parent_id"]) == ("w", "p")
    assert event.extra["policy_decisions"][0]["metadata"] == {"reason": "ok"}
    assert (read.tally.parts, read.tally.other) == (1, 1)
    assert sorted(place.line for place in read.found[0].places) == [1, 2, 3]


def test_internal_calls_are_calls_and_a_lone_mirror_is_one_too() -> None:
    read = Read(
        lines(
            activity(id="A", type="internal_tool_call", tool_name="retrieve_tools", server_name=""),
            activity(id="B", type="internal_tool_call", tool_name="call_tool_read", request_id="x"),
            activity(id="C", type="system_start", tool_name=""),
            activity(id="D", type="something_new"),
        )
    )
    assert [event.tool_name for event in read.events] == ["retrieve_tools", "call_tool_read"]
    assert read.tally.other == 2


@pytest.mark.parametrize("status", ["blocked", "rejected"])
def test_a_call_that_was_stopped_never_ran(status: str) -> None:
    event = Read(lines(activity(status=status, metadata={"reason": "quarantined"}))).only
    assert (event.success, event.extra["ran"], event.extra["status"]) == (False, False, status)
    assert (event.error_category, event.error_message) == ("handler", "quarantined")


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        ("plain", "plain"),
        ("42", "42"),
        ('{"a":1.10,"b":9007199254740993,"c":1e400}', '{"a":1.10,"b":9007199254740993,"c":1e400}'),
        ("{not json", "{not json"),
        ("[1]", "[1]"),
    ],
)
def test_a_response_keeps_its_value(response: str, kept: str) -> None:
    value = payload(Read(lines(activity(response=response))).only)["response_result"]
    assert (value if isinstance(value, str) else dumps(value)) == kept


def test_a_tool_that_failed_is_the_tools_error() -> None:
    response = '{"isError":true,"content":[]}'
    event = Read(lines(activity(response=response, status="error", error_message="x"))).only
    assert (event.success, event.error_category) == (False, "tool")


def test_a_csv_with_quotes_and_line_breaks_and_other_columns_is_read() -> None:
    head = (
        "id,type,source,server_name,tool_name,status,error_message,duration_ms,timestamp,"
        "session_id,request_id,response_truncated,parent_id"
    )
    when = "2026-11-21T08:00:01Z"
    text = (
        f"{head}\r\n"
        f'A,tool_call,mcp,files,read,error,"a, ""b""\r\nc",12,{when},s,r,true,P\r\n'
        f"B,config_change,api,,,success,,,{when},,,false,\r\n"
        f"C,tool_call,mcp,files,read,success,,many,{when},s,q,false,\r\n"
        f"D,tool_call,mcp\r\n\r\n"
    )
    read = Read(text)
    event = read.only
    assert event.error_message == 'a, "b"\nc'
    assert (event.duration_ms, event.extra["parent_id"]) == (12, "P")
    assert payload(event)["response_truncated"] is True
    assert "arguments" not in event.wire
    assert [place.line for place in read.found[0].places] == [2, 3]
    assert [str(one.reason) for one in read.bad] == ["not_json", "bad_field"]
    assert (read.tally.other, read.tally.blank, read.tally.parts) == (2, 1, 1)


# mcp-vcr


def transcript(*messages: str, meta: str = "") -> str:
    return (
        'meta:\n  version: 1\n  recorded_at: "2026-11-22T09:00:00.5Z"\n  session_id: "a3"\n'
        f'  server_command: ["python", "w.py"]\n{meta}\nmessages:\n' + "".join(messages)
    )


def entry(t: Any, way: str, text: str) -> str:
    return f"  - t: {t}\n    dir: {way}\n    payload: {text}\n"


def arguments_of(text: str) -> str:
    call = f'{{"id":1,"method":"tools/call","params":{{"name":"t","arguments":{text}}}}}'
    return dumps(Read(transcript(entry(0, "c2s", call))).only.parameters)


@pytest.mark.parametrize(
    ("yaml", "json_text"),
    [
        ("{a: NO, b: yes, c: on}", '{"a":"NO","b":"yes","c":"on"}'),
        (
            "{a: 2026-01-01, b: 12:30:45, c: 0x10, d: 0o7, e: 007}",
            '{"a":"2026-01-01","b":"12:30:45","c":"0x10","d":"0o7","e":"007"}',
        ),
        (
            "{a: 1.10, b: 9007199254740993, c: 1e400, d: -0, e: 1.0e+20}",
            '{"a":1.10,"b":9007199254740993,"c":1e400,"d":-0,"e":1.0e+20}',
        ),
        (
            "{a: '1.10', b: \"NO\", c: 'null', d: \"true\"}",
            '{"a":"1.10","b":"NO","c":"null","d":"true"}',
        ),
        ("{a: null, b: ~, c: true, d: False}", '{"a":null,"b":null,"c":true,"d":false}'),
        ('{"a":"\\ud83d\\ude00 \\/ \\u00e9 \\x41 \\0"}', '{"a":"😀 / é A \\u0000"}'),
        ("{1: a, NO: b, null: c}", '{"1":"a","NO":"b","null":"c"}'),
        ("{a: !!str 5, b: !!int 5, c: .inf, d: 1_000}", '{"a":"5","b":5,"c":".inf","d":"1_000"}'),
        ("{a: &x [1, 2], b: *x}", '{"a":[1,2],"b":[1,2]}'),
    ],
)  # fmt: skip - a pair a line
def test_values_of_yaml_come_out_as_they_were_recorded(yaml: str, json_text: str) -> None:
    assert arguments_of(yaml) == json_text


def test_the_sample_of_mcp_vcr_is_one_call() -> None:
    event = Read((SAMPLES / "mcp-vcr.yaml").read_bytes()).only
    assert (event.tool_name, event.duration_ms, event.session_id) == ("forecast", 47, "a3f2b1c9")
    assert event.wire["timestamp"] == "2026-11-22T09:00:00.5Z"
    assert event.extra["command"] == ["python", "weather.py"]
    assert event.extra["client_hint"] == "probe"
    assert event.extra["protocol_version"] == "2025-06-18"


def test_block_style_and_folded_texts_and_bad_entries() -> None:
    block = (
        "  - t: 3.5\n    dir: c2s\n    payload:\n      id: x\n      method: tools/call\n"
        "      params:\n        name: t\n        arguments:\n          text: |\n            a\n"
        "            b\n          more: >-\n            c\n            d\n"
    )
    read = Read(
        transcript(
            block,
            entry(9, "sideways", "{}"),
            "  - 5\n",
            entry("soon", "c2s", "{}"),
            entry(10, "s2c", '{"id":"x","error":{"code":-1,"message":"no"}}'),
            meta="  incomplete: true\n  incomplete_reason: timeout",
        )
    )
    event = read.only
    assert event.parameters == {"text": "a\nb\n", "more": "c d"}
    assert (event.duration_ms, event.error_message) == (6, "no")
    assert event.extra["incomplete_reason"] == "timeout"
    assert [str(one.reason) for one in read.bad] == ["bad_field", "not_an_object", "bad_time"]
    assert read.texts()[0].startswith(b"t: 3.5")


@pytest.mark.parametrize(
    "text",
    [
        transcript("  - [unclosed\n"),
        'meta:\n  session_id: "a"\nmessages: []\n',
        'meta:\n  recorded_at: "yesterday"\nmessages: []\n',
        'meta:\n  recorded_at: "2026-11-22T09:00:00Z"\nmessages: {}\n',
        transcript(entry(0, "c2s", "{? [a] : b}")),
    ],
)
def test_what_is_no_transcript_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(SourceError):
        Read(text, "mcp-vcr")


def test_aliases_that_blow_up_are_refused() -> None:
    layers = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "{" + ", ".join(layers) + "}"
    with pytest.raises(SourceError, match="values"):
        Read(transcript(entry(0, "c2s", bomb)))


@pytest.mark.soak
def test_a_deep_payload_does_not_break_the_reader() -> None:
    text = "[" * 3000 + "]" * 3000
    assert arguments_of(f'{{"a":{text}}}') == f'{{"a":{text}}}'


# OpenTelemetry


def attribute(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value if isinstance(value, dict) else {"stringValue": value}}


def span(*attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {
        "traceId": "4BF92F3577B34DA6A3CE929D0E0E4736",
        "spanId": "00F067AA0BA90001",
        "name": "tools/call forecast",
        "kind": 3,
        "startTimeUnixNano": "1795860001000000001",
        "endTimeUnixNano": "1795860001025000000",
        "attributes": [attribute("mcp.method.name", "tools/call"), *attributes],
    }  # fmt: skip - one member a line would be a page
    return {**found, **more}


def otlp(*spans: dict[str, Any], resource: Any = None) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": resource or {}, "scopeSpans": [{"spans": list(spans)}]}]}


def test_the_sample_of_otlp_is_two_calls() -> None:
    good, failed = Read((SAMPLES / "otlp-traces.json").read_bytes()).events
    assert (good.tool_name, good.duration_ms, good.transport) == ("forecast", 25, "http")
    assert (good.session_id, good.request_id, good.parameters) == ("sess-9", "1", {"city": "Oslo"})
    assert good.extra["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (good.extra["span_kind"], good.extra["server_name"]) == ("server", "weather")
    assert (failed.success, failed.error_category) == (False, "tool")


def test_structured_values_and_numbers_keep_their_kinds() -> None:
    value = {
        "kvlistValue": {
            "values": [
                attribute("big", {"intValue": "9007199254740993"}),
                attribute("list", {"arrayValue": {"values": [{"boolValue": True}, {}]}}),
                attribute("double", {"doubleValue": 1.5}),
                attribute("text", "1.10"),
            ]
        }
    }
    read = Read(lines(otlp(span(attribute("gen_ai.tool.call.arguments", value)))))
    assert (
        dumps(read.only.parameters)
        == '{"big":9007199254740993,"list":[true,null],"double":1.5,"text":"1.10"}'
    )
    text = '{"a":1.10,"b":9007199254740993}'
    exact = Read(lines(otlp(span(attribute("gen_ai.tool.call.arguments", text)))))
    assert dumps(exact.only.parameters) == text


def test_a_json_rpc_error_has_its_code_and_a_span_without_one_its_message() -> None:
    coded = span(attribute("error.type", "-32602"), status={"code": 2, "message": "bad"})
    plain = span(spanId="00f067aa0ba90002", status={"code": "STATUS_CODE_ERROR"})
    first, second = Read(lines(otlp(coded, plain))).events
    assert payload(first)["response_error"] == {
        "category": "handler",
        "message": "bad",
        "code": -32602,
    }
    assert (second.success, second.error_category) == (False, "handler")


def test_both_sides_of_a_call_are_two_events_with_one_trace() -> None:
    client = span(attribute("server.address", "h"), attribute("network.transport", "pipe"))
    server = span(attribute("client.address", "10.0.0.1"), kind=2, spanId="00f067aa0ba90002")
    one, two = Read(lines(otlp(client), otlp(server), {"resourceMetrics": []})).events
    assert one.extra["trace_id"] == two.extra["trace_id"]
    assert one.id != two.id
    assert (one.transport, one.remote_addr, two.remote_addr) == ("stdio", "", "10.0.0.1")
    assert one.extra["server_address"] == "h"
    assert one.wire["timestamp"] == "2026-11-28T10:00:01.000000001Z"


@pytest.mark.parametrize("indent", [None, 1])
def test_a_document_of_spans_leads_back_to_each(indent: int | None) -> None:
    other = {**span(spanId="3"), "attributes": []}
    bad = span(spanId="4", startTimeUnixNano="0")
    read = Read(json.dumps(otlp(span(), span(spanId="2"), other, bad), indent=indent))
    assert len(read.events) == 2
    assert [str(one.reason) for one in read.bad] == ["no_time"]
    assert (read.tally.lines, read.tally.other) == (4, 1)
    if indent:
        assert json.loads(read.texts(1)[0])["spanId"] == "2"


# Which it is


@pytest.mark.parametrize(
    "data",
    [
        b"# a readme\n",
        b"a,b,c\n1,2,3\n",
        b'{"hello": 1}\n',
        b"[1]\n",
        b"key: value\n",
        b"\x00\x01",
        b"[section]\na=1\n",
    ],
)  # fmt: skip - one line
def test_what_is_of_no_format_is_not_guessed(data: bytes) -> None:
    assert choose(data, whole=True) is None


def test_a_name_says_it_outright_and_a_wrong_one_lists_the_choices() -> None:
    assert Read(lines({"hello": 1}), "mcpsnoop").bad
    with pytest.raises(SourceError, match="mcpsnoop, mcpproxy, mcp-vcr, otel"):
        choose(b"", whole=True, name="nonsense")
