"""Two lists of JSON values, element against element."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from mcpaudit_lab.comparison.equality import Digest, Digests, surely_equal
from mcpaudit_lab.comparison.paths import PathMatcher, State
from mcpaudit_lab.record import Marks

__all__ = ["ABSENT", "ListAligner", "Row", "align", "common_pairs"]

# Positions of two elements that are paired; -1 where a side has no such element.
Step: TypeAlias = tuple[int, int]
# The same with the elements: position, left and right element.
Row: TypeAlias = tuple[int, Any, Any]


class _Absent:
    """Not a JSON value."""


ABSENT: Final[Any] = _Absent()
"""In place of a value: this side has no such key or element."""

# The digest of an ignored element: equal for all ignored elements, different from any value's.
_LEFT_ASIDE = "~"
# Pairs of equal elements that one alignment looks at, before it makes do with fewer.
_PAIRS_MAX = 100_000
# Short lists are searched for equal elements with ==, up to this many comparisons.
_SHORT = 400


class ListAligner:
    """Aligns the lists of two trees, which must not change during the comparison.

    Args:
        marks: what counts as redacted, if anything does.
        matcher: what to ignore, if anything.
    """

    __slots__ = ("_marks", "_matcher", "_memo", "_starts")

    def __init__(self, marks: Marks | None, matcher: PathMatcher | None) -> None:
        self._marks = marks
        self._matcher = matcher
        self._memo: Digests | None = None
        self._starts = marks.starts if marks else None

    def rows(
        self, left: Sequence[Any], right: Sequence[Any], state: State | None, *, quick: bool
    ) -> range | list[Row] | None:
        """Set the elements of two lists against each other, equal ones left out.

        Args:
            left: one list.
            right: the other.
            state: the matcher's state at the lists.
            quick: compare with ``==`` first. Doing so at every depth would be quadratic.

        Returns:
            The positions to look at, if they are the same in both; or rows in order, with the
            position in the left list, or in the right one for an element that is :data:`ABSENT` in
            the left; or None if one list is the other in another order.
        """
        n, m = len(left), len(right)
        head = tail = 0
        if quick:
            head = self._count_equal(left, right)
            tail = self._count_equal(
                islice(reversed(left), n - head), islice(reversed(right), m - head)
            )
            if n == m and n - tail - head <= 1:
                return range(head, n - tail)
            left, right = left[head : n - tail], right[head : m - tail]
        if quick and state is None and _disjoint(left, right):
            if n == m:
                return range(head, n - tail)
            steps: Iterable[Step] | None = _paired_off(range(len(left)), range(len(right)))
        else:
            steps = self._align(left, right, head, state)
        if steps is None:
            return None
        return [
            (head + j, ABSENT, right[j])
            if i < 0
            else (head + i, left[i], ABSENT if j < 0 else right[j])
            for i, j in steps
        ]

    def digest(self, value: Any, state: State | None) -> Digest:
        """The digest of a value; see :meth:`Digests.of`."""
        return self._digests.of(value, state)

    @property
    def _digests(self) -> Digests:
        self._memo = self._memo or Digests(self._marks, self._matcher)
        return self._memo

    def _count_equal(self, left: Iterable[Any], right: Iterable[Any]) -> int:
        count = 0
        try:
            for one, other in zip(left, right, strict=False):
                if one != other or not surely_equal(one, other, self._starts):
                    break
                count += 1
        except RecursionError:
            pass
        return count

    def _align(
        self, left: Sequence[Any], right: Sequence[Any], head: int, state: State | None
    ) -> list[Step] | None:
        left_digests = self._element_digests(left, head, state)
        right_digests = self._element_digests(right, head, state)
        steps = align(left_digests, right_digests)
        if steps is None or state is not None:
            # Equal elements may differ in ignored parts, which must be counted.
            return steps
        return [
            (i, j)
            for i, j in steps
            if i < 0 or j < 0 or not _equal(left_digests[i], right_digests[j])
        ]

    def _element_digests(
        self, elements: Sequence[Any], first: int, state: State | None
    ) -> list[Digest]:
        matcher, digests = self._matcher, self._digests
        if matcher is None or state is None:
            return [digests.of(element) for element in elements]
        found: list[Digest] = []
        for position, element in enumerate(elements, first):
            at = matcher.step(state, position)
            left_aside = at is not None and matcher.accepts(at)
            found.append(_LEFT_ASIDE if left_aside else digests.of(element, at))
        return found


def _disjoint(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether two short lists have no equal elements; False also if they are too long to see."""
    if len(left) * len(right) > _SHORT:
        return not left or not right
    try:
        return not any(map(right.__contains__, left))
    except RecursionError:
        return False


def _equal(left: Digest, right: Digest) -> bool:
    return left is not None and left == right


def align(left: Sequence[Digest], right: Sequence[Digest]) -> list[Step] | None:
    """Set the elements of two lists against each other.

    Args:
        left: the digests of the elements of one list.
        right: the elements of the other list.

    Returns:
        Steps in order, each position once, or None if the second list is the first in another
        order. Equal elements at both ends are paired, then those of :func:`common_pairs`; the
        elements between them are paired from the front. If between the ends
        a digest is None, all of that is paired off: what a redacted value equals would be a guess.
    """
    n, m = len(left), len(right)
    shorter = min(n, m)
    head = tail = 0
    while head < shorter and _equal(left[head], right[head]):
        head += 1
    while tail < shorter - head and _equal(left[~tail], right[~tail]):
        tail += 1
    inner_left = [digest for digest in left[head : n - tail] if digest is not None]
    inner_right = [digest for digest in right[head : m - tail] if digest is not None]
    anchors: list[tuple[int, int]] = []
    if len(inner_left) + len(inner_right) == n + m - 2 * (head + tail):
        if inner_left and sorted(inner_left) == sorted(inner_right):
            return None
        anchors = [(head + i, head + j) for i, j in common_pairs(inner_left, inner_right)]
    steps: list[Step] = [(i, i) for i in range(head)]
    i = j = head
    for anchor in anchors:
        steps += _paired_off(range(i, anchor[0]), range(j, anchor[1]))
        steps.append(anchor)
        i, j = anchor[0] + 1, anchor[1] + 1
    steps += _paired_off(range(i, n - tail), range(j, m - tail))
    steps += [(n - k, m - k) for k in range(tail, 0, -1)]
    return steps


def _paired_off(left: range, right: range) -> Iterator[Step]:
    yield from zip(left, right, strict=False)
    for i in left[len(right) :]:
        yield i, -1
    for j in right[len(left) :]:
        yield -1, j


def common_pairs(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """A longest common subsequence of two lists of digests, as rising pairs of positions.

    The result is symmetric: swapping the lists swaps the pairs. The work is n log n in the number
    of pairs of equal elements. If there are more than 100,000 such pairs (long lists of few
    different values), only the first occurrence is paired with the first, the second with the
    second and so on: the subsequence may then be shorter than the longest.
    """
    if left > right:
        return [(i, j) for j, i in common_pairs(right, left)]
    left_counts, right_counts = Counter(left), Counter(right)
    total = sum(count * right_counts[digest] for digest, count in left_counts.items())
    places: defaultdict[str, list[int]] = defaultdict(list)
    for j in range(len(right) - 1, -1, -1):
        places[right[j]].append(j)
    # Patience sorting: ends[k] is the smallest j that ends a common subsequence of k + 1 pairs.
    # The places of an element come in falling order, so that one i extends no chain twice.
    ends: list[int] = []
    chains: list[tuple[int, int, Any]] = []
    for i, digest in enumerate(left):
        candidates = places.get(digest, [])
        if total > _PAIRS_MAX and candidates:
            candidates = [candidates.pop()]
        for j in candidates:
            k = bisect_left(ends, j)
            chain = (i, j, chains[k - 1] if k else None)
            if k == len(ends):
                ends.append(j)
                chains.append(chain)
            else:
                ends[k] = j
                chains[k] = chain
    pairs: list[tuple[int, int]] = []
    link = chains[-1] if chains else None
    while link:
        i, j, link = link
        pairs.append((i, j))
    return pairs[::-1]
