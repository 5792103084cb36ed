"""What a notebook shows of events, trees, pictures and comparisons."""

from __future__ import annotations

import base64
import re
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab import Event, EventSet, Lab, LoadReport, Payload, compare
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.display.event_card import event_html
from mcpaudit_lab.display.html import attribute, style_html, text_html
from mcpaudit_lab.display.json_tree import json_tree_html
from mcpaudit_lab.display.media import media_html
from mcpaudit_lab.record.printable import visible
from mcpaudit_lab.storage.load.report import FileReport

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5E"
    "rkJggg=="
)


def text_of(html: str) -> str:
    """What a reader sees, but for the layout."""
    plain = re.sub(r"<style>.*?</style>|<[^>]*>", "", html, flags=re.DOTALL)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'")):
        plain = plain.replace(entity, char)
    return plain.replace("&amp;", "&")


def event_of(**members: Any) -> Event:
    payload = members.pop("payload", None)
    event = Event.build(timestamp=datetime(2026, 11, 24, tzinfo=UTC), tool_name="echo", **members)
    return event.with_payload(Payload.build(**payload)) if payload else event


# Text


@given(st.text(max_size=40))
def test_text_says_the_same_as_on_a_terminal(text: str) -> None:
    html = text_html(text)
    assert not re.search(r"<(?!/?span\b)", html)
    assert '"' not in re.sub(r'<span class="mal-hidden">', "", html)
    if not re.search("[\u0300-\u036f]{5}", text):
        assert text_of(html).startswith(visible(text)[:5])


def test_what_is_hidden_is_marked_and_cannot_be_imitated() -> None:
    assert text_html("a\x1b[31m\u202eb") == (
        'a<span class="mal-hidden">\\x1b</span>[31m<span class="mal-hidden">\\u202e</span>b'
    )
    assert text_html("a\\x1b") == "a\\x1b"


def test_a_letter_has_four_marks_at_most() -> None:
    shown = text_html("e" + "\u0301" * 9)
    assert shown == "e" + "\u0301" * 4 + '<span class="mal-hidden">' + "\\u0301" * 5 + "</span>"


def test_long_text_is_cut_and_says_so() -> None:
    assert text_of(text_html("x" * 2500)) == "x" * 2000 + "… 500 more characters"
    assert attribute("x" * 400) == "x" * 300 + "…"


def test_an_attribute_may_be_shown_and_is_as_careful_as_text() -> None:
    assert attribute("e" + "\u0301" * 5 + '"\n') == "e" + "\u0301" * 4 + "\\u0301&quot;\\n"


def test_line_breaks_are_kept_where_asked() -> None:
    assert text_html("a\nb\r", lines=True) == 'a\nb<span class="mal-hidden">\\r</span>'


def test_the_style_sheet_is_scoped_fetches_nothing_and_cannot_end_early() -> None:
    sheet = style_html()
    assert not re.search(r"url\(|@import|@font-face|</style.+</style", sheet)
    # Every rule at the top begins at our box, or is a theme's selector that ends there.
    body = sheet.removeprefix("<style>").removesuffix("</style>")
    for selector in re.findall(r"^([^&@}\s][^{}]*)\{", body, re.MULTILINE):
        if ":" not in selector.split("{")[0] or ".mcpaudit-lab" in selector:
            assert ".mcpaudit-lab" in selector, selector


# Trees


def test_a_tree_folds_and_shows_what_is_in_it() -> None:
    html = json_tree_html({"a": [1, None, True, "x"], "b c": {}, "d": "[redacted]"})
    assert html.count("<details open") == 2
    assert "a: [0, …] 4 elements" not in text_of(html)
    for part in ("a: ", "0: 1", "1: null", "2: true", '3: "x"', '"b c": {}', "3 members"):
        assert part in text_of(html)
    assert 'class="mal-redacted"' in html


def test_big_containers_stand_folded_with_their_first_keys() -> None:
    html = json_tree_html({"big": {f"key{n}": n for n in range(30)}})
    assert "<details><summary>" in html
    assert "key0, key1, key2, key3, …" in text_of(html)


def test_a_text_that_is_json_can_be_unfolded() -> None:
    html = json_tree_html({"text": '{"user": {"id": 7}}', "no": "{nothing", "empty": "[]"})
    assert text_of(html).count("the text as JSON") == 1
    assert "id: 7" in text_of(html)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([0] * 150, "… 50 more, not shown"),
        ([[0] * 100] * 100, "more, not shown"),
        (["x y" * 1000] * 100, "more, not shown"),
        ("A" * 500, "… 420 more characters"),
        ("word " * 1000, "… 3,000 more characters"),
        (10**200, "… 121 more characters"),
    ],
)
def test_a_tree_is_bounded_and_says_so(value: Any, said: str) -> None:
    html = json_tree_html(value)
    assert said in text_of(html)
    assert len(html) < 250_000


def test_a_tree_ends_before_the_interpreter_does() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "1 element, nested too deep to show" in text_of(json_tree_html(deep))


# Pictures and sounds


def picture(data: bytes | str, mime_type: Any = "image/png", kind: str = "image") -> str:
    text = data if isinstance(data, str) else base64.b64encode(data).decode()
    return media_html({"content": [{"type": kind, "data": text, "mimeType": mime_type}]})


@pytest.mark.parametrize(
    ("data", "mime_type", "kind"),
    [
        (PNG, "image/png", "image"),
        (PNG, "IMAGE/PNG; charset=x", "image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 8, "image/jpg", "image"),
        (b"GIF89a\x01\0\x01\0", "image/gif", "image"),
        (b"RIFF\0\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0\x09\0\0\x09\0\0", "image/webp", "image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", "image"),
        (b"RIFF\0\0\0\0WAVE", "audio/x-wav", "audio"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4", "audio"),
    ],
)
def test_pictures_and_sounds_are_shown_from_their_data(
    data: bytes, mime_type: str, kind: str
) -> None:
    html = picture(data, mime_type, kind)
    assert f"base64,{base64.b64encode(data).decode()}" in html
    assert ("<img" in html) == (kind == "image")
    assert f"{len(data):,} bytes" in text_of(html)


@pytest.mark.parametrize(
    ("data", "mime_type", "reason"),
    [
        (b"<svg/>", "image/svg+xml", "as is everything of this type"),
        (PNG, "text/html", "as is everything of this type"),
        (PNG, None, "as is everything of this type"),
        (b"<script>", "image/png", "its data is of another type"),
        ("AAAA====!", "image/png", "its data is not base64"),
        ("\xe9", "image/png", "its data is not base64"),
        ("A" * (6 << 20), "image/png", "larger than 4 MiB"),
        (PNG[:16] + struct.pack(">II", 60_000, 60_000), "image/png", "megapixels"),
        (b"GIF89a" + struct.pack("<HH", 60_000, 60_000), "image/gif", "megapixels"),
        (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff", "image/jpeg", "megapixels"),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\xff" * 6, "image/webp", "megapixels"),
    ],
)
def test_what_is_no_picture_is_named_and_not_shown(
    data: bytes | str, mime_type: Any, reason: str
) -> None:
    html = picture(data, mime_type)
    assert "<img" not in html
    assert reason in text_of(html)


def test_data_that_is_no_text_is_not_shown() -> None:
    block = {"type": "image", "data": 5, "mimeType": "image/png"}
    assert "its data is not text" in media_html({"content": [block, 7]})


def test_resources_are_shown_where_they_are_pictures_and_no_more_than_twelve() -> None:
    blob = base64.b64encode(PNG).decode()
    block = {"type": "resource", "resource": {"mimeType": "image/png", "blob": blob}}
    other = {"type": "resource", "resource": {"mimeType": "text/plain", "blob": blob}}
    html = media_html({"content": [other, *[block] * 14]})
    assert html.count("<img") == 12
    assert "more are not shown" in html
    assert media_html({"content": [other]}) == media_html("text") == media_html(None) == ""


# Cards


def test_a_card_tells_who_what_and_why_it_failed() -> None:
    event = event_of(
        id="0c0ffee0-0000-4000-8000-000000000001",
        success=False,
        error_category="tool",
        error_message="tool returned IsError",
        user_subject="alice",
        auth_type="oidc",
        payload={
            "request_params": {"password": "[redacted]"},
            "request_size_bytes": 1234,
            "request_headers": {"X-Api-Key": ["[redacted]"], "Odd": 7},
            "response_result": {"content": [{"type": "text", "text": "no such file"}]},
            "notifications": [
                {"ts": "2026-11-24T00:00:00.25Z", "method": "notifications/message"},
                {"ts": "never", "method": "x", "params": {"token": "***"}},
            ],
            "notifications_truncated": True,
        },
    )
    html = event_html(event)
    text = text_of(html)
    for part in (
        "echo",
        "2026-11-24 00:00:00.000 UTC",
        "alice (oidc)",
        "1,234 bytes",
        "redacted: 1 argument; a plan replays the call only if secrets= supplies",
        "+250.0 ms",
        "The last notifications were left out.",
        "Request headers 2",
    ):
        assert part in text
    assert '<div class="mal-why">no such file</div>' in html
    assert html.count('class="mal-redacted"') == 3


def test_a_card_without_payload_says_so() -> None:
    text = text_of(event_html(event_of(parameters=None, success=True, later="x")))
    assert "none recorded" in text
    assert "not captured, or are not loaded" in text
    assert "Unknown members" in text
    assert "unknown" in text


def test_what_was_too_big_is_said() -> None:
    payload = {"request_truncated": True, "response_truncated": True, "response_error": {"a": 1}}
    text = text_of(event_html(event_of(payload=payload)))
    assert "The request was too big and was not kept." in text
    assert "The response was too big and was not kept." in text


def test_a_failure_that_says_nothing_has_no_reason() -> None:
    for result in (None, {"content": "x"}, {"content": ["x", {"text": 5}]}):
        payload = {"jsonrpc_method": "tools/call", "response_result": result}
        html = event_html(event_of(success=False, payload=payload))
        assert '<div class="mal-why">' not in html


def test_many_headers_and_notifications_are_bounded() -> None:
    payload = {
        "request_headers": {f"X-{n}": ["v"] * 17 for n in range(120)},
        "notifications": [{"method": "m"}] * 70,
    }
    text = text_of(event_html(event_of(payload=payload)))
    assert text.count("… 7 more") == 100
    assert text.count("… 20 more") == 2


def test_reprs_are_bounded_and_one_line() -> None:
    event = event_of(error_category="\x1b[31m" + "y" * 500)
    event = Event({**event.wire, "tool_name": "\u202e" + "x" * 500})
    assert len(repr(event)) < 400
    assert "\\u202exx" in repr(event)
    assert "\\x1b[31m" in repr(event)


# Comparisons


def test_changes_come_first_and_what_is_equal_folds() -> None:
    left = event_of(payload={"request_params": {"a": 1}, "response_result": {"text": "one two"}})
    right = event_of(payload={"request_params": {"a": 1}, "response_result": {"text": "one 2"}})
    html = compare(left, right)._repr_html_()
    text = text_of(html)
    assert text.index("Response 1 change") < text.index("Parameters equal")
    assert '"one <mark>two</mark>"' in html
    assert '"one <mark>2</mark>"' in html


def two_texts(left: str, right: str) -> str:
    one, other = (event_of(payload={"response_result": {"text": t}}) for t in (left, right))
    return compare(one, other)._repr_html_()


def test_a_text_that_is_cut_says_so_though_both_begin_alike() -> None:
    html = two_texts("x" * 1001 + "left", "x" * 1001 + "right")
    assert '"… 5 characters …xxx' in text_of(html)
    assert 'x<mark>lef</mark>t"' in html
    assert 'x<mark>righ</mark>t"' in html


def test_one_word_is_marked_in_a_long_text_and_nothing_in_texts_that_would_take_long() -> None:
    html = two_texts("a b " * 200 + "old" + " c d" * 20, "a b " * 200 + "new" + " c d" * 20)
    assert "a b <mark>old</mark> c d" in html
    assert "<mark>" not in two_texts("!" * 300, "?!" * 150)


def test_every_kind_of_change_has_its_look() -> None:
    left = {"gone": {"x": 1}, "kind": 1, "list": [1, 2, 3], "text": "aaaa", "mark": "x"}
    right = {"new": [], "kind": "1", "list": [3, 1, 2], "text": "zzzz", "mark": "[redacted]"}
    one, other = (event_of(payload={"response_result": side}) for side in (left, right))
    html = compare(one, other)._repr_html_()
    text = text_of(html)
    assert "not there" in text
    assert "the same 3 elements in another order" in text
    assert "redacted on a side" in text
    assert "Response 5 changes, 1 unknown" in text
    for kind in ("removed", "added", "type", "order", "value"):
        assert len(re.findall(rf'<span class="mal-badge mal-\w+">{kind}</span>', html)) == 1


def test_why_something_is_unknown_is_said_for_each_side() -> None:
    left = event_of(payload={"response_truncated": True})
    text = text_of(compare(left, event_of())._repr_html_())
    assert "left: too big, not kept; right: not captured, or not loaded" in text


def test_long_comparisons_are_bounded() -> None:
    left = event_of(payload={"response_result": {f"k{n}": n for n in range(80)}})
    right = event_of(payload={"response_result": {f"k{n}": -n - 1 for n in range(80)}})
    hidden = {f"k{n}": "***" for n in range(80)}
    text = text_of(compare(left, right)._repr_html_())
    assert "… 30 more changes" in text
    other = event_of(payload={"response_result": hidden})
    assert "… 30 more unknown paths" in text_of(compare(left, other)._repr_html_())


def test_what_was_left_aside_is_counted() -> None:
    left = event_of(payload={"response_result": {"ms": 1}})
    right = event_of(payload={"response_result": {"ms": 2}})
    html = compare(left, right, ignore=["response.ms"])._repr_html_()
    assert "Left aside, as asked: 1 place." in text_of(html)


# Sets and loads


@pytest.fixture(scope="module")
def lab() -> Any:
    with Lab() as lab:
        lab.load(sample_files())
        yield lab


def test_a_set_shows_its_count_its_filter_and_ten_rows(lab: Lab) -> None:
    html = lab.events(tool="flaky", success=False)._repr_html_()
    text = text_of(html)
    assert "26 events" in text
    assert 'tool "flaky", failed' in text
    assert html.count("<tr") == 11
    assert "… 16 more" in text
    assert html.count("mal-failed") - style_html().count("mal-failed") == 10


def test_an_empty_set_says_so(lab: Lab) -> None:
    html = lab.events(tool="none")._repr_html_()
    assert "0 events" in text_of(html)
    assert "<table" not in html


def test_a_closed_lab_still_has_sets_with_a_repr() -> None:
    lab = Lab()
    events = lab.events(tool="x")
    lab.close()
    assert repr(events) == 'EventSet(of a closed lab: tool "x")'
    assert isinstance(events, EventSet)


def test_a_long_filter_is_cut(lab: Lab) -> None:
    assert len(repr(lab.events(tool=[f"tool-{n}" for n in range(500)]))) < 500


def test_a_load_shows_inputs_sums_and_reasons() -> None:
    files = [FileReport(f"{n}.jsonl", lines=2, loaded=1, rejected=1) for n in range(40)]
    text = text_of(LoadReport(tuple(files), 1.5, {"not_json": 40})._repr_html_())
    for part in ("40 loaded", "40 rejected", "40 inputs in 1.5 s", "together", "40 not_json"):
        assert part in text
    assert "… 11 inputs more" in text


def test_a_load_of_one_input_has_no_sums() -> None:
    assert "together" not in text_of(LoadReport((FileReport("a"),))._repr_html_())
