"""One pairing for all JSON-RPC transcripts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.formats import (
    Call,
    CallFinished,
    CallOpened,
    Item,
    Other,
    Pairing,
    PartSeen,
    ToolDefinitionsSeen,
)
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.captured import VERBATIM, CapturePolicy

START = 1_795_860_000_000_000_000
MS = 1_000_000


def call(id_: Any, tool: str = "echo", meta: Any = None, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if meta is not None:
        params["_meta"] = meta
    return {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}


def answer(id_: Any, text: str = "ok", **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"jsonrpc": "2.0", "id": id_, "result": {"content": content, **more}}


def events(items: list[Item]) -> list[Event]:
    return [item.call.event() for item in items if isinstance(item, CallFinished)]


class Transcript:
    """Feeds messages one millisecond apart, numbered."""

    def __init__(self, policy: CapturePolicy = VERBATIM, **options: Any) -> None:
        self.pairing = Pairing("test", policy, **options)
        self.items: list[Item] = []
        self.count = 0

    def c2s(self, message: Any, session: str = "s", connection: str | None = None) -> list[Item]:
        return self._feed(message, "c2s", session, connection)

    def s2c(self, message: Any, session: str = "s", connection: str | None = None) -> list[Item]:
        return self._feed(message, "s2c", session, connection)

    def _feed(
        self, message: Any, direction: Any, session: str, connection: str | None
    ) -> list[Item]:
        self.count += 1
        items = self.pairing.feed(
            message,
            direction=direction,
            at=START + self.count * MS,
            session=session,
            connection=connection,
            place=self.count,
        )
        self.items += items
        return items

    def events(self) -> list[Event]:
        self.items += self.pairing.finish()
        return events(self.items)


def test_an_answer_ends_the_call_and_the_difference_is_its_duration() -> None:
    t = Transcript()
    (opened,) = t.c2s(call(1, city="Oslo"))
    assert isinstance(opened, CallOpened)
    assert opened.call.event().error_message == "no answer was recorded"
    (finished,) = t.s2c(answer(1, "Oslo: rain"))
    assert isinstance(finished, CallFinished)
    event = finished.call.event()
    assert event.success
    assert event.duration_ms == 1
    assert event.wire["timestamp"] == "2026-11-28T10:00:00.001Z"
    assert (event.tool_name, event.parameters, event.source) == ("echo", {"city": "Oslo"}, "test")
    assert event.payload is not None
    assert event.payload.response_result == {"content": [{"type": "text", "text": "Oslo: rain"}]}
    assert finished.call.places == [1, 2]
    assert len(t.pairing) == 0


@pytest.mark.parametrize(("asked", "answered"), [(2, "2"), ("2", 2), (1, True), (0, None)])
def test_an_id_of_another_type_answers_nothing(asked: Any, answered: Any) -> None:
    t = Transcript()
    t.c2s(call(asked))
    assert t.s2c(answer(answered)) == [Other("answer", unpaired=True)]
    assert [e.error_message for e in t.events()] == ["no answer was recorded"]


def test_2_and_2_0_are_the_same_number() -> None:
    t = Transcript()
    t.c2s(call(2))
    assert isinstance(t.s2c(answer(2.0))[0], CallFinished)


def test_the_servers_own_requests_have_ids_of_their_own() -> None:
    t = Transcript()
    t.c2s(call(1))
    t.s2c({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}})
    assert t.c2s(answer(1, "the client's")) == [Other("answer")]
    t.s2c(answer(1, "the server's"))
    (event,) = t.events()
    assert event.payload is not None
    assert event.payload.response_result == {"content": [{"type": "text", "text": "the server's"}]}


def test_sessions_and_connections_do_not_mix() -> None:
    t = Transcript()
    t.c2s(call(1, who="a"), "a")
    t.c2s(call(1, who="b"), "b")
    t.c2s(call(1, who="b2"), "b", "2")
    t.s2c(answer(1, "b2"), "b", "2")
    t.s2c(answer(1, "a"), "a")
    t.s2c(answer(1, "b"), "b")
    said = [(e.parameters, e.payload and e.payload.response_result) for e in t.events()]
    texts = ["b2", "a", "b"]
    assert said == [({"who": text}, answer(1, text)["result"]) for text in texts]


def test_the_same_id_again_means_that_the_first_was_never_answered() -> None:
    t = Transcript()
    t.c2s(call(1, n=1))
    first, second = t.c2s(call(1, n=2))
    assert isinstance(first, CallFinished)
    assert not first.call.answered
    assert isinstance(second, CallOpened)
    t.s2c(answer(1))
    t.s2c(answer(1, "double"))
    assert [(e.parameters, e.success) for e in t.events()] == [({"n": 1}, False), ({"n": 2}, True)]
    assert t.items[-1] == Other("answer", unpaired=True)


def test_errors_are_the_handlers_and_is_error_is_the_tools() -> None:
    t = Transcript()
    t.c2s(call(1))
    t.s2c({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "bad", "data": [1]}})
    t.c2s(call(2))
    t.s2c(answer(2, "which city?", isError=True))
    broken, failed = t.events()
    assert (broken.success, broken.error_category, broken.error_message) == (
        False,
        "handler",
        "bad",
    )
    assert broken.payload is not None
    assert broken.payload.response_error == {
        "category": "handler",
        "message": "bad",
        "code": -32602,
        "data": [1],
    }
    assert (failed.success, failed.error_category, failed.error_message) == (False, "tool", "")


def test_progress_goes_to_the_call_whose_token_it_names() -> None:
    t = Transcript()
    progress = {"jsonrpc": "2.0", "method": "notifications/progress"}
    t.c2s(call(1, meta={"progressToken": 7}))
    t.c2s(call(2, meta={"progressToken": "7"}))
    (seen,) = t.s2c({**progress, "params": {"progressToken": "7", "progress": 1}})
    assert isinstance(seen, PartSeen)
    assert seen.call.jsonrpc_id == 2
    assert t.s2c({**progress, "params": {"progressToken": "8"}}) == [Other("notification")]
    t.s2c(answer(2))
    assert t.s2c({**progress, "params": {"progressToken": "7"}}) == [Other("notification")]
    t.s2c(answer(1))
    second, first = t.events()
    assert first.payload is not None
    assert second.payload is not None
    assert first.payload.notifications == ()
    (kept,) = second.payload.wire["notifications"]
    assert kept == {
        "ts": "2026-11-28T10:00:00.003Z",
        "method": "notifications/progress",
        "params": {"progressToken": "7", "progress": 1},
    }


def test_a_log_message_goes_to_the_one_call_that_is_open_or_to_none() -> None:
    t = Transcript()
    log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}
    assert t.s2c(log) == [Other("notification")]
    t.c2s(call(1))
    assert isinstance(t.s2c(log)[0], PartSeen)
    t.c2s(call(2))
    assert t.s2c(log) == [Other("notification")]
    t.s2c(answer(2))
    assert isinstance(t.s2c(log)[0], PartSeen)


def test_a_cancelled_call_is_marked_and_may_still_be_answered() -> None:
    t = Transcript()
    t.c2s(call(1))
    t.c2s(call("1"))
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    t.c2s({**cancel, "params": {"requestId": 1, "reason": "too slow"}})
    t.c2s({**cancel, "params": {"requestId": "1"}})
    t.s2c(answer("1"))
    late, never = t.events()
    assert late.success
    assert late.extra["cancelled"] is True
    assert (never.success, never.error_message) == (False, "no answer was recorded")
    assert (never.extra["cancelled"], never.extra["cancel_reason"]) == (True, "too slow")


def test_the_handshake_says_who_is_at_both_ends() -> None:
    t = Transcript()
    asked = {"protocolVersion": "2099-01-01", "clientInfo": {"name": "probe", "version": "1.2"}}
    t.c2s({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": asked})
    result = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "weather", "version": "0.1"}}
    t.s2c({"jsonrpc": "2.0", "id": 0, "result": result})
    t.c2s(call(1), connection="another")
    t.s2c(answer(1), connection="another")
    (event,) = t.events()
    assert event.extra["protocol_version"] == "2025-06-18"
    assert event.extra["client_info"] == {"name": "probe", "version": "1.2"}
    assert event.extra["server_info"] == {"name": "weather", "version": "0.1"}
    assert event.extra["server_name"] == "weather"


def test_without_a_handshake_the_ends_are_named_in_meta() -> None:
    t = Transcript()
    era = "io.modelcontextprotocol/"
    t.c2s(call(1, meta={f"{era}clientInfo": {"name": "c"}, f"{era}protocolVersion": "2026-07-28"}))
    t.s2c(answer(1, _meta={f"{era}serverInfo": {"name": "s"}}))
    (event,) = t.events()
    assert event.extra["client_info"] == {"name": "c"}
    assert event.extra["server_name"] == "s"
    assert event.extra["protocol_version"] == "2026-07-28"


def test_a_traceparent_is_kept() -> None:
    t = Transcript()
    t.c2s(call(1, meta={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}))
    (event,) = t.events()
    assert (event.extra["trace_id"], event.extra["span_id"]) == ("ab" * 16, "cd" * 8)


def test_what_tools_a_server_lists_is_told_page_by_page() -> None:
    t = Transcript()
    t.c2s({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    t.c2s({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"cursor": "p2"}})
    (second,) = t.s2c({"jsonrpc": "2.0", "id": 2, "result": {"tools": [{"name": "b"}]}})
    page = {"tools": [{"name": "a"}], "nextCursor": "p2"}
    (first,) = t.s2c({"jsonrpc": "2.0", "id": 1, "result": page})
    assert isinstance(first, ToolDefinitionsSeen)
    assert isinstance(second, ToolDefinitionsSeen)
    assert (first.tools, first.first, first.last) == ([{"name": "a"}], True, False)
    assert (second.tools, second.first, second.last) == ([{"name": "b"}], False, True)
    assert second.place == 3


def test_a_batch_is_its_messages_one_by_one() -> None:
    t = Transcript()
    opened = t.c2s([call(1), call(2), {"jsonrpc": "2.0", "method": "notifications/x"}])
    assert [type(item) for item in opened] == [CallOpened, CallOpened, Other]
    t.s2c([answer(2), answer(1)])
    both = [item.call for item in t.items if isinstance(item, CallFinished)]
    assert [one.jsonrpc_id for one in both] == [2, 1]
    assert both[0].places == [(1, 1), (2, 0)]
    assert len({one.id for one in both}) == 2
    assert t.c2s([]) == [Other("no message")]


@pytest.mark.parametrize(
    "message",
    [
        None,
        1,
        "x",
        {},
        {"id": 1},
        {"method": 5},
        {"id": {}, "result": 1},
        {"id": 1, "method": "tools/call"},
        {"id": 1, "method": "tools/call", "params": [1]},
        {"id": 1, "method": "tools/call", "params": {"name": 5, "arguments": 7}},
        {"method": "notifications/cancelled", "params": [1]},
        {"id": 1, "error": "boom"},
        {"id": 1, "result": None},
        {"id": 1, "error": {"code": 1}},
    ],
)  # fmt: skip - one message a line would be a page
def test_no_message_breaks_it(message: Any) -> None:
    for way in ("c2s", "s2c"):
        t = Transcript()
        t.c2s({"id": 1, "method": "tools/call", "params": {"name": "t"}})
        assert getattr(t, way)(message)
        for event in t.events():
            assert Event.from_json(event.to_json()) == event


def test_what_is_open_is_bounded_and_what_is_given_up_is_told() -> None:
    t = Transcript(max_open=10)
    for number in range(100):
        t.c2s(call(number))
        assert len(t.pairing) <= 10
    assert len([i for i in t.items if isinstance(i, CallFinished)]) == 90
    assert len(t.events()) == 100


def test_a_policy_redacts_measures_and_cuts_as_the_contract_says() -> None:
    t = Transcript(CapturePolicy(max_payload_bytes=60))
    t.c2s(call(1, password="hunter2"))
    t.s2c(answer(1, "y" * 100))
    (event,) = t.events()
    assert event.parameters == {"password": "[redacted]"}
    assert event.payload is not None
    assert event.payload.request_size_bytes == len('{"password":"[redacted]"}')
    assert event.payload.response_truncated
    assert event.payload.response_result is None
    assert event.payload.response_size_bytes > 100


def test_a_session_that_ended_is_given_up_alone() -> None:
    t = Transcript()
    t.c2s(call(1), "a")
    t.c2s(call(1), "b")
    assert [e.session_id for e in events(t.pairing.finish(session="a"))] == ["a"]
    assert [e.session_id for e in t.events()] == ["b"]


# A script is one call: who asks, with which id, and what comes back.
IDS = st.one_of(st.integers(0, 3), st.sampled_from(["0", "1", "x"]))
SCRIPT = st.fixed_dictionaries(
    {
        "session": st.sampled_from(["a", "b"]),
        "connection": st.sampled_from([None, "1", "2"]),
        "id": IDS,
        "answers": st.integers(0, 2),
        "outcome": st.sampled_from(["ok", "tool", "error"]),
        "progress": st.integers(0, 2),
        "cancelled": st.booleans(),
        "backwards": st.booleans(),
    }
)


def messages_of(script: dict[str, Any], number: int) -> list[tuple[str, Any]]:
    """What passes for one script, in its order."""
    id_, token = script["id"], f"t{number}"
    if script["backwards"]:
        asked = {"jsonrpc": "2.0", "id": id_, "method": "sampling/createMessage", "params": {}}
        return [("s2c", asked)] + [("c2s", answer(id_, f"n{number}"))] * script["answers"]
    found: list[tuple[str, Any]] = [("c2s", call(id_, meta={"progressToken": token}, n=number))]
    for step in range(script["progress"]):
        params = {"progressToken": token, "progress": step}
        found.append(
            ("s2c", {"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        )
    if script["cancelled"]:
        params = {"requestId": id_}
        found.append(
            ("c2s", {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        )
    replies = {
        "ok": answer(id_, f"n{number}"),
        "tool": answer(id_, f"n{number}", isError=True),
        "error": {"jsonrpc": "2.0", "id": id_, "error": {"code": 1, "message": f"n{number}"}},
    }
    return found + [("s2c", replies[script["outcome"]])] * script["answers"]


def number_of(call: Call) -> str:
    parameters = call.event().parameters
    assert isinstance(parameters, dict)
    return f"{parameters['n']:032x}"


def run(steps: list[tuple[int, str, Any]], scripts: list[dict[str, Any]]) -> dict[str, str]:
    """The events by what they asked, without their times."""
    t = Transcript(identify=number_of)
    for number, direction, message in steps:
        script = scripts[number]
        getattr(t, direction)(message, script["session"], script["connection"])
    assert len(t.pairing) <= len(scripts)
    found = {}
    for event in t.events():
        wire = {k: v for k, v in event.wire.items() if k not in ("timestamp", "duration_ms")}
        for note in wire["payload"].get("notifications", []):
            note["ts"] = ""
        assert event.id not in found
        found[event.id] = Event({"timestamp": "2026-01-01T00:00:00Z", **wire}).to_json()
    return found


@given(st.lists(SCRIPT, max_size=8), st.randoms(use_true_random=False))
def test_any_interleaving_gives_the_events_of_one_call_after_the_other(
    scripts: list[dict[str, Any]], random: Any
) -> None:
    # One key is open once at a time, as JSON-RPC demands: the others come later, in order.
    lanes: dict[Any, list[int]] = {}
    for number, script in enumerate(scripts):
        key = (
            script["session"],
            script["connection"],
            script["backwards"],
            type(script["id"]),
            script["id"],
        )
        lanes.setdefault(key, []).append(number)
    in_order = [(n, *m) for n, script in enumerate(scripts) for m in messages_of(script, n)]
    queues = [
        [(n, *m) for n in lane for m in messages_of(scripts[n], n)] for lane in lanes.values()
    ]
    mixed = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(random.choice(queues).pop(0))
    assert run(mixed, scripts) == run(in_order, scripts)
