"""The twelve tools answer as the recorded server's did."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from audited import DEV, call_raw, heard
from mcp import Client
from mcp.shared.exceptions import MCPError

from mcpaudit_lab.record.jsontext import same
from mcpaudit_lab.server import MemoryLogger, add_audit, demo_server, demo_tool_groups
from mcpaudit_lab.server.tools import demo_tools
from mcpaudit_lab.server.tools.tool import ToolError, check_arguments, object_schema

pytestmark = pytest.mark.anyio

UPSTREAM = Path(__file__).parent / "data" / "upstream"


def body(path: str) -> Any:
    """The JSON body of a recorded answer."""
    return json.loads((UPSTREAM / path).read_bytes().partition(b"\r\n\r\n")[2])


def sse_result(path: str) -> Any:
    """The JSON-RPC message of a recorded MCP answer."""
    raw = (UPSTREAM / path).read_bytes()
    return json.loads(re.findall(rb"data: (.*)\n", raw)[-1])


def recorded(*tools: str) -> list[dict[str, Any]]:
    """Recorded calls of these tools that have both sides."""
    rows = [json.loads(line) for line in (UPSTREAM / "details.jsonl").read_text().splitlines()]
    return [
        row for row in rows if row["tool_name"] in tools and "response_result" in row["payload"]
    ]


async def result_of(name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result in its JSON form, as a handshake-era client gets it."""
    async with Client(demo_server(), mode="legacy") as client:
        result = await client.call_tool(name, arguments)
    wire = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {name: value for name, value in wire.items() if name != "resultType"}


async def test_the_list_of_tools_is_the_recorded_one() -> None:
    async with Client(demo_server(), mode="legacy") as client:
        tools = (await client.list_tools()).tools
    listed = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in tools]
    assert same(listed, sse_result("mcp/11-tools-list.resp")["result"]["tools"])


def test_the_portal_s_list_of_tools_is_the_recorded_one() -> None:
    listed = [
        {"name": tool.name, "group": tool.group, "description": tool.summary}
        for tool in demo_tools()
    ]
    assert listed == body("portal/tools.http")["tools"]
    assert demo_tool_groups() == {tool["name"]: tool["group"] for tool in listed}


@pytest.mark.parametrize(
    "tool", ["fixed_response", "sized_response", "long_output", "chatty", "error"]
)
async def test_answers_are_the_recorded_ones_byte_for_byte(tool: str) -> None:
    rows = {json.dumps(row["payload"].get("request_params")): row for row in recorded(tool)}
    assert rows
    for row in rows.values():
        got = await result_of(tool, row["payload"].get("request_params"))
        assert same(got, row["payload"]["response_result"]), row["payload"].get("request_params")


@pytest.mark.parametrize(
    ("size", "text"),
    [(-1, "size must be >= 0, got -1"), (2_000_000, "size 2000000 exceeds max 1048576")],
)
async def test_a_size_out_of_range_is_refused_in_the_recorded_words(size: int, text: str) -> None:
    result = await result_of("sized_response", {"size": size})
    assert (result["isError"], result["content"][0]["text"]) == (True, text)
    assert text in (UPSTREAM / "pg" / "audit_payloads.sql").read_text()


async def test_an_echo_is_the_recorded_one() -> None:
    compared = 0
    for row in recorded("echo"):
        params = row["payload"].get("request_params", {})
        wanted = row["payload"]["response_result"]
        text = json.dumps([params, wanted])
        # Where arguments were redacted the answer has the originals; numbers that do not fit a
        # float kept all their digits here.
        if "[redacted]" in text or "9007199254740992" in text or "extras.b of type" in text:
            continue
        if params.get("message") == "numbers":
            params["extras"]["neg"] = -0.0  # the store does not know a negative zero
        if not params and not row["success"]:
            continue  # arguments that were no object; they are not kept
        assert same(await result_of("echo", params), wanted), params
        compared += 1
    assert compared > 60


async def test_big_numbers_keep_their_digits() -> None:
    extras = {"a": 9007199254740993, "f": 123456789012345678901234567890, "e": 1e5, "d": 1.0}
    result = await result_of("echo", {"extras": extras})
    assert result["structuredContent"]["extras"] == extras
    assert '"e":100000,"f":123456789012345678901234567890}' in result["content"][0]["text"]


async def test_empty_members_are_not_echoed() -> None:
    assert (await result_of("echo", {"message": "", "extras": {}}))["structuredContent"] == {}
    nested: dict[str, Any] = {"extras": {"a": "", "b": {}, "c": [[], None, 0, False]}}
    assert (await result_of("echo", nested))["structuredContent"] == nested


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lorem", {"words": 0, "seed": "s0"}),
        ("lorem", {"words": 500, "seed": "s0"}),
        ("flaky", {"fail_rate": 0, "seed": "s"}),
        ("flaky", {"fail_rate": 0.5, "seed": "s", "call_id": 7}),
    ],
)
async def test_the_same_seed_gives_the_same_answer(name: str, arguments: dict[str, Any]) -> None:
    assert await result_of(name, arguments) == await result_of(name, arguments)


async def test_without_a_seed_every_answer_differs() -> None:
    assert await result_of("lorem", {"words": 30}) != await result_of("lorem", {"words": 30})
    assert await result_of("flaky", {"fail_rate": 0}) != await result_of("flaky", {"fail_rate": 0})


async def test_lorem_has_the_shape_of_the_recorded_text() -> None:
    for words, expected in ((0, 50), (-3, 50), (1, 1), (100, 100)):
        result = await result_of("lorem", {"words": words, "seed": "s"})
        text = result["structuredContent"]["body"]
        assert result["structuredContent"]["words"] == len(text.split()) == expected
        assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+)*\.", text)
    refused = await result_of("lorem", {"words": 100_001})
    assert refused["isError"] is True


async def test_flaky_fails_as_often_as_it_is_asked_to() -> None:
    failures = 0
    for call_id in range(200):
        result = await result_of("flaky", {"fail_rate": 0.3, "seed": "s", "call_id": call_id})
        failures += result["isError"]
        if result["isError"]:
            pattern = r"flaky failure \(roll=0\.\d{4} < rate=0\.3000\)"
            assert re.fullmatch(pattern, result["content"][0]["text"])
        else:
            assert 0.3 <= result["structuredContent"]["roll"] < 1
    assert 40 <= failures <= 80
    assert (await result_of("flaky", {"fail_rate": 1}))["isError"] is True


async def test_slow_says_how_long_it_slept() -> None:
    slept = (await result_of("slow", {"milliseconds": 20}))["structuredContent"]["slept_ms"]
    assert 20 <= slept < 2000
    assert (await result_of("slow", {"milliseconds": -5}))["structuredContent"]["slept_ms"] < 1000


@pytest.mark.parametrize(
    ("arguments", "blocks", "chars"),
    [
        ({"blocks": 0, "chars": 0}, 3, 256),
        ({"blocks": -1, "chars": 5}, 3, 5),
        ({"blocks": 51, "chars": 16}, 50, 16),
        ({"blocks": 1, "chars": 70_000}, 1, 65_536),
        ({"blocks": 1.0, "chars": 1.0}, 1, 1),
    ],
)
async def test_long_output_stays_within_its_bounds(
    arguments: dict[str, Any], blocks: int, chars: int
) -> None:
    result = await result_of("long_output", arguments)
    assert len(result["content"]) == blocks
    assert {len(block["text"]) for block in result["content"]} == {chars}


async def test_progress_tells_whether_anyone_was_told() -> None:
    server = demo_server()
    async with Client(server, mode="legacy") as client:
        arguments = {"steps": 2, "step_ms": 1}
        told = await client.call_tool("progress", arguments, progress_callback=heard)
        untold = await client.call_tool("progress", arguments)
    assert told.structured_content == {"steps": 2, "notified": True, "done": True}
    assert untold.structured_content == {"steps": 2, "notified": False, "done": True}


async def test_whoami_knows_only_what_is_known() -> None:
    assert (await result_of("whoami"))["structuredContent"] == {
        "subject": "anonymous",
        "auth_type": "anonymous",
    }
    server = demo_server()
    add_audit(server, MemoryLogger(), default_identity=DEV)
    async with Client(server) as client:
        result = await client.call_tool("whoami")
    text = cast("Any", result.content[0]).text
    assert text == sse_result("mcp/21-no-arguments.resp")["result"]["content"][0]["text"]


async def test_without_http_there_are_no_headers() -> None:
    assert (await result_of("headers"))["content"][0]["text"] == '{"count":0,"headers":{}}'


@pytest.mark.parametrize("name", ["nosuch", "", '<b>x</b>\n"q"', "t" * 5000])
async def test_an_unknown_tool_is_a_protocol_error(name: str) -> None:
    with pytest.raises(MCPError) as error:
        await call_raw(demo_server(), {"name": name})
    assert (error.value.code, error.value.message) == (-32602, f"unknown tool {json.dumps(name)}")
    if name.startswith("<"):
        recording = sse_result("mcp/36-tool-name-html.resp")["error"]
        assert (error.value.code, error.value.message) == (recording["code"], recording["message"])


@pytest.mark.parametrize("params", [{}, {"name": 5}, {"name": None, "arguments": {}}])
async def test_a_call_without_a_name_is_a_call_of_an_unknown_tool(params: dict[str, Any]) -> None:
    with pytest.raises(MCPError) as error:
        await call_raw(demo_server(), params)
    recording = sse_result("mcp/25-no-name.resp")["error"]
    assert (error.value.code, error.value.message) == (recording["code"], recording["message"])


@pytest.mark.parametrize("arguments", [[1, 2], "str", 5, True])
async def test_arguments_that_are_no_object_are_a_failure_of_the_call(arguments: Any) -> None:
    server = demo_server()
    log = MemoryLogger()
    add_audit(server, log)
    result = await call_raw(server, {"name": "echo", "arguments": arguments})
    assert result["isError"] is True
    (event,) = log.events
    assert (event.success, event.error_category, event.parameters) == (False, "tool", None)


@pytest.mark.parametrize(
    ("schema", "arguments", "text"),
    [
        (
            object_schema(message={"type": "string"}),
            {"message": 5},
            'validating /properties/message: type: 5 has type "integer", want "string"',
        ),
        (
            object_schema("steps", "step_ms", steps={"type": "integer"}, step_ms={}),
            {"steps": 2},
            'required: missing properties: ["step_ms"]',
        ),
        (
            object_schema(message={"type": "string"}),
            {"Message": "CASE"},
            'unexpected additional properties ["Message"]',
        ),
    ],
)
def test_refusals_use_the_recorded_words(
    schema: dict[str, Any], arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ToolError) as refusal:
        check_arguments(schema, arguments)
    assert str(refusal.value) == f'validating "arguments": validating root: {text}'


@pytest.mark.parametrize(
    ("wanted", "fits", "does_not"),
    [
        ("string", ["", "x"], [1, None, [], {}]),
        ("boolean", [True, False], [0, 1, "true"]),
        ("integer", [0, -1, 1.0, 10**30], [1.5, True, "1", None]),
        ("number", [0, 1.5], [True, "1", None]),
        ("object", [{}, {"a": [1]}], [[], "x", None]),
    ],
)
def test_arguments_have_the_type_of_their_schema(
    wanted: str, fits: list[Any], does_not: list[Any]
) -> None:
    schema = object_schema(value={"type": wanted})
    for value in fits:
        check_arguments(schema, {"value": value})
    for value in does_not:
        with pytest.raises(ToolError, match=f'want "{wanted}"'):
            check_arguments(schema, {"value": value})


def test_a_number_that_json_does_not_have_is_refused() -> None:
    schema = object_schema(extras={"type": "object"})
    with pytest.raises(ToolError, match="out of range"):
        check_arguments(schema, {"extras": {"a": [1, {"b": float("inf")}]}})
