"""Paths as text, and patterns over them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab.comparison.paths import (
    JSON_TEXT,
    Path,
    PathMatcher,
    PathPattern,
    Wildcard,
    compile_patterns,
    format_path,
    parse_path_pattern,
)
from mcpaudit_lab.errors import FilterError

SURROGATES = st.sampled_from(["\ud800", "a\udfff", "\ud83d"])
KEYS = (
    st.text() | st.text(alphabet='ab.[]"*$ \\\n{}0-1', max_size=4) | SURROGATES | st.just(JSON_TEXT)
)
PATHS = st.lists(KEYS | st.integers(0, 10**6), max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "$"),
        (("response", "content", 0, "text"), "response.content[0].text"),
        (("a", JSON_TEXT, "b"), "a.{json}.b"),
        ((0, 1, "a"), "[0][1].a"),
        (("extras", "a.b"), 'extras["a.b"]'),
        (("",), '[""]'),
        (("", "x"), '[""].x'),
        (("items", "0"), 'items["0"]'),
        (("user-agent", "$ref", "_x", "naïve", "日本"), "user-agent.$ref._x.naïve.日本"),
        (("$",), '["$"]'),
        (("*", "**"), '["*"]["**"]'),
        (('quo"te', "back\\slash"), '["quo\\"te"]["back\\\\slash"]'),
        (("a b",), '["a b"]'),
        (("line\nbreak",), '["line\\nbreak"]'),
        (("\x1b[31m",), '["\\u001b[31m"]'),
        (("gpj\u202eexe",), '["gpj\\u202eexe"]'),
        (("\ud800",), '["\\ud800"]'),
        (("[redacted]",), '["[redacted]"]'),
    ],
)
def test_a_path_has_one_text(path: Path, text: str) -> None:
    assert format_path(path) == text
    assert parse_path_pattern(text) == PathPattern(path)


@given(PATHS)
def test_a_path_survives_its_text(path: Path) -> None:
    pattern = parse_path_pattern(format_path(path))

    assert pattern.segments == path
    assert pattern.matches(path)
    assert str(pattern) == format_path(path)


@given(PATHS, PATHS)
def test_two_paths_never_share_a_text(one: Path, other: Path) -> None:
    assert (format_path(one) == format_path(other)) == (one == other)


@given(PATHS)
def test_the_text_of_a_path_is_printable(path: Path) -> None:
    assert format_path(path).isprintable()


@given(st.lists(KEYS | st.integers(0, 99) | st.sampled_from(Wildcard), max_size=5))
def test_a_pattern_survives_its_text(segments: list[Any]) -> None:
    pattern = PathPattern(tuple(segments))

    assert parse_path_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a.b", ("a", "b"), ("a", "b", "c")),
        ("a.b", ("a", "b"), ("a",)),
        ("a.*", ("a", "x"), ("a", "x", "y")),
        ("a.*", ("a", 3), ("a",)),
        ("a[*].c", ("a", "b", "c"), ("a", "c")),
        ("a[*].c", ("a", 0, "c"), ("a", 0, 1, "c")),
        ("a[0]", ("a", 0), ("a", "0")),
        ('a["0"]', ("a", "0"), ("a", 0)),
        ("a.0", ("a", "0"), ("a", 0)),
        ("a.**", ("a",), ("b",)),
        ("a.**", ("a", "b", 0, "c"), ("b", "a")),
        ("**", (), None),
        ("**.ms", ("ms",), ("ms", "x")),
        ("**.ms", ("a", 0, "ms"), ("a", "msx")),
        ("a.**.b.**.c", ("a", "b", "c"), ("a", "c", "b")),
        ("a.**.b.**.c", ("a", "x", "b", "b", "y", "c"), ("a", "x", "c")),
        ("a.**.**", ("a", 1), ("x",)),
        ("$", (), ("a",)),
        ("headers.user agent", ("headers", "user agent"), ("headers", "user")),
        ("text.{json}.a", ("text", JSON_TEXT, "a"), ("text", "a")),
        ("text.a", ("text", JSON_TEXT, "a"), ("text", JSON_TEXT)),
        ("text", ("text",), ("text", JSON_TEXT)),
        ("text.*", ("text", JSON_TEXT), ("text",)),
    ],
)
def test_a_pattern_means_these_paths(pattern: str, yes: Path, no: Path | None) -> None:
    parsed = parse_path_pattern(pattern)

    assert parsed.matches(yes)
    assert no is None or not parsed.matches(no)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 0),
        (".", 0),
        (".a", 0),
        ("a.", 1),
        ("a..b", 1),
        ("a.[0]", 1),
        ("a[", 1),
        ("a[]", 1),
        ("a[0", 1),
        ("a[-1]", 1),
        ("a[01]", 1),
        ("a[x]", 1),
        ("a['x']", 1),
        ("a[0]b", 4),
        ('a"b"', 1),
        ('a["b]', 1),
        ('a["\\q"]', 1),
        ('a["\n"]', 1),
        ("***", 2),
        ("a*", 1),
        ("*a", 1),
        ("a]", 1),
        ("a\x00b", 1),
        ("a. b", 1),
        ("a .b", 0),
        ("$.a", 0),
        ("a.$", 1),
    ],
)
def test_a_malformed_pattern_is_refused_with_its_place(text: str, place: int) -> None:
    with pytest.raises(FilterError, match=f"malformed at character {place}: write it as"):
        parse_path_pattern(text)


def test_an_error_shows_no_control_characters_and_no_endless_text() -> None:
    with pytest.raises(FilterError) as caught:
        parse_path_pattern("\x1b[2J" + "x" * 10_000)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_many_patterns_are_followed_at_once() -> None:
    matcher = compile_patterns(["a.b", "a.*.c", PathPattern(("a", Wildcard.MANY, 7))])
    assert matcher is not None
    state = matcher.start
    assert state is not None
    state = matcher.step(state, "a")
    assert state is not None
    assert not matcher.accepts(state)
    below = matcher.step(state, "b")
    assert below is not None
    assert matcher.accepts(below)
    assert matcher.step(matcher.start or frozenset(), "x") is None


def test_one_string_is_one_pattern_and_none_is_no_matcher() -> None:
    assert compile_patterns(()) is None
    assert compile_patterns("a.b") is compile_patterns(["a.b"])


def test_keys_of_the_data_do_not_fill_the_memory() -> None:
    matcher = PathMatcher([parse_path_pattern("**.ms")])
    assert matcher.start is not None
    for number in range(1000):
        matcher.step(matcher.start, f"key {number}")
        matcher.step(matcher.start, number)

    assert len(matcher._moves) <= 2
