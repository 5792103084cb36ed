"""Sessions, sequences, repeats, what is new and rare, and search."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hostile import PAYLOADS
from short_run import each_third

from mcpaudit_lab import Event, EventNotFound, FilterError, Lab

START = datetime(2026, 11, 24, tzinfo=UTC)


def call(number: int, **members: Any) -> Event:
    payload = members.pop("payload", None)
    wire = {
        "id": f"00000000-0000-4000-8000-{number:012x}",
        "timestamp": (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        "duration_ms": 100,
        "tool_name": "read",
        "success": True,
        "transport": "http",
        "source": "mcp",
        "session_id": "s",
        **members,
    }
    if payload is not None:
        wire["payload"] = {"jsonrpc_method": "tools/call", **payload}
    return Event(wire)


def lab_of(*events: Event) -> Lab:
    lab = Lab()
    lab.add_events(events, kind="portal", name="made")
    return lab


def test_a_session_is_a_row() -> None:
    names = ["list", "read", "read", "write", "read"]
    lab = lab_of(
        *(
            call(n, tool_name=name, success=n != 3, user_subject="ann" if n else "")
            for n, name in enumerate(names)
        ),
        call(50, session_id="t", user_agent="curl/8"),
        call(60, session_id=""),
    )
    rows = lab.sessions().to_dict("records")
    assert [row["session_id"] for row in rows] == ["t", "s"]
    assert (rows[0]["client"], rows[1]["client"]) == ("curl/8", "")
    assert list(rows[1]["tools"]) == ["list", "read", "write", "read"]
    assert (rows[1]["calls"], rows[1]["failures"], rows[1]["busy_ms"]) == (5, 1, 500)
    assert rows[1]["user_subject"] == "ann"
    assert (rows[1]["last"] - rows[1]["first"]).total_seconds() == 4
    assert lab.events("not success").sessions()["calls"].tolist() == [1]
    with Lab() as empty:
        assert empty.sessions().empty


def test_sequences_are_counted_within_sessions() -> None:
    names = ["a", "b", "c", "a", "b", "c", "a"]
    other = [call(100 + n, tool_name=name, session_id="t") for n, name in enumerate("abd")]
    lab = lab_of(*(call(n, tool_name=name) for n, name in enumerate(names)), *other)
    found = lab.events().sequences(2)
    told = {tuple(row["sequence"]): row for row in found.to_dict("records")}
    assert told["a", "b"]["count"] == 3
    assert told["a", "b"]["sessions"] == 2
    assert told["a", "b"]["median_ms"] == 1000
    assert ("a", "a") not in told
    assert found["count"].sum() == 6 + 2
    assert lab.events().sequences(3)["count"].sum() == 5 + 1
    for wrong in (1, 11):
        with pytest.raises(FilterError, match="2 to 10"):
            lab.events().sequences(wrong)


def test_retries_and_loops_are_found() -> None:
    def asks(number: int, value: int, **members: Any) -> Event:
        return call(number, payload={"request_params": {"n": value}}, **members)

    lab = lab_of(
        *(asks(n, 1, success=False) for n in range(3)),
        asks(3, 1),
        *(asks(10 + n, 2) for n in range(5)),
        *(asks(20 + n, 3, success=False) for n in range(3)),
        *(asks(30 + n, n) for n in range(4, 9)),
        *(asks(40 + n, 5, session_id="", user_subject=f"u{n}") for n in range(3)),
    )
    found = lab.events().repeats().to_dict("records")
    told = [(row["kind"], row["count"], row["failures"]) for row in found]
    assert told == [("loop", 5, 0), ("retry, then ok", 4, 3), ("retry", 3, 3)]
    assert found[1]["ids"][0] == call(0).id
    assert found[0]["median_gap_ms"] == 1000
    assert len(lab.events().repeats(5)) == 1


def test_what_is_new_and_what_is_rare() -> None:
    lab = lab_of(
        *(
            call(n, user_subject="ann", payload={"request_params": {"path": "/tmp"}})
            for n in range(4)
        ),
        call(5, user_subject="bob", payload={"request_params": {"path": "/tmp"}}),
        call(6, user_subject="bob", payload={"request_params": {"path": "/etc/shadow"}}),
        call(7, user_subject="bob", payload={"request_params": {"path": 5}}),
        call(8, user_subject="bob", tool_name="erase"),
    )
    new = lab.first_seen("param.path")
    assert new["value"].tolist() == [5, "/etc/shadow", "/tmp"]
    assert new["count"].tolist() == [1, 1, 5]
    assert new["id"].tolist()[2] == call(0).id
    assert lab.first_seen("tool_name")["value"].tolist() == ["erase", "read"]
    rare = lab.rare("param.path")
    assert rare["value"].tolist() == [5, "/etc/shadow"]
    assert set(rare["by"]) == {"bob"}
    assert rare["others"].tolist() == [1, 1]
    assert lab.rare("tool_name")[["value", "by"]].values.tolist() == [["erase", "bob"]]
    assert lab.events(user="bob").rare("param.path").empty
    for wrong in ("nothing", "param."):
        with pytest.raises(FilterError):
            lab.first_seen(wrong)
    with pytest.raises(FilterError):
        lab.rare("tool_name", by="param.path")


def test_a_text_is_found_wherever_it_stands() -> None:
    lab = lab_of(
        call(1, payload={"request_params": {"a": {"b.c": ["x", "the DISK full of it " * 9]}}}),
        call(2, payload={"response_result": {"content": [{"type": "text", "text": "disk FULL"}]}}),
        call(3, payload={"notifications": [{"params": {"message": "a disk full"}}]}),
        call(4, success=False, error_message="disk full"),
        call(5, payload={"response_error": {"code": 28, "message": "Disk full"}}),
        call(6, payload={"request_params": {"disk full": True, "n": 4711}}),
        call(7, payload={"request_params": {"n": "disk  full"}}),
        call(8, payload={"request_params": {"text": 'quoted "disk full" \u00c9'}}),
    )
    found = lab.search("disk full")
    assert found["path"].tolist() == [
        "param.text",
        "param.disk full (name)".replace("disk full", '"disk full"'),
        "error.message",
        "error_message",
        "notifications[0].params.message",
        "response.content[0].text",
        'param.a."b.c"[1]',
    ]
    assert found["found"].tolist()[-2:] == ["disk FULL", "DISK full"]
    last = found.iloc[-1]
    assert (last["before"], last["after"][-1]) == ("the ", "…")
    assert lab.search("4711")["path"].tolist() == ["param.n"]
    assert lab.search('"disk')["path"].tolist() == ["param.text"]
    assert lab.search("\u00e9")["path"].tolist() == ["param.text"]
    assert lab.search("nowhere").empty
    assert not found.attrs["truncated"]
    few = lab.search("disk full", limit=2)
    assert len(few) == 2
    assert few.attrs["truncated"]
    assert lab.events("duration_ms > 200").search("disk full").empty
    with pytest.raises(FilterError):
        lab.search("  ")


@pytest.mark.parametrize("text", each_third(PAYLOADS.values()), ids=PAYLOADS)
def test_hostile_texts_are_found_as_they_are(text: str) -> None:
    lab = lab_of(call(1, payload={"request_params": {"text": f"before {text} after"}}))
    if text.strip():
        found = lab.search(text)
        assert found["found"].tolist()[:1] == [text]


@pytest.mark.parametrize("text", each_third(PAYLOADS.values()), ids=PAYLOADS)
def test_a_session_of_hostile_texts_shows_them_only(text: str) -> None:
    lab = lab_of(
        *(
            call(n, tool_name=text, error_message=text, success=False, session_id="s")
            for n in range(3)
        )
    )
    session = lab.session("s")
    html = session._repr_html_()
    assert html.count('<details class="mal-call">') == 3
    assert "<script" not in html.lower()
    assert "<img" not in html.lower()
    assert "\x1b" not in str(session)


def test_a_session_shows_its_pauses_and_how_much_is_left_out() -> None:
    lab = lab_of(
        *(call(n, success=n % 2 == 0) for n in range(150)),
        *(call(1000 + n) for n in range(100)),
    )
    session = lab.session("s")
    html = session._repr_html_()
    assert html.count('"mal-bar mal-bar-failed"') == 75
    assert "without a call" in html
    assert "50 later calls are not shown" in html
    assert "… 200 more" in str(session)
    assert json.dumps(session.id) == '"s"'
    with pytest.raises(EventNotFound):
        lab.session("t")
