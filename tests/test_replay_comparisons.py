"""What all replays say together: groups, proposed noise, the views of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from browser import watched_page
from replaying import captured, lab_of

from mcpaudit_lab import Event, Lab, Noise, Payload
from mcpaudit_lab.comparison import ComparisonGroups, compare
from mcpaudit_lab.comparison.paths import format_place, parse_path_pattern
from mcpaudit_lab.demo import sample_files

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.timeout(60)

Answer = Callable[[int], dict[str, Any]]


def replayed(event: Event, number: int, result: dict[str, Any], ms: int = 5) -> Event:
    """A replay of a captured call, with another answer."""
    made = captured({}, tool=event.tool_name, number=number, result=result, duration_ms=ms)
    assert made.payload is not None
    payload = Payload.build(
        jsonrpc_method="tools/call",
        request_params={},
        response_result=made.payload.response_result,
        replayed_from=event.id,
    )
    return made.with_payload(payload)


def lab_with(count: int, before: Answer, after: Answer, *, tool: str = "work") -> Lab:
    """A lab of this many originals with a replay each."""
    originals = [
        captured({}, tool=tool, number=n, result=before(n), duration_ms=n) for n in range(count)
    ]
    replays = [replayed(e, 100 + n, after(n), ms=2 * n) for n, e in enumerate(originals)]
    return lab_of(*originals, *replays)


def structured(**members: Any) -> dict[str, Any]:
    return {"structuredContent": members}


def test_a_place_says_in_how_many_replays_it_differs_and_of_what_type() -> None:
    with lab_with(
        60,
        lambda n: structured(ms=n, name="a", same=1),
        lambda n: structured(ms=n + (n < 41), name="b" if n < 3 else "a", same=1),
    ) as lab:
        replays = lab.compare_replays()
        rows = replays.paths()[["path", "kind", "replays", "of", "types"]].values.tolist()
        assert rows == [
            ["response.structuredContent.ms", "value", 41, 60, "always a number"],
            ["response.structuredContent.name", "value", 3, 60, "always a text"],
        ]
        assert replays.counts() == {"equal": 19, "changed": 41, "unknown": 0}
        assert re.search(
            r"response\.structuredContent\.ms: 41 of 60, always a number \(\S{8} \S{8}\); 0 -> 1",
            str(replays),
        )
        assert (len(replays), len(replays.df()), len(list(replays))) == (60, 60, 60)
        assert list(replays["verdict"]) == [row["verdict"] for row in replays]


def test_only_what_always_differs_and_each_time_otherwise_is_proposed_as_noise() -> None:
    with lab_with(
        5,
        lambda n: structured(at=n, sometimes=0, release="1.0", kind=1),
        lambda n: structured(
            at=1000 + n, sometimes=n % 2, release="2.0", kind=f"{n}" if n else n + 7
        ),
    ) as lab:
        replays = lab.compare_replays()
        # `release` has changed to one new value: that is news. `kind` changes its type.
        assert replays.noise() == Noise({"work": ["response.structuredContent.at"]})
        assert "perhaps noise of work: response.structuredContent.at" in str(replays)
        without = lab.compare_replays(noise=replays.noise())
        assert "response.structuredContent.at" not in set(without.paths()["path"])
        assert without.counts()["changed"] == 5


def test_two_replays_are_too_few_to_call_anything_noise() -> None:
    with lab_with(2, lambda n: structured(at=n), lambda n: structured(at=n + 9)) as lab:
        assert lab.compare_replays().noise() == Noise()


def test_elements_of_a_list_are_one_place_and_a_replay_counts_once() -> None:
    with lab_with(
        3,
        lambda _: structured(items=[{"t": 1}, {"t": 2}]),
        lambda n: structured(items=[{"t": 10 + n}, {"t": 20 + n}]),
    ) as lab:
        (row,) = lab.compare_replays().paths().to_dict("records")
        assert (row["path"], row["replays"]) == ("response.structuredContent.items[*].t", 3)
        ignored = lab.compare_replays(ignore=[row["path"]])
        assert ignored.counts() == {"equal": 3, "changed": 0, "unknown": 0}


def test_a_place_is_a_pattern_that_means_its_paths() -> None:
    for path in (("a", 0, "b c", 3), ("response", "[0]", "x.y"), ("a\x00b", "*", 7)):
        pattern = parse_path_pattern(format_place(path))
        assert pattern.matches(path)
        other = tuple(part + 1 if isinstance(part, int) else part for part in path)
        assert pattern.matches(other)


def test_a_replay_without_its_original_is_unknown_and_counted() -> None:
    original = captured({}, result=structured(a=1))
    with lab_of(replayed(original, 1, structured(a=2))) as lab:
        replays = lab.compare_replays()
        assert replays.counts() == {"equal": 0, "changed": 0, "unknown": 1}
        assert replays.df()["original_ms"].isna().all()
        assert replays.tools()["unknown"].tolist() == [1]
        assert "1 replay without the original in this lab" in replays._repr_html_()


def test_a_lab_without_replays_has_empty_tables() -> None:
    with lab_of(captured({})) as lab:
        replays = lab.compare_replays()
        assert (len(replays), len(replays.tools()), len(replays.paths())) == (0, 0, 0)
        assert str(replays) == "0 replays: none"
        assert replays._repr_html_()
        assert replays.arrow().num_rows == 0


def test_keys_that_differ_in_every_answer_make_no_unbounded_number_of_groups() -> None:
    groups = ComparisonGroups()
    for n in range(60):
        left = captured({}, result=structured())
        right = captured({}, result=structured(**{f"key{n}-{k}": k for k in range(100)}))
        groups.add("work", compare(left, right))
    assert len(groups.changes_of("work")) == 5_000
    assert groups.left_out == 1_000
    assert "1,000 more changes in other places" in groups.describe()
    assert sum(group.example is not None for group in groups.changes_of("work")) == 40


def test_the_view_shows_places_and_an_example_behind_a_click(chromium: Browser) -> None:
    with Lab() as lab:
        lab.load(sample_files())
        html = lab.compare_replays()._repr_html_()
    with watched_page(chromium) as watched:
        page = watched.page
        page.set_content(html)
        places = page.locator("details.mal-place")
        assert places.count() == 8
        card = places.first.locator("[aria-label^='comparison of two audit events']")
        assert not card.is_visible()
        places.first.locator("summary").first.click()
        assert card.is_visible()
        assert page.locator("svg.mal-scatter circle").count() >= 2
        assert "Equal in every replay" in page.inner_text("body")


def test_hostile_answers_stay_text_in_every_view(chromium: Browser) -> None:
    bad = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
    with lab_with(
        3, lambda _: structured(**{bad: bad}), lambda n: structured(**{bad: f"{bad}{n}"}), tool=bad
    ) as lab:
        replays = lab.compare_replays()
        for text in (str(replays), replays._repr_html_()):
            assert "\x1b" not in text
            assert "\u202e" not in text
    with watched_page(chromium) as watched:
        watched.page.set_content(replays._repr_html_())
        assert watched.page.locator("img").count() == 0
        assert not watched.errors
