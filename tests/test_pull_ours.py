"""The client and pulls against our own portal, over loopback, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from click.testing import CliRunner
from portals import an_event
from reference_portal import recorded_events
from short_run import each_third

from mcpaudit_lab import Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.server import BackgroundPortal, PortalOptions, SqlLogger, background_portal
from mcpaudit_lab.storage.rows import same_event

if TYPE_CHECKING:
    import httpx2

UPSTREAM = Path(__file__).parent / "data" / "upstream"
# Two of the large ones are enough.
_ALL = sorted(recorded_events(UPSTREAM / "details.jsonl"), key=lambda e: len(e.to_json()))
RECORDED = [event for event in _ALL if len(event.to_json()) < 20_000] + _ALL[-2:]
QUESTIONS: list[dict[str, Any]] = [
    {"where": "tool != echo and (duration_ms > 100 or not success)"},
    {"where": 'not param.extras.code and tool =~ "ec*"'},
    {"where": "response.isError = true or error_message ~ NOT"},
    {},
    {"tool": "echo"},
    {"tool": ["echo", "slow"], "success": True},
    {"error_category": ["tool", "auth"]},
    {"error_category": "", "source": "portal-replay"},
    {"min_duration_ms": 5, "tool_group": "failure"},
    {"q": "AUTH"},
    {"has": ["notifications", "request_headers"]},
    {"params": {"extras.user.id": "alice"}},
    {"params": {("extras", "a.b"): "dotted key"}},
    {"params": {("extras", "user", "profile", "nick"): None}},
    {"headers": {"user-agent": "ci-runner/2.0"}, "responses": {"isError": True}},
    {"from_": "2026-11-24T03:44:00Z", "to": "2026-11-24T03:44:20.5Z"},
]


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A portal's database with the recorded events that have payloads."""
    if request.param == "sqlite":
        url: str = f"sqlite:///{tmp_path_factory.mktemp('portal')}/audit.db"
    else:
        url = request.getfixturevalue("postgres_module_database")
    with SqlLogger(url) as store:
        store.log(RECORDED)
    return url


@pytest.fixture(scope="module")
def served(database: str) -> Iterator[BackgroundPortal]:
    """A portal on it; no test here calls a tool."""
    with background_portal(database=database, options=PortalOptions(export_max_rows=100)) as at:
        yield at


@pytest.fixture
def portal(served: BackgroundPortal) -> Iterator[PortalClient]:
    with PortalClient(served.url, served.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def everything() -> Iterator[Lab]:
    with Lab() as lab:
        lab.add_events(RECORDED, kind="tail", name="recorded")
        yield lab


def counted(portal: PortalClient) -> Counter[str]:
    """Counts what the client asks from now on, by the last part of the path."""
    asked: Counter[str] = Counter()

    def count(request: httpx2.Request) -> None:
        asked[request.url.path.rpartition("/")[2]] += request.method == "GET"

    portal.http.event_hooks = {"request": [count], "response": []}
    return asked


def ids_of(lab: Lab, **chosen: Any) -> set[str]:
    return {event.id for event in lab.events(**chosen)}


def test_a_pull_has_everything_and_is_quiet_when_repeated(portal: PortalClient) -> None:
    assert not portal.is_reference
    with Lab() as lab:
        asked = counted(portal)
        report = lab.pull(portal)
        assert report.complete
        assert (report.new, report.expected) == (len(RECORDED), len(RECORDED))
        assert report.payloads == sum(event.payload is not None for event in RECORDED)
        # By exports alone, however low the cap.
        assert set(asked) == {"events", "export", "meta", "tool-lists", "checkpoint", "leaves"}
        kept = {event.id: event for event in lab.events()}
        for event in RECORDED:
            assert same_event(kept[event.id], event)
        asked.clear()
        assert lab.pull(portal, check_ids=False).listed == 0
        assert asked["export"] == 0
        again = lab.pull(portal)
        assert (again.listed, again.changed) == (0, 0)


@pytest.mark.parametrize("chosen", each_third(QUESTIONS), ids=str)
def test_every_question_is_answered_as_a_lab_does(
    portal: PortalClient, everything: Lab, chosen: dict[str, Any]
) -> None:
    expected = ids_of(everything, **chosen)
    assert expected
    assert {event.id for event in portal.events(**chosen)} == expected
    exported = list(portal.export(payloads=True, **chosen))
    assert {event.id for event in exported} == expected
    bare = {event.id for event in RECORDED if event.payload is None}
    assert {event.id for event in exported if event.payload is None} == expected & bare
    with Lab() as lab:
        report = lab.pull(portal, **chosen)
        assert ids_of(lab) == expected
        assert report.complete
        assert report.new == len(expected)
        assert lab.pull(portal, **chosen).listed == 0


def test_figures_are_those_of_a_lab(portal: PortalClient, everything: Lab) -> None:
    pd.testing.assert_frame_equal(portal.timeseries("1m"), everything.events().timeseries("1m"))
    events = everything.events(success=False)
    pd.testing.assert_frame_equal(portal.timeseries("90s", success=False), events.timeseries("90s"))
    for by in ("tool", "user", "success", "auth_type"):
        pd.testing.assert_frame_equal(portal.breakdown(by), everything.events().breakdown(by))
    pd.testing.assert_frame_equal(
        portal.breakdown("tool", user="nobody"), everything.events(user="nobody").breakdown("tool")
    )


def test_many_payloads_left_out_come_by_exports_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/audit.db"
    events = [an_event(number) for number in range(600)]
    with SqlLogger(url) as store:
        store.log(events)
        with (
            background_portal(database=url) as at,
            PortalClient(at.url, at.api_key) as portal,
            Lab(tmp_path / "case.duckdb") as lab,
        ):
            asked = counted(portal)
            assert lab.pull(portal, payloads=False).payloads == 0
            assert lab.pull(portal, check_ids=False).payloads == 600
            assert asked["export"] == 2
            late = [an_event(17, duration_ms=900_000), an_event(700)]
            store.log(late)
            report = lab.pull(portal)
            assert (report.new, report.payloads, report.complete) == (2, 2, True)
            assert ids_of(lab) == {event.id for event in [*events, *late]}


def test_the_command_line_pulls_and_says_how_it_ended(portal: PortalClient, tmp_path: Path) -> None:
    key = portal.headers()["X-API-Key"]
    runner = CliRunner(env={"MCPAUDIT_API_KEY": key})
    words = ["pull", portal.url, "--lab", str(tmp_path / "case.duckdb"), "--tool", "echo"]
    done = runner.invoke(commands, [*words, "--no-payloads"])
    assert done.exit_code == 0, done.output
    assert 'tool "echo"' in done.output
    assert "0 new payloads" in done.output
    assert key not in done.output
    done = runner.invoke(commands, [*words, "--json"])
    assert done.exit_code == 0
    assert '"complete":true' in done.output
    wrong = CliRunner(env={"MCPAUDIT_API_KEY": "not-the-key"}).invoke(commands, words)
    assert wrong.exit_code == 2
    assert "does not know this API key" in wrong.output
    assert "not-the-key" not in wrong.output
    limited = runner.invoke(commands, [*words, "--filter", "limit=3"])
    assert limited.exit_code == 2
    assert "limit and offset have no place here" in limited.output


def test_as_many_deletions_as_late_arrivals_hide_nothing(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/audit.db"
    events = [an_event(number) for number in range(50)]
    late = an_event(10.5)
    with SqlLogger(database) as store:
        store.log(events)
        with (
            # With a log, the deletion itself would be a TamperError.
            background_portal(database=database, options=PortalOptions(log=False)) as at,
            PortalClient(at.url, at.api_key) as client,
            Lab() as lab,
        ):
            lab.pull(client)
            with closing(sqlite3.connect(tmp_path / "audit.db")) as connection:
                connection.execute("delete from audit_payloads where event_id = ?", [events[9].id])
                connection.execute("delete from audit_events where id = ?", [events[9].id])
                connection.commit()
            store.log([late])
            report = lab.pull(client)
            assert (report.new, report.gone, report.complete) == (1, 1, True)
            kept = lab.event(late.id)
            assert (kept.payload is None) == (late.payload is None)
