"""The portal's client: what it asks, what it makes of answers, and that it keeps its key."""

from __future__ import annotations

import copy
import gzip
import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import httpx2
import pytest
from portals import an_event
from recordings import Recording, recordings
from reference_portal import KEY, ReferencePortal, recorded_events
from rich.console import Console
from rich.traceback import Traceback

from mcpaudit_lab import (
    BadAnswer,
    CsrfRefused,
    Event,
    EventFilter,
    FilterError,
    PortalClient,
    PortalError,
    PortalNotFound,
    PortalUnavailable,
    RateLimited,
    RecordError,
    ReplayRefused,
    Unauthorized,
)

URL = "http://portal.example:8080"
SECRET = "sk-very-secret-0123456789"
AN_ID = "d90d37e9-209e-4110-aa38-f2780b834e84"
Handler = Callable[[httpx2.Request], httpx2.Response]


def client(answer: Handler | httpx2.Response, **settings: Any) -> PortalClient:
    handler = answer if callable(answer) else lambda _: answer
    settings = {"backoff_s": 0, "attempts": 3, **settings}
    return PortalClient(URL, SECRET, transport=httpx2.MockTransport(handler), **settings)


def as_json(value: Any, status: int = 200) -> httpx2.Response:
    return httpx2.Response(status, json=value)


class Chunks(httpx2.SyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.given += len(chunk)
            yield chunk


# --- the recordings -------------------------------------------------------------------------------


RECORDED = {recording.name: recording for recording in recordings()}


def replayed(name: str) -> tuple[PortalClient, list[httpx2.Request]]:
    """A client of a portal that gives one recorded answer."""
    answer = RECORDED[name].answer
    asked: list[httpx2.Request] = []

    def give(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

    return client(give), asked


def test_recorded_answers_are_read() -> None:
    assert replayed("portal/me")[0].me()["subject"] == "apikey:dev-local"
    assert [tool["name"] for tool in replayed("portal/tools")[0].tools()][:2] == ["whoami", "echo"]
    assert replayed("portal/meta")[0].meta()["export"] == {"max_rows": 100_000}
    assert "stats" in replayed("portal/dashboard")[0].dashboard()
    assert replayed("portal/tool-echo")[0].tool("echo")["group"] == "identity"


@pytest.mark.parametrize(
    ("name", "kind", "status", "text"),
    [
        ("errors/bad-key", Unauthorized, 401, "unauthorized"),
        ("replay/no-csrf-header", CsrfRefused, 403, "missing X-Requested-With header"),
        ("replay/unknown-id", PortalNotFound, 404, "event not found"),
        ("replay/redacted", ReplayRefused, 400, "original event has redacted parameter values"),
        ("replay/truncated-request-no-params", ReplayRefused, 400, "no captured request params"),
        ("replay/wait-3.0", RateLimited, 429, "replay rate limit exceeded; retry in 9s"),
    ],
)
def test_a_recorded_refusal_of_a_replay_is_the_error_one_would_act_on(
    name: str, kind: type[PortalError], status: int, text: str
) -> None:
    portal, asked = replayed(name)
    with pytest.raises(kind) as caught:
        portal.post_replay(AN_ID)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert text in caught.value.text
    assert text in str(caught.value)
    assert len(asked) == 1
    assert asked[0].headers["x-requested-with"]


def test_recorded_replays_are_answers_also_where_the_call_failed() -> None:
    good = replayed("replay/ok-echo-nested")[0].post_replay(AN_ID)
    assert (good.success, good.status, good.error) == (True, 200, "")
    assert good.replay_event_id == "433f9a55-f85d-4ac5-8b80-7935fdabda76"
    failed = replayed("replay/fail-error-protocol-502")[0].post_replay(AN_ID)
    assert (failed.success, failed.status) == (False, 502)
    assert failed.result is not None
    assert failed.result["isError"] is True


def test_try_it_is_read_as_recorded() -> None:
    portal, asked = replayed("admin/tryit-echo-ok")
    answer = portal.tryit("echo", {"message": "cap <b>"})
    assert not answer.is_error
    assert answer.result is not None
    assert asked[0].url.raw_path == b"/api/v1/admin/tryit/echo"
    assert asked[0].read() == RECORDED["admin/tryit-echo-ok"].body
    refused = replayed("errors/tryit-schema-refused")[0].tryit("echo", {"message": 5})
    assert refused.is_error


@pytest.mark.parametrize("wait", ["replay/wait-3.0", "replay/wait-11.8"])
def test_a_rate_limit_waits_a_second_at_least(wait: str) -> None:
    recording: Recording = RECORDED[wait]
    with pytest.raises(RateLimited) as caught:
        replayed(wait)[0].post_replay(AN_ID)
    assert caught.value.retry_after_s == max(1, int(recording.answer.headers["retry-after"]))


@pytest.mark.parametrize(
    "row",
    [
        '{"key":"x","count":1e999,"errors":0}',
        '{"key":"x","count":99999999999999999999,"errors":0}',
        '{"key":"x","count":-1,"errors":0}',
        '{"key":"x","count":{},"errors":0}',
        '{"key":"x","errors":0}',
        "7",
    ],
)
def test_figures_that_are_none_are_a_bad_answer(row: str) -> None:
    answer = f'{{"by":"tool","breakdown":[{row}]}}'
    portal = client(lambda _: httpx2.Response(200, text=answer))
    with pytest.raises(BadAnswer, match="figures are not"):
        portal.breakdown("tool")
    points = row.replace('"key":"x"', '"time":"2026-11-24T03:00:00Z","avg_duration_ms":1')
    portal = client(lambda _: httpx2.Response(200, text=f'{{"points":[{points}]}}'))
    with pytest.raises(BadAnswer, match="figures are not"):
        portal.timeseries("1m")


def test_a_key_that_no_frame_holds_is_shown_without_its_lone_surrogate() -> None:
    answer = r'{"breakdown":[{"key":"a\ud800","count":1,"errors":0}]}'
    shares = client(lambda _: httpx2.Response(200, text=answer)).breakdown("tool")
    assert list(shares["key"]) == ["a\ufffd"]


def test_figures_are_frames_with_the_columns_of_a_lab() -> None:
    def give(request: httpx2.Request) -> httpx2.Response:
        which = "timeseries-default" if "timeseries" in request.url.path else "breakdown-tool"
        answer = RECORDED[f"aggregates/{which}"].answer
        return httpx2.Response(answer.status, headers=answer.headers, content=answer.body)

    portal = client(give)
    series = portal.timeseries("1m")
    assert list(series) == ["time", "count", "errors", "avg_duration_ms"]
    assert str(series["time"].dtype) == "datetime64[us, UTC]"
    assert [str(kind) for kind in series.dtypes[1:]] == ["Int64", "Int64", "float64"]
    shares = portal.breakdown("tool")
    assert list(shares) == ["key", "count", "errors"]
    assert shares["count"].is_monotonic_decreasing
    with pytest.raises(FilterError, match="choose from tool"):
        portal.breakdown("weather")
    with pytest.raises(FilterError, match="knows no filter but from and to"):
        portal.timeseries("1m", tool="echo")
    with pytest.raises(FilterError, match="duration"):
        portal.timeseries("soon")


# --- filters --------------------------------------------------------------------------------------


def test_the_reference_is_never_asked_what_it_would_drop() -> None:
    server = ReferencePortal([an_event(number, tool_name=f"t{number}") for number in range(5)])
    portal = PortalClient(URL, KEY, transport=server.transport)
    found = list(portal.events(tool=["t1", "t3"], source="mcp", session=None))
    assert [event.tool_name for event in found] == ["t3", "t1"]
    queries = [dict(request.url.params) for request in server.requests]
    assert all(set(query) <= {"limit", "offset", "format", "to"} for query in queries)


def test_paging_gives_each_event_once_though_rows_arrive() -> None:
    events = [an_event(number // 3) for number in range(2500)]
    server = ReferencePortal(list(events))
    arriving = iter(range(100))
    server.before = lambda _: server.store(an_event(10_000 + next(arriving)))
    portal = PortalClient(URL, KEY, transport=server.transport)
    found = [event.id for event in portal.events()]
    assert len(found) == len(set(found))
    assert {event.id for event in events} <= set(found)
    assert len(list(portal.events(limit=7, offset=2))) == 7


def test_an_export_goes_on_behind_the_silent_cap() -> None:
    events = [an_event(number // 2) for number in range(50)] + [an_event(7) for _ in range(15)]
    server = ReferencePortal(events, max_rows=10)
    portal = PortalClient(URL, KEY, transport=server.transport)
    found = [event.id for event in portal.export()]
    assert sorted(found) == sorted(event.id for event in events)
    assert len(list(portal.export(limit=23))) == 23
    whole = list(portal.export(payloads=True, limit=3))
    assert [event.payload is not None for event in whole] == [True] * 3


def test_two_filters_must_both_hold() -> None:
    server = ReferencePortal([an_event(n, tool_name="ab"[n % 2]) for n in range(6)])
    portal = PortalClient(URL, KEY, transport=server.transport)
    assert list(portal.events(EventFilter(tool="a"), tool="b")) == []
    assert len(list(portal.events(EventFilter(tool="a"), tool=["a", "b"]))) == 3
    with pytest.raises(FilterError, match="once"):
        portal.events(EventFilter(limit=1), limit=2)
    with pytest.raises(FilterError):
        portal.events(colour="red")


# --- a portal that misbehaves ---------------------------------------------------------------------


def test_what_changes_nothing_is_asked_again_and_what_calls_is_not() -> None:
    asked: list[str] = []

    def away(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.method)
        if len(asked) < 3:
            return httpx2.Response(503, text="starting")
        return as_json({"subject": "me"})

    assert client(away).me() == {"subject": "me"}
    assert asked == ["GET"] * 3
    calls: list[Callable[[PortalClient], object]] = [
        lambda portal: portal.post_replay(AN_ID),
        lambda portal: portal.tryit("echo"),
    ]
    for call in calls:
        asked.clear()
        with pytest.raises(PortalUnavailable) as caught:
            call(client(away))
        assert caught.value.sent
        assert len(asked) == 1


def test_asking_again_logs_nothing_and_leaves_others_logs_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(PortalUnavailable):
        client(httpx2.Response(503, text="starting")).me()
    assert "stamina" not in {record.name for record in caplog.records}
    logging.getLogger("stamina").warning("another's")
    assert [record.message for record in caplog.records if record.name == "stamina"] == [
        "another's"
    ]


def test_nobody_there_says_so_and_that_nothing_was_sent() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("[Errno 111] Connection refused", request=request)

    with pytest.raises(PortalUnavailable, match="is it running, and is the URL right") as caught:
        client(refuse).post_replay(AN_ID)
    assert not caught.value.sent
    assert caught.value.status == 0


@pytest.mark.parametrize("error", [httpx2.ReadTimeout, httpx2.ReadError, httpx2.WriteError])
def test_a_connection_that_breaks_leaves_open_whether_the_call_ran(error: Any) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error("broken", request=request)

    with pytest.raises(PortalUnavailable) as caught:
        client(fail).post_replay(AN_ID)
    assert caught.value.sent


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_page_of_html_is_not_shown_and_is_no_answer(status: int) -> None:
    page = httpx2.Response(status, html="<html><h1>Bad Gateway</h1></html>")
    for ask in (PortalClient.me, lambda portal: portal.post_replay(AN_ID)):
        with pytest.raises(PortalUnavailable, match=str(status)) as caught:
            ask(client(page))
        assert "<" not in str(caught.value)


def test_a_good_status_with_html_is_no_portal() -> None:
    with pytest.raises(BadAnswer, match="is there a portal at this URL"):
        client(httpx2.Response(200, html="<html>Welcome</html>")).me()


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'"x"', b"{", b"\xff", b""])
def test_what_is_not_what_a_portal_says_is_a_bad_answer(body: bytes) -> None:
    portal = client(
        httpx2.Response(200, content=body, headers={"content-type": "application/json"})
    )
    with pytest.raises(BadAnswer):
        portal.me()
    with pytest.raises(BadAnswer):
        portal.event(AN_ID)
    with pytest.raises(BadAnswer):
        list(portal.events())
    with pytest.raises(BadAnswer):
        portal.post_replay(AN_ID)


@pytest.mark.parametrize("rows", [[3], [{}], [{"id": "x"}], {"a": 1}, "events"])
def test_a_list_that_holds_no_events_is_a_bad_answer(rows: Any) -> None:
    with pytest.raises(BadAnswer):
        list(client(as_json({"events": rows, "total": 1})).events())


def test_a_rate_limit_without_a_header_waits_a_second() -> None:
    limited = as_json({"error": "slow down"}, 429)
    with pytest.raises(RateLimited) as caught:
        client(limited).post_replay(AN_ID)
    assert caught.value.retry_after_s == 1
    asked: list[int] = []

    def once(_: httpx2.Request) -> httpx2.Response:
        asked.append(1)
        return limited if len(asked) == 1 else as_json({})

    assert client(once).me() == {}


def test_an_endless_body_is_given_up() -> None:
    endless = Chunks(iter(lambda: b'{"a": "' + b"x" * 10_000, b""))
    portal = client(lambda _: httpx2.Response(200, stream=endless), max_answer_bytes=100_000)
    with pytest.raises(BadAnswer, match="more than 100,000 bytes"):
        portal.me()
    assert endless.given < 200_000
    endless.given = 0
    with pytest.raises(BadAnswer, match="more than 100,000 bytes"):
        list(portal.export_lines(portal.request()))
    assert endless.given < 300_000
    endless.given = 0
    failing = client(lambda _: httpx2.Response(500, stream=endless), attempts=1)
    with pytest.raises(PortalUnavailable):
        failing.me()
    assert endless.given < 200_000


def test_a_body_that_trickles_is_given_up() -> None:
    seconds = iter(range(0, 10_000, 7))
    slow = Chunks(iter(lambda: b" ", b""))
    portal = client(
        lambda _: httpx2.Response(200, stream=slow),
        timeout_s=3,
        attempts=1,
        clock=lambda: float(next(seconds)),
    )
    with pytest.raises(PortalUnavailable, match="took more than 30 s"):
        portal.me()


def test_a_packed_body_counts_unpacked() -> None:
    packed = gzip.compress(b'"' + b"x" * 1_000_000 + b'"')
    answer = httpx2.Response(
        200,
        content=packed,
        headers={"content-encoding": "gzip", "content-length": str(len(packed))},
    )
    with pytest.raises(BadAnswer, match="more than"):
        client(lambda _: answer, max_answer_bytes=100_000).me()


def test_a_body_cut_half_way_is_noticed() -> None:
    def cut(_: httpx2.Request) -> httpx2.Response:
        body = Chunks(iter([b'{"subject"']))
        return httpx2.Response(200, stream=body, headers={"content-length": "30"})

    with pytest.raises(BadAnswer, match="cut off"):
        client(cut).me()

    def torn(_: httpx2.Request) -> httpx2.Response:
        lines = an_event(1).to_json().encode() + b"\n" + an_event(2).to_json().encode()[:40]
        return httpx2.Response(200, stream=Chunks(iter([lines[:50], lines[50:]])))

    portal = client(torn)
    lines = portal.export_lines(portal.request())
    assert Event.from_json(next(lines)).tool_name == "echo"
    with pytest.raises(BadAnswer, match="cut off inside a line"):
        next(lines)


def test_a_stream_that_breaks_says_so() -> None:
    def broken() -> Iterator[bytes]:
        yield an_event(1).to_json().encode() + b"\n"
        raise httpx2.RemoteProtocolError("peer closed connection")

    portal = client(lambda _: httpx2.Response(200, stream=Chunks(broken())))
    with pytest.raises(BadAnswer, match="cut off: peer closed"):
        list(portal.export_lines(portal.request()))


def test_a_redirect_is_not_followed_and_takes_no_key() -> None:
    asked: list[httpx2.Request] = []

    def redirect(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(302, headers={"location": "https://evil.example/\x1b[31mlogin"})

    portal = client(redirect)
    for ask in (PortalClient.me, lambda portal: portal.post_replay(AN_ID)):
        asked.clear()
        with pytest.raises(
            BadAnswer, match=r"redirects \(302\) to https://evil\.example"
        ) as caught:
            ask(portal)
        assert len(asked) == 1
        assert "\x1b" not in str(caught.value)
    portal.http.get("https://evil.example/collect")
    assert "x-api-key" in asked[0].headers
    assert "x-api-key" not in asked[1].headers


def test_the_words_of_a_portal_cannot_touch_the_terminal() -> None:
    wicked = as_json({"error": "\x1b[2J\u202egone" + "x" * 5000}, 400)
    with pytest.raises(PortalError) as caught:
        client(wicked).me()
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in caught.value.text
    assert len(caught.value.text) <= 300


# --- replays that must not be ---------------------------------------------------------------------


def test_a_replay_looks_at_the_event_first() -> None:
    ready, bare = an_event(1), an_event(2, payload=None)
    redacted = an_event(3, payload={"request_params": {"a": [{"password": "[redacted]"}]}})
    cut = an_event(4, payload={"request_truncated": True})
    stranger = an_event(5, error_category="auth", success=False)
    server = ReferencePortal([ready, bare, redacted, cut, stranger])
    portal = PortalClient(URL, KEY, transport=server.transport)
    assert portal.replay(ready.id).success
    for event in (bare, redacted, cut, stranger):
        with pytest.raises(ReplayRefused) as caught:
            portal.replay(event.id)
        assert not caught.value.sent
    assert server.asked["post"] == 1
    with pytest.raises(RecordError):
        portal.replay("nonsense")


# --- the key --------------------------------------------------------------------------------------


def test_the_key_is_in_nothing_that_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    portal = client(as_json({"error": "no"}, 500))
    shown = [repr(portal), str(portal), repr(portal.headers()), repr(vars(portal)), portal.url]
    asks: list[Callable[[], object]] = [
        portal.me,
        lambda: portal.post_replay(AN_ID),
        lambda: list(portal.export()),
    ]
    for ask in asks:
        with pytest.raises(PortalError) as caught:
            ask()
        error = caught.value
        assert error.__context__ is None
        page = Console(record=True, width=400, file=io.StringIO())
        frames = error.__traceback__
        page.print(Traceback.from_exception(type(error), error, frames, show_locals=True))
        shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
        shown.append(page.export_text())
    assert len(shown) > 10
    assert SECRET not in "\n".join(shown) + caplog.text
    assert portal.headers()["X-API-Key"] == SECRET


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_and_its_headers_are_not_pickled_or_copied(copying: Any) -> None:
    portal = client(as_json({}))
    for thing in (portal, portal.headers(), portal._credentials):
        with pytest.raises(TypeError):
            copying(thing)


def test_the_environment_says_which_portal_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCPAUDIT_URL", f"{URL}/")
    monkeypatch.setenv("MCPAUDIT_API_KEY", "from-outside")
    with PortalClient() as portal:
        assert portal.url == URL
        assert portal.headers()["X-API-Key"] == "from-outside"
    with PortalClient(bearer="token-1") as portal:
        assert portal.headers()["Authorization"] == "Bearer token-1"
        assert "X-API-Key" not in portal.headers()
        assert repr(portal) == f"PortalClient({URL!r}, bearer token)"


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://x", "http://", f"http://me:{SECRET}@h", "http://h/?k=1"]
)
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(PortalError) as caught:
        PortalClient(url, "key")
    assert SECRET not in str(caught.value)
    assert not caught.value.sent


@pytest.mark.parametrize("key", [f"{SECRET}\n", f"{SECRET} x", f"{SECRET}é", f"{SECRET}\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(PortalError, match="no header can carry") as caught:
        PortalClient(URL, key)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(PortalError, match="not both"):
        PortalClient(URL, "a", bearer="b")


def test_no_key_is_told_from_a_wrong_one() -> None:
    refused = as_json({"error": "unauthorized"}, 401)
    with pytest.raises(Unauthorized, match="does not know this API key"):
        client(refused).me()
    bare = PortalClient(URL, "", transport=httpx2.MockTransport(lambda _: refused))
    with pytest.raises(Unauthorized, match="MCPAUDIT_API_KEY"):
        bare.me()


def test_which_portal_it_is_is_found_out_once() -> None:
    asked: list[str] = []

    def ours(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.method)
        if request.method == "HEAD":
            return httpx2.Response(200, headers={"x-export-total": "4"})
        return as_json({"events": [], "total": 0})

    portal = client(ours)
    assert list(portal.events(source="mcp")) == list(portal.events(source="mcp")) == []
    assert asked.count("HEAD") == 1
    assert client(httpx2.Response(405)).is_reference
    with pytest.raises(Unauthorized):
        _ = client(as_json({"error": "unauthorized"}, 401)).is_reference


def test_events_come_as_they_were_recorded() -> None:
    from pathlib import Path

    recorded = recorded_events(Path(__file__).parent / "data" / "upstream" / "details.jsonl")
    server = ReferencePortal(recorded)
    portal = PortalClient(URL, KEY, transport=server.transport)
    newest: list[Event] = list(islice(portal.events(), 5))
    assert all(event.wire["timestamp"].endswith("-05:00") for event in newest)
    assert portal.event(newest[0].id).summary == newest[0]
