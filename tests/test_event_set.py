"""Event sets: what they count, list, turn into frames and aggregate."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mcpaudit_lab import Event, EventFilter, FilterError, Lab
from mcpaudit_lab.filters.combined import contract_order

UPSTREAM = Path(__file__).parent / "data" / "upstream"
ID = "00000000-0000-4000-8000-00000000000"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.load([UPSTREAM / "export.jsonl", UPSTREAM / "details.jsonl"])
        yield lab


def answer(name: str) -> Any:
    return json.loads((UPSTREAM / name).read_bytes().partition(b"\r\n\r\n")[2])


def lab_of(*events: Event) -> Lab:
    lab = Lab()
    lab.load(io.BytesIO("".join(f"{event.to_json()}\n" for event in events).encode()))
    return lab


def call(number: int, **members: Any) -> Event:
    params = members.pop("params", None)
    result = members.pop("result", None)
    payload = {"jsonrpc_method": "tools/call", "request_params": params, "response_result": result}
    given: dict[str, Any] = {
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        "tool_name": "echo",
        "success": True,
        "payload": {name: value for name, value in payload.items() if value is not None},
    }
    return Event.build(id=f"{ID}{number}", **{**given, **members})


def test_a_set_does_no_work_before_it_is_asked() -> None:
    lab = Lab()
    events = lab.events(tool="echo")
    lab.load(UPSTREAM / "export.jsonl")
    assert events.count() == 213
    assert len(events) == 213


def test_the_order_is_the_contracts(lab: Lab) -> None:
    events = list(lab.events())
    assert events == contract_order(events)
    assert lab.events().ids() == [event.id for event in events]
    assert list(lab.events().df(["id"])["id"]) == lab.events().ids()


def test_ties_are_broken_by_id() -> None:
    same = datetime(2026, 1, 1, tzinfo=UTC)
    lab = lab_of(call(3, timestamp=same), call(1, timestamp=same), call(2, timestamp=same))
    assert lab.events().ids() == [f"{ID}1", f"{ID}2", f"{ID}3"]


def test_where_narrows_and_limits_page(lab: Lab) -> None:
    failed = lab.events(success=False)
    assert failed.where(tool="flaky").count() == 26
    assert failed.where(EventFilter(tool="flaky"), q="flak").count() == 26
    page = failed.where(limit=5, offset=3)
    assert page.ids() == failed.ids()[3:8]
    assert page.count() == 5
    assert page.breakdown()["count"].sum() == 5
    assert list(page.head(2)["id"]) == page.ids()[:2]
    with pytest.raises(FilterError, match="once"):
        page.where(limit=2)


def test_an_unknown_keyword_names_the_choices(lab: Lab) -> None:
    with pytest.raises(FilterError, match="min_duration_ms"):
        lab.events(tol="echo")


def test_its_sql_can_be_run_and_joined(lab: Lab) -> None:
    events = lab.events(tool="flaky", success=False, **{"param.fail_rate": 0.5})
    rows = lab.sql(f"select count(*) from ({events.sql})", events.params).fetchall()
    assert rows == [(events.count(),)]
    assert "0.5" not in events.sql


def test_the_words_of_a_set(lab: Lab) -> None:
    assert repr(lab.events(tool="echo", success=False)) == (
        'EventSet(17 events: tool "echo", failed)'
    )
    assert lab.events().describe() == "all events"
    assert repr(lab) == "Lab(in memory, 672 events)"


# Frames


def test_the_dtypes_hold_what_the_record_holds(lab: Lab) -> None:
    frame = lab.events().df(payloads=True)
    assert len(frame) == 672
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes["ts"] == "datetime64[us, UTC]"
    assert {dtypes[n] for n in ("duration_ms", "request_size_bytes", "response_chars")} == {"Int64"}
    assert {dtypes[n] for n in ("success", "response_truncated")} == {"boolean"}
    assert {dtypes[n] for n in ("id", "tool_name", "parameters", "request_headers")} == {"str"}
    assert frame["request_params"].isna().sum() > 300
    assert "captured_at" not in frame


def test_no_digit_is_lost() -> None:
    big = 2**63 - 1
    lab = lab_of(call(1, duration_ms=big), call(2, duration_ms=2**70))
    assert lab.events().df()["duration_ms"].to_list() == [pd.NA, big]
    assert lab.event(f"{ID}2").duration_ms == 2**70
    assert lab.events(min_duration_ms=2**65).ids() == [f"{ID}2"]


def test_paths_become_typed_columns() -> None:
    one = {"n": 1, "f": 1.5, "b": True, "m": 1, "x": None, "0": {"k": 1}}
    two = {"n": 2, "f": 2, "m": "two", "l": ["k"], "0": [{"k": 2}]}
    lab = lab_of(
        call(1, params={"user": {"id": "a"}, **one}),
        call(2, params={"user": {"id": "b"}, **two}),
        call(3, params={"user": "c", "big": 2**80}),
        call(4),
    )
    names = ["user.id", "n", "f", "b", "m", "x", "0.k", "l.0", "big", "user"]
    frame = lab.events().df(["id", *(f"param.{name}" for name in names)]).iloc[::-1]
    frame.columns = pd.Index(["id", *names])
    assert frame["user.id"].to_list()[:2] == ["a", "b"]
    assert frame["user.id"].isna().to_list() == [False, False, True, True]
    kinds = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert (kinds["user.id"], kinds["n"], kinds["f"], kinds["b"]) == (
        "str",
        "Int64",
        "float64",
        "boolean",
    )
    assert frame["n"].to_list()[:2] == [1, 2]
    assert frame["m"].to_list()[:2] == [1, "two"]
    assert frame["x"].isna().all()
    # A number is a key here, never an index.
    assert frame["0.k"].to_list()[0] == 1
    assert frame["0.k"].isna().to_list() == [False, True, True, True]
    assert frame["l.0"].isna().all()
    assert frame["big"].to_list()[2] == 2**80
    assert frame["user"].to_list()[:3] == [{"id": "a"}, {"id": "b"}, "c"]


def test_headers_are_joined_and_found_in_any_case(lab: Lab) -> None:
    frame = lab.events(tool="chatty").df(["header.user-agent", "header.X-Api-Key"])
    assert set(frame["header.user-agent"].dropna()) >= {"gateway-probe/1.4 (linux)"}
    assert set(frame["header.X-Api-Key"].dropna()) == {"[redacted]"}


@pytest.mark.parametrize("column", ["nope", "param", "param.", "params.x", "response.a..b", "x.y"])
def test_a_column_there_is_not_names_the_choices(lab: Lab, column: str) -> None:
    with pytest.raises(FilterError):
        lab.events().df([column])


def test_hostile_column_names_are_data(lab: Lab) -> None:
    name = 'param.a"; drop table audit_events; --'
    assert list(lab.events(limit=1).df([name]).columns) == [name]
    assert lab.events().count() == 672
    with pytest.raises(FilterError, match="list of names"):
        lab.events().df("ts")


def test_arrow_holds_the_same_rows(lab: Lab) -> None:
    table = lab.events(tool="slow").arrow(["ts", "param.milliseconds"])
    assert table.num_rows == 35
    assert table.column_names == ["ts", "param.milliseconds"]
    assert table["param.milliseconds"].drop_null()[0].as_py().isdigit()


def test_an_empty_set_has_the_columns_and_zeros(lab: Lab) -> None:
    nothing = lab.events(tool="none such")
    assert (nothing.count(), nothing.ids(), list(nothing)) == (0, [], [])
    assert nothing.df().empty
    assert str(nothing.df()["ts"].dtype) == "datetime64[us, UTC]"
    assert nothing.stats().iloc[0].to_list() == [0] * 8
    assert nothing.breakdown().empty
    assert nothing.timeseries().empty
    assert nothing.df(["param.x"]).empty


# Aggregates agree with the recorded answers


def test_the_statistics_are_the_dashboards(lab: Lab) -> None:
    recorded = answer("aggregates/dashboard.http")
    window = lab.events(from_=recorded["window_from"], to=recorded["window_to"])
    stats = window.stats().iloc[0]
    for name, value in recorded["stats"].items():
        assert stats[name] == pytest.approx(value), name


@pytest.mark.parametrize("by", ["tool", "user", "auth_type"])
def test_the_breakdowns_are_the_recorded_ones(lab: Lab, by: str) -> None:
    recorded = answer(f"aggregates/breakdown-{by}.http")["breakdown"]
    rows = lab.events().breakdown(by)
    ours = sorted(zip(rows["key"], rows["count"], rows["errors"], strict=True))
    assert ours == sorted((row["key"], row["count"], row["errors"]) for row in recorded)


@pytest.mark.parametrize(("name", "bucket"), [("default", "1m"), ("bucket-90s", "90s")])
def test_the_time_series_are_the_recorded_ones(lab: Lab, name: str, bucket: str) -> None:
    recorded = answer(f"aggregates/timeseries-{name}.http")["points"]
    points = lab.events().timeseries(bucket)
    assert len(points) == len(recorded)
    for ours, theirs in zip(points.itertuples(), recorded, strict=True):
        assert ours.time == datetime.fromisoformat(theirs["time"])
        assert (ours.count, ours.errors) == (theirs["count"], theirs["errors"])
        assert ours.avg_duration_ms == pytest.approx(theirs["avg_duration_ms"])


def test_aggregates_take_every_filter(lab: Lab) -> None:
    failed = lab.events(success=False, tool=["flaky", "error"])
    assert failed.stats().iloc[0]["error_rate"] == 1.0
    assert dict(zip(*failed.breakdown()[["key", "count"]].T.to_numpy(), strict=True)) == {
        "error": 60,
        "flaky": 26,
    }
    assert failed.timeseries("1h")["count"].sum() == 86
    by_user = lab.events().stats("user")
    assert by_user["total"].sum() == 672
    assert "key" in by_user


def test_buckets_before_1970_start_where_they_should() -> None:
    lab = lab_of(call(1, timestamp=datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)))
    assert lab.events().timeseries("1m")["time"][0] == datetime(1969, 12, 31, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize("bucket", ["", "5", "xyz", "-5s", "0s", "5 m", timedelta(0)])
def test_what_is_no_bucket_is_refused(lab: Lab, bucket: Any) -> None:
    with pytest.raises(FilterError):
        lab.events().timeseries(bucket)


def test_what_is_no_breakdown_names_the_choices(lab: Lab) -> None:
    with pytest.raises(FilterError, match="tool, user, success"):
        lab.events().breakdown("tool_name; drop table audit_events")
    with pytest.raises(FilterError):
        lab.events().stats("x")


# Texts that DuckDB cannot hold


def test_a_filter_on_a_lone_surrogate_finds_that_event_alone() -> None:
    lab = lab_of(
        call(1, tool_name="a\ud800", params={"k": "\ud800"}),
        call(2, tool_name="a\ufffd", params={"k": "\ufffd"}),
        call(3, tool_name="a\udfff", params={"k": "\udfff"}),
    )
    assert lab.events(tool="a\ud800").ids() == [f"{ID}1"]
    assert lab.events(tool="a\ufffd").ids() == [f"{ID}2"]
    assert lab.events(params={"k": "\udfff"}).ids() == [f"{ID}3"]
    assert lab.events(tool="a\ufffd").count() == 1
    assert lab.events(tool="a\ud800").breakdown()["count"].to_list() == [1]


def test_a_column_that_names_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(FilterError, match="lone surrogate"):
        lab_of(call(1)).events().df(["param.a\ud800"])


# Threads


def test_a_lab_answers_in_several_threads_while_it_loads(lab: Lab) -> None:
    counts: list[int] = []
    other = Lab()

    def ask() -> None:
        for _ in range(20):
            counts.append(other.events(success=True).count())
            counts.append(lab.events().count())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    other.load(UPSTREAM / "export.jsonl")
    for thread in threads:
        thread.join()
    assert set(counts) <= {0, 550, 672}


def test_sql_gives_frames_and_python_values(lab: Lab) -> None:
    result = lab.sql(
        "select tool_name, count(*) as n from audit_events group by all order by n desc"
    )
    assert result.columns == ["tool_name", "n"]
    assert result.fetchall()[0] == ("echo", 213)
    assert str(result.df().dtypes["n"]) == "Int64"
    assert len(result) == 17
    assert "echo" in repr(result)
    assert "<b>x</b>\\n" in repr(result)
    moment = lab.sql("select max(ts) from audit_events").fetchall()[0][0]
    assert moment.utcoffset() == timedelta(0)
    assert lab.sql("select ? as a", ["x"]).fetchall() == [("x",)]
    assert repr(lab.sql("create temp table t as select 1")) != ""
