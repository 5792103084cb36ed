"""A portal seeded with the recorded rows answers as the reference server did.

Every recorded request is made again, over HTTP, to a portal on PostgreSQL and to one on SQLite.
Status, headers and JSON bodies are the recorded ones, but for the differences that are listed
here and in docs/compatibility.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from own_postgres import empty_database
from recordings import MINTED, UPSTREAM, Answer, Recording, recordings, seed_postgres

from mcpaudit_lab.calls.ratelimit import TokenBuckets
from mcpaudit_lab.record.jsontext import loads, same
from mcpaudit_lab.server.auth.minted_keys import MemoryKeyStore, MintedKey, digest_key
from mcpaudit_lab.server.background import BackgroundPortal, background_portal
from mcpaudit_lab.server.http.portal import PortalOptions
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

# Compared in tests of their own: a clock, or what other tests change.
SEPARATE = ("admin/key-list", "portal/admin-keys", "portal/dashboard", "aggregates/dashboard")
NOW = datetime(2026, 11, 24, 3, 53, 15, 904665, tzinfo=UTC)
KEYS = {"dev-local": "upstream-dev-key"}

RECORDED = recordings()

TOOLS = (
    "chatty", "echo", "error", "fixed_response", "flaky", "headers", "long_output", "lorem",
    "progress", "sized_response", "slow", "whoami",
)  # fmt: skip  # reads better as a list than as a column

# --- the differences: recording -> why ------------------------------------------------------------

# The reference server ignores these filters or parts of them; here they are a 400 with a text.
MALFORMED = {
    "events/bad-percent": "a % without two hex digits",
    "events/has=bogus": "no such column",
    "events/limit-abc": "not a number",
    "events/limit-float": "not a whole number",
    "events/offset-neg": "less than 0",
    "events/param.Inf": "not a JSON number",
    "events/param.empty-segment": "an empty key in a path",
    "events/param.nul": "a NUL, which was an error of the database (500)",
    "events/semicolon": "a ; between filters",
    "events/success=0": "neither true nor false",
    "events/success=no": "neither true nor false",
    "events/time-from-garbage": "no time",
    "events/time-from-no-zone": "a time without a zone",
    "events/time-from-unix": "no RFC 3339 time",
    "events/unknown-param": "no such filter",
}
OTHER = {
    "events/limit-5000": "the limit is echoed as applied: 1000",
    "aggregates/timeseries-tool-filter-ignored": "aggregates take every filter",
    "aggregates/breakdown-tool-filtered-ignored": "aggregates take every filter",
    "portal/server": "our version and settings",
    "portal/instructions": "our server's own words",
    "portal/tools": "schemas and annotations besides name, group and description",
    **{f"portal/tool-{name}": "the same" for name in TOOLS},
    "portal/wellknown": "the address of this portal",
    "public/wk-protected-resource": "the address of this portal",
    "public/portal-placeholder": "a page of our own",
    "replay/no-args-whoami": "a call without arguments can be replayed",
    "replay/wait-11.8": "Retry-After is rounded up, never 0",
}


def _seeded_keys() -> MemoryKeyStore:
    store = MemoryKeyStore()
    minted = MintedKey(
        id="9c477ab6-092a-42a7-8ce2-310b916e0fd0",
        name="ci-runner",
        digest=digest_key(MINTED.encode()),
        description="minted by driver",
        created_by="apikey:dev-local",
        created_at=datetime(2026, 11, 24, 3, 43, 42, 929846, tzinfo=UTC),
        last_used_at=datetime(2026, 11, 24, 3, 50, 16, 923334, tzinfo=UTC),
    )
    anyio.run(store.add, minted)
    return store


@contextmanager
def _portal(store: SqlLogger, **settings: Any) -> Iterator[BackgroundPortal]:
    settings.setdefault("key_store", _seeded_keys())
    with background_portal(None, store, KEYS, now=lambda: NOW, **settings) as portal:
        yield portal


@pytest.fixture(scope="module")
def seeded_url(postgres_module_database: str) -> str:
    SqlLogger(postgres_module_database).close()
    seed_postgres(postgres_module_database)
    return postgres_module_database


def _copy_to_sqlite(source_url: str, file: Path) -> str:
    url = f"sqlite:///{file}"
    with SqlLogger(source_url) as source, SqlLogger(url) as target:
        # In order of commit: a replay refers to its original.
        target.log([row.event for row in source.after(0, 1000, payloads=True)])
    return url


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def store_url(
    request: pytest.FixtureRequest, seeded_url: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    if request.param == "postgresql":
        return seeded_url
    return _copy_to_sqlite(seeded_url, tmp_path_factory.mktemp("seeded") / "audit.db")


@pytest.fixture(scope="module")
def portal(store_url: str) -> Iterator[BackgroundPortal]:
    with _portal(SqlLogger(store_url)) as running:
        yield running


def _rows(answer: Answer) -> Any:
    """The body as JSON; lines of it for an export; text where it is none."""
    kind = answer.headers.get("content-type", "")
    if kind == "application/json":
        return loads(answer.body)
    if kind == "application/x-ndjson":
        return [loads(line) for line in answer.body.splitlines()]
    return answer.body.decode()


def _assert_same(found: Answer, recorded: Answer) -> None:
    assert (found.status, found.headers) == (recorded.status, recorded.headers)
    ours, theirs = _rows(found), _rows(recorded)
    if isinstance(ours, dict) and "breakdown" in ours:
        # Keys with equal counts came in no order at all; here they are sorted.
        theirs["breakdown"].sort(key=lambda share: (-share["count"], share["key"]))
    assert same(ours, theirs), _first_difference(ours, theirs)


def _first_difference(ours: Any, theirs: Any, path: str = "") -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        pairs: Any = ((name, ours[name], theirs[name]) for name in ours)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(range(len(ours)), ours, theirs, strict=True)
    else:
        return f"at {path}: {str(ours)[:300]} instead of {str(theirs)[:300]}"
    return next(
        (
            _first_difference(left, right, f"{path}/{name}")
            for name, left, right in pairs
            if not same(left, right)
        ),
        "the same",
    )


def _reading(prefix: str = "") -> list[Any]:
    """The recorded requests that change nothing."""
    return [
        pytest.param(item, id=item.name)
        for item in RECORDED
        if item.method in ("GET", "HEAD")
        and item.name.startswith(prefix)
        and item.name not in MALFORMED
        and item.name not in OTHER
        and item.name not in SEPARATE
    ]


@pytest.mark.parametrize("recording", _reading())
def test_a_recorded_request_has_the_recorded_answer(
    recording: Recording, portal: BackgroundPortal
) -> None:
    _assert_same(recording.ask(portal.url), recording.answer)


@pytest.mark.parametrize(
    "recording", [pytest.param(item, id=item.name) for item in RECORDED if item.name in MALFORMED]
)
def test_a_malformed_filter_is_told(recording: Recording, portal: BackgroundPortal) -> None:
    found = recording.ask(portal.url)
    assert found.status == 400
    assert found.headers == {"content-type": "application/json"}
    assert len(json.loads(found.body)["error"]) > 10


def _recorded(name: str) -> Recording:
    return next(item for item in RECORDED if item.name == name)


def test_the_limit_is_echoed_as_applied(portal: BackgroundPortal) -> None:
    recording = _recorded("events/limit-5000")
    found, recorded = _rows(recording.ask(portal.url)), _rows(recording.answer)
    assert (found["limit"], recorded["limit"]) == (1000, 5000)
    assert same({**found, "limit": 5000}, recorded)


def test_aggregates_take_every_filter(portal: BackgroundPortal) -> None:
    series = _rows(_recorded("aggregates/timeseries-tool-filter-ignored").ask(portal.url))
    assert sum(point["count"] for point in series["points"]) == 213
    shares = _rows(_recorded("aggregates/breakdown-tool-filtered-ignored").ask(portal.url))
    assert all(share["count"] == share["errors"] for share in shares["breakdown"])
    assert sum(share["count"] for share in shares["breakdown"]) == 122


def test_the_dashboard_shows_the_recorded_hour(portal: BackgroundPortal) -> None:
    recording = _recorded("aggregates/dashboard")
    found, recorded = _rows(recording.ask(portal.url)), _rows(recording.answer)
    for name in ("window_from", "window_to"):
        # Nanoseconds there, microseconds here.
        assert recorded.pop(name).startswith(found.pop(name)[:-1])
    assert same(found, recorded), _first_difference(found, recorded)


def test_tools_are_the_recorded_ones_with_their_schemas(portal: BackgroundPortal) -> None:
    recording = _recorded("portal/tools")
    found, recorded = _rows(recording.ask(portal.url)), _rows(recording.answer)
    kept = [
        {name: tool[name] for name in ("name", "group", "description")} for tool in found["tools"]
    ]
    assert kept == recorded["tools"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in found["tools"])
    hints = {tool["name"]: tool.get("annotations", {}) for tool in found["tools"]}
    assert hints["echo"]["readOnlyHint"] is True
    for tool in found["tools"]:
        recording = _recorded(f"portal/tool-{tool['name']}")
        one, recorded = _rows(recording.ask(portal.url)), _rows(recording.answer)
        assert one == tool
        assert recorded.items() <= one.items()


@pytest.mark.parametrize(
    "name", ["portal/wellknown", "public/wk-protected-resource", "portal/server"]
)
def test_what_tells_of_the_portal_has_the_recorded_form(
    name: str, portal: BackgroundPortal
) -> None:
    recording = _recorded(name)
    found, recorded = recording.ask(portal.url), recording.answer
    assert (found.status, found.headers) == (recorded.status, recorded.headers)
    ours, theirs = _rows(found), _rows(recorded)
    if name == "portal/server":
        assert {"config", "version"} <= ours.keys() & theirs.keys()
        assert "upstream-dev-key" not in found.body.decode()
        return
    text = json.dumps(ours).replace(portal.url, "http://127.0.0.1:18080")
    assert json.loads(text) == theirs


# --- what changes something -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(item, id=item.name)
        for item in RECORDED
        if item.method == "POST"
        and item.answer.status in (400, 401, 403, 404)
        and item.name not in OTHER
    ],
)
def test_a_recorded_refusal_is_refused_so(recording: Recording, portal: BackgroundPortal) -> None:
    _assert_same(recording.ask(portal.url), recording.answer)


class Calls:
    """A portal whose tools are called: its limiter's clock stands still."""

    def __init__(self, portal: BackgroundPortal, now_s: list[float]) -> None:
        self.portal = portal
        self._now_s = now_s

    def refill(self) -> None:
        """Let an hour pass: the budget is full again."""
        self._now_s[0] += 3600


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def calls(
    request: pytest.FixtureRequest, seeded_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Calls]:
    """On a seeded database of its own: a recorded replay and a try only add rows to it."""
    now_s = [0.0]
    limiter = TokenBuckets(clock=lambda: now_s[0])
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = _copy_to_sqlite(seeded_url, tmp_path_factory.mktemp("calls") / "audit.db")
        else:
            admin = request.getfixturevalue("postgres_admin")
            url = stack.enter_context(empty_database(admin))
            SqlLogger(url).close()
            seed_postgres(url)
        portal = stack.enter_context(_portal(SqlLogger(url), limiter=limiter))
        yield Calls(portal, now_s)


@pytest.fixture
def fresh(calls: Calls) -> BackgroundPortal:
    """That portal, with a full budget."""
    calls.refill()
    return calls.portal


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(item, id=item.name)
        for item in RECORDED
        if item.name.startswith("replay/") and item.answer.status in (200, 502)
    ],
)
def test_a_recorded_replay_is_answered_so(recording: Recording, fresh: BackgroundPortal) -> None:
    found, recorded = recording.ask(fresh.url), recording.answer
    assert (found.status, found.headers) == (recorded.status, recorded.headers)
    ours, theirs = _rows(found), _rows(recorded)
    assert ours.pop("replay_event_id") != theirs.pop("replay_event_id")
    assert same(ours, theirs), _first_difference(ours, theirs)


def test_the_sixth_of_a_burst_is_refused_as_recorded(fresh: BackgroundPortal) -> None:
    burst = _recorded("replay/burst-1")
    assert [burst.ask(fresh.url).status for _ in range(5)] == [200] * 5
    recorded = _recorded("replay/burst-6")
    _assert_same(recorded.ask(fresh.url), recorded.answer)
    out_of_budget = _recorded("replay/out-of-budget-redacted")
    _assert_same(out_of_budget.ask(fresh.url), out_of_budget.answer)


def test_a_call_without_arguments_is_replayed(fresh: BackgroundPortal) -> None:
    recording = _recorded("replay/no-args-whoami")
    found = recording.ask(fresh.url)
    assert (recording.answer.status, found.status) == (400, 200)
    assert _rows(found)["result"]["structuredContent"]["subject"] == "apikey:dev-local"


@pytest.mark.parametrize("name", ["admin/tryit-echo-ok", "errors/tryit-schema-refused"])
def test_a_recorded_try_is_answered_so(name: str, fresh: BackgroundPortal) -> None:
    recording = _recorded(name)
    _assert_same(recording.ask(fresh.url), recording.answer)


def test_a_key_is_minted_listed_and_revoked_as_recorded(store_url: str) -> None:
    with _portal(SqlLogger(store_url)) as fresh:
        assert_keys_are_kept_as_recorded(fresh)


def assert_keys_are_kept_as_recorded(fresh: BackgroundPortal) -> None:
    before = _recorded("portal/admin-keys")
    _assert_same(before.ask(fresh.url), before.answer)
    made = _recorded("admin/key-create")
    found, recorded = made.ask(fresh.url), made.answer
    assert found.status == recorded.status
    ours, theirs = _rows(found), _rows(recorded)
    assert len(ours.pop("plaintext")) == len(theirs.pop("plaintext"))
    varying = {"id", "created_at"}
    assert {k: v for k, v in ours["key"].items() if k not in varying} == {
        k: v for k, v in theirs["key"].items() if k not in varying
    }
    listed = _recorded("admin/key-list")
    ours, theirs = _rows(listed.ask(fresh.url)), _rows(listed.answer)
    assert [item.keys() for item in ours["keys"]] == [item.keys() for item in theirs["keys"]]
    gone = _recorded("admin/key-delete")
    _assert_same(gone.ask(fresh.url), gone.answer)


def test_every_recording_is_compared_or_a_difference_that_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "compatibility.md").read_text(encoding="utf-8")
    for name in (*MALFORMED, *OTHER):
        _recorded(name)
        assert f"`{name}`" in text, f"{name} is not in docs/compatibility.md"


def test_cors_headers_are_the_recorded_ones_when_any_origin_is_allowed(store_url: str) -> None:
    raw = (UPSTREAM / "events" / "limit-1.http").read_bytes().partition(b"\r\n\r\n")[0].decode()
    recorded = {
        name.lower(): set(value.split(", "))
        for name, _, value in (line.partition(": ") for line in raw.splitlines())
        if name.startswith("Access-Control")
    }
    options = PortalOptions(cors_origins=("*",))
    with _portal(SqlLogger(store_url), options=options) as running:
        answer = httpx2.get(f"{running.url}/healthz", headers={"Origin": "https://ui.test"})
    for name, values in recorded.items():
        assert values <= set(answer.headers[name].split(", "))
