"""Two JSON trees: what changed, by path.

:func:`diff` is for two values that are fully known. :func:`examine` is the same for records, where
a redaction mark makes a path unknown and some paths are of no interest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mcpaudit_lab.comparison.alignment import ABSENT, ListAligner, Row
from mcpaudit_lab.comparison.change import Change, ChangeKind
from mcpaudit_lab.comparison.equality import ATOMS, JsonText, identical, kind_of, same_types
from mcpaudit_lab.comparison.paths import (
    JSON_TEXT,
    Path,
    PathMatcher,
    PathPattern,
    Segment,
    State,
    compile_patterns,
    format_path,
    parse_path_pattern,
)
from mcpaudit_lab.record import Marks, has_duplicate_keys, same

__all__ = [
    "Change",
    "ChangeKind",
    "Findings",
    "Path",
    "PathPattern",
    "diff",
    "examine",
    "format_path",
    "parse_path_pattern",
]


# The way in which a frozen dataclass sets its attributes takes longer than finding a change.
_NEW = object.__new__
_SET_PATH, _SET_KIND, _SET_LEFT, _SET_RIGHT = (
    vars(Change)[name].__set__ for name in ("path", "kind", "left", "right")
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What :func:`examine` found.

    Attributes:
        changes: in document order of the left tree.
        unknown: paths at which a redacted value hides whether anything changed.
        ignored: number of ignored places whose two sides are not written the same.
    """

    changes: tuple[Change, ...] = ()
    unknown: tuple[Path, ...] = ()
    ignored: int = 0


def diff(a: Any, b: Any, *, ignore: Iterable[str | PathPattern] = ()) -> tuple[Change, ...]:
    """List what changed from one JSON value to another.

    Objects are walked by key, whatever the order of their keys; a key that is absent is not null.
    Numbers are compared by value, so that 200 equals 200.0, but ``true`` is not 1. Lists are walked
    by position after they were aligned:

    - equal elements at both ends are set aside;
    - if the remaining elements are the same in another order, the list has one ``order`` change;
    - otherwise elements that both lists have in the same order are kept, and the elements between
      them are paired, changed with changed; the rest was ``removed`` or ``added``.

    Trees can be nested to any depth. The time grows with the size of the trees, times its logarithm
    for long lists. Two bounds keep it so: long lists of few different values are aligned less than
    perfectly (:func:`.comparison.alignment.common_pairs` says when), and where findings under
    hundreds of levels would make paths of more than five million segments in all, a container
    further down is one ``value`` change.

    Args:
        a: the left value.
        b: the right value.
        ignore: patterns of paths to ignore, with everything below them; see
            :mod:`mcpaudit_lab.comparison.paths`.

    Returns:
        The changes in document order of ``a``, additions at their place in ``b``, in objects last.
        Empty if the values are equal.

    Raises:
        FilterError: for a malformed pattern.
        TypeError: a value that JSON does not have.
    """
    if not ignore and identical(a, b):
        return ()
    walk = _Walk(compile_patterns(ignore) if ignore else None, None)
    walk.run(a, b)
    return tuple(walk.changes)


def examine(
    left: Any,
    right: Any,
    *,
    matcher: PathMatcher | None = None,
    marks: Marks | None = None,
) -> Findings:
    """Compare two JSON values, parts of which may be redacted or ignored.

    If one side or both have a redaction mark, that path is unknown, whatever the other side is: a
    mark says nothing about the value, and neither do two equal marks. A key or element that only
    one side has is a change, even if its value is a mark: its presence is known. Since a mark may
    hide any value, lists with marks are not aligned: after equal elements without marks are paired
    at both ends, the rest is compared by position. Replacing a value by a mark therefore never
    makes two trees equal, and never turns an unknown into a change.

    A :class:`.comparison.equality.JsonText` against another is compared as JSON, below the
    segment ``{json}``; but as text where only a key given twice makes the two differ.

    Args:
        left: one value.
        right: the other.
        matcher: what to ignore, from :func:`~mcpaudit_lab.comparison.paths.compile_patterns`.
        marks: what counts as redacted; without it nothing does.

    Raises:
        TypeError: a value that JSON does not have.
    """
    walk = _Walk(matcher, marks)
    walk.run(left, right)
    return Findings(tuple(walk.changes), tuple(walk.unknown), walk.ignored)


class _Top:
    """In place of a segment: the two trees themselves."""


_TOP: Final[Any] = _Top()
_VALUE: Final = ChangeKind.VALUE  # the look-up in the enum takes as long as comparing two values
# Down to this depth containers are compared with == first: fast, but quadratic at every depth.
_SHALLOW = 20
# From this depth on it is counted how many segments the paths of findings have in all.
_DEEP = 100
_DEEP_SEGMENTS_MAX = 5_000_000

# An open container: its members still to come, both containers, whether the right one has members
# that the left one has not, the matcher's state.
_Frame: TypeAlias = tuple[Iterator[Any], Any, Any, bool, State | None]


class _InTurn:
    """The right elements of aligned lists, one after another, whatever position is asked for."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)

    def __getitem__(self, position: int) -> Any:
        return next(self._rows)[2]


class _Walk:
    """One comparison of two trees: the findings so far, and the current path."""

    __slots__ = (
        "_aligner",
        "_marks",
        "_matcher",
        "_path",
        "_room",
        "changes",
        "ignored",
        "unknown",
    )

    def __init__(self, matcher: PathMatcher | None, marks: Marks | None) -> None:
        self._matcher = matcher
        self._marks = marks
        self._aligner: ListAligner | None = None
        self._path: list[Segment] = []
        self._room = _DEEP_SEGMENTS_MAX
        self.changes: list[Change] = []
        self.unknown: list[Path] = []
        self.ignored = 0

    def run(self, left: Any, right: Any) -> None:
        """Compare two trees."""
        state = self._matcher.start if self._matcher else None
        if self._matcher and state is not None and self._matcher.accepts(state):
            self._leave_aside(left, right)
        elif type(left) is type(right) is dict or self._meet(_TOP, left, right):
            self._descend(left, right, state)

    def _descend(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call per pair doubles its time
        self, left: Any, right: Any, state: State | None
    ) -> None:
        """Walk two containers in step. Open ones are on a stack of ours, not on Python's."""
        path, matcher = self._path, self._matcher
        starts = self._marks.starts if self._marks else None
        waiting: list[_Frame] = []
        members, right, ragged = self._open(left, right, state)
        below: State | None = None
        while True:
            for segment, one in members:
                try:
                    other = right[segment]
                except KeyError:
                    other = ABSENT
                    ragged = True
                if state is not None and matcher is not None:
                    below = matcher.step(state, segment)
                    if below is not None and matcher.accepts(below):
                        self._leave_aside(one, other)
                        continue
                kind = type(one)
                if kind is not type(other):
                    if not self._meet(segment, one, other):
                        continue
                elif kind is str:
                    if starts and (one[:1] in starts or other[:1] in starts):
                        self._meet(segment, one, other)
                    elif one != other:
                        self._add(segment, _VALUE, one, other)
                    continue
                elif kind in ATOMS:
                    if one != other:
                        self._add(segment, _VALUE, one, other)
                    continue
                elif kind is not dict and kind is not list:
                    if not self._meet(segment, one, other):
                        continue
                elif below is None and len(path) < _SHALLOW:
                    try:
                        if one == other and same_types(one, other, starts):
                            continue
                    except RecursionError:
                        pass
                if len(path) >= _DEEP and self._lump(segment, one, other, below):
                    continue
                waiting.append((members, left, right, ragged, state))
                path.append(segment)
                left, state = one, below
                members, right, ragged = self._open(one, other, below)
                break
            else:
                if ragged:
                    members = iter([(key, ABSENT) for key in right if key not in left])
                    ragged = False
                    continue
                if not waiting:
                    return
                members, left, right, ragged, state = waiting.pop()
                path.pop()
                # If no pattern leads into a container, none leads to its contents.
                below = None

    def _open(self, left: Any, right: Any, state: State | None) -> tuple[Iterator[Any], Any, bool]:
        """How to walk two containers of one kind.

        Returns:
            The left members, each with its segment; a function that returns the right member for a
            segment, if called in this order; whether the right side is known to have other keys.
        """
        if type(left) is dict:
            return iter(left.items()), right, len(left) != len(right)
        if isinstance(left, list | tuple):
            if len(left) == len(right) == 1:
                return enumerate(left), right, False
            self._aligner = self._aligner or ListAligner(self._marks, self._matcher)
            rows = self._aligner.rows(left, right, state, quick=len(self._path) < _SHALLOW)
            if isinstance(rows, range):
                return zip(rows, left[rows.start : rows.stop], strict=True), right, False
            if rows is None:
                self._room -= len(self._path)
                self.changes.append(Change(tuple(self._path), ChangeKind.ORDER, left, right))
                rows = []
            return iter([row[:2] for row in rows]), _InTurn(rows), False
        if isinstance(left, JsonText):
            return iter(((JSON_TEXT, left.tree),)), {JSON_TEXT: right.tree}, False
        return iter(left.items()), right, len(left) != len(right)

    def _meet(self, segment: Segment, one: Any, other: Any) -> bool:
        """Settle two values, or say that they must be opened: containers of one kind."""
        if one is ABSENT:
            self._add(segment, ChangeKind.ADDED, None, other)
        elif other is ABSENT:
            self._add(segment, ChangeKind.REMOVED, one, None)
        elif type(one) is type(other) is JsonText:
            if not _hides_a_key(one, other):
                return True
            self._add(segment, ChangeKind.VALUE, one, other)
        elif self._is_mark(one) or self._is_mark(other):
            self.unknown.append(self._where(segment))
        elif (kind := kind_of(one)) != kind_of(other):
            self._add(segment, ChangeKind.TYPE, one, other)
        elif kind in ("object", "array"):
            return True
        elif not same(one, other):
            self._add(segment, ChangeKind.VALUE, one, other)
        return False

    def _is_mark(self, value: Any) -> bool:
        marks = self._marks
        return marks is not None and isinstance(value, str) and bool(marks.is_mark(value))

    def _lump(self, segment: Segment, one: Any, other: Any, state: State | None) -> bool:
        """Decide two containers without opening them, if the paths inside could be too long."""
        if len(self._path) * (len(one) + len(other)) <= self._room:
            return False
        self._aligner = self._aligner or ListAligner(self._marks, self._matcher)
        left, right = self._aligner.digest(one, state), self._aligner.digest(other, state)
        if left is None or right is None:
            self.unknown.append(self._where(segment))
        elif left != right:
            self._add(segment, ChangeKind.VALUE, one, other)
        return True

    def _add(self, segment: Segment, kind: ChangeKind, left: Any, right: Any) -> None:
        change = _NEW(Change)
        _SET_PATH(change, self._where(segment))
        _SET_KIND(change, kind)
        _SET_LEFT(change, left)
        _SET_RIGHT(change, right)
        self.changes.append(change)

    def _where(self, segment: Segment) -> Path:
        if segment is _TOP:
            return ()
        if len(self._path) > _DEEP:
            self._room -= len(self._path)
        return (*self._path, segment)

    def _leave_aside(self, one: Any, other: Any) -> None:
        if one is ABSENT or other is ABSENT or not same(one, other):
            self.ignored += 1


def _hides_a_key(one: JsonText, other: JsonText) -> bool:
    """Whether two texts seem equal only because a key is given twice, where the last one counts."""
    try:
        if one.tree != other.tree:
            return False
    except RecursionError:
        if not same(one.tree, other.tree):
            return False
    return str(one) != str(other) and (has_duplicate_keys(one) or has_duplicate_keys(other))
