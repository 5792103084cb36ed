"""Lists set against each other, and the digests that equal values share."""

from decimal import Decimal
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab.comparison.alignment import align, common_pairs
from mcpaudit_lab.comparison.equality import Digests, JsonText
from mcpaudit_lab.comparison.paths import compile_patterns
from mcpaudit_lab.record.jsontext import JsonDecimal, loads, same
from mcpaudit_lab.record.redaction import marks_of

LETTERS = st.lists(st.sampled_from("abc"), max_size=8)
NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([2**53, 2**53 + 1, 2.0**53, 1e23, 10**23, 0.1, -0.0, 1e308, 10**308])
    | st.sampled_from(["1.0", "1.10", "1.1000", "0.5", "0.50", "5e-1", "-0", "0e5"]).map(
        JsonDecimal
    )
    | st.sampled_from(["1e23", "1e400", "10e399", "1e5001", "10e5000", "-1e5001"]).map(JsonDecimal)
    | st.just(JsonDecimal("0.1000000000000000055511151231257827021181583404541015625"))
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
)
SCALARS = st.none() | st.booleans() | st.sampled_from(["", "a", "1", "True", "None"]) | NUMBERS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


def digest(value: Any) -> str | None:
    return Digests(None, None).of(value)


@settings(deadline=None)
@given(TREES, TREES)
def test_digests_agree_exactly_where_the_values_are_equal(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == same(one, other)
    assert digest(one) is not None


@pytest.mark.parametrize(
    "values",
    [
        [1, 1.0, JsonDecimal("1.00"), Decimal(1), JsonDecimal("10e-1")],
        [0, 0.0, -0.0, JsonDecimal("-0"), JsonDecimal("0e7")],
        [JsonDecimal("1e400"), 10**400, JsonDecimal("10e399")],
        [JsonDecimal("1e6000"), JsonDecimal("1" + "0" * 6000)],
        [JsonDecimal("1e12345678901234567890"), JsonDecimal("1E+12345678901234567890")],
        [0.5, JsonDecimal("0.50"), JsonDecimal("5e-1")],
        [
            JsonDecimal("0.10000000000000000000000001"),
            JsonDecimal("10000000000000000000000001e-26"),
        ],
        [{"a": 1, "b": [2]}, {"b": [2.0], "a": JsonDecimal("1.0")}],
        [[], ()],
    ],
)
def test_equal_values_share_a_digest_however_written(values: list[Any]) -> None:
    assert len({digest(value) for value in values}) == 1


@pytest.mark.parametrize(
    "values",
    [
        [1, True, "1", None, [], {}, "", "true", [1], {"1": 1}],
        [2**53, 2**53 + 1, JsonDecimal("9007199254740993.5")],
        [JsonDecimal("1e400"), JsonDecimal("-1e400"), JsonDecimal("1e401")],
        [["a", "bc"], ["ab", "c"], ["abc"], ["a", "b", "c"], [["a"], "bc"]],
        [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, {"a": {"b": 2}}],
        ["x", JsonText.of("x", "x"), JsonText.of("y", ["x"])],
    ],
)
def test_different_values_never_share_one(values: list[Any]) -> None:
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("***", True),
        ({"a": [1, {"b": "[redacted]"}]}, True),
        (JsonText.of('{"a":"***"}', {"a": "***"}), True),
        ({"a": "see [redacted]"}, False),
        ({"[redacted]": 1}, False),
    ],
)
def test_a_value_with_a_mark_in_it_has_no_digest(value: Any, found: bool) -> None:
    assert (Digests(marks_of(), None).of(value) is None) == found


def test_what_is_left_aside_is_not_in_the_digest() -> None:
    matcher = compile_patterns(["ms", "*[0]"])
    assert matcher is not None
    digests = Digests(None, matcher)

    trees = [{"a": [1, 2], "ms": 5}, {"a": [9, 2]}, {"a": [9, 3]}, {"a": [2]}]
    found = [digests.of(tree, matcher.start) for tree in trees]

    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_text_that_is_json_has_the_digest_of_what_it_says() -> None:
    one, other = (JsonText.of(text, loads(text)) for text in ('{"a":1,"b":2}', '{"b":2, "a":1.0}'))

    assert digest([one]) == digest([other])


def test_texts_that_are_json_are_equal_when_they_say_the_same() -> None:
    one, other, text = JsonText.of("[1]", [1]), JsonText.of("[ 1 ]", [1]), "[1]"

    assert one == other
    assert (one != other) is False
    assert one == text
    assert other != text
    assert one != JsonText.of("[2]", [2])
    assert hash(one) == hash(text)


def test_digests_are_of_json_values_only() -> None:
    with pytest.raises(TypeError, match="set is not a JSON value"):
        digest([{1, 2}])


def test_a_digest_of_ten_thousand_levels_is_made() -> None:
    trees: list[Any] = [1, 1.0, 2]
    for level in range(10_000):
        trees = [[tree, 0] if level % 2 else {"k": tree} for tree in trees]

    assert digest(trees[0]) == digest(trees[1]) != digest(trees[2])


def longest(left: list[str], right: list[str]) -> int:
    for size in range(min(len(left), len(right)), 0, -1):
        subsequences = set(combinations(left, size))
        if any(pick in subsequences for pick in combinations(right, size)):
            return size
    return 0


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_common_pairs_are_a_longest_common_subsequence(left: list[str], right: list[str]) -> None:
    pairs = common_pairs(left, right)

    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    assert len(pairs) == longest(left, right)
    assert common_pairs(right, left) == [(j, i) for i, j in pairs]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", None])), st.lists(st.sampled_from(["a", "b", None]))
)
def test_every_position_is_in_one_step(left: list[str | None], right: list[str | None]) -> None:
    steps = align(left, right)

    if steps is None:
        assert sorted(map(str, left)) == sorted(map(str, right))
        return
    assert [i for i, _ in steps if i >= 0] == list(range(len(left)))
    assert [j for _, j in steps if j >= 0] == list(range(len(right)))
    flipped = align(right, left)
    assert flipped == [(j, i) for i, j in steps]


@pytest.mark.parametrize(
    ("left", "right", "steps"),
    [
        ("abc", "xabc", [(-1, 0), (0, 1), (1, 2), (2, 3)]),
        ("abc", "abxc", [(0, 0), (1, 1), (-1, 2), (2, 3)]),
        ("abc", "abcx", [(0, 0), (1, 1), (2, 2), (-1, 3)]),
        ("abc", "ac", [(0, 0), (1, -1), (2, 1)]),
        ("abc", "axc", [(0, 0), (1, 1), (2, 2)]),
        ("abcd", "xbyd", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("abcd", "bcxad", [(0, -1), (1, 0), (2, 1), (-1, 2), (-1, 3), (3, 4)]),
        ("", "ab", [(-1, 0), (-1, 1)]),
        ("", "", []),
        ("abc", "bca", None),
        ("aab", "aba", None),
        ("aab", "abb", [(0, 0), (1, 1), (2, 2)]),
    ],
)
def test_lists_are_aligned_so(left: str, right: str, steps: list[tuple[int, int]] | None) -> None:
    assert align(list(left), list(right)) == steps


def test_between_equal_ends_a_mark_makes_all_of_it_go_by_position() -> None:
    assert align(["a", None, "b", "z"], ["a", "b", None, "z"]) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert align([None], [None]) == [(0, 0)]
    assert align([None, "a"], ["x", None, "a"]) == [(0, 0), (-1, 1), (1, 2)]
    assert align(["a", "b", None], ["x", "a", "b", None]) == [(0, 0), (1, 1), (2, 2), (-1, 3)]


@pytest.mark.timeout(60)
def test_long_lists_of_few_values_are_aligned_in_bounded_time() -> None:
    left, right = list(f"{3**63_200:b}"[:100_000]), list(f"{7**36_000:b}"[:100_000])

    pairs = common_pairs(left, right)

    assert len(pairs) > 1000
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
