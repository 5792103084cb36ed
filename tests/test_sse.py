"""Framing: whatever pieces the bytes come in, the frames are the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import UPSTREAM

from mcpaudit_lab.portal.stream.sse import Comment, Frame, FrameReader

ENDS = st.sampled_from(["\n", "\r", "\r\n"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)


def read(*chunks: bytes) -> list[Frame | Comment]:
    reader = FrameReader()
    return [item for chunk in chunks for item in reader.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[first:last] for first, last in pairwise(edges)]


# A small parser that does the standard's algorithm, line by line, on the whole text.
def by_the_standard(text: str) -> list[Frame | Comment]:
    found: list[Frame | Comment] = []
    event, data, last_id, retry = "", list[str](), None, None
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data or last_id is not None or retry is not None:
                whole = "\n".join(data) if data else None
                found.append(Frame(event or "message", whole, last_id, retry))
            event, data, last_id, retry = "", [], None, None
        elif line.startswith(":"):
            found.append(Comment(value))
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            retry = int(value)
    return found


@st.composite
def streams(draw: st.DrawFn) -> str:
    line = st.one_of(
        st.tuples(
            st.sampled_from(["data", "event", "id", "retry", "", "other", "data ", "\ufeffdata"]),
            st.sampled_from([":", ": ", ":  ", ""]),
            st.one_of(TEXT, st.sampled_from(["", "5000", "audit", "7", "a\0b", "²"])),
        ).map("".join),
        st.just(""),
    )
    parts = [item for _ in range(draw(st.integers(0, 12))) for item in (draw(line), draw(ENDS))]
    return draw(st.sampled_from(["", "\ufeff"])) + "".join(parts)


@given(streams(), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_chunking_gives_what_the_standard_says(text: str, places: list[int]) -> None:
    data = text.encode()
    assert read(*cut(data, places)) == by_the_standard(text)
    assert read(*(data[n : n + 1] for n in range(len(data)))) == by_the_standard(text)


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_bytes_in_any_chunking_give_the_same(data: bytes, places: list[int]) -> None:
    assert read(*cut(data, places)) == read(data)


def test_the_recorded_stream_is_read_whole() -> None:
    raw = (UPSTREAM / "stream" / "stream.http").read_bytes().partition(b"\r\n\r\n")[2]
    items = read(raw)
    assert items[0] == Comment("connected")
    frames = [item for item in items if isinstance(item, Frame)]
    assert {frame.event for frame in frames} == {"audit"}
    assert [frame.data for frame in frames] == [
        part.partition(b"data: ")[2].decode() for part in raw.split(b"\n\n") if b"data: " in part
    ]


@pytest.mark.parametrize("torn", [b"data: x\n", b"data: x", b"data: x\nid: 1\n", b"data: x\r"])
def test_a_torn_last_frame_is_no_frame(torn: bytes) -> None:
    assert read(b"data: whole\n\n" + torn) == [Frame("message", "whole")]


def test_a_comment_comes_when_its_line_ends_and_not_with_its_frame() -> None:
    reader = FrameReader()
    assert reader.feed(b"data: x\n: keepalive\n") == [Comment("keepalive")]
    assert reader.feed(b"\n") == [Frame("message", "x")]


def test_a_frame_of_one_mebibyte_comes_whole_from_small_pieces() -> None:
    text = "x" * (1 << 20)
    data = f"id: 1\nevent: audit\ndata: {text}\n\n".encode()
    pieces = [data[n : n + 100] for n in range(0, len(data), 100)]
    assert read(*pieces) == [Frame("audit", text, "1")]


def test_bad_utf8_is_replaced_and_spoils_nothing_else() -> None:
    assert read(b"data: a\xff\xe2\x82\n\ndata: b\n\n") == [
        Frame("message", "a\ufffd\ufffd"),
        Frame("message", "b"),
    ]


def test_a_bom_counts_at_the_beginning_only() -> None:
    bom = b"\xef\xbb\xbf"
    assert read(bom[:1], bom[1:2], bom[2:] + b"data: a\n\n") == [Frame("message", "a")]
    assert read(b"data: a\n\n" + bom + b"data: b\n\n") == [Frame("message", "a")]
    assert read(bom[:2], b"\n\ndata: c\n\n") == [Frame("message", "c")]


def test_an_id_or_a_pause_alone_is_a_frame_without_data() -> None:
    assert read(b"id: 5\n\nretry: 10\n\nid\n\nevent: x\n\n") == [
        Frame("message", None, "5"),
        Frame("message", None, None, 10),
        Frame("message", None, ""),
    ]


@pytest.mark.parametrize("piece", [1, 7, 1000])
@pytest.mark.parametrize("lines", [["data: " + "x" * 500], ["data: " + "x" * 20] * 20])
def test_a_frame_that_is_too_long_is_told_of_and_not_kept(lines: list[str], piece: int) -> None:
    reader = FrameReader(max_frame_bytes=100)
    text = "\n".join(["id: 7", "event: audit", *lines, "", "data: next", "", ""]).encode()
    found = []
    for start in range(0, len(text), piece):
        found += reader.feed(text[start : start + piece])
        assert reader._held <= 100
    assert found == [Frame("audit", None, "7", too_long=True), Frame("message", "next")]


def test_a_line_that_never_ends_is_not_kept() -> None:
    reader = FrameReader(max_frame_bytes=100)
    for _ in range(1000):
        assert reader.feed(b": x" * 10) == []
        assert sum(map(len, reader._line)) <= 100
    assert reader.feed(b"\n\ndata: x\n\n")[-1] == Frame("message", "x")
