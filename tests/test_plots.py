"""Plots and the overview: what is drawn, and that no name breaks it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest
from hostile import PAYLOADS, hostile_event

from mcpaudit_lab import Event, EventSet, FilterError, Lab
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.lab.overview import bucket_width_s
from mcpaudit_lab.record.printable import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

mpl.use("agg")
from matplotlib import pyplot as plt  # the backend is chosen first

PLOTS: dict[str, Callable[[EventSet], Axes]] = {
    "timeseries": EventSet.plot_timeseries,
    "durations": EventSet.plot_durations,
    "session": EventSet.plot_session,
    "hours": EventSet.plot_hours,
}


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.load(sample_files())
        yield lab


def drawn(axes: Axes) -> list[str]:
    """Draw a plot, and give every text in it."""
    figure: Any = axes.figure
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]
    return [*(text.get_text() for text in texts), axes.get_title("left")]


def test_calls_over_time_are_all_there(lab: Lab) -> None:
    axes = lab.events().plot_timeseries("1m")
    calls, failed = axes.containers
    assert sum(bar.get_height() for bar in calls) == 658
    assert sum(bar.get_height() for bar in failed) == 119
    assert "Calls by 1 min" in drawn(axes)


def test_a_width_can_be_given_or_is_a_round_one(lab: Lab) -> None:
    events = lab.events()
    assert "Calls by 10 s" in drawn(events.plot_timeseries())
    assert "Calls by 90 s" in drawn(events.plot_timeseries(timedelta(seconds=90)))
    with pytest.raises(FilterError):
        events.plot_timeseries("soon")


def test_durations_name_the_most_frequent_first_with_their_number(lab: Lab) -> None:
    texts = drawn(lab.events().plot_durations())
    assert texts[texts.index("echo  202") + 1] == "error  60"
    assert "apikey:dev-local  530" in drawn(lab.events().plot_durations("user"))


def test_a_session_has_a_lane_for_each_tool(lab: Lab) -> None:
    session = lab.events().breakdown("session")["key"].tolist()[1]
    axes = lab.events().plot_session(session)
    texts = drawn(axes)
    tools = set(lab.events(session=session).df()["tool_name"])
    assert tools <= set(texts)
    assert f"Session {session}" in " ".join(texts)
    assert len(axes.lines) >= lab.events(session=session).count()


def test_the_busiest_session_is_shown_unless_told(lab: Lab) -> None:
    rows = lab.events().breakdown("session")
    busiest = next(key for key in rows["key"] if key)
    assert f"Session {busiest}" in drawn(lab.events().plot_session())


def test_the_heat_map_counts_every_call(lab: Lab) -> None:
    axes = lab.events().plot_hours()
    assert axes.images[0].get_array().sum() == 658  # type: ignore[union-attr]  # it is there
    assert "echo" in drawn(axes)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_draws_into_given_axes_and_names_the_filter(lab: Lab, name: str) -> None:
    _, axes = plt.subplots()
    plot: Any = PLOTS[name]
    assert plot(lab.events(success=False), ax=axes) is axes
    assert any("failed" in text for text in drawn(axes))


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_plot_says_so(lab: Lab, name: str) -> None:
    assert "no events" in drawn(PLOTS[name](lab.events(tool="none")))


@pytest.mark.parametrize("plot", [EventSet.plot_durations, EventSet.plot_hours])
def test_what_nothing_can_be_told_by_is_an_error(lab: Lab, plot: Any) -> None:
    with pytest.raises(FilterError, match="choose from"):
        plot(lab.events(), "nonsense")


@pytest.mark.parametrize("name", PLOTS)
def test_no_name_is_read_as_mathematics_or_breaks_a_plot(name: str) -> None:
    """Warnings are errors here: a character that the font lacks would be one."""
    payloads = [
        text for text in PAYLOADS.values() if text.encode("utf-8", "replace").decode() == text
    ]
    with Lab() as lab:
        lab.add_events(
            (hostile_event(text, n, payload=False) for n, text in enumerate(payloads)),
            kind="tail",
            name="x",
        )
        for session in (
            payloads[0],
            r"$\frac{$ $x^{2} $\unknown$ \input{/etc/passwd} {%",
            "a*b,c%_?[x]",
        ):
            events = lab.events(session=session)
            for text in drawn(PLOTS[name](events)):
                assert visible(text) == text
                assert len(text) < 120
        texts = drawn(PLOTS[name](lab.events()))
        assert max(map(len, texts)) < 120


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("times", [("0001-01-01", "9999-12-31"), ("2026-11-24", "2026-11-24")])
def test_any_time_and_any_duration_can_be_drawn(name: str, times: tuple[str, str]) -> None:
    events = [hostile_event("x", n, payload=False).wire for n in range(2)]
    for event, day in zip(events, times, strict=True):
        event |= {"timestamp": f"{day}T12:00:00Z"}
    with Lab() as lab:
        lab.add_events(map(Event, events), kind="tail", name="x")
        assert drawn(PLOTS[name](lab.events()))
        assert lab.overview()._repr_html_()


def test_dark_styles_turn_the_map_around(lab: Lab) -> None:
    with plt.style.context("dark_background"):
        assert lab.events().plot_hours().images[0].get_cmap().name == "viridis"
    assert lab.events().plot_hours().images[0].get_cmap().name == "viridis_r"


# The overview


@pytest.mark.parametrize(
    ("span_s", "width_s"),
    [(0, 1), (60, 1), (61, 5), (3600, 60), (86400, 1800), (86400 * 365, 604800)],
)
def test_buckets_are_round(span_s: float, width_s: int) -> None:
    assert bucket_width_s(span_s) == width_s


def test_buckets_of_centuries_are_whole_weeks() -> None:
    assert bucket_width_s(86400 * 365 * 1000) % 604800 == 0


def test_the_overview_counts_what_the_record_says(lab: Lab) -> None:
    overview = lab.overview()
    events = list(lab.events())
    counts = overview.counts
    assert counts["events"] == len(events)
    assert counts["failed"] == sum(not event.success for event in events)
    assert counts["tools"] == len({event.tool_name for event in events})
    assert counts["users"] == len({event.user_subject for event in events} - {""})
    assert counts["sessions"] == len({event.session_id for event in events} - {""})
    assert counts["longest_ms"] == max(event.duration_ms for event in events)
    payloads = [event.payload for event in events if event.payload]
    assert counts["payloads"] == len(payloads)
    assert counts["replays"] == sum(payload.replayed_from is not None for payload in payloads)
    assert counts["truncated"] == sum(
        payload.request_truncated or payload.response_truncated or payload.notifications_truncated
        for payload in payloads
    )
    assert (overview.first, overview.last) == (
        min(event.timestamp for event in events),
        max(event.timestamp for event in events),
    )
    assert sum(row["count"] for row in overview.series) == len(events)


@pytest.mark.parametrize(
    ("value", "is_mark"),
    [
        ("[redacted]", True),
        ("[REDACTED]", True),
        ("<redacted:email>", True),
        ("***", True),
        ("token=[redacted]", False),
        ("**", False),
        ('he said "[redacted]" again', False),
    ],
)
def test_a_redacted_value_is_counted_as_the_package_reads_it(value: str, is_mark: bool) -> None:
    from mcpaudit_lab import Payload
    from mcpaudit_lab.record.redaction import is_redacted

    event = hostile_event("x", payload=False)
    assert is_redacted(value) == is_mark
    for params in ({"a": [value]}, {"a": {"b": value}, "c": 1}, value):
        with Lab() as lab:
            lab.add_events(
                [event.with_payload(Payload.build(request_params=params))], kind="tail", name="x"
            )
            assert lab.overview().counts["redacted"] == is_mark


def test_the_overview_prints_and_shows(lab: Lab) -> None:
    overview = lab.overview()
    assert str(overview) == repr(overview)
    assert "failed    119: tool 104, handler 8, auth 7" in str(overview)
    html = overview._repr_html_()
    assert html.count("<rect") > 10
    assert "by 10 seconds" in html
    assert "14, the first 8" in html


def test_an_empty_lab_has_an_overview() -> None:
    with Lab() as lab:
        assert "0 events" in str(lab.overview())
        assert "0 tool calls" in lab.overview()._repr_html_()
        assert "<svg" not in lab.overview()._repr_html_()
