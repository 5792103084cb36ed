"""Bodies that are nearly JSON reach the tool as the reference server read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.server.http.body_repair import RepairBodies, repair_body

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("body", "mended"),
    [
        (b'"x\xff\xfey"', '"x��y"'),
        (b'"\xe2\x82"', '"��"'),
        ('"\u20ac🚀\\ud83d\\ude80"'.encode(), '"\u20ac🚀\\ud83d\\ude80"'),
        (rb'"x\ud800y"', r'"x\ufffdy"'),
        (rb'"\uDFFF\uD800\uD83D\uDE80"', r'"\ufffd\ufffd\uD83D\uDE80"'),
        (rb'"\ud800\u0041"', r'"\ufffd\u0041"'),
        (rb'"\\ud800 \\\ud800"', r'"\\ud800 \\\ufffd"'),
        (b"", ""),
        (b'"\\', '"\\'),
    ],
)
def test_only_what_is_no_text_is_replaced(body: bytes, mended: str) -> None:
    assert repair_body(body) == mended.encode()


def test_the_error_handler_is_for_reading_only() -> None:
    repair_body(b"")
    with pytest.raises(UnicodeEncodeError):
        "\ud800".encode("utf-8", "mcpaudit-byte")


def test_lone_surrogates_are_left_to_a_parser_that_reads_them() -> None:
    assert repair_body(rb'"\ud800"', surrogates=False) == rb'"\ud800"'


@given(st.text())
def test_good_json_is_not_touched(text: str) -> None:
    for body in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert repair_body(body.encode()) == body.encode()


@given(st.text(), st.binary())
def test_the_outcome_is_always_text_without_lone_surrogates(text: str, noise: bytes) -> None:
    body = json.dumps(text + "\ud800" + text).encode()
    assert json.loads(repair_body(body)) == text + "�" + text
    repair_body(body + noise).decode()


async def _through(messages: list[dict[str, Any]], **scope: Any) -> list[Message]:
    """What an application behind the middleware receives."""
    seen: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while messages:
            seen.append(await receive())

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_message: Message) -> None: ...

    whole = {"type": "http", "method": "POST", "headers": [], **scope}
    await RepairBodies(app, max_bytes=10)(whole, receive, send)
    return seen


def _part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


async def test_a_body_in_pieces_is_mended_whole() -> None:
    parts = [_part(b'"\\ud', more=True), _part(b'800"', more=False), GONE]
    assert await _through(parts) == [_part(b'"\\ufffd"', more=False), GONE]


async def test_a_body_over_the_limit_is_passed_on_as_it_comes() -> None:
    parts = [_part(b"x" * 8, more=True), _part(b"\xff" * 8, more=True), _part(b"y", more=False)]
    assert await _through(parts) == [
        _part(b"x" * 8 + b"\xff" * 8, more=True),
        _part(b"y", more=False),
    ]


async def test_whoever_leaves_while_sending_is_heard() -> None:
    assert await _through([_part(b"x", more=True), GONE]) == [GONE]


@pytest.mark.parametrize(
    "scope",
    [{"method": "GET"}, {"type": "websocket"}, {"type": "lifespan"}],
    ids=["GET", "websocket", "lifespan"],
)
async def test_other_requests_are_passed_by(scope: dict[str, Any]) -> None:
    assert await _through([_part(b"\xff", more=False)], **scope) == [_part(b"\xff", more=False)]


async def test_the_era_without_sessions_keeps_its_lone_surrogates() -> None:
    headers = [(b"mcp-protocol-version", b"2026-07-28")]
    body = _part(b"\\ud800\xff", more=False)
    assert await _through([body], headers=headers) == [_part("\\ud800�".encode(), more=False)]
