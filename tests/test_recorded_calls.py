"""A recorded call, made again, leaves the row that the recorded server left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from audited import heard, payload
from loopback import connect, post_raw, run_demo
from mcp.shared.exceptions import MCPError

from mcpaudit_lab.record.jsontext import dumps, same
from mcpaudit_lab.record.sanitize import REDACTED, Sanitizer

if TYPE_CHECKING:
    from mcp import Client

    from mcpaudit_lab.record import Event

pytestmark = pytest.mark.anyio

UPSTREAM = Path(__file__).parent / "data" / "upstream"
RECORDED = [json.loads(line) for line in (UPSTREAM / "details.jsonl").read_text().splitlines()]
RULES = Sanitizer()

SENT_BY_ALL = {
    "Accept",
    "Accept-Encoding",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Mcp-Protocol-Version",
    "Mcp-Session-Id",
}
# What differs from call to call, and the headers, which are the client's.
VOLATILE = {"id", "timestamp", "duration_ms", "request_id", "session_id"}


def comparable(wire: dict[str, Any]) -> dict[str, Any]:
    """An event without what need not be the same, and with responses sanitized."""
    event = {name: value for name, value in wire.items() if name not in VOLATILE}
    content = dict(event.pop("payload"))
    content.pop("request_headers", None)
    content["notifications"] = [
        {name: value for name, value in item.items() if name != "ts"}
        for item in content.get("notifications", ())
    ]
    result = RULES.clean(content.get("response_result"))
    text = dumps(result)
    if 'validating \\"arguments\\"' in text:
        # The wording of validators is their own, and with it the sizes.
        content["response_result"] = result = "a validator's words"
        content.pop("response_size_bytes")
        event.pop("response_chars")
    elif event["tool_name"] in ("lorem", "flaky", "slow", "headers") and isinstance(result, dict):
        # Values by chance or by the clock, or the client's headers; shapes are compared.
        content["response_result"] = _shape(result)
        content.pop("response_size_bytes")
        event.pop("response_chars")
    else:
        content["response_result"] = result
    return {**event, "payload": content}


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items() if name != "headers"}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return value if isinstance(value, bool) else type(value).__name__


def original_arguments(row: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a recorded call as they were sent."""
    arguments: dict[str, Any] | None = row.get("parameters")
    if arguments is not None and arguments.get("message") == "numbers":
        # The store does not know a negative zero; the answer shows that it was one.
        return {**arguments, "extras": {**arguments["extras"], "neg": -0.0}}
    if arguments is not None and row["tool_name"] == "echo" and REDACTED in dumps(arguments):
        if not row["success"]:
            return {**arguments, "password": "secret"}
        return row["payload"]["response_result"]["structuredContent"]  # type: ignore[no-any-return]  # JSON
    return arguments


def repeatable(row: dict[str, Any]) -> bool:
    """Whether a call to our server can be expected to leave the same row."""
    arguments = row.get("parameters") or {}
    by_chance = row["tool_name"] == "flaky" and 0 < arguments.get("fail_rate", 0) < 1
    edge = row.get("user_agent") in ("edge/1", "café/1")
    return (
        row["source"] == "mcp" and row.get("auth_type") is not None and not by_chance and not edge
    )


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One recorded call of each kind: tool, arguments, outcome, caller."""
    kinds = {
        dumps(
            [
                row["tool_name"],
                row.get("parameters"),
                row["success"],
                row.get("user_subject"),
                row.get("remote_addr"),
                row.get("user_agent"),
                bool(row["payload"].get("notifications")),
            ]
        ): row
        for row in rows
    }
    return list(kinds.values())


async def repeat(client: Client, row: dict[str, Any]) -> None:
    """Make a recorded call again, with progress asked for or cancelled as it was."""
    arguments = original_arguments(row)
    cancelled = row["tool_name"] == "slow" and not row["success"]
    wants_progress = bool(row["payload"].get("notifications"))
    try:
        with anyio.move_on_after(0.1 if cancelled else None):
            await client.call_tool(
                row["tool_name"],
                arguments,
                progress_callback=heard if wants_progress else None,
            )
    except MCPError:
        assert row["error_category"] == "handler"


async def test_in_the_handshake_era_the_events_are_the_recorded_ones() -> None:
    rows = distinct([row for row in RECORDED if repeatable(row)])
    callers = {(row["user_subject"], row.get("user_agent"), row.get("remote_addr")) for row in rows}
    assert len(rows) > 130
    assert len(callers) >= 4
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    async with run_demo() as (url, log):
        for subject, user_agent, remote_addr in sorted(callers, key=str):
            key = "upstream-dev-key" if subject == "apikey:dev-local" else "minted-key"
            headers = {"X-API-Key": key, "User-Agent": user_agent or ""}
            if remote_addr:
                headers["X-Forwarded-For"] = f"{remote_addr}, 10.0.0.1"
            mine = [
                row
                for row in rows
                if (row["user_subject"], row.get("user_agent"), row.get("remote_addr"))
                == (subject, user_agent, remote_addr)
            ]
            async with connect(url, headers) as client:
                for row in mine:
                    async with log.subscribe() as events:
                        await repeat(client, row)
                        await anext(events)
                        event = log.events[-1]
                    pairs.append((comparable(event.wire), comparable(row)))
                    assert event.session_id
                    sent = payload(event)["request_headers"]
                    assert sent["X-Api-Key"] == [REDACTED]
                    assert sent.keys() & row["payload"]["request_headers"].keys() >= SENT_BY_ALL
    assert differences(pairs) == []


def differences(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]],
) -> list[list[dict[str, Any]]]:
    """The pairs that differ, each as the members that do."""
    found = []
    for got, wanted in pairs:
        if not same(got, wanted):
            sides = [{**side, **side["payload"], "payload": None} for side in (got, wanted)]
            names = sides[0].keys() | sides[1].keys()
            differ = [n for n in names if not same(sides[0].get(n), sides[1].get(n))]
            found.append([{n: side.get(n) for n in differ} for side in sides])
    return found


def edge_calls() -> list[Any]:
    """Recorded raw requests that call a tool, each with the answer it got."""
    found = []
    for path in sorted((UPSTREAM / "mcp").glob("*.req")):
        request = path.read_bytes().partition(b"\r\n\r\n")[2]
        answer = path.with_suffix(".resp").read_bytes()
        if b'"tools/call"' in request and b"200 OK" in answer and b"wrong" not in path.read_bytes():
            found.append(pytest.param(request, answer, id=path.stem))
    return found


@pytest.mark.parametrize(("request_body", "answer"), edge_calls())
async def test_edge_calls_leave_the_recorded_rows(request_body: bytes, answer: bytes) -> None:
    last = [line for line in answer.split(b"\n") if line.startswith(b"data: ")][-1]
    reply = json.loads(last[6:])
    async with run_demo() as (url, log):
        await post_raw(url, request_body)
    (event,) = log.events
    expected = [row for row in RECORDED if _answers(row, reply, event)]
    if b"\\u0000" in request_body:
        assert expected == [], "the reference server lost it"
        assert event.parameters == {"message": "a\0b"}
    elif b"1e400" in request_body:
        assert event.parameters["extras"]["a"] == 9007199254740993  # type: ignore[index,call-overload]  # digits kept
        assert event.parameters["extras"]["b"] == "Infinity"  # type: ignore[index,call-overload]  # there is no such number
        assert event.error_category == "tool"
    else:
        assert expected
        found = [comparable(row) for row in expected]
        assert any(same(comparable(event.wire), row) for row in found), dumps(event.wire)


def _answers(row: dict[str, Any], reply: dict[str, Any], event: Event) -> bool:
    """Whether a recorded row is the one of this recorded answer."""
    if row["tool_name"] != event.tool_name or row.get("user_agent") != "edge/1":
        return False
    if "error" in reply:
        return bool(row.get("error_message") == reply["error"]["message"])
    content = row["payload"].get("response_result", {}).get("content", [{}])
    return bool(content == reply["result"]["content"])


async def test_a_wrong_key_leaves_the_recorded_row() -> None:
    wanted = next(
        row
        for row in RECORDED
        if row.get("error_category") == "auth" and row.get("user_agent") == "intruder/6.6"
    )
    arguments = {"message": "with a bad key", "extras": {"password": "x"}}
    headers = {"X-API-Key": "wrong", "User-Agent": "intruder/6.6"}
    async with run_demo() as (url, log), connect(url, headers) as client:
        assert (await client.list_tools()).tools
        with pytest.raises(MCPError) as refused:
            await client.call_tool("echo", arguments)
    recorded = (UPSTREAM / "mcp" / "04-bad-key-tools-call.resp").read_bytes()
    assert b'"error":{"code":0,"message":"not authenticated"}' in recorded
    assert (refused.value.code, refused.value.message) == (0, "not authenticated")
    (event,) = log.events
    got, expected = comparable(event.wire), comparable(wanted)
    # The length of the recorded secret is not known.
    for side in (got, expected):
        side["payload"].pop("request_size_bytes")
    assert same(got, expected), f"\n{dumps(got)}\n{dumps(expected)}"


async def test_in_the_era_without_sessions_only_the_envelope_differs() -> None:
    rows = distinct([row for row in RECORDED if repeatable(row)])
    rows = [row for row in rows if row["user_subject"] == "apikey:dev-local"][:40]
    pairs = []
    async with run_demo() as (url, log), connect(url, mode="2026-07-28") as client:
        await client.list_tools()
        for row in rows:
            async with log.subscribe() as events:
                await repeat(client, row)
                await anext(events)
                event = log.events[-1]
            pair = comparable(event.wire), comparable(row)
            for side in pair:
                for name in ("user_agent", "remote_addr"):
                    side.pop(name, None)
                    side["payload"].pop("request_remote_addr", None)
            pairs.append(pair)
            assert event.session_id == ""
    assert differences(pairs) == []
