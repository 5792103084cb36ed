"""A portal as a target: its own copies, Try-It, its limits, and portals that do not answer well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from replaying import captured, counting_server, lab_of, says, served

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.calls.pace import Pace
from mcpaudit_lab.errors import PortalNotFound, ReplayRefused
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.replay.portal_target import PortalTarget
from mcpaudit_lab.server import background_portal
from mcpaudit_lab.server.background import BackgroundPortal


@contextmanager
def portal_with_calls(
    database: str, calls: list[tuple[str, dict[str, Any]]], **settings: Any
) -> Iterator[tuple[PortalClient, Lab, list[Event]]]:
    """A portal whose tools were called by Try-It, its client, and a lab that has its events."""
    with (
        background_portal(database=database, **settings) as portal,
        client_of(portal) as client,
        Lab() as lab,
    ):
        for tool, arguments in calls:
            client.tryit(tool, arguments)
        events = [client.event(event.id) for event in client.events()][::-1]
        lab.add_events(events, kind="portal", name=client.url)
        yield client, lab, events


def client_of(portal: BackgroundPortal, **settings: Any) -> PortalClient:
    return PortalClient(portal.url, portal.api_key, **settings)


ECHOES = [("echo", {"message": f"hello {n}"}) for n in range(3)]


def replay_through(database: str) -> None:
    with portal_with_calls(database, ECHOES) as (client, lab, events):
        plan = lab.plan_replay(lab.events(), client, allow={"echo"})
        assert plan.counts() == {"ready": 3, "unknown": 0, "refused": 0}
        assert plan.pace == Pace(5, 12.0)
        run = plan.run()
        assert run.counts() == {"succeeded": 3}
        frame = run.df()
        assert list(frame["event_id"]) == [event.id for event in events]
        assert set(frame["comparison"]) == {"equal"}
        theirs = client.event(frame["replay_id"][0])
        assert theirs.source == "portal-replay"
        assert lab.event(theirs.id) == theirs
        assert len(lab.compare_replays()) == 3
        assert sum(event.source == "portal-replay" for event in client.events()) == 3


def test_a_portal_on_sqlite_replays_its_own_copies(tmp_path: Path) -> None:
    replay_through(f"sqlite:///{tmp_path / 'audit.db'}")


def test_a_portal_on_postgresql_replays_its_own_copies(postgres_database: str) -> None:
    replay_through(postgres_database)


def test_the_schemas_come_from_the_portals_mcp_endpoint() -> None:
    with portal_with_calls("", [*ECHOES[:1], ("slow", {"milliseconds": 1})]) as (client, lab, _):
        tools = PortalTarget(client).tools()
        assert tools["echo"].schema is not None
        bad = captured({"message": 7}, tool="echo")
        plan = lab.plan_replay([bad], client, allow="all")
        assert plan.items[0].refusal is not None
        assert plan.items[0].refusal.reason == "does_not_fit"
        assert plan.items[0].refusal.paths == ("message",)
        without = PortalTarget(client, mcp_paths=())
        plan = lab.plan_replay(lab.events(tool="echo"), without, allow="all")
        assert plan.items[0].verdict == "unknown"
        assert plan.items[0].unknown == ("annotations",)


def test_an_event_that_the_portal_does_not_have_is_refused_or_goes_through_tryit() -> None:
    with portal_with_calls("", ECHOES[:1]) as (client, lab, _):
        other = captured({"message": "mine"}, tool="echo")
        lab.add_events([other], kind="portal", name="elsewhere")
        plan = lab.plan_replay(other.id, client, allow={"echo"})
        assert plan.items[0].refusal is not None
        assert plan.items[0].refusal.reason == "not_at_portal"
        plan = lab.plan_replay(other.id, client, allow={"echo"}, via_tryit=True)
        assert plan.items[0].route == "try-it"
        run = plan.run()
        assert run.counts() == {"succeeded": 1}
        event = lab.event(run.states[0].replay_id)
        assert event.source == "lab-replay"
        assert event.payload is not None
        assert event.payload.replayed_from == other.id


def test_a_portal_whose_copy_is_another_call_is_not_asked_to_replay_it() -> None:
    with portal_with_calls("", ECHOES[:1]) as (client, lab, events):
        wire = {**events[0].wire}
        wire["payload"] = {**wire["payload"], "request_params": {"message": "forged"}}
        with lab_of(Event(wire)) as forged:
            plan = forged.plan_replay(forged.events(), client, allow={"echo"})
            assert plan.items[0].refusal is not None
            assert plan.items[0].refusal.reason == "differs_at_portal"
            assert plan.items[0].refusal.paths == ("message",)
            assert plan.run().counts() == {"refused": 1}
        assert len(list(client.events())) == 1
        del lab


def test_a_modified_call_never_uses_the_portals_replay_endpoint() -> None:
    with portal_with_calls("", ECHOES[:1]) as (client, lab, events):
        plan = lab.plan_replay(events, client, allow={"echo"}, edit={"message": "changed"})
        assert plan.items[0].outgoing.modified
        assert plan.items[0].route == "try-it"
        run = plan.run()
        assert list(run.df()["modified"]) == [True]
        assert [event.source for event in client.events()] == ["portal-tryit"] * 2
        assert "changed" in str(run.comparison(events[0].id))


def test_our_own_bucket_keeps_to_what_the_portal_says() -> None:
    calls = [("echo", {"message": str(n)}) for n in range(7)]
    with portal_with_calls("", calls) as (client, lab, events):
        now = [0.0]
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

        plan = lab.plan_replay(events, client, allow={"echo"})
        assert plan.wait_s == 24.0
        assert "at least 24 s" in repr(plan)
        run = plan.run(limit=6, clock=lambda: now[0], sleep=sleep)
        # One second of ours: the portal's own clock has not moved, and it says when to come again.
        assert slept[0] == 12.0
        assert run.counts() in (
            {"succeeded": 6, "waiting": 1},
            {"succeeded": 5, "limited": 1, "waiting": 1},
        )


def test_a_portals_429_is_honoured() -> None:
    with portal_with_calls("", [("echo", {"message": str(n)}) for n in range(7)]) as found:
        client, lab, events = found
        slept: list[float] = []
        plan = lab.plan_replay(events, client, allow={"echo"})
        run = plan.run(rate="1000/s", sleep=slept.append)
        # Nobody really waits here, so the portal says so again and again until we give up.
        assert run.counts() == {"succeeded": 5, "limited": 1, "waiting": 1}
        assert len([seconds for seconds in slept if seconds > 1]) == 20
        assert not run.finished
        assert "stopped" in repr(run)
        # A function that would go on does not ask for each call that is left, either.
        slept.clear()
        again = plan.run(rate="1000/s", sleep=slept.append, stop_on=lambda _: False)
        assert again.counts() == {"succeeded": 5, "limited": 1, "waiting": 1}
        assert len([seconds for seconds in slept if seconds > 1]) == 20


def test_single_replays_of_a_portal_are_refused_as_a_plan_would() -> None:
    with portal_with_calls("", [("echo", {"message": "x", "password": "hunter2"})]) as found:
        client, lab, events = found
        with pytest.raises(ReplayRefused, match="redacted"):
            client.replay(events[0].id)
        plan = lab.plan_replay(events, client, allow="all")
        assert plan.items[0].refusal is not None
        assert plan.items[0].refusal.paths == ("password",)


def test_what_a_portal_redacted_inside_a_text_is_not_replayed_by_anybody() -> None:
    calls = [("echo", {"message": '{"user":"bob","password":"hunter2"}'})]
    with portal_with_calls("", calls) as (client, lab, events):
        with pytest.raises(ReplayRefused, match="message"):
            client.replay(events[0].id)
        with pytest.raises(ReplayRefused, match="redacted parameter values"):
            client.post_replay(events[0].id)
        plan = lab.plan_replay(events, client, allow="all")
        assert plan.items[0].refusal is not None
        assert plan.items[0].refusal.paths == ("message",)
        assert [event.source for event in client.events()] == ["portal-tryit"]


def test_an_audited_server_can_be_asked_by_its_mcp_endpoint_too() -> None:
    with (
        background_portal() as portal,
        client_of(portal) as client,
        lab_of(captured({"message": "x"}, tool="echo")) as lab,
    ):
        target = McpTarget(f"{portal.url}/mcp", headers=portal.headers)
        assert lab.plan_replay(lab.events(), target, allow={"echo"}).run().finished
        (event,) = client.events()
        assert event.source == "mcp"
        wrong = McpTarget(f"{portal.url}/mcp", headers={"X-API-Key": "wrong"})
        run = lab.plan_replay(lab.events(source="mcp"), wrong, allow={"echo"}).run()
        # The portal records such a call and says in JSON-RPC that it did not let it in.
        assert run.counts() == {"failed": 1}
        assert "not authenticated" in run.states[0].detail


# A portal that does not answer as it should

Answer = Callable[[httpx2.Request], httpx2.Response]


def fake_portal(event: Event, answer: Answer, posts: list[httpx2.Request]) -> httpx2.MockTransport:
    def handle(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "POST":
            posts.append(request)
            return answer(request)
        if path.endswith("/audit/meta"):
            return httpx2.Response(200, json={"replay": {"burst": 5, "refill_secs": 12}})
        if path.endswith("/portal/tools"):
            return httpx2.Response(200, json={"tools": [{"name": "work", "group": "g"}]})
        if path.endswith(event.id):
            return httpx2.Response(
                200, content=event.to_json(), headers={"content-type": "application/json"}
            )
        return httpx2.Response(404, json={"error": "no such thing"})

    return httpx2.MockTransport(handle)


def raises(error: Exception) -> Answer:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


def says_json(status: int, value: Any, **headers: str) -> Answer:
    return lambda _: httpx2.Response(status, json=value, headers=headers)


CASES: list[tuple[str, Answer]] = [
    ("uncertain", raises(httpx2.ReadTimeout("slow"))),
    ("uncertain", raises(httpx2.RemoteProtocolError("cut"))),
    ("uncertain", says_json(500, {"error": "oops"})),
    ("uncertain", lambda _: httpx2.Response(502, html="<h1>Bad gateway</h1>")),
    ("uncertain", lambda _: httpx2.Response(200, html="<h1>Hello</h1>")),
    ("uncertain", lambda _: httpx2.Response(200, content=b'{"success":tr')),
    ("uncertain", says_json(503, {"error": "try later"})),
    ("uncertain", says_json(502, {"success": False, "errors": [{"code": 7}]})),
    ("uncertain", says_json(200, {"success": True, "replay_event_id": "7"})),
    ("refused", says_json(503, {"error": "MCP server is not available"})),
    ("refused", says_json(400, {"error": 'tool "work" is no longer registered'})),
    ("refused", says_json(404, {"error": "event not found"})),
    ("refused", lambda _: httpx2.Response(307, headers={"location": "http://evil.test/"})),
    ("unsent", says_json(401, {"error": "unauthorized"})),
    ("unsent", lambda _: httpx2.Response(403, text="missing X-Requested-With header")),
    ("unsent", raises(httpx2.ConnectError("nobody"))),
    ("limited", says_json(429, {"error": "slow down"})),
]


@pytest.mark.parametrize(("status", "answer"), CASES)
def test_what_a_portal_did_not_answer_well_is_told_apart(status: str, answer: Answer) -> None:
    event = captured({"n": 1})
    posts: list[httpx2.Request] = []
    transport = fake_portal(event, answer, posts)
    slept: list[float] = []
    with (
        PortalClient("http://portal.test", "hunter2", transport=transport, backoff_s=0) as client,
        lab_of(event) as lab,
    ):
        target = PortalTarget(client, mcp_paths=())
        run = lab.plan_replay(lab.events(), target, allow={"work"}).run(sleep=slept.append)
        assert [state.status for state in run.states] == [status]
        # Once, but where the portal said that it had not even begun.
        assert len(posts) == (21 if status == "limited" else 1)
        assert all(seconds >= 1 for seconds in slept)
        assert {request.url.host for request in posts} == {"portal.test"}
        assert "hunter2" not in f"{run!r}{run.df().to_json()}"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("failed", says_json(502, {"error": 'calling "tools/call": no'})),
        ("uncertain", says_json(502, {"message": "no healthy upstream"})),
        ("uncertain", says_json(502, {"error": "Bad Gateway", "status": 502})),
        ("uncertain", says_json(502, {"error": {"code": 502}})),
        ("uncertain", says_json(502, ["no"])),
        ("uncertain", says_json(200, {"status": "ok"})),
        ("succeeded", says_json(200, {"content": []})),
        ("failed", says_json(200, {"content": [], "isError": True})),
    ],
)
def test_only_what_a_portal_itself_says_of_a_tryit_is_an_outcome(
    status: str, answer: Answer
) -> None:
    event = captured({"n": 1})
    posts: list[httpx2.Request] = []
    transport = fake_portal(event, answer, posts)
    with (
        PortalClient("http://portal.test", "k", transport=transport, backoff_s=0) as client,
        lab_of(event) as lab,
    ):
        target = PortalTarget(client, mcp_paths=())
        run = lab.plan_replay(lab.events(), target, allow={"work"}, edit={"n": 2}).run()
        assert [state.status for state in run.states] == [status]
        assert [request.url.path for request in posts] == ["/api/v1/admin/tryit/work"]


def test_a_502_of_the_portal_itself_is_an_answer() -> None:
    event = captured({"n": 1})
    answer = says_json(
        502,
        {
            "replay_event_id": "0b9e2a52-7a0f-4c1e-9a3e-1f2d3c4b5a69",
            "replayed_from": event.id,
            "result": says("no", isError=True),
            "success": False,
            "error": "tool returned IsError",
        },
    )
    transport = fake_portal(event, answer, [])
    with (
        PortalClient("http://portal.test", "k", transport=transport, backoff_s=0) as client,
        lab_of(event) as lab,
    ):
        target = PortalTarget(client, mcp_paths=())
        run = lab.plan_replay(lab.events(), target, allow={"work"}).run()
        assert run.counts() == {"failed": 1}
        # Its event cannot be had: that is said, and nothing is made up.
        assert "a pull brings it" in run.states[0].detail
        assert len(lab.events()) == 1


def test_nothing_is_asked_of_a_target_for_no_events() -> None:
    posts: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        posts.append(request)
        return httpx2.Response(500)

    transport = httpx2.MockTransport(handle)
    with (
        PortalClient("http://portal.test", "k", transport=transport, backoff_s=0) as client,
        Lab() as lab,
    ):
        plan = lab.plan_replay([], client, allow="all")
        assert repr(plan) == "0 events for http://portal.test: none"
        assert plan.run().counts() == {}
        assert list(plan.df().columns)[:2] == ["event_id", "ts"]
        assert len(plan.run().df()) == 0
    assert posts == []


def test_nothing_goes_around_a_transport_that_was_passed_in() -> None:
    event = captured({"n": 1})
    called: list[str] = []

    async def hear(scope: Any, _: Any, send: Any) -> None:
        called.append(scope["path"])
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    with served(hear) as url, lab_of(event) as lab:
        transport = fake_portal(event, says_json(500, {}), [])
        with PortalClient(url, "hunter2", transport=transport, backoff_s=0) as client:
            plan = lab.plan_replay(lab.events(), client, allow="all")
            assert plan.items[0].unknown
            assert called == []
        with PortalClient(url, "hunter2", attempts=1) as client, pytest.raises(PortalNotFound):
            lab.plan_replay(lab.events(), client, allow="all")
    # What has no transport of its own does ask there.
    assert called[:1] == ["/mcp"]


def test_no_proxy_stands_before_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def answer(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body"})

    with (
        served(answer) as url,
        PortalClient(url, "k", attempts=1, timeout_s=5) as client,
        pytest.raises(PortalNotFound),
    ):
        client.meta()


def test_a_server_of_this_process_is_no_portal() -> None:
    server, calls = counting_server()
    with lab_of(captured({})) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all")
        assert plan.pace is None
        assert plan.wait_s == 0
    assert len(calls) == 0
