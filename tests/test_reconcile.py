"""Two records of the same calls: pairs, losses, and what cannot be told."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab import Event, Lab
from mcpaudit_lab.errors import LabError
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.recorder.call_writer import CallWriter
from mcpaudit_lab.recorder.serving import open_client, recorder_app
from mcpaudit_lab.recorder.stores import SqliteCallStore
from mcpaudit_lab.server import background_portal

if TYPE_CHECKING:
    import pandas as pd

START = datetime(2026, 11, 24, tzinfo=UTC)


def call(side: int, number: int, at_s: float, **members: Any) -> Event:
    """The record of one side of a call."""
    arguments = members.pop("arguments", {"n": number})
    wire = {
        "id": str(UUID(int=(side << 100) | (4 << 76) | (8 << 60) | number)),
        "timestamp": (START + timedelta(seconds=at_s)).isoformat().replace("+00:00", "Z"),
        "tool_name": "echo",
        "success": True,
        "transport": "http",
        "source": "left" if side == 1 else "right",
        "parameters": arguments,
        "payload": {
            "jsonrpc_method": "tools/call",
            "request_params": arguments,
            "response_result": {"content": [{"type": "text", "text": str(arguments)}]},
        },
        **members,
    }
    return Event.from_json(json.dumps(wire))


def reconciled(events: Iterable[Event]) -> pd.DataFrame:
    with Lab() as lab:
        lab.add_events(events, kind="tail", name="made")
        return lab.reconcile("left", EventFilter(source="right"))


def verdicts(frame: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(count) for name, count in frame["verdict"].value_counts().items()}


def test_ids_of_requests_and_traces_pair_whatever_the_clock_says() -> None:
    trace = {"trace_id": "a" * 32, "span_id": "b" * 16}
    frame = reconciled(
        [
            call(1, 1, 0, session_id="s", request_id="1"),
            call(2, 1, 9000, session_id="s", request_id="1", arguments={"other": 1}),
            call(1, 2, 1, **trace),
            call(2, 2, 9001, **trace),
            # The same number in another session is another request.
            call(1, 3, 2, session_id="t", request_id="1"),
            call(2, 4, 3, session_id="u", request_id="1"),
        ]
    )
    assert list(frame["how"].dropna()) == ["request id", "trace id"]
    assert verdicts(frame) == {"both": 2, "left only": 1, "right only": 1}
    assert frame.attrs["clock_offset_ms"] == 9_000_000
    pairs = frame[frame["verdict"] == "both"]
    assert list(pairs["param"]) == ["changed", "equal"]
    assert list(pairs["response"]) == ["changed", "equal"]


@pytest.mark.parametrize("skew_s", [0, 0.003, -7200.5, 86_400])
def test_the_clock_is_set_right_and_losses_are_found(skew_s: float) -> None:
    chance = random.Random(1)  # noqa: S311 - the same case in each run
    left = [call(1, n, n * 0.3, arguments={"n": n % 40}) for n in range(400)]
    right = [
        call(2, n, n * 0.3 + skew_s + chance.uniform(0.0005, 0.004), arguments={"n": n % 40})
        for n in range(400)
    ]
    lost_left, lost_right = {3, 77, 399}, {0, 200, 201}
    frame = reconciled(
        [e for n, e in enumerate(left) if n not in lost_left]
        + [e for n, e in enumerate(right) if n not in lost_right]
    )
    assert verdicts(frame) == {"both": 394, "left only": 3, "right only": 3}
    assert set(frame[frame["verdict"] == "left only"]["left"]) == {left[n].id for n in lost_right}
    assert set(frame[frame["verdict"] == "right only"]["right"]) == {right[n].id for n in lost_left}
    pairs = frame[frame["verdict"] == "both"]
    assert all(a[-12:] == b[-12:] for a, b in zip(pairs["left"], pairs["right"], strict=True))
    assert abs(frame.attrs["clock_offset_ms"] - skew_s * 1000) < 4
    assert pairs["difference_ms"].abs().max() < 5


def test_equal_calls_are_paired_in_order_or_left_in_doubt() -> None:
    sure = [call(side, n, n) for side in (1, 2) for n in range(100, 140)]
    same = {"arguments": {"n": 0}}
    burst = [call(side, n, 200 + n * 0.0001, **same) for side in (1, 2) for n in range(5)]
    frame = reconciled([*sure, *burst])
    assert verdicts(frame) == {"both": 45}
    # One is lost, but nothing tells which.
    frame = reconciled([*sure, *(e for e in burst if e.id != burst[7].id)])
    assert verdicts(frame) == {"both": 40, "ambiguous": 9}
    doubtful = frame[frame["verdict"] == "ambiguous"]
    assert {len(item) for item in doubtful["candidates"]} == {4, 5}
    # Further apart, the times tell it.
    burst = [call(side, n, 200 + n * 0.05, **same) for side in (1, 2) for n in range(5)]
    frame = reconciled([*sure, *(e for e in burst if e.id != burst[7].id)])
    assert verdicts(frame) == {"both": 44, "left only": 1}
    assert list(frame[frame["verdict"] == "left only"]["left"]) == [burst[2].id]


def test_three_values_say_what_differs() -> None:
    sure = [call(side, n, n) for side in (1, 2) for n in range(100, 140)]
    redacted = {"arguments": {"n": 1, "token": "[redacted]"}}
    frame = reconciled(
        [
            *sure,
            call(1, 1, 200, arguments={"n": 1, "token": "abc"}),
            call(2, 1, 200, **redacted),
            call(1, 2, 300),
            call(2, 2, 300, payload=None),
            call(1, 3, 400),
            call(2, 3, 400, success=False, error_category="tool"),
        ]
    )
    rows = frame.set_index("left").loc[[call(1, n, 0).id for n in (1, 2, 3)]]
    assert list(rows["verdict"]) == ["both"] * 3
    assert list(rows["how"]) == ["time", "arguments and time", "arguments and time"]
    assert list(rows["param"]) == ["unknown", "equal", "equal"]
    assert list(rows["response"]) == ["equal", "unknown", "equal"] or rows["response"].iloc[1] == (
        "unknown"
    )
    assert rows["summary"].iloc[2] == "changed"


def test_a_set_that_overlaps_and_sets_without_events() -> None:
    with Lab() as lab:
        lab.add_events([call(1, 1, 0), call(2, 1, 0)], kind="tail", name="made")
        with pytest.raises(LabError, match="are in both sets"):
            lab.reconcile(lab.events(), lab.events(source="left"))
        none = lab.events(tool="nothing")
        assert len(lab.reconcile(none, none)) == 0
        assert verdicts(lab.reconcile(lab.events(), none)) == {"left only": 2}


SIDES = st.lists(
    st.tuples(
        st.integers(0, 3), st.floats(0, 3), st.sampled_from(["", "s"]), st.sampled_from("12")
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES)
def test_every_event_is_in_one_row(left: list[Any], right: list[Any]) -> None:
    events = [
        call(side, n, at_s, arguments={"n": value}, session_id=session, request_id=request)
        for side, calls in ((1, left), (2, right))
        for n, (value, at_s, session, request) in enumerate(calls)
    ]
    frame = reconciled(events)
    shown = [*frame["left"].dropna(), *frame["right"].dropna()]
    assert sorted(shown) == sorted(event.id for event in events)
    both = frame[frame["verdict"] == "both"]
    assert both[["left", "right"]].notna().all(axis=None)
    for verdict, side in (("left only", "right"), ("right only", "left")):
        assert frame[frame["verdict"] == verdict][side].isna().all()


# Real pairs: a recorder before a portal


async def record_calls(url: str, key: str, database: Path, count: int) -> None:
    """Call the portal's MCP endpoint through a recorder, some calls twice and some at once."""
    writer, tracker = CallWriter(SqliteCallStore(database)), CallTracker("http")
    try:
        async with open_client() as upstream:
            app = recorder_app(f"{url}/mcp", upstream, tracker, writer, ["127.0.0.1"])
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", timeout=60
            ) as client:
                limit = anyio.CapacityLimiter(4)

                async def send(number: int) -> None:
                    async with limit:
                        answer = await client.post("/mcp", json=request(number), headers=headers)
                        assert answer.status_code == 200, answer.text

                headers = {
                    "authorization": f"Bearer {key}",
                    "x-api-key": key,
                    "accept": "application/json, text/event-stream",
                    "mcp-protocol-version": "2026-07-28",
                    "mcp-method": "tools/call",
                    "mcp-name": "echo",
                }
                async with anyio.create_task_group() as group:
                    for number in range(count):
                        group.start_soon(send, number)
        writer.complete(tracker.finish())
    finally:
        writer.close()


def request(number: int) -> dict[str, Any]:
    # Every tenth is a retry of the one before, and a hundred of them are equal.
    value = number - 1 if number % 10 == 9 else number
    message = "equal" if number % 101 == 7 else f"call {value}"
    params = {
        "name": "echo",
        "arguments": {"message": message},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_every_planted_loss_between_a_recorder_and_a_portal_is_found(
    count: int, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/audit.db"
    with background_portal(database=database) as portal:
        anyio.run(record_calls, portal.url, portal.api_key, tmp_path / "recorded.db", count)
    with Lab() as lab:
        lab.load_database(f"sqlite:///{tmp_path}/recorded.db", progress=False)
        lab.load_database(database, progress=False)
        left, right = lab.events(source="recorder"), lab.events(source="mcp")
        assert (left.count(), right.count()) == (count, count)
        whole = lab.reconcile(left, right)
        assert verdicts(whole) == {"both": count}
        assert set(whole["response"]) == {"equal"}
        # Plant losses on both sides, and a clock that is an hour off. Two of equal calls, one on
        # each side, would look like one call.
        told = {event.id: str(event.wire["parameters"]) for event in left}
        rows = whole.sample(n=count // 50, random_state=7)
        rows = rows[~rows["left"].map(told).duplicated()]
        chance = random.Random(7)  # noqa: S311 - the same case in each run
        gone_left = [row.left for row in rows.itertuples() if chance.random() < 0.5]
        gone_right = [row.right for row in rows.itertuples() if row.left not in gone_left]
        lab.connection.execute(
            "delete from audit_events where id in (select unnest($ids)::uuid)",
            {"ids": [*gone_left, *gone_right]},
        )
        lab.connection.execute(
            "update audit_events set ts = ts + interval 1 hour where source = 'mcp'"
        )
        frame = lab.reconcile(left, right)
        lost = set(frame[frame["verdict"] == "left only"]["left"])
        lost |= set(frame[frame["verdict"] == "right only"]["right"])
        planted = {row.right if row.left in gone_left else row.left for row in rows.itertuples()}
        doubtful = frame[frame["verdict"] == "ambiguous"]
        in_doubt = {*doubtful["left"].dropna(), *doubtful["right"].dropna()}
        assert lost <= planted
        assert planted <= lost | in_doubt
        # In doubt are only calls that were made more than once.
        often = Counter(told.values())
        told |= {event.id: str(event.wire["parameters"]) for event in right}
        assert all(often[told[event_id]] > 1 for event_id in in_doubt if event_id in told)
        assert abs(frame.attrs["clock_offset_ms"] - 3_600_000) < 50
