"""The reference server's recorded answers, played as targets through passed-in transports."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, cast

import httpx2
import pytest
from recordings import KEYS, UPSTREAM, recordings
from replaying import captured, lab_of

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.calls.pace import Pace
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.replay.planning import ReplayPlan
from mcpaudit_lab.replay.run import ReplayRun

RECORDED = {recording.name: recording for recording in recordings()}
LINES = (UPSTREAM / "details.jsonl").read_bytes().splitlines()
DETAILS = {json.loads(line)["id"]: line for line in LINES}
API = "/api/v1/portal"


class Reference:
    """The recorded portal: what it said of itself, of its events, and then to each replay."""

    def __init__(self, *names: str, without: str = "") -> None:
        self.names = list(names)
        self.without = without
        self.posts: list[httpx2.Request] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        assert request.headers["x-api-key"] == KEYS["dev"]
        path = request.url.path
        if request.method == "POST":
            assert request.headers["x-requested-with"]
            self.posts.append(request)
            return self._recorded(f"replay/{self.names.pop(0)}")
        if path in (f"{API}/audit/meta", f"{API}/tools"):
            return self._recorded(f"portal/{path.rpartition('/')[2]}")
        detail = DETAILS.get(path.rpartition("/")[2])
        if detail is None:
            return self._recorded("errors/event-missing")
        return httpx2.Response(200, content=detail, headers={"content-type": "application/json"})

    def _recorded(self, name: str) -> httpx2.Response:
        found = RECORDED[name].answer
        headers = {key: text for key, text in found.headers.items() if key != self.without}
        return httpx2.Response(found.status, content=found.body, headers=headers)


def original(name: str) -> Event:
    """The event that a recorded replay was asked for."""
    return Event.from_json(DETAILS[RECORDED[f"replay/{name}"].path.split("/")[-2]])


@contextmanager
def planned(event: Event, reference: Reference) -> Iterator[tuple[Lab, ReplayPlan]]:
    transport = httpx2.MockTransport(reference.answer)
    with (
        PortalClient("http://reference.test", KEYS["dev"], transport=transport) as client,
        lab_of(event) as lab,
    ):
        yield lab, lab.plan_replay([event], client, allow={event.tool_name})


@pytest.mark.parametrize(
    ("name", "status", "comparison"),
    [
        ("ok-echo-nested", "succeeded", "equal"),
        # A replay has nobody to tell of its progress, and says so.
        ("ok-progress", "succeeded", "changed"),
        ("fail-error-protocol-502", "failed", "equal"),
        ("fail-error-as-tool-502", "failed", "equal"),
    ],
)
def test_a_recorded_replay_has_the_outcome_and_the_event_that_the_reference_wrote(
    name: str, status: str, comparison: str
) -> None:
    event, reference = original(name), Reference(name)
    with planned(event, reference) as (lab, plan):
        assert plan.pace == Pace(5, 12.0)
        # Nothing but its MCP endpoint would tell what a tool claims to do.
        assert "annotations" in plan.items[0].unknown
        run = plan.run()
        assert run.counts() == {status: 1}
        row = run.row(run.states[0])
        assert row["comparison"] == comparison
        assert lab.event(row["replay_id"]).source == "portal-replay"
        assert list(lab.compare_replays()["original"]) == [event.id]
    assert [request.url.path for request in reference.posts] == [
        f"{API}/audit/events/{event.id}/replay"
    ]


def test_a_replay_whose_event_cannot_be_had_is_told() -> None:
    reference = Reference("ok-tryit-original")
    with planned(original("ok-tryit-original"), reference) as (lab, plan):
        run = plan.run()
        assert run.counts() == {"succeeded": 1}
        assert "a pull brings it" in run.states[0].detail
        assert len(lab.events()) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("redacted", "redacted"),
        ("out-of-budget-redacted", "redacted"),
        ("truncated-request-no-params", "truncated"),
        ("auth-failed-original", "not_authenticated"),
    ],
)
def test_what_the_reference_refuses_or_ought_to_is_not_even_asked(name: str, reason: str) -> None:
    reference = Reference()
    with planned(original(name), reference) as (_, plan):
        assert [item.refusal.reason for item in plan.items if item.refusal] == [reason]
        assert plan.run().counts() == {"refused": 1}
    assert reference.posts == []


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("no-args-whoami", "refused", "no captured request params"),
        ("redacted", "refused", "redacted parameter values"),
        ("unknown-id", "refused", "event not found"),
        ("no-csrf-header", "unsent", "missing X-Requested-With header"),
        ("bad-key", "unsent", "unauthorized"),
        ("no-csrf-no-key", "unsent", "unauthorized"),
    ],
)
def test_a_recorded_refusal_is_told_in_its_words(name: str, status: str, text: str) -> None:
    reference = Reference(name)
    with planned(original("no-args-whoami"), reference) as (_, plan):
        run = plan.run()
        assert run.counts() == {status: 1}
        assert text in run.states[0].detail
    assert len(reference.posts) == 1


def test_an_event_that_the_reference_does_not_have_is_not_asked_for() -> None:
    reference = Reference()
    with planned(captured({"message": "x"}, tool="echo"), reference) as (_, plan):
        assert [item.refusal.reason for item in plan.items if item.refusal] == ["not_at_portal"]
    assert reference.posts == []


@pytest.mark.parametrize(
    ("name", "without", "wait_s"),
    [
        ("burst-6", "", 12.0),
        ("wait-3.0", "", 9.0),
        # It says 0, since it rounds down.
        ("wait-11.8", "", 1.0),
        ("burst-6", "retry-after", 1.0),
    ],
)
def test_a_recorded_429_is_waited_for_at_least_a_second(
    name: str, without: str, wait_s: float
) -> None:
    reference = Reference(name, "ok-echo-nested", without=without)
    slept: list[float] = []
    with planned(original("ok-echo-nested"), reference) as (_, plan):
        run = plan.run(sleep=slept.append, clock=lambda: 0.0)
        assert run.counts() == {"succeeded": 1}
    assert slept == [wait_s]
    assert len(reference.posts) == 2


# Its MCP endpoint


class _Recorded:
    """What the parser of HTTP reads from in place of a socket."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._raw)


def mcp_answer(name: str, message: Any) -> httpx2.Response:
    """A recorded answer, with the id of the request that it answers now."""
    response = HTTPResponse(cast("Any", _Recorded((UPSTREAM / "mcp" / name).read_bytes())))
    response.begin()
    body = response.read()
    then = json.loads(
        (UPSTREAM / "mcp" / name.replace(".resp", ".req")).read_bytes().split(b"\r\n\r\n")[1]
    )
    body = body.replace(b'"id":%d,' % then["id"], b'"id":%d,' % message["id"])
    kept = ("content-type", "mcp-session-id")
    headers = {key: text for key, text in response.getheaders() if key.lower() in kept}
    return httpx2.Response(response.status, content=body, headers=headers)


def replay_by_mcp(event: Event, name: str) -> tuple[ReplayRun, ReplayPlan, list[Any]]:
    calls: list[Any] = []
    names = {"initialize": "09-initialize.resp", "tools/list": "11-tools-list.resp"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            return httpx2.Response(204 if request.method == "DELETE" else 405)
        message = json.loads(request.content)
        if "id" not in message:
            return httpx2.Response(202)
        if message["method"] == "tools/call":
            calls.append(message["params"]["arguments"])
        return mcp_answer(names.get(message["method"], name), message)

    target = McpTarget("http://reference.test/", transport=httpx2.MockTransport(answer))
    with lab_of(event) as lab:
        plan = lab.plan_replay([event], target, allow={event.tool_name})
        return plan.run(), plan, calls


@pytest.mark.parametrize(
    ("tool", "arguments", "name", "status"),
    [
        ("echo", {"message": "plain"}, "12-echo.resp", "succeeded"),
        ("error", {"message": "boom"}, "14-error-protocol.resp", "failed"),
        ("echo", {"message": "x"}, "04-bad-key-tools-call.resp", "failed"),
        ("echo", {"message": "x"}, "00-no-credential.resp", "unsent"),
        ("echo", {"message": "x"}, "44-unknown-method.resp", "refused"),
    ],
)
def test_recorded_answers_of_its_mcp_endpoint_are_told_apart(
    tool: str, arguments: dict[str, Any], name: str, status: str
) -> None:
    run, plan, calls = replay_by_mcp(captured(arguments, tool=tool), name)
    assert plan.items[0].verdict == "ready"
    assert run.counts() == {status: 1}
    assert calls == [arguments]
