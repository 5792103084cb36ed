"""Two JSON trees, and what changed."""

import dataclasses
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpaudit_lab.comparison.equality import JsonText
from mcpaudit_lab.comparison.jsondiff import Change, ChangeKind, Findings, diff, examine
from mcpaudit_lab.comparison.paths import Path, compile_patterns, format_path
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record.jsontext import JsonDecimal, dumps, loads, same
from mcpaudit_lab.record.redaction import Marks, marks_of

MARKS = marks_of()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.sampled_from([0.0, 1.0, 1.5, 1e300, JsonDecimal("1.50"), JsonDecimal("1e400")])
    | st.sampled_from(["", "a", "b", "[x", "*"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=12,
)
SLOW = settings(deadline=None)


def told(changes: tuple[Change, ...]) -> list[str]:
    return [f"{change.kind} {format_path(change.path)}" for change in changes]


def rebuild(tree: Any, changes: list[Change]) -> Any:
    """Apply changes, with paths that begin at the tree, to the left tree: gives the right one."""
    for change in changes:
        if not change.path:
            return change.right

    def below(segment: str | int) -> list[Change]:
        return [
            dataclasses.replace(change, path=change.path[1:])
            for change in changes
            if change.path[0] == segment and (len(change.path) > 1 or change.kind != "added")
        ]

    if not isinstance(tree, dict | list):
        return tree
    added = [change for change in changes if len(change.path) == 1 and change.kind == "added"]
    if isinstance(tree, dict):
        members = {
            key: rebuild(value, below(key))
            for key, value in tree.items()
            if not any(change.kind == "removed" and not change.path for change in below(key))
        }
        return {**members, **{change.path[0]: change.right for change in added}}
    elements = [
        rebuild(value, below(position))
        for position, value in enumerate(tree)
        if not any(change.kind == "removed" and not change.path for change in below(position))
    ]
    for change in added:
        elements.insert(int(change.path[0]), change.right)
    return elements


@SLOW
@given(TREES)
def test_nothing_changed_from_a_tree_to_itself(tree: Any) -> None:
    assert diff(tree, tree) == ()
    assert diff(tree, loads(dumps(tree))) == ()


@SLOW
@given(TREES, TREES)
def test_there_are_changes_exactly_where_values_are_not_the_same(a: Any, b: Any) -> None:
    assert (diff(a, b) == ()) == same(a, b)


@SLOW
@given(TREES, TREES)
def test_the_changes_applied_to_the_left_give_the_right(a: Any, b: Any) -> None:
    assert same(rebuild(a, list(diff(a, b))), b)


def erased(change: Change, *, swap: bool) -> tuple[Any, ...]:
    kinds = {ChangeKind.ADDED: ChangeKind.REMOVED, ChangeKind.REMOVED: ChangeKind.ADDED}
    kind = kinds.get(change.kind, change.kind) if swap else change.kind
    left, right = (change.right, change.left) if swap else (change.left, change.right)
    # Positions are counted on the left side, which is another one now.
    path = tuple("#" if isinstance(segment, int) else segment for segment in change.path)
    return path, kind, dumps(left), dumps(right)


@SLOW
@given(TREES, TREES)
def test_turned_round_removed_is_added_and_the_rest_the_same(a: Any, b: Any) -> None:
    there = Counter(erased(change, swap=False) for change in diff(a, b))
    back = Counter(erased(change, swap=True) for change in diff(b, a))

    assert there == back


@pytest.mark.parametrize(
    ("a", "b", "changes"),
    [
        (1, 1, []),
        (1, 2, ["value $"]),
        (1, 1.0, []),
        (200, JsonDecimal("200.00"), []),
        (1, 1.5, ["value $"]),
        (2**53 + 1, float(2**53), ["value $"]),
        (JsonDecimal("1e400"), JsonDecimal("1e401"), ["value $"]),
        (JsonDecimal("1e400"), 10**400, []),
        (True, 1, ["type $"]),
        (False, 0, ["type $"]),
        (True, False, ["value $"]),
        (None, False, ["type $"]),
        (None, None, []),
        ("1", 1, ["type $"]),
        ("a", "b", ["value $"]),
        ("é", "e\u0301", ["value $"]),
        ([], {}, ["type $"]),
        ([], None, ["type $"]),
        ({}, {}, []),
        ({"a": 1}, {}, ["removed a"]),
        ({}, {"a": 1}, ["added a"]),
        ({"a": None}, {}, ["removed a"]),
        ({}, {"a": None}, ["added a"]),
        ({"a": None}, {"a": 0}, ["type a"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1, "A": 2}, {"A": 1, "a": 2}, ["value a", "value A"]),
        ({"a": 1}, {"b": 1}, ["removed a", "added b"]),
        (
            {"x": 1, "y": {"z": [1]}, "w": 0},
            {"v": 0, "w": 1, "y": {"z": [2]}, "u": 0},
            ["removed x", "value y.z[0]", "value w", "added v", "added u"],
        ),
        ({"a": {"b": {}}}, {"a": {"b": []}}, ["type a.b"]),
        ({"": 1, "a.b": 2}, {"": 2, "a.b": 3}, ['value [""]', 'value ["a.b"]']),
        ([1, 2], [1, 3], ["value [1]"]),
        ([1], [True], ["type [0]"]),
        ([1, 2, 3], [1.0, 2, 3], []),
        ([0, 1, 2], [1.0, 2.0], ["removed [0]"]),
        ([[1], [2]], [[1], [3]], ["value [1][0]"]),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2, "b": 3}], ["added [1].b"]),
    ],
)
def test_these_changes_are_told(a: Any, b: Any, changes: list[str]) -> None:
    assert told(diff(a, b)) == changes


ROWS = [{"id": number, "tags": ["x", number]} for number in range(6)]


@pytest.mark.parametrize(
    ("a", "b", "changes"),
    [
        ([1, 2, 3], [0, 1, 2, 3], ["added [0]"]),
        ([1, 2, 3], [1, 9, 2, 3], ["added [1]"]),
        ([1, 2, 3], [1, 2, 3, 4], ["added [3]"]),
        ([1, 2, 3], [2, 3], ["removed [0]"]),
        ([1, 2, 3], [1, 2], ["removed [2]"]),
        ([1, 2, 3], [], ["removed [0]", "removed [1]", "removed [2]"]),
        ([1, 1, 1], [1, 1, 1, 1], ["added [3]"]),
        ([1, 2, 3, 4], [2, 3, 9, 4], ["removed [0]", "added [2]"]),
        ([1, 2, 3, 4, 5], [9, 2, 3, 8, 5], ["value [0]", "value [3]"]),
        (ROWS, [{"id": 9}, *ROWS], ["added [0]"]),
        (ROWS, ROWS[:2] + ROWS[3:], ["removed [2]"]),
        (ROWS, [*ROWS[:2], {**ROWS[2], "id": 7}, *ROWS[3:]], ["value [2].id"]),
        (
            ROWS,
            [{"id": 9}, *ROWS[:2], {**ROWS[2], "id": 7}, *ROWS[3:]],
            ["added [0]", "value [2].id"],
        ),
        ([1, 2, 3], [3, 1, 2], ["order $"]),
        ([1, 1.0, 2], [2, 1, 1], ["order $"]),
        ([1, 2, 3, 4], [1, 3, 2, 4], ["order $"]),
        (ROWS, ROWS[::-1], ["order $"]),
        (
            {"rows": [ROWS, [1, 2]]},
            {"rows": [ROWS[::-1], [2, 1]]},
            ["order rows[0]", "order rows[1]"],
        ),
        ([1, True], [True, 1], ["order $"]),
        ([1, 1, 2], [1, 2, 2], ["value [1]"]),
        ([[1, 2], [3]], [[2, 1], [3]], ["order [0]"]),
        ([[1, 2], [3]], [[3], [2, 1]], ["removed [0]", "added [1]"]),
    ],
)
def test_lists_are_aligned_before_they_are_compared(a: Any, b: Any, changes: list[str]) -> None:
    assert sorted(told(diff(a, b))) == sorted(changes)


def test_an_insertion_and_a_reordering_are_one_change_with_their_values() -> None:
    assert diff([1, 2], [7, 1, 2]) == (Change((0,), ChangeKind.ADDED, None, 7),)
    assert diff({"a": [1, 2]}, {"a": [2, 1]}) == (Change(("a",), ChangeKind.ORDER, [1, 2], [2, 1]),)


def test_positions_are_those_of_the_left_and_of_something_added_those_of_the_right() -> None:
    a = [{"n": 1, "v": "a"}, "keep", {"n": [5], "v": 0}]
    b = ["new", {"n": 1, "v": "b"}, "keep", {"n": [4, 5], "v": 0}]

    assert told(diff(a, b)) == ["type [0]", "added [1]", "added [2].n[0]"]


@pytest.mark.parametrize(
    ("ignore", "changes"),
    [
        ((), ["value a", "value list[0].ms", "value list[1].ms", "added extra"]),
        ("a", ["value list[0].ms", "value list[1].ms", "added extra"]),
        (["**.ms", "extra"], ["value a"]),
        (["list[*].ms"], ["value a", "added extra"]),
        (["list[1]"], ["value a", "value list[0].ms", "added extra"]),
        (["list.**", "*"], []),
        (["$"], []),
        (["**"], []),
        (["a.b", "list.ms"], ["value a", "value list[0].ms", "value list[1].ms", "added extra"]),
    ],
)
def test_ignored_paths_are_left_aside(ignore: Any, changes: list[str]) -> None:
    a = {"a": 1, "list": [{"k": 1, "ms": 5}, {"k": 2, "ms": 6}]}
    b = {"a": 2, "list": [{"k": 1, "ms": 7}, {"k": 2, "ms": 8}], "extra": 0}

    assert told(diff(a, b, ignore=ignore)) == changes


def test_elements_that_differ_only_in_what_is_ignored_are_the_same_elements() -> None:
    a = [{"id": 1, "ms": 10}, {"id": 2, "ms": 20}, {"id": 3, "ms": 30}]
    b = [{"id": 0, "ms": 1}, {"id": 1, "ms": 2}, {"id": 2, "ms": 3}, {"id": 3, "ms": 4}]

    assert told(diff(a, b, ignore=["[*].ms"])) == ["added [0]"]
    assert told(diff(a, b[:0:-1], ignore=["[*].ms"])) == ["order $"]
    assert told(diff(a, a[1:], ignore=["[*].ms"])) == ["removed [0]"]


def test_what_was_left_aside_is_counted_where_it_differs() -> None:
    matcher = compile_patterns(["*.ms", "gone", "**.same"])
    a = {"x": {"ms": 1, "same": 1}, "gone": 1, "y": {"ms": 3}}
    b = {"x": {"ms": 2, "same": 1.0}, "y": {"ms": 3}}

    assert examine(a, b, matcher=matcher) == Findings(ignored=2)
    rows = [{"id": 1, "ms": 1}, {"id": 2, "ms": 2}, {"id": 3, "ms": 3}]
    moved = [{"id": 0, "ms": 9}, *({**row, "ms": 7} for row in rows)]
    assert examine(rows, moved, matcher=matcher).ignored == 3
    assert examine([1], [2], matcher=compile_patterns("**")) == Findings(ignored=1)


def test_a_malformed_pattern_is_refused_whatever_the_trees() -> None:
    with pytest.raises(FilterError):
        diff({}, {}, ignore=["a..b"])


def test_only_json_is_compared() -> None:
    with pytest.raises(TypeError, match="set is not a JSON value"):
        diff({"a": {1}}, {"a": [1]})
    with pytest.raises(TypeError, match="object is not a JSON value"):
        diff([object(), 1], [1, 2])


def test_subclasses_and_tuples_count_as_what_they_are() -> None:
    class Sub(dict[str, Any]):
        pass

    assert diff(Sub(a=(1, 2)), {"a": [1, 2]}) == ()
    assert told(diff(Sub(a=(1, 2)), {"a": [1, 3]})) == ["value a[1]"]
    assert told(diff({"k": Sub(a=1)}, {"k": Sub(a=2)})) == ["value k.a"]


def test_a_change_tells_its_path_but_never_its_values() -> None:
    change = Change(("a", "\u202ekey"), ChangeKind.VALUE, "secret one", "secret two")

    assert repr(change) == "Change('a[\"\\\\u202ekey\"]', value)"
    assert "secret" not in repr((change,))


def test_changes_are_equal_when_their_values_are_written_the_same() -> None:
    one = Change(("a",), ChangeKind.VALUE, 1, 2)

    assert one == Change(("a",), ChangeKind.VALUE, 1, 2)
    assert hash(one) == hash(Change(("a",), ChangeKind.VALUE, 1, 2))
    assert one != Change(("a",), ChangeKind.VALUE, True, 2)
    assert one != Change(("a",), ChangeKind.VALUE, 1.0, 2)
    assert one != "a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.left = 3  # type: ignore[misc]  # that is the point


# Redaction


def with_marks(tree: Any, chance: random.Random, share: float) -> Any:
    """The tree with some of its values, at any depth, replaced by marks."""
    if chance.random() < share:
        return chance.choice(["[redacted]", "<REDACTED:x>", "***"])
    if isinstance(tree, dict):
        return {key: with_marks(value, chance, share) for key, value in tree.items()}
    if isinstance(tree, list):
        return [with_marks(value, chance, share) for value in tree]
    return tree


def paths_of(tree: Any, path: Path = ()) -> list[Path]:
    found = [path]
    if isinstance(tree, dict | list):
        members = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for segment, value in members:
            found += paths_of(value, (*path, segment))
    return found


def replaced(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


RANDOM = st.randoms(use_true_random=False)


@SLOW
@given(TREES, RANDOM)
def test_marks_in_one_value_are_never_a_change(tree: Any, chance: random.Random) -> None:
    left, right = with_marks(tree, chance, 0.2), with_marks(tree, chance, 0.2)

    findings = examine(left, right, marks=MARKS)

    assert findings.changes == ()
    clean = same(left, tree) and same(right, tree)
    assert (findings.unknown == ()) == clean


@SLOW
@given(TREES, TREES, RANDOM)
def test_what_is_called_changed_differs_whatever_the_marks_hid(
    a: Any, b: Any, chance: random.Random
) -> None:
    findings = examine(with_marks(a, chance, 0.2), with_marks(b, chance, 0.2), marks=MARKS)

    if findings.changes:
        assert not same(a, b)
    if findings == Findings():
        assert same(a, b)


@SLOW
@given(TREES, TREES, RANDOM)
def test_a_further_mark_makes_nothing_equal_and_nothing_unknown_changed(
    a: Any, b: Any, chance: random.Random
) -> None:
    a, b = with_marks(a, chance, 0.1), with_marks(b, chance, 0.1)
    before = examine(a, b, marks=MARKS)

    after = examine(replaced(a, chance.choice(paths_of(a)), "[redacted]"), b, marks=MARKS)

    assert after.changes or after.unknown
    told_of = {change.path for change in after.changes if change.kind != "added"}
    for path in before.unknown:
        assert not any(path[:length] in told_of for length in range(len(path) + 1))
    if not before.changes:
        assert not after.changes


@pytest.mark.parametrize(
    ("a", "b", "changes", "unknown"),
    [
        ("[redacted]", "[redacted]", [], ["$"]),
        ("***", 5, [], ["$"]),
        ({"a": {"b": 1}}, {"a": "<REDACTED>"}, [], ["a"]),
        ({"a": "***", "b": 1}, {"a": "***", "b": 2}, ["value b"], ["a"]),
        ({"a": "***"}, {}, ["removed a"], []),
        ({}, {"a": "***"}, ["added a"], []),
        ({"a": None}, {"a": "***"}, [], ["a"]),
        ({"a": "x ***"}, {"a": "x ***"}, [], []),
        ({"a": "token=[redacted]"}, {"a": "token=[redacted] "}, ["value a"], []),
        (["***", 1], [1, "***"], [], ["[0]", "[1]"]),
        ([1, "***"], [1, "***"], [], ["[1]"]),
        ([1, "***", 2, 3], [9, 1, "***", 2, 3], ["value [0]", "added [2]"], ["[1]"]),
        ([{"p": "***", "id": 1}, 5], [5, {"p": "***", "id": 1}], ["type [0]", "type [1]"], []),
        (
            [{"p": "***", "id": 1}, {"p": "***", "id": 2}],
            [{"p": "***", "id": 2}, {"p": "***", "id": 1}],
            ["value [0].id", "value [1].id"],
            ["[0].p", "[1].p"],
        ),
        (
            [{"p": "***"}, {"p": "***"}],
            [{"p": "***"}, {"p": "***"}, {"p": "***"}],
            ["added [2]"],
            ["[0].p", "[1].p"],
        ),
        ([["***"], ["***"]], [["***"], ["***"]], [], ["[0][0]", "[1][0]"]),
        ([1, 2, {"p": "***"}], [2, 1, {"p": "***"}], ["value [0]", "value [1]"], ["[2].p"]),
    ],
)
def test_a_mark_makes_a_path_unknown(
    a: Any, b: Any, changes: list[str], unknown: list[str]
) -> None:
    findings = examine(a, b, marks=MARKS)

    assert told(findings.changes) == changes
    assert [format_path(path) for path in findings.unknown] == unknown


def test_without_dialects_a_mark_is_a_text_like_any_other() -> None:
    assert diff(["***", 1], ["***", 1]) == ()
    assert told(diff("***", "[redacted]")) == ["value $"]
    assert examine("***", "***", marks=marks_of(())) == Findings()


def test_what_is_ignored_is_not_unknown() -> None:
    findings = examine({"a": "***"}, {"a": "***"}, marks=MARKS, matcher=compile_patterns("a"))

    assert findings == Findings()


# JSON in a text


def text(content: str) -> JsonText:
    return JsonText.of(content, loads(content))


def both(a: str, b: str, marks: Marks | None = MARKS) -> tuple[list[str], list[str]]:
    findings = examine({"t": text(a)}, {"t": text(b)}, marks=marks)
    return told(findings.changes), [format_path(path) for path in findings.unknown]


def test_two_json_texts_are_compared_as_json() -> None:
    assert both('{"a":1,"b":"<"}', '{ "b" : "\\u003c", "a":1.0}') == ([], [])
    assert both('{"a":[1,2]}', '{"a":[0,1,2]}') == (["added t.{json}.a[0]"], [])
    assert both("[1]", '{"a":1}') == (["type t.{json}"], [])
    assert both('{"a":"***","b":1}', '{"a":"***","b":1}') == ([], ["t.{json}.a"])
    assert both('{"a":"***"}', '{"a":"***"}', marks=None) == ([], [])


def test_a_key_given_twice_is_not_passed_over() -> None:
    assert both('{"a":1,"a":2}', '{"a":2}') == (["value t"], [])
    assert both('{"a":2}', '{"a": 2}') == ([], [])
    assert both('{"a":1,"a":2}', '{"a":1,"a":2}') == ([], [])
    assert both('{"a":1,"a":2}', '{"a":3}') == (["value t.{json}.a"], [])


def test_a_json_text_against_another_value_is_a_text() -> None:
    assert told(examine(text("[1]"), "[2]").changes) == ["value $"]
    assert told(examine(text("[1]"), [1]).changes) == ["type $"]
    assert examine(text("[1]"), "***", marks=MARKS).unknown == ((),)
    assert examine(text("[1]"), "[1]") == Findings()


def test_a_pattern_may_pass_over_the_mark_for_json() -> None:
    a, b = {"t": text('{"a":1,"b":1}')}, {"t": text('{"a":2,"b":2}')}

    for pattern in ("t.a", "t.{json}.a", "t.**.a", "**.a"):
        assert told(examine(a, b, matcher=compile_patterns(pattern)).changes) == [
            "value t.{json}.b"
        ]


# Size


def nested(bottom: Any, levels: int = 10_000) -> Any:
    tree = bottom
    for level in range(levels):
        tree = [tree] if level % 2 else {"k": tree}
    return tree


def bushy(bottom: Any, levels: int = 10_000) -> Any:
    tree = bottom
    for level in range(levels):
        tree = [level, tree, level + 1]
    return tree


@pytest.mark.timeout(60)
@pytest.mark.parametrize("grow", [nested, pytest.param(bushy, marks=pytest.mark.soak)])
def test_ten_thousand_levels_are_compared(grow: Any) -> None:
    (change,) = diff(grow(1), grow(2))
    assert len(change.path) == 10_000
    assert (change.kind, change.left, change.right) == ("value", 1, 2)
    assert diff(grow([1]), grow([1])) == ()
    assert diff(grow([1]), grow([1.0])) == ()
    assert [change.kind for change in diff(grow([1, 2]), grow([2, 1]))] == ["order"]
    findings = examine(grow("***"), grow("***"), marks=MARKS)
    assert not findings.changes
    assert [len(path) for path in findings.unknown] == [10_000]
    assert diff(grow({"ms": 1}), grow({"ms": 2}), ignore=["**.ms"]) == ()
    swapped = diff([grow(1), grow(2), 0], [grow(2), grow(1), 0])
    assert told(swapped) == ["order $"]


@pytest.mark.timeout(60)
def test_json_text_of_ten_thousand_levels_is_compared() -> None:
    (change,) = examine(text(dumps(nested(1))), text(dumps(nested(2)))).changes

    assert len(change.path) == 10_001


def test_paths_in_a_deep_place_cannot_fill_the_memory() -> None:
    a, b = (nested({str(key): base + key for key in range(10_000)}, 5000) for base in (0, 1))

    (change,) = diff(a, b)
    assert len(change.path) == 5000
    assert change.kind == "value"
    assert len(change.left) == len(change.right) == 10_000
    assert diff(a, nested({str(key): key for key in range(10_000)}, 5000)) == ()
    marked = nested({str(key): "***" for key in range(10_000)}, 5000)
    findings = examine(a, marked, marks=MARKS)
    assert findings.changes == ()
    assert [len(path) for path in findings.unknown] == [5000]


@pytest.mark.parametrize("pair", [([1, 2], [2, 1]), ([1], [2]), ([1], [1, 2]), ([1], ["***"])])
def test_nor_can_many_small_findings_there(pair: tuple[Any, Any]) -> None:
    a, b = (nested([{str(n): [side] for n in range(100)}] * 100, 5000) for side in pair)

    findings = examine(a, b, marks=MARKS)

    paths = [change.path for change in findings.changes] + list(findings.unknown)
    assert 500 < len(paths) < 2000
    assert sum(map(len, paths)) < 10_000_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_lists_of_many_elements_are_compared(count: int) -> None:
    rows: list[dict[str, Any]] = [{"id": n, "name": f"row {n}"} for n in range(count)]
    other = [dict(row) for row in rows]
    shuffled = sorted(other, key=lambda row: row["id"] * 7919 % 100_003)
    sparse = [row for row in other if row["id"] % 1000]
    changed = [{**row, "name": "x"} for row in other]

    assert told(diff(rows, [{"id": -1}, *other])) == ["added [0]"]
    assert told(diff(rows, shuffled)) == ["order $"]
    assert Counter(change.kind for change in diff(rows, sparse)) == {"removed": count // 1000}
    assert Counter(change.kind for change in diff(rows, changed)) == {"value": count}


@pytest.mark.timeout(60)
def test_long_lists_of_few_values_are_compared() -> None:
    a, b = ([*map(int, f"{base:b}"[:100_000])] for base in (3**63_200, 7**36_000))

    assert same(rebuild_list(a, diff(a, b)), b)


def rebuild_list(elements: list[Any], changes: tuple[Change, ...]) -> list[Any]:
    """The same as ``rebuild``, for long lists of scalars."""
    by_place = {(change.kind == "added", change.path[0]): change for change in changes}
    kept = [
        change.right if (change := by_place.get((False, place))) else value
        for place, value in enumerate(elements)
        if (change := by_place.get((False, place))) is None or change.kind != "removed"
    ]
    made: list[Any] = []
    left = iter(kept)
    length = len(kept) + sum(added for added, _ in by_place)
    while len(made) < length:
        added = by_place.get((True, len(made)))
        made.append(added.right if added else next(left))
    return made
