"""Bytes that pass a recorder, and the messages that are read in them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.recorder.decoders import BodyDecoder, Decoder, LineDecoder, Piece, SseDecoder
from mcpaudit_lab.recorder.large_messages import LargeMessageParser, Sizes

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS.filter(lambda v: v not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
IDS = st.integers() | st.text(max_size=5)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image"]), "text": st.text()}, optional={"data": VALUES}
)
ANSWERS = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "id": IDS,
        "result": st.fixed_dictionaries(
            {"content": st.lists(BLOCKS, max_size=4)},
            optional={"isError": st.booleans(), "structuredContent": VALUES},
        ),
    }
)
CALLS = st.fixed_dictionaries(
    {
        "id": IDS,
        "method": st.just("tools/call"),
        "params": st.fixed_dictionaries({"name": st.text(), "arguments": VALUES}),
    }
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def read(reader: Decoder, chunks: list[bytes]) -> list[Piece]:
    return [*(piece for chunk in chunks for piece in reader.feed(chunk)), *reader.end()]


def messages(pieces: list[Piece]) -> list[Any]:
    return [item.message for piece in pieces for item in piece.messages]


LINES = st.lists(
    VALUES.map(lambda v: json.dumps(v).encode())
    | CALLS.map(lambda v: json.dumps(v, ensure_ascii=False).encode())
    | st.binary().map(lambda b: b.replace(b"\n", b"")),
    max_size=6,
)


@given(LINES, st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from([1, 20, 1 << 20]))
def test_lines_in_any_chunks_come_out_byte_for_byte(
    lines: list[bytes], places: list[int], held: int
) -> None:
    data = b"\n".join(lines)
    pieces = read(LineDecoder(held), cut(data, places))
    assert b"".join(piece.data for piece in pieces) == data


@given(st.lists(CALLS | ANSWERS, max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_lines_in_any_chunks_give_their_messages(sent: list[Any], places: list[int]) -> None:
    data = b"".join(json.dumps(item).encode() + b"\n" for item in sent)
    found = messages(read(LineDecoder(), cut(data, places)))
    assert list(map(json.dumps, found)) == list(map(json.dumps, sent))


@given(st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from([5, 1 << 20]))
def test_a_body_and_events_come_out_byte_for_byte(places: list[int], held: int) -> None:
    body = json.dumps([{"id": 1, "result": {}}, {"id": 2, "result": {}}]).encode()
    pieces = read(BodyDecoder(held), cut(body, places))
    assert b"".join(piece.data for piece in pieces) == body
    assert [item["id"] for item in messages(pieces)] == [1, 2]
    events = (
        b": connected\r\n\r\nid: 1\r\nevent: message\r\ndata: " + body + b"\r\n\r\n"
        b'data: {"id":3,\ndata: "result":{}}\n\nretry: 5\n\ndata: torn'
    )
    pieces = read(SseDecoder(held), cut(events, places))
    assert b"".join(piece.data for piece in pieces) == events
    assert [item["id"] for item in messages(pieces)] == [1, 2, 3]


@given(ANSWERS, st.booleans(), st.lists(st.integers(0, 10_000), max_size=8))
def test_of_a_long_answer_id_outcome_and_sizes_are_read(
    answer: dict[str, Any], ascii_only: bool, places: list[int]
) -> None:
    raw = json.dumps(answer, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    skim = LargeMessageParser()
    found = [item for chunk in cut(raw, places) for item in skim.feed(chunk)]
    assert skim.ended
    (item,) = found
    result = answer["result"]
    assert item.message["id"] == answer["id"]
    assert item.message["result"].get("isError") == result.get("isError")
    texts = [block["text"] for block in result["content"] if block["type"] == "text"]
    size = len(json.dumps(result, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))
    assert item.sizes == Sizes(
        0,
        size,
        sum(len(text.encode("utf-8", "surrogatepass")) for text in texts),
        len(result["content"]),
    )


@pytest.mark.parametrize(
    "text", ["\U00010000", "\\ud800", "\ud800", "\ud800\ud800\udc00", "\\\\u0041"]
)
def test_texts_are_counted_wherever_their_escapes_are_cut(text: str) -> None:
    block = {"type": "text", "text": f"a{text}b{text}"}
    raw = json.dumps({"id": 1, "result": {"content": [block]}}).encode()
    for place in range(len(raw)):
        skim = LargeMessageParser()
        (item,) = [*skim.feed(raw[:place]), *skim.feed(raw[place:])]
        read_back = json.loads(raw)["result"]["content"][0]["text"]
        assert item.sizes.response_chars == len(read_back.encode("utf-8", "surrogatepass"))


@given(CALLS, st.lists(st.integers(0, 10_000), max_size=8))
def test_of_a_long_call_name_id_and_size_are_read(call: dict[str, Any], places: list[int]) -> None:
    raw = json.dumps([call, call]).encode()
    skim = LargeMessageParser()
    first, second = [item for chunk in cut(raw, places) for item in skim.feed(chunk)]
    assert first == second
    assert first.message["id"] == call["id"]
    assert first.message["params"]["name"] == call["params"]["name"]
    assert first.sizes.request_bytes == len(json.dumps(call["params"]["arguments"]))


@pytest.mark.parametrize(
    "text", [b"{]", b'{"id"', b"nothing", b'{"id":1x}', b'{"a":"\\uZZZZ"     }']
)
def test_what_is_no_json_gives_no_message(text: bytes) -> None:
    assert LargeMessageParser().feed(text) == []


def test_a_call_split_by_escapes_is_found() -> None:
    line = b'{"id":1,"method":"tools\\u002fcall","params":{"name":"x"}}\n'
    assert messages(read(LineDecoder(), [line]))[0]["method"] == "tools/call"


def test_what_is_no_json_passes_without_waiting_for_its_line_to_end() -> None:
    reader = LineDecoder()
    assert [piece.data for piece in reader.feed(b"Password: ")] == [b"Password: "]
    assert [piece.data for piece in reader.feed(b"{}\n")] == [b"{}\n"]


def test_json_without_a_newline_passes_when_it_is_complete() -> None:
    reader = LineDecoder()
    assert reader.feed(b'Content-Length: 17\r\n\r\n{"id":1,')[-1].data == b"\r\n"
    (piece,) = reader.feed(b'"result":{}}')
    assert piece.data == b'{"id":1,"result":{}}'
    assert piece.messages[0].message == {"id": 1, "result": {}}


def test_a_long_line_is_never_held_whole() -> None:
    reader = LineDecoder(max_buffered_bytes=1000)
    start = b'{"id":1,"result":{"content":[{"type":"text","text":"'
    reader.feed(start)
    held = len(start)
    for _ in range(100):
        held += 500 - sum(len(piece.data) for piece in reader.feed(b"x" * 500))
        assert held <= 1500
    (piece,) = reader.feed(b'"}]}}\n')
    assert piece.messages[0].sizes is not None
    assert piece.messages[0].sizes.response_chars == 50_000
