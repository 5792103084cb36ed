"""Redaction is never sent; what is supplied in its place is kept nowhere."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from replaying import (
    captured,
    counting_server,
    lab_of,
    over_http,
    raw_process,
)

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.calls.arguments import prepare
from mcpaudit_lab.calls.scrubbing import Scrubber
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record.redaction import DEFAULT_DIALECTS
from mcpaudit_lab.replay.mcp_target import McpTarget
from mcpaudit_lab.replay.portal_target import PortalTarget
from mcpaudit_lab.replay.targets import Target

SECRET = 'hun"ter2 <ü&>'

# What is never sent

MARKS = st.sampled_from(
    [
        "[redacted]",
        "[REDACTED]",
        "<redacted>",
        "<REDACTED:id-7>",
        "***",
        "*****",
        f"sha256:{'a' * 64}",
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def marked(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments with a mark somewhere: a value or a key, in objects, lists and JSON in texts."""
    mark = draw(MARKS)
    value: Any = {mark: draw(PLAIN)} if draw(st.booleans()) else mark
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["list", "object", "JSON", "JSON Lines"]))
        if kind == "list":
            value = [*draw(st.lists(PLAIN, max_size=2)), value, *draw(st.lists(PLAIN, max_size=2))]
        elif kind == "JSON":
            value = json.dumps({"k": value}, ensure_ascii=draw(st.booleans()))
        elif kind == "JSON Lines":
            value = "\n".join(map(json.dumps, [{}, value, {"k": value}]))
        else:
            value = {**draw(st.dictionaries(st.text(max_size=3), PLAIN, max_size=2)), "k": value}
    return {**draw(st.dictionaries(st.text(max_size=3), PLAIN, max_size=2)), "top": value}


class Counter:
    """Counts what would leave by the two HTTP targets."""

    def __init__(self) -> None:
        self.posts = 0
        self.event: Event | None = None

    def portal(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            self.posts += 1
            return httpx2.Response(500)
        if request.url.path.endswith("/portal/tools"):
            return httpx2.Response(200, json={"tools": [{"name": "work"}]})
        if request.url.path.endswith("/meta"):
            return httpx2.Response(200, json={})
        assert self.event is not None
        headers = {"content-type": "application/json"}
        return httpx2.Response(200, content=self.event.to_json(), headers=headers)


@contextmanager
def all_targets(folder: Path) -> Iterator[tuple[dict[str, Target], Counter, Any]]:
    """Every kind of target, and how many calls got anywhere."""
    counter = Counter()
    here, here_calls = counting_server()
    there, _ = counting_server()
    command, lines = raw_process(folder)
    transport = httpx2.MockTransport(counter.portal)
    with (
        over_http(there) as (url, noted),
        PortalClient("http://portal.test", "k", transport=transport, backoff_s=0) as client,
    ):
        targets: dict[str, Target] = {
            "portal": PortalTarget(client, mcp_paths=()),
            "http": McpTarget(url),
            "stdio": McpTarget(command),
            "in-process": McpTarget(here),
        }

        def left() -> int:
            return counter.posts + len(here_calls) + len(noted.bodies) + lines.stat().st_size

        yield targets, counter, left


class Known:
    """A target that has told its tools before: nobody asks a process for them 200 times."""

    def __init__(self, inner: Target) -> None:
        self._inner = inner
        self._tools = inner.tools()
        self._pace = inner.pace()
        self.name, self.transport = inner.name, inner.transport
        self.route, self.open = inner.route, inner.open

    def tools(self) -> Any:
        return self._tools

    def pace(self) -> Any:
        return self._pace


def test_no_request_leaves_for_a_redacted_payload_through_any_target(
    tmp_path: Path,
) -> None:
    with all_targets(tmp_path) as (targets, counter, left), Lab() as lab:
        known = {name: Known(target) for name, target in targets.items()}

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(marked(), st.sampled_from(sorted(known)), st.booleans())
        @example({"password": "[redacted]"}, "portal", True)
        def law(arguments: dict[str, Any], name: str, via_tryit: bool) -> None:
            event = captured(arguments)
            counter.event = event
            plan = lab.plan_replay(
                [event], known[name], allow="all", via_tryit=via_tryit, secrets={"other": "x"}
            )
            assert plan.items[0].refusal is not None
            assert plan.items[0].refusal.reason == "redacted"
            assert plan.items[0].refusal.paths
            assert plan.run().counts() == {"refused": 1}

        law()
        assert left() == 0
        # The same way without a mark gets through: the counters count.
        for count, target in enumerate(known.values(), 1):
            counter.event = captured({"a": 1})
            lab.plan_replay([counter.event], target, allow="all").run()
            assert left() >= count


def test_a_digest_is_data_where_somebody_says_so() -> None:
    event = captured({"image": f"sha256:{'a' * 64}"})
    server, calls = counting_server()
    with lab_of(event) as lab:
        assert lab.plan_replay([event], server, allow="all").counts()["refused"] == 1
        plan = lab.plan_replay([event], server, allow="all", dialects=DEFAULT_DIALECTS)
        assert plan.run().counts() == {"succeeded": 1}
    assert len(calls) == 1


def test_a_portals_own_mark_is_no_data_whatever_somebody_says() -> None:
    event = captured({"password": "[Redacted]"})
    server, calls = counting_server()
    with lab_of(event) as lab:
        plan = lab.plan_replay([event], server, allow="all", dialects=())
        assert [item.refusal.reason for item in plan.items if item.refusal] == ["redacted"]
        assert plan.run().finished
    assert len(calls) == 0


def test_arguments_or_a_tools_name_that_are_a_mark_as_a_whole_are_refused() -> None:
    server, calls = counting_server(name="[redacted]")
    with lab_of(captured("[redacted]"), captured({}, tool="[redacted]", number=1)) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all")
        assert [item.refusal.reason for item in plan.items if item.refusal] == ["redacted"] * 2
        assert plan.run().finished
    assert len(calls) == 0


@pytest.mark.parametrize(
    "text",
    [
        r'{"password":"\u005bredacted]"}',
        '{"password":"[redacted]","password":"x"}',
        '"[redacted]"',
        '["<redacted:id>"]',
        '{"a":1}\n{"password":"[redacted]"}\n',
    ],
)
def test_a_mark_in_a_text_that_is_json_is_one(text: str) -> None:
    assert prepare(captured({"body": text})).missing == ("body",)


@pytest.mark.parametrize("text", ["the [redacted] here", '["the [redacted] here"]', "[redacted"])
def test_a_text_about_a_mark_is_data(text: str) -> None:
    assert prepare(captured({"body": text})).missing == ()


def test_a_text_with_marks_inside_is_supplied_whole_and_what_is_new_in_it_is_secret() -> None:
    event = captured({"body": '{"user":"bob","password":"[redacted]"}'})
    outgoing = prepare(event, secrets={"body": '{"user":"bob","password":"hunter2"}'})
    assert outgoing.arguments == {"body": '{"user":"bob","password":"hunter2"}'}
    assert outgoing.kept == event.parameters
    assert outgoing.scrubber.clean("bob has hunter2") == "bob has [redacted]"
    assert prepare(event, secrets={"body": '{"password":"[redacted]"}'}).missing == ("body",)
    lines = captured({"body": '{"user":"bob"}\n{"inner":"{\\"token\\":\\"***\\"}"}'})
    text = '{"user":"bob"}\n{"inner":"{\\"token\\":\\"hunter2\\"}"}'
    outgoing = prepare(lines, secrets={"body": text})
    assert outgoing.arguments == {"body": text}
    assert outgoing.scrubber.clean("bob has hunter2") == "bob has [redacted]"
    edited = prepare(event, edit={"body": '{"user":"bob","password":"hunter2"}'})
    assert "hunter2" not in json.dumps(edited.kept)


def test_an_edit_that_replaces_arguments_that_are_a_mark_as_a_whole_is_secret() -> None:
    outgoing = prepare(captured("[redacted]"), edit=lambda *_: {"password": "hunter2"})
    assert outgoing.arguments == {"password": "hunter2"}
    assert outgoing.kept == "[redacted]"
    assert outgoing.scrubber.clean_text("hunter2") == "[redacted]"


# What is supplied


def test_secrets_are_found_by_path_by_key_and_by_a_function() -> None:
    event = captured(
        {"user": {"password": "[redacted]"}, "keys": [{"token": "***"}, "<redacted>"], "a": 1}
    )
    by_name = prepare(
        event, secrets={"password": "one", "keys[0].token": "two", "keys[1]": "three"}
    )
    wanted = {"user": {"password": "one"}, "keys": [{"token": "two"}, "three"], "a": 1}
    assert by_name.arguments == wanted
    assert by_name.missing == ()
    assert by_name.modified
    asked: list[str] = []

    def resolve(given: Event, path: str) -> str:
        assert given is event
        asked.append(path)
        return path

    by_function = prepare(event, secrets=resolve)
    assert asked == ["user.password", "keys[0].token", "keys[1]"]
    assert by_function.arguments["keys"][1] == "keys[1]"
    # What is kept is what the record had, to the letter of its marks.
    assert by_name.kept == event.parameters


def test_every_mark_must_be_filled_and_not_by_another_mark() -> None:
    event = captured({"password": "[redacted]", "token": "[redacted]"})
    assert prepare(event, secrets={"password": "x"}).missing == ("token",)
    assert prepare(event, secrets={"password": "x", "token": "***"}).missing == ("token",)
    assert prepare(event, secrets=lambda *_: None).missing == ("password", "token")


def echo_everywhere(arguments: dict[str, Any]) -> dict[str, Any]:
    """An answer that has the secret in every place and way there is."""
    secret = arguments["password"]
    inner = json.dumps({"deep": json.dumps({"p": secret})})
    return {
        "content": [
            {"type": "text", "text": f"you said {secret}."},
            {"type": "text", "text": json.dumps({"echo": arguments, "inner": inner})},
            {"type": "text", "text": "".join(f"\\u{ord(c):04x}" for c in secret).join('""')},
        ],
        "structuredContent": {secret: [secret, {"again": secret}]},
        "isError": True,
    }


SPELLINGS = [SECRET, json.dumps(SECRET)[1:-1], json.dumps(SECRET, ensure_ascii=False)[1:-1]]


@pytest.mark.parametrize("kind", ["in-process", "http", "portal"])
def test_what_was_supplied_is_kept_nowhere(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mcpaudit_lab.server import background_portal

    caplog.set_level(logging.DEBUG)
    server, calls = counting_server(echo_everywhere)
    path = tmp_path / "case.duckdb"
    with lab_of(captured({"password": "[redacted]"}), path=path) as lab:
        secrets = {"password": SECRET}
        if kind == "portal":
            with (
                background_portal(server) as portal,
                PortalClient(portal.url, portal.api_key) as client,
            ):
                plan = lab.plan_replay(lab.events(), client, allow="all", secrets=secrets)
                run = plan.run()
        elif kind == "http":
            with over_http(server) as (url, _):
                plan = lab.plan_replay(lab.events(), url, allow="all", secrets=secrets)
                caplog.clear()
                run = plan.run()
                client_logs = [
                    r for r in caplog.records if not r.name.startswith(("mcp.server", "sse"))
                ]
                texts = "".join(record.getMessage() for record in client_logs)
                assert not any(text in texts for text in SPELLINGS)
        else:
            plan = lab.plan_replay(lab.events(), server, allow="all", secrets=secrets)
            run = plan.run()
        assert run.counts() == {"failed": 1}
        assert calls.arguments == [{"password": SECRET}]
        assert any("what you supply" in warning for warning in plan.warnings)
        event = lab.event(run.states[0].replay_id)
        assert event.payload is not None
        assert event.payload.request_params == {"password": "[redacted]"}
        assert event.payload.response_result is not None
        lab.write(tmp_path / "out.jsonl")
        shown = [repr(plan), repr(run), repr(plan.items[0].outgoing), event.to_json()]
        shown += [run.df().to_csv(), plan.df().to_csv(), str(run.comparison(event.id))]
        shown += [str(lab.sql("select * from replays").fetchall()), str(lab.sources())]
        shown += [repr(plan.items), (tmp_path / "out.jsonl").read_text()]
        # Read as JSON whatever is JSON, so that no escape hides it.
        result: Any = event.payload.response_result
        shown += [json.loads(block["text"]) for block in result["content"][2:]]
    for text in shown:
        assert not any(spelling in text for spelling in SPELLINGS)
    stored = path.read_bytes()
    assert not any(spelling.encode() in stored for spelling in SPELLINGS)


def test_a_tool_that_repeats_what_another_call_gave_it_is_scrubbed_too() -> None:
    given: list[Any] = []

    def remembering(arguments: dict[str, Any]) -> Any:
        given.extend(arguments.values())
        return {"content": [{"type": "text", "text": f"so far: {given}"}]}

    server, _ = counting_server(remembering)
    first, second = captured({"password": "[redacted]"}), captured({"n": 7}, number=1)
    with lab_of(first, second) as lab:
        secrets = {"password": "hunter2"}
        plan = lab.plan_replay(lab.events(), server, allow="all", secrets=secrets)
        assert "for 1 call;" in plan.warnings[0]
        run = plan.run()
        assert run.counts() == {"succeeded": 2}
        told = [lab.event(state.replay_id).to_json() for state in run.states]
        assert not any("hunter2" in text for text in told)
        assert "so far: ['[redacted]', 7]" in told[1]


def test_an_error_that_quotes_the_secret_is_scrubbed() -> None:
    def quoting(arguments: dict[str, Any]) -> Any:
        raise ValueError(f"no such password: {arguments['password']!r}")

    server, _ = counting_server(quoting)
    with lab_of(captured({"password": "[redacted]"})) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all", secrets={"password": "hunter2"})
        run = plan.run()
        assert run.counts() == {"failed": 1}
        event = lab.event(run.states[0].replay_id)
        assert "hunter2" not in event.to_json() + repr(run) + run.df().to_csv()


def test_a_misfit_is_told_without_the_value() -> None:
    server, calls = counting_server(
        schema={"type": "object", "properties": {"password": {"type": "integer"}}}
    )
    with lab_of(captured({"password": "[redacted]"})) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all", secrets={"password": "hunter2"})
        assert plan.items[0].refusal is not None
        assert (plan.items[0].refusal.reason, plan.items[0].refusal.paths) == (
            "does_not_fit",
            ("password",),
        )
        assert "hunter2" not in repr(plan) + plan.df().to_csv()
    assert len(calls) == 0


def test_a_place_that_a_portal_would_store_in_clear_is_named() -> None:
    server, _ = counting_server()
    with lab_of(captured({"pin": "[redacted]"})) as lab:
        plan = lab.plan_replay(lab.events(), server, allow="all", secrets={"pin": 4711})
        assert any("in clear" in warning and "pin" in warning for warning in plan.warnings)
        assert "warning" in repr(plan)


def test_what_a_function_raises_comes_through() -> None:
    def failing(*_: object) -> Any:
        raise LookupError("no vault")

    server, _ = counting_server()
    with lab_of(captured({"password": "***"})) as lab, pytest.raises(LookupError, match="vault"):
        lab.plan_replay(lab.events(), server, allow="all", secrets=failing)


# Scrubbing

TEXTS = st.text(min_size=3, max_size=12).filter(
    lambda text: text.strip() and text not in "[redacted]"
)


@settings(deadline=None)
@given(TEXTS, st.integers(0, 4), st.text(max_size=5), st.booleans())
def test_no_level_of_json_hides_a_secret(
    secret: str, levels: int, around: str, ascii_only: bool
) -> None:
    value: Any = {"k": [f"{around}{secret}{around}"]}
    for _ in range(levels):
        value = {"inner": json.dumps(value, ensure_ascii=ascii_only)}
    cleaned = Scrubber([secret]).clean(value)
    for _ in range(levels):
        try:
            cleaned = json.loads(cleaned["inner"])
        except ValueError:
            # "000" stands in an escape, too: better broken than told.
            assert secret not in cleaned["inner"].replace("[redacted]", "")
            return
    (text,) = cleaned["k"]
    assert secret not in text.replace("[redacted]", "")


def test_a_key_that_is_there_twice_hides_nothing() -> None:
    scrubber = Scrubber(["hunter2"])
    for text in (r'{"a":"h\u0075nter2","a":"x"}', '{"a":"hunter2","a":"x"}'):
        assert scrubber.clean_text(text) == '{"a":"x"}'
    assert Scrubber(['{"a":1}']).clean_text('{"a":1}') == "[redacted]"
    assert Scrubber(["red"]).clean_text("red [redacted]") == "[redacted] [redacted]"


def test_numbers_lists_and_objects_are_scrubbed_by_their_values() -> None:
    scrubber = Scrubber([4711, {"a": ["deep secret", True, None]}])
    value = {"n": 4711, "t": "pin 4711", "x": "the deep secret", "b": True, "z": None}
    assert scrubber.clean(value) == {
        "n": "[redacted]",
        "t": "pin [redacted]",
        "x": "the [redacted]",
        "b": True,
        "z": None,
    }
    assert not Scrubber([""])
    assert Scrubber().clean(value) is value
    assert "deep" not in repr(scrubber)


def test_other_spellings_of_a_secret_are_found() -> None:
    scrubber = Scrubber(["a b&<c>/é"])
    for text in ("a%20b%26%3Cc%3E%2F%C3%A9", "a+b%26%3Cc%3E%2F%C3%A9", "a b&amp;&lt;c&gt;/é"):
        assert scrubber.clean_text(f"x={text}") == "x=[redacted]"


# Edits


def test_edits_change_arguments_by_name_or_by_function() -> None:
    event = captured({"a": 1, "b": {"c": 2}})
    assert prepare(event, edit={"a": 3}).arguments == {"a": 3, "b": {"c": 2}}

    def deeper(given: Event, arguments: dict[str, Any]) -> dict[str, Any]:
        assert given is event
        arguments["b"]["c"] = 7
        return arguments

    changed = prepare(event, edit=deeper)
    assert changed.arguments == {"a": 1, "b": {"c": 7}}
    assert changed.modified
    assert event.parameters == {"a": 1, "b": {"c": 2}}
    assert not prepare(event, edit={"a": 1}).modified
    assert prepare(captured(None), edit={"a": 1}).arguments == {"a": 1}
    with pytest.raises(ReplayError, match="dict"):
        prepare(event, edit=lambda *_: None)  # type: ignore[arg-type]  # what people forget


def test_an_edit_that_replaces_a_mark_is_as_secret_as_what_is_supplied() -> None:
    event = captured({"password": "[redacted]", "a": 1})
    outgoing = prepare(event, edit={"password": "hunter2"})
    assert outgoing.arguments["password"] == "hunter2"
    assert outgoing.kept == {"password": "[redacted]", "a": 1}
    assert outgoing.scrubber.clean_text("hunter2!") == "[redacted]!"
    assert "hunter2" not in repr(outgoing)


@pytest.mark.parametrize("value", [b"hunter2", {"hunter2"}, float("nan"), [object()]])
def test_what_is_no_json_is_not_sent_as_something_else(value: Any) -> None:
    with pytest.raises(ReplayError, match="edit= gave") as edited:
        prepare(captured({"a": 1}), edit={"a": value})
    with pytest.raises(ReplayError, match="edit= gave"):
        prepare(captured({"a": 1}), edit=lambda *_: {"a": value})
    with pytest.raises(ReplayError, match="secrets= gave") as supplied:
        prepare(captured({"a": "***"}), secrets=lambda *_: value)
    assert "hunter2" not in f"{edited.value}{supplied.value}"


def test_an_edit_that_brings_a_mark_is_refused() -> None:
    assert prepare(captured({"a": 1}), edit={"a": "***"}).missing == ("a",)


def test_marks_a_thousand_levels_down_are_found() -> None:
    value: Any = {"[redacted]": "***"}
    for _ in range(20_000):
        value = [value]
    found = prepare(captured({"deep": value})).missing
    assert len(found) == 1
    assert sys.getrecursionlimit() < 20_000
