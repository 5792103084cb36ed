"""Two audit events, and the three things that can be said of them."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab.comparison.comparison import Comparison, Section, Verdict, compare
from mcpaudit_lab.comparison.jsondiff import Change, ChangeKind
from mcpaudit_lab.comparison.paths import format_path, parse_path_pattern
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record import Event
from mcpaudit_lab.record.jsontext import dumps

UPSTREAM = Path(__file__).parent / "data" / "upstream"
ID_A = "11111111-1111-4111-8111-111111111111"
ID_B = "22222222-2222-4222-8222-222222222222"
SLOW = settings(deadline=None)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Event]:
    lines = (UPSTREAM / "details.jsonl").read_bytes().splitlines()
    return {event.id: event for event in map(Event.from_json, lines)}


def event(
    *,
    params: Any = None,
    result: Any = None,
    text: str | None = None,
    payload: dict[str, Any] | None = None,
    **members: Any,
) -> Event:
    """A call with a payload, of which only these members matter."""
    if text is not None:
        result = {"content": [{"type": "text", "text": text}], "isError": False}
    wire = {"request_params": params, "response_result": result, **(payload or {})}
    return Event(
        {
            "id": ID_A,
            "timestamp": "2026-11-24T03:43:43Z",
            "duration_ms": 4,
            "tool_name": "echo",
            "success": True,
            "payload": {name: value for name, value in wire.items() if value is not None},
            **members,
        }
    )


def told(comparison: Comparison) -> list[str]:
    changes = [f"{change.kind} {format_path(change.path)}" for change in comparison.changes]
    return changes + [f"unknown {format_path(path)}" for path in comparison.unknown]


# Recordings


def test_recorded_replays_against_their_originals(recorded: dict[str, Event]) -> None:
    outcomes: dict[str, list[str]] = {}
    for replay in recorded.values():
        payload = replay.payload
        if payload is not None and payload.replayed_from:
            comparison = compare(recorded[payload.replayed_from], replay)
            assert comparison.verdict == ("changed" if told(comparison) else "equal")
            outcomes[replay.id] = told(comparison)

    assert len(outcomes) == 12
    assert {id_: found for id_, found in outcomes.items() if found} == {
        # The original was refused: no tool ran.
        "0fed720a-d60f-4085-b21d-143d9b80a673": [
            "value summary.error_category",
            "removed summary.error_message",
            "value summary.content_blocks",
            "added response",
            "removed error",
        ],
        # A replay has no progress token, so the tool tells no progress.
        "8018d3b4-cd22-45b1-9d01-22395b791694": [
            "value response.content[0].text.{json}.notified",
            "value response.structuredContent.notified",
            "removed notifications[0]",
        ],
    }


def test_the_values_of_a_recorded_change(recorded: dict[str, Event]) -> None:
    comparison = compare(
        recorded["9be46480-fa19-4c60-9b50-8878b96f2759"],
        recorded["8018d3b4-cd22-45b1-9d01-22395b791694"],
    )

    assert comparison.sections["response"].changes[0] == Change(
        ("response", "content", 0, "text", "{json}", "notified"), ChangeKind.VALUE, True, False
    )
    (removed,) = comparison.sections["notifications"].changes
    assert removed.left == {
        "method": "notifications/progress",
        "params": {"message": "step 1/1", "progress": 1, "total": 1},
    }
    assert comparison.durations_ms == (3, 4)


def test_every_recorded_event_against_itself(recorded: dict[str, Event]) -> None:
    verdicts: dict[str, int] = {}
    for recording in recorded.values():
        comparison = compare(recording, Event.from_json(recording.to_json()))
        assert comparison.changes == ()
        sides = {
            name: section.verdict
            for name, section in comparison.sections.items()
            if section.verdict != "equal"
        }
        hidden = {}
        payload = recording.wire.get("payload", {})
        arguments = dumps(payload.get("request_params"))
        if payload.get("request_truncated") or "[redacted]" in arguments:
            hidden["param"] = "unknown"
        if payload.get("response_truncated"):
            hidden |= {"response": "unknown", "error": "unknown"}
        elif '"[redacted]"' in dumps(payload.get("response_result")).replace("\\", ""):
            hidden["response"] = "unknown"
        assert sides == hidden
        verdicts[comparison.verdict] = verdicts.get(comparison.verdict, 0) + 1

    assert set(verdicts) == {"equal", "unknown"}
    assert verdicts["unknown"] >= 20


def test_redacted_arguments_are_unknown_one_by_one(recorded: dict[str, Event]) -> None:
    redacted = recorded["4a9604a7-a3fd-4787-9aa1-7793eba65926"]
    marks = [path for path in told(compare(redacted, redacted)) if "param" in path]

    assert marks
    assert all(path.startswith("unknown param.") for path in marks)


def test_truncated_sides_are_unknown_as_a_whole(recorded: dict[str, Event]) -> None:
    truncated = recorded["54c79f4b-8bfc-4039-a120-f12530e33f71"]
    comparison = compare(truncated, truncated)

    assert told(comparison) == ["unknown param", "unknown response", "unknown error"]
    assert comparison.verdict is Verdict.UNKNOWN


def test_summaries_alone_leave_the_rest_unknown() -> None:
    lines = (UPSTREAM / "export.jsonl").read_bytes().splitlines()
    summaries = [Event.from_json(line) for line in lines[:100]]
    for summary in summaries:
        comparison = compare(summary, summary)
        unknown = {"response", "error", "notifications"}
        if not summary.parameters:
            unknown.add("param")
        found = {str(path[0]) for path in comparison.unknown if len(path) == 1}
        assert found == unknown
        assert comparison.sections["summary"].verdict is Verdict.EQUAL


# Rules


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        ({}, {}, []),
        ({"success": False}, {}, ["value summary.success"]),
        (
            {"error_category": "tool"},
            {"error_category": "handler"},
            ["value summary.error_category"],
        ),
        ({"error_message": "a"}, {}, ["removed summary.error_message"]),
        ({"error_message": "tool returned IsError"}, {}, []),
        ({"error_message": "***"}, {"error_message": "x"}, ["unknown summary.error_message"]),
        ({"tool_name": "a"}, {"tool_name": "b"}, ["value summary.tool_name"]),
        ({"tool_group": "a"}, {"tool_group": "b"}, ["value summary.tool_group"]),
        ({"content_blocks": 1}, {"content_blocks": 2}, ["value summary.content_blocks"]),
        ({"content_blocks": 1}, {"content_blocks": 1.0}, []),
        (
            {
                "id": ID_B,
                "timestamp": "2025-01-01T00:00:00Z",
                "duration_ms": 9,
                "request_id": "r",
                "session_id": "s",
                "user_subject": "u",
                "user_email": "e",
                "auth_type": "oidc",
                "api_key_name": "k",
                "request_chars": 1,
                "response_chars": 2,
                "transport": "stdio",
                "source": "portal-replay",
                "remote_addr": "127.0.0.1:1",
                "user_agent": "curl",
                "seq": 5,
            },
            {},
            [],
        ),
    ],
)
def test_of_the_summary_the_outcome_is_compared(
    left: dict[str, Any], right: dict[str, Any], outcome: list[str]
) -> None:
    assert told(compare(event(**left), event(**right))) == outcome


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        ({}, {"request_headers": {"A": ["b"]}, "request_size_bytes": 4}, []),
        ({"request_params": {}}, {}, []),
        ({"request_params": {"a": 1}}, {}, ["removed param.a"]),
        ({"request_params": "[redacted]"}, {"request_params": {"a": 1}}, ["unknown param"]),
        ({"request_params": {"a": "***"}}, {"request_params": {"a": "***"}}, ["unknown param.a"]),
        ({"request_params": {"a": "***"}}, {"request_params": {}}, ["removed param.a"]),
        ({"request_truncated": True}, {"request_params": {"a": 1}}, ["unknown param"]),
        ({"response_truncated": True}, {}, ["unknown response", "unknown error"]),
        (
            {"response_error": {"message": "a"}},
            {"response_error": {"message": "b"}},
            ["value error.message"],
        ),
        ({"response_error": {"message": "a"}}, {}, ["removed error"]),
        (
            {"response_result": {}},
            {"response_result": {"isError": True}},
            ["added response.isError"],
        ),
        ({"response_result": {}}, {}, ["removed response"]),
        ({"notifications": []}, {}, []),
        ({"notifications": [{"method": "a"}]}, {}, ["removed notifications[0]"]),
        (
            {"notifications": [{"method": "a", "params": {"n": 1}}]},
            {"notifications": [{"method": "b", "params": {"n": 2}}]},
            ["value notifications[0].method", "value notifications[0].params.n"],
        ),
        (
            {"notifications": [{"ts": "2026-01-01T00:00:00Z", "params": {"progressToken": 1}}]},
            {"notifications": [{"ts": "2026-01-01T00:00:01Z", "params": {"progressToken": "***"}}]},
            [],
        ),
        (
            {"notifications": [{"params": {"data": "[redacted]"}}]},
            {"notifications": [{"params": {"data": 1}}]},
            ["unknown notifications[0].params.data"],
        ),
        ({"notifications_truncated": True}, {"notifications": [{}]}, ["unknown notifications"]),
        ({"surprise": 1}, {"surprise": 2}, []),
    ],
)
def test_the_payload_is_compared_by_section(
    left: dict[str, Any], right: dict[str, Any], outcome: list[str]
) -> None:
    assert told(compare(event(payload=left), event(payload=right))) == outcome
    flipped = {"removed": "added", "added": "removed"}
    assert told(compare(event(payload=right), event(payload=left))) == [
        f"{flipped.get(kind, kind)} {path}" for kind, path in (line.split(" ") for line in outcome)
    ]


def test_a_missing_payload_makes_unknown_what_only_it_could_tell() -> None:
    with_payload = event(params={"a": 1}, text="x")
    without = Event(
        {
            name: value
            for name, value in {**with_payload.wire, "parameters": {"a": 2}}.items()
            if name != "payload"
        }
    )

    assert told(compare(with_payload, without)) == [
        "value param.a",
        "unknown response",
        "unknown error",
        "unknown notifications",
    ]
    assert compare(without, without).sections["param"].verdict is Verdict.EQUAL
    bare = without.with_payload(None)
    nothing = Event({name: value for name, value in bare.wire.items() if name != "parameters"})
    assert told(compare(nothing, nothing)) == [
        "unknown param",
        "unknown response",
        "unknown error",
        "unknown notifications",
    ]


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        ('{"a":1,"b":2}', '{ "b": 2.0, "a": 1 }', []),
        ('{"a":"<"}', '{"a":"\\u003c"}', []),
        ('{"a":1}', '{"a":2}', ["value response.content[0].text.{json}.a"]),
        ("[1,2]", "[0,1,2]", ["added response.content[0].text.{json}[0]"]),
        ("[1,2]", "[2,1]", ["order response.content[0].text.{json}"]),
        ('{"a":"***"}', '{"a":"***"}', ["unknown response.content[0].text.{json}.a"]),
        ('{"a":"***"}', '{"a":5}', ["unknown response.content[0].text.{json}.a"]),
        (
            '{"a":"\\u003cREDACTED\\u003e"}',
            '{"a":"\\u003cREDACTED\\u003e"}',
            ["unknown response.content[0].text.{json}.a"],
        ),
        ("***", "***", ["unknown response.content[0].text"]),
        ("***", '{"a":1}', ["unknown response.content[0].text"]),
        ('{"a":1}', "plain", ["value response.content[0].text"]),
        ('{"a":"***"}', "plain", ["value response.content[0].text"]),
        ("1", "1.0", ["value response.content[0].text"]),
        ('"a"', '"\\u0061"', ["value response.content[0].text"]),
        ("[1", "[1 ", ["value response.content[0].text"]),
        ('{"a":1,"a":2}', '{"a":2}', ["value response.content[0].text"]),
        ("key=[redacted]", "key=[redacted]", []),
        ("key=[redacted]", "key=[redacted] ", ["value response.content[0].text"]),
    ],
)
def test_a_text_that_is_json_on_both_sides_is_compared_as_json(
    left: str, right: str, outcome: list[str]
) -> None:
    assert told(compare(event(text=left), event(text=right))) == outcome


def blocks(*texts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text} for text in texts]}


def test_text_blocks_are_aligned_by_what_they_say() -> None:
    one, other = '{"n":1,"t":"a"}', '{"n":2}'
    respelled = '{ "t":"a", "n":1 }'

    assert told(compare(event(result=blocks(one)), event(result=blocks(other, respelled)))) == [
        "added response.content[0]"
    ]
    assert told(compare(event(result=blocks(one, other)), event(result=blocks(other, one)))) == [
        "order response.content"
    ]


def test_reordered_texts_with_marks_in_them_are_not_merely_reordered() -> None:
    one, other = '{"n":1,"p":"***"}', '{"n":2,"p":"***"}'

    assert told(compare(event(result=blocks(one, other)), event(result=blocks(other, one)))) == [
        "value response.content[0].text.{json}.n",
        "value response.content[1].text.{json}.n",
        "unknown response.content[0].text.{json}.p",
        "unknown response.content[1].text.{json}.p",
    ]


def test_values_come_out_as_they_stand_in_the_record() -> None:
    left, right = event(result=blocks("[1]", "{}")), event(result=blocks("[2]", '{"a":1}', "[3]"))
    values: list[Any] = [
        *compare(left, right).changes,
        *compare(event(text="[1]"), event(text="x")).changes,
        *compare(event(result=blocks("[1]", "[2]")), event(result=blocks("[2]", "[1]"))).changes,
        *compare(event(text="[1]"), event(result=[blocks("[2]")])).changes,
    ]

    for change in values:
        for value in (change.left, change.right):
            assert "JsonText" not in {type(item).__name__ for item in walked(value)}
    assert values[-2].left == blocks("[1]", "[2]")["content"]


def walked(value: Any) -> list[Any]:
    found = [value]
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            found += walked(item)
    return found


@pytest.mark.parametrize(
    ("ignore", "left_over"),
    [
        ((), ["value param.a", "value response.structuredContent.ms"]),
        (["response.structuredContent.ms"], ["value param.a"]),
        ("result.structuredContent.ms", ["value param.a"]),
        (["result.**"], ["value param.a"]),
        (["params.a"], ["value response.structuredContent.ms"]),
        (["param.*", "**.ms"], []),
        ([parse_path_pattern("params"), "response"], []),
        (["*.a"], ["value response.structuredContent.ms"]),
        (["summary", "error"], ["value param.a", "value response.structuredContent.ms"]),
        (["**"], []),
    ],
)
def test_ignored_paths_are_left_aside(ignore: Any, left_over: list[str]) -> None:
    left = event(params={"a": 1}, result={"structuredContent": {"ms": 5, "x": 1}})
    right = event(params={"a": 2}, result={"structuredContent": {"ms": 6, "x": 1}})

    comparison = compare(left, right, ignore=ignore)

    assert told(comparison) == left_over
    assert comparison.ignored == 0 if len(left_over) == 2 else comparison.ignored > 0


def test_a_section_that_is_unknown_can_be_ignored() -> None:
    truncated = event(payload={"response_truncated": True})

    comparison = compare(truncated, truncated, ignore=["response", "error"])
    assert comparison.verdict is Verdict.EQUAL
    assert comparison.ignored == 2
    assert told(compare(truncated, truncated, ignore=["response.content"])) == [
        "unknown response",
        "unknown error",
    ]


@pytest.mark.parametrize("pattern", ["answer.content", "[0]", "reponse", '["a.b"].c'])
def test_a_pattern_that_begins_with_no_section_is_refused(pattern: str) -> None:
    with pytest.raises(FilterError, match="summary, param, response, error, notifications"):
        compare(event(), event(), ignore=[pattern])


def test_a_malformed_pattern_or_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(FilterError, match="malformed"):
        compare(event(), event(), ignore=["response..a"])
    with pytest.raises(ValueError, match="dots"):
        compare(event(), event(), dialects=["dots"])


def test_dialects_say_what_is_redacted() -> None:
    mark = "sha256:" + "0a" * 32
    left, right = event(params={"a": mark, "b": "***"}), event(params={"a": 1, "b": "***"})

    assert told(compare(left, right)) == ["type param.a", "unknown param.b"]
    assert told(compare(left, right, dialects=["sha256"])) == ["unknown param.a"]
    assert told(compare(left, left, dialects=["sha256"])) == ["unknown param.a"]
    assert told(compare(left, right, dialects=())) == ["type param.a"]


def test_changed_comes_before_unknown_before_equal() -> None:
    change = Change(("param", "a"), ChangeKind.VALUE, 1, 2)

    assert Section((change,), (("param", "b"),)).verdict is Verdict.CHANGED
    assert Section((), (("param", "b"),)).verdict is Verdict.UNKNOWN
    assert Section().verdict is Verdict.EQUAL
    both = compare(event(params={"a": 1, "b": "***"}), event(params={"a": 2, "b": "***"}))
    assert both.verdict is Verdict.CHANGED
    assert compare(event(params={"b": "***"}), event(params={"b": 1})).verdict is Verdict.UNKNOWN
    assert compare(event(), event()).verdict is Verdict.EQUAL
    assert list(both.sections) == ["summary", "param", "response", "error", "notifications"]


# Laws

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "[1]", "*"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
RANDOM = st.randoms(use_true_random=False)


def with_marks(tree: Any, chance: random.Random, share: float) -> Any:
    if chance.random() < share:
        return chance.choice(["[redacted]", "<REDACTED>", "***"])
    if isinstance(tree, dict):
        return {key: with_marks(value, chance, share) for key, value in tree.items()}
    if isinstance(tree, list):
        return [with_marks(value, chance, share) for value in tree]
    return tree


def call(parts: tuple[Any, Any, Any], chance: random.Random, share: float) -> Event:
    """A call with some of its values redacted, and a side truncated at times."""
    params, texts, notes = parts
    shown = [with_marks(tree, chance, share) for tree in texts]
    payload = {
        "notifications": [
            {"method": "m", "params": with_marks({"data": note}, chance, share)} for note in notes
        ],
    }
    for flag in ("request_truncated", "response_truncated", "notifications_truncated"):
        if chance.random() < share / 4:
            payload[flag] = True  # type: ignore[assignment]  # a wire object is of all types
    return event(
        params={"p": with_marks(params, chance, share)},
        result={
            **blocks(*(tree if isinstance(tree, str) else dumps(tree) for tree in shown)),
            "structuredContent": shown,
        },
        payload=payload,
    )


CALLS = st.tuples(TREES, st.lists(TREES, max_size=3), st.lists(TREES, max_size=3))


@SLOW
@given(CALLS, RANDOM)
def test_a_call_redacted_in_two_ways_is_never_changed(parts: Any, chance: random.Random) -> None:
    plain = call(parts, chance, 0)
    left, right = call(parts, chance, 0.15), call(parts, chance, 0.15)

    comparison = compare(left, right)

    assert comparison.changes == ()
    clean = left == plain and right == plain
    assert comparison.verdict == ("equal" if clean else "unknown")


@SLOW
@given(CALLS, CALLS, RANDOM)
def test_redaction_makes_nothing_equal_and_no_change_of_what_is_none(
    one: Any, two: Any, chance: random.Random
) -> None:
    plain = compare(call(one, chance, 0), call(two, chance, 0))
    hidden = compare(call(one, chance, 0.2), call(two, chance, 0.2))

    assert plain.verdict is not Verdict.UNKNOWN
    if plain.verdict is Verdict.CHANGED:
        assert hidden.verdict is not Verdict.EQUAL
    else:
        assert hidden.verdict is not Verdict.CHANGED


@SLOW
@given(CALLS, CALLS, RANDOM)
def test_turned_round_the_verdict_is_the_same(one: Any, two: Any, chance: random.Random) -> None:
    left, right = call(one, chance, 0.1), call(two, chance, 0.1)
    there, back = compare(left, right), compare(right, left)

    assert there.verdict == back.verdict
    assert there.counts() == {
        **(counts := back.counts()),
        "removed": counts["added"],
        "added": counts["removed"],
    }


# Showing


def test_a_comparison_as_json() -> None:
    left = event(params={"a": 1, "b": "***", "gone": None})
    right = event(params={"a": None, "b": 2, "new": 0}, id=ID_B, duration_ms=9)

    found = compare(left, right, ignore=["param.new"]).to_dict()

    assert json.loads(dumps(found)) == found
    assert found == {
        "verdict": "changed",
        "left": {"id": ID_A, "duration_ms": 4},
        "right": {"id": ID_B, "duration_ms": 9},
        "counts": {"value": 0, "type": 1, "order": 0, "removed": 1, "added": 0, "unknown": 1},
        "ignored": 1,
        "sections": {
            "summary": {"verdict": "equal", "changes": [], "unknown": []},
            "param": {
                "verdict": "changed",
                "changes": [
                    {"path": "param.a", "kind": "type", "left": 1, "right": None},
                    {"path": "param.gone", "kind": "removed", "left": None},
                ],
                "unknown": ["param.b"],
            },
            "response": {"verdict": "equal", "changes": [], "unknown": []},
            "error": {"verdict": "equal", "changes": [], "unknown": []},
            "notifications": {"verdict": "equal", "changes": [], "unknown": []},
        },
    }


def test_a_report_lists_changes_then_what_is_unknown() -> None:
    left = event(params={"a": 1, "b": "***", "rows": [1, 2], "s": "x" * 100})
    right = event(
        params={"a": "1", "rows": [2, 1], "s": "y", "n": [], "b": 0}, id="", duration_ms=9
    )

    assert str(compare(left, right, ignore="param.n")).splitlines() == [
        "changed: 1 value, 1 type, 1 order, 1 unknown",
        f"  left   {ID_A}  echo  4 ms",
        "  right  (no id)  echo  9 ms",
        '  type   param.a: 1 -> "1"',
        "  order  param.rows: the same 2 elements in another order",
        f'  value  param.s: "{"x" * 59}… -> "y"',
        "  unknown  param.b",
        "  1 ignored",
    ]
    assert str(compare(left, left, ignore="param.b")).splitlines()[0] == "equal"


def test_a_report_has_an_end() -> None:
    left = event(params={f"k{n}": n for n in range(100)} | {f"u{n}": "***" for n in range(100)})
    right = event(params={f"k{n}": -1 - n for n in range(100)} | {f"u{n}": 0 for n in range(100)})

    lines = compare(left, right).describe(changes_max=3).splitlines()
    assert lines[3:] == [
        "  value  param.k0: 0 -> -1",
        "  value  param.k1: 1 -> -2",
        "  value  param.k2: 2 -> -3",
        "  and 97 more changes",
        "  unknown  param.u0",
        "  unknown  param.u1",
        "  unknown  param.u2",
        "  and 97 more unknown",
    ]


def test_a_report_sends_no_control_characters_to_the_terminal() -> None:
    hostile = "\x1b[2J\u202e\n\x9b\ud800"
    left = event(params={hostile: hostile, "a": hostile}, tool_name=hostile)
    right = event(params={"a": "***", "b": {hostile: 1}}, tool_name="x")

    report = str(compare(left, right))

    assert all(line.isprintable() for line in report.split("\n"))
    assert len(report.split("\n")) == 7
    assert r"\x1b[2J\u202e\n" in report
    assert repr(compare(left, right)).isprintable()


def test_the_repr_is_one_line_without_values() -> None:
    comparison = compare(event(params={"a": "hunter2"}), event(params={"a": "hunter3"}, id=ID_B))

    assert repr(comparison) == f"Comparison(changed: 1 value; {ID_A}, {ID_B})"
    assert "hunter" not in repr(comparison.sections)
    assert repr(compare(event(id=""), event())) == f"Comparison(equal; no id, {ID_A})"


def test_a_comparison_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError, match="verdict"):
        bool(compare(event(), event()))


# Size


def test_ten_thousand_levels_are_compared_and_shown() -> None:
    trees: list[Any] = [1, 2]
    for level in range(10_000):
        trees = [[tree] if level % 2 else {"k": tree} for tree in trees]
    left, right = (event(params=[tree], text=dumps(tree)) for tree in trees)

    comparison = compare(left, right)

    assert [len(change.path) for change in comparison.changes] == [10_002, 10_005]
    assert len(str(comparison)) < 2000
    assert compare(left, left).verdict is Verdict.EQUAL
    assert compare(left, right, ignore=["**.k"]).verdict is Verdict.EQUAL


def test_a_comparison_can_be_sent_to_another_process() -> None:
    found = compare(event(params={"a": 1}), event(params={"a": 2}))
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert again.describe() == found.describe()
    assert again.left == found.left
    assert again.sections == found.sections
