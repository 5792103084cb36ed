"""Conditions as text: how they are read, written, refused and sent; sets combined."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import polars as pl
import pytest

from mcpaudit_lab import Event, EventFilter, FilterError, Lab, LabError
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.filters.conditions import glob_matches
from mcpaudit_lab.filters.where import parse_where
from mcpaudit_lab.portal.http.request import make_request

READ = [
    ("tool != echo and (duration_ms > 200 or not success)", None),
    ("tool=~read_* or error_message ~ 'time out'", None),
    ("not (tool = a or tool = b)", 'not (tool_name = "a" or tool_name = "b")'),
    ("!success && user in [a, b] || !(q = x)", None),
    ("duration_ms < 2.5", "duration_ms < 3"),
    ("duration_ms <= 2.5", "duration_ms < 3"),
    ("duration_ms = 2", "duration_ms >= 2 and duration_ms < 3"),
    ('param."a.b"."\\u00e9" = "x"', None),
    ("time > 2026-11-24", "timestamp > 2026-11-24T23:59:59.999999Z"),
    ("NOT success AND tool IN (echo)", 'not success and tool_name = "echo"'),
    ("tool = AND_more", 'tool_name = "AND_more"'),
    ("tool == notes", 'tool_name = "notes"'),
    ('header.user-agent !~ "curl"', None),
    ("not not not param.x", "not param.x"),
    ("response.isError = true and response.n = null", None),
    ("trace = 0AF7651916CD43DD8448EB211C80319C", None),
]


@pytest.mark.parametrize(("text", "written"), READ)
def test_a_condition_is_written_so_that_it_reads_the_same(text: str, written: str | None) -> None:
    found = parse_where(text)
    assert parse_where(str(found)) == found
    if written is not None:
        assert str(found) == written
    item = EventFilter(where=text)
    assert EventFilter.from_query(item.to_query()) == item
    assert eval(repr(item)) == item  # noqa: S307 - our own repr
    assert hash(item) == hash(EventFilter(where=str(found)))


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("tool !=", 8, "expected a value"),
        ("tool != echo and", 17, "expected a name, not, or ("),
        ("(tool = a", 10, "expected and, or, or )"),
        ("tool = a b", 10, "expected and, or, or the end"),
        ("tool in [a", 11, "expected , or the end of the list"),
        ("success and tol = x", 13, "unknown name"),
        ("success and duration_ms > x", 13, "compared with a number"),
        ("tool > a", 1, "compare it by"),
        ("id = 5", 1, "is not a UUID"),
        ("param.x > true", 1, "only numbers and texts"),
        ('tool = "\\x"', 8, "JSON's escapes"),
        ("captured_at > 5", 1, "unknown name"),
        ("duration_ms", 1, "needs a comparison"),
        ("", 1, "expected a name"),
        ("tool = 'x", 8, "expected a value"),
    ],
)
def test_an_error_points_at_the_place(text: str, place: int, told: str) -> None:
    with pytest.raises(FilterError, match=f"character {place}: ") as caught:
        parse_where(text)
    message = str(caught.value)
    assert told in message
    lines = message.split("\n")
    assert lines[-1].index("^") == place + 1
    assert lines[-2] == f"  {text}"


def test_a_condition_is_bounded() -> None:
    with pytest.raises(FilterError, match="at most 10,000"):
        parse_where("tool = a or " * 1000)
    with pytest.raises(FilterError, match="300 comparisons"):
        parse_where(" or ".join(["tool = a"] * 301))
    with pytest.raises(FilterError, match="100 levels"):
        parse_where("not (success and " * 101 + "success" + ")" * 101)
    assert str(parse_where("(" * 4000 + "success" + ")" * 4000)) == "success"


def test_a_pattern_of_many_stars_ends() -> None:
    event = Event.build(timestamp="2026-11-24T00:00:00Z", tool_name="a" * 300)
    stars = "*" + "a*" * 12
    assert EventFilter(where=f"tool =~ {stars}a").matches(event)
    assert not EventFilter(where=f"tool =~ {stars}b").matches(event)
    for pattern, text, wanted in (
        ("a*b*c", "aXbXbXc", True),
        ("a*bc*c", "abc", False),
        ("*ab*ab*", "aab", False),
        ("*ab*ab*", "xabab", True),
        ("a**", "a", True),
        ("*", "", True),
        ("?*?", "a", False),
    ):
        assert glob_matches(text, pattern) is wanted, (pattern, text)


def test_an_integer_over_64_bits_in_a_payload_is_compared() -> None:
    line = (
        b'{"id":"00000000-0000-4000-8000-000000000001","timestamp":"2026-11-24T00:00:00Z",'
        b'"duration_ms":1,"tool_name":"a","success":true,"transport":"http","source":"mcp",'
        b'"payload":{"jsonrpc_method":"tools/call","response_size_bytes":99999999999999999999}}\n'
    )
    with Lab() as lab:
        lab.add_lines(line, kind="portal", name="made")
        for text, wanted in (("> 5", 1), ("> 99999999999999999999", 0), ("< 5", 0)):
            item = EventFilter(where=f"response_size_bytes {text}")
            assert lab.events(item).count() == wanted
            assert sum(map(item.matches, lab.events())) == wanted


def test_control_characters_of_a_condition_are_not_sent_to_a_terminal() -> None:
    with pytest.raises(FilterError) as caught:
        parse_where("tool = \x1b[31m = x")
    assert "\x1b" not in str(caught.value)
    assert "\x1b" not in EventFilter(where='tool = "\\u001b[31m"').describe()


@pytest.mark.parametrize(
    "keywords", [{"tool__nt": "a"}, {"__not": "a"}, {"tool__not": []}, {"param..x__not": 1}]
)
def test_a_keyword_that_means_nothing_is_an_error(keywords: dict[str, Any]) -> None:
    with pytest.raises(FilterError):
        EventFilter(**keywords)


def test_our_portal_is_sent_the_condition_and_the_reference_server_is_not() -> None:
    asked = [EventFilter(where="tool != echo"), EventFilter(where="param.n > 5", tool="a")]
    ours = make_request(asked, reference=False)
    assert parse_qs(ours.sent.to_query())["where"] == ['tool_name != "echo" and param.n > 5']
    assert (ours.checks, ours.details, ours.whole) == ((), None, True)
    theirs = make_request(asked, reference=True)
    assert theirs.sent == EventFilter(tool="a")
    assert theirs.details == EventFilter(where='tool_name != "echo" and param.n > 5')
    assert not theirs.whole
    summaries = make_request(asked[:1], reference=True)
    assert (summaries.checks, summaries.details) == ((asked[0],), None)
    narrowed = make_request([EventFilter(where="tool = echo and duration_ms > 5")], reference=True)
    assert narrowed.sent == EventFilter(tool="echo")
    assert not narrowed.whole


@pytest.fixture(scope="module")
def lab() -> Lab:
    found = Lab()
    found.load(sample_files(), progress=False)
    return found


def test_sets_combine(lab: Lab) -> None:
    echo, failed = lab.events(tool="echo"), lab.events("not success")
    everything = set(lab.events().ids())
    one, two = set(echo.ids()), set(failed.ids())
    assert one & two
    assert one - two
    assert set((echo | failed).ids()) == one | two
    assert set((echo & failed).ids()) == one & two
    assert set((echo - failed).ids()) == one - two
    assert set((~echo).ids()) == everything - one
    nested = (echo | failed.where(limit=3)) - ~lab.events("duration_ms > 5")
    wanted = (one | set(failed.ids()[:3])) & {e.id for e in lab.events() if e.duration_ms > 5}
    assert set(nested.ids()) == wanted
    assert len(nested) == len(wanted)
    assert nested.describe() == (
        '((tool "echo") or (where not success and at most 3)) but not'
        " ((all events) but not (where duration_ms >= 6))"
    ).replace("success and at", "success and at")
    assert set(nested.where(limit=2).ids()) <= wanted
    with Lab() as other, pytest.raises(FilterError, match="two labs"):
        echo | other.events()
    with pytest.raises(TypeError):
        echo | "text"  # type: ignore[operator]  # what is refused


def test_a_set_is_sorted_sampled_and_cut(lab: Lab) -> None:
    events = lab.events(tool="echo")
    slow = events.sort("duration_ms", descending=True)
    times = [event.duration_ms for event in slow]
    assert times == sorted(times, reverse=True) == slow.df()["duration_ms"].tolist()
    assert slow.head(3)["id"].tolist() == slow.ids()[:3]
    assert slow.tail(2)["id"].tolist() == slow.ids()[-2:]
    assert events.tail(0).empty
    assert events.sort().ids() == events.ids()
    with pytest.raises(FilterError, match="no column 'nothing'"):
        events.sort("nothing").ids()
    some = events.sample(5, seed=1)
    assert some.ids() == events.sample(5, seed=1).ids()
    assert set(some.ids()) < set(events.ids())
    assert len(events.sample(10_000)) == len(events)


def test_sets_and_results_are_read_by_others(lab: Lab, tmp_path: Path) -> None:
    events = lab.events(tool="echo")
    result = lab.sql("select id, duration_ms from audit_events order by id")
    assert pl.DataFrame(events)["id"].to_list() == events.pl()["id"].to_list() == events.ids()
    assert len(pd.api.interchange.from_dataframe(result)) == len(result)
    assert result.pl()["duration_ms"].to_list() == result.to_pandas()["duration_ms"].tolist()
    rows = result.fetchall()
    assert list(result) == rows
    assert result.fetchone() == rows[0]
    assert result.fetchmany(2) == rows[1:3]
    assert result.fetchmany(10_000) == rows[3:]
    assert result.fetchone() is None
    assert list(result) == rows
    strange = lab.sql("select '=1+1' as \"=x\", 5 as n, null as nothing")
    assert strange.write(tmp_path / "x.csv").read_text() == "'=x,n,nothing\n'=1+1,5,\n"
    assert strange.write(tmp_path / "x.tsv").read_text() == "'=x\tn\tnothing\n'=1+1\t5\t\n"
    with pytest.raises(LabError, match="overwrite=True"):
        strange.write(tmp_path / "x.csv")
    with pytest.raises(LabError, match=r"write \.csv"):
        strange.write(tmp_path / "x.doc")
    result.write(tmp_path / "x.parquet")
    assert pd.read_parquet(tmp_path / "x.parquet")["id"].tolist() == [row[0] for row in rows]
    exact = lab.sql("select 0.1::double + 0.2 as x, 1.10::decimal(9, 2) as d, now() as t")
    line = exact.write(tmp_path / "x.jsonl").read_text()
    assert line.startswith('{"x":0.30000000000000004,"d":1.10,"t":"')
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o600
    result.write(tmp_path / "x.jsonl", overwrite=True)
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == len(rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("x.csv", "x.jsonl", "x.parquet", "x.tsv")
    ]


def test_random_conditions_mean_the_same_in_python_and_in_the_lab(lab: Lab) -> None:
    chance = random.Random(7)  # noqa: S311 - the same in each run
    leaves = [
        *(
            "tool = echo",
            "tool =~ *e*",
            "not success",
            "duration_ms > 20",
            "param.extras.code >= 200",
        ),
        *("error_message ~ not", "header.user-agent ~ curl", "response.isError", "user != ''"),
        *("time > 2026-11-24T03:50:00Z", "request_size_bytes < 300", "notifications"),
    ]

    def made(depth: int) -> str:
        if not depth or chance.random() < 0.2:
            return chance.choice(leaves)
        word = chance.choice(["and", "or", "not"])
        if word == "not":
            return f"not ({made(depth - 1)})"
        return f"({made(depth - 1)} {word} {made(depth - 1)})"

    events = list(lab.events())
    for _ in range(60):
        item = EventFilter(where=made(4))
        wanted = [event.id for event in events if item.matches(event)]
        assert lab.events(item).ids() == wanted, item
