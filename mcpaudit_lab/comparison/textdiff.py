r"""Two texts: which lines differ, and which words within them.

Lines end at ``\n``. Everything else of a line is its text, including a ``\r`` before the end, and a
last line without its ``\n`` differs from the same line with it. Lines are aligned like the elements
of a list (:func:`.comparison.alignment.common_pairs` says when the alignment is not the longest),
so the time grows with the number of lines times its logarithm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mcpaudit_lab.comparison.alignment import common_pairs
from mcpaudit_lab.record import counted, visible

__all__ = ["Hunk", "TextDiff", "TextLine", "diff_texts"]

Span: TypeAlias = tuple[int, int]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
# Words between what both lines begin and end with. More are marked as a whole.
_WORDS_MAX: Final = 100
# Lines that have less in common, as a share of their words, are shown without marks.
_ALIKE: Final = 0.3
_SIGNS: Final = {"equal": " ", "removed": "-", "added": "+"}
NO_LINE_BREAK: Final = "\\ no line break at the end"


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a difference.

    Attributes:
        kind: ``removed``: only in the left text; ``added``: only in the right; ``equal``: in both.
        left: its number in the left text, from 1; None if it was ``added``.
        right: its number in the right text; None if it was ``removed``.
        text: the line with its line break, if it has one.
        marks: spans of ``text`` that differ from the line it is paired with, as (start, end), in
            characters. Empty where a line has no such partner.
    """

    kind: Literal["equal", "removed", "added"]
    left: int | None
    right: int | None
    text: str
    marks: tuple[Span, ...] = ()

    @property
    def has_line_break(self) -> bool:
        """Whether the line ends with a line break; only the last line of a text may lack it."""
        return self.text.endswith("\n")

    def pieces(self, width: int) -> list[tuple[str, bool]]:
        """The line without its line break, as pieces of text and whether each differs.

        Args:
            width: characters after which the line is cut. A long line is shown from shortly before
                its first mark. What is left out is counted in its place.
        """
        end = len(self.text) - self.has_line_break
        first = self.marks[0][0] if self.marks else 0
        start = 0 if end <= width or first <= width // 2 else min(first - width // 3, end - width)
        stop = min(end, start + width)
        pieces = [(_left_out(start), False)] if start else []
        place = start
        for mark in self.marks:
            low, high = (min(max(position, place), stop) for position in mark)
            pieces += [(self.text[place:low], False), (self.text[low:high], True)]
            place = high
        pieces.append((self.text[place:stop], False))
        if stop < end:
            pieces.append((_left_out(end - stop), False))
        return [piece for piece in pieces if piece[0]]


@dataclass(frozen=True, slots=True)
class Hunk:
    """Neighbouring changed lines, with the equal lines around them.

    Attributes:
        lines: in order; of a replaced block the removed lines come first.
        skipped: how many equal lines were left out before this hunk.
    """

    lines: tuple[TextLine, ...]
    skipped: int

    @property
    def heading(self) -> str:
        """The heading of the hunk, as in a unified diff: ``@@ -3,7 +3,7 @@``."""
        return f"@@ -{self._range('left')} +{self._range('right')} @@"

    def _range(self, side: Literal["left", "right"]) -> str:
        numbers = [number for line in self.lines if (number := getattr(line, side)) is not None]
        return f"{numbers[0]},{len(numbers)}" if numbers else "0,0"


@dataclass(frozen=True, slots=True)
class TextDiff:
    """How one text became another. Its ``str`` is a report in the manner of a unified diff.

    Attributes:
        hunks: in order of the texts; none where the texts are equal.
        left_lines: lines of the left text.
        right_lines: lines of the right text.
        skipped: equal lines left out after the last hunk.
    """

    hunks: tuple[Hunk, ...]
    left_lines: int
    right_lines: int
    skipped: int

    @property
    def removed(self) -> int:
        """How many lines only the left text has."""
        return self._count("removed")

    @property
    def added(self) -> int:
        """How many lines only the right text has."""
        return self._count("added")

    def _count(self, kind: str) -> int:
        return sum(line.kind == kind for hunk in self.hunks for line in hunk.lines)

    def summary(self) -> str:
        """The counts in one line: ``1 of 3,000 lines removed, 1 of 3,000 added``."""
        left = counted(self.left_lines, "line")
        return f"{self.removed:,} of {left} removed, {self.added:,} of {self.right_lines:,} added"

    def report(self, *, width: int = 100, lines_max: int | None = None) -> Iterator[str]:
        """The hunks as lines for a terminal. Carets below a line mark the words that differ.

        Args:
            width: characters after which a line is cut, with the rest counted.
            lines_max: report at most this many lines of the texts, and count the others.
        """
        total = sum(len(hunk.lines) for hunk in self.hunks)
        room = total if lines_max is None else lines_max
        for hunk in self.hunks:
            if room <= 0:
                break
            yield hunk.heading
            for line in hunk.lines[:room]:
                yield from _report_line(line, width)
            room -= len(hunk.lines)
        if lines_max is not None and total > lines_max:
            yield f"… {counted(total - lines_max, 'more line')} of the difference"

    def __str__(self) -> str:
        return "\n".join(self.report())

    def __repr__(self) -> str:
        # The texts are left out: they may be secrets.
        return f"TextDiff({self.summary()})"


def diff_texts(left: str, right: str, *, context: int = 3) -> TextDiff:
    """Find the lines that differ between two texts.

    Args:
        left: one text.
        right: the other.
        context: how many equal lines to keep before and after each changed line.
    """
    one, other = _LINE.findall(left), _LINE.findall(right)
    lines = _mark_pairs(_lines(one, other))
    changed = [place for place, line in enumerate(lines) if line.kind != "equal"]
    hunks: list[Hunk] = []
    shown = 0
    for first, last in _groups(changed, 2 * context):
        start, end = max(shown, first - context), min(len(lines), last + context + 1)
        hunks.append(Hunk(tuple(lines[start:end]), start - shown))
        shown = end
    return TextDiff(tuple(hunks), len(one), len(other), len(lines) - shown)


def _left_out(count: int) -> str:
    return f"… {counted(count, 'character')} …"


def _report_line(line: TextLine, width: int) -> Iterator[str]:
    pieces = [(visible(text), is_marked) for text, is_marked in line.pieces(width)]
    yield _SIGNS[line.kind] + "".join(text for text, _ in pieces)
    if any(is_marked for _, is_marked in pieces):
        carets = "".join(("^" if is_marked else " ") * len(text) for text, is_marked in pieces)
        yield f"?{carets.rstrip()}"
    if not line.has_line_break:
        yield NO_LINE_BREAK


def _lines(one: list[str], other: list[str]) -> list[TextLine]:
    """Every line of both texts, in order: equal ones once, of a replaced block the left first."""
    lines: list[TextLine] = []
    i = j = 0
    for next_i, next_j in [*_equal_places(one, other), (len(one), len(other))]:
        lines += [TextLine("removed", n + 1, None, one[n]) for n in range(i, next_i)]
        lines += [TextLine("added", None, n + 1, other[n]) for n in range(j, next_j)]
        if next_i < len(one):
            lines.append(TextLine("equal", next_i + 1, next_j + 1, one[next_i]))
        i, j = next_i + 1, next_j + 1
    return lines


def _equal_places(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of equal elements in both lists, rising; what both begin and end with first."""
    start = _shared(one, other)
    end = _shared(one[start:][::-1], other[start:][::-1])
    i, j = len(one) - end, len(other) - end
    middle = common_pairs(list(one[start:i]), list(other[start:j]))
    return [
        *((n, n) for n in range(start)),
        *((start + a, start + b) for a, b in middle),
        *((i + n, j + n) for n in range(end)),
    ]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many elements both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _mark_pairs(lines: list[TextLine]) -> list[TextLine]:
    """Set the removed lines of each replaced block against its added ones, and mark the words."""
    place = 0
    while place < len(lines):
        removed = _run(lines, place, "removed")
        added = _run(lines, place + removed, "added")
        for n in range(min(removed, added)):
            a, b = place + n, place + removed + n
            marks = _word_marks(lines[a].text, lines[b].text)
            for at, spans in zip((a, b), marks, strict=True):
                line = lines[at]
                lines[at] = TextLine(line.kind, line.left, line.right, line.text, spans)
        place += max(1, removed + added)
    return lines


def _run(lines: list[TextLine], start: int, kind: str) -> int:
    end = start
    while end < len(lines) and lines[end].kind == kind:
        end += 1
    return end - start


def _word_marks(left: str, right: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Spans of the words that differ in two lines; empty if the lines are too different."""
    one, other = _WORD.findall(left), _WORD.findall(right)
    start = _shared(one, other)
    end = _shared(one[start:][::-1], other[start:][::-1])
    if max(len(one), len(other)) - start - end > _WORDS_MAX:
        equal = [*((n, n) for n in range(start))]
        equal += [(len(one) - end + n, len(other) - end + n) for n in range(end)]
    else:
        equal = _equal_places(one, other)
    if 2 * len(equal) < _ALIKE * (len(one) + len(other)):
        return _character_marks(left, right)
    return _spans(one, {a for a, _ in equal}), _spans(other, {b for _, b in equal})


def _character_marks(left: str, right: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The part between the characters that both lines start and end with, for long words."""
    start = _shared(left, right)
    end = _shared(left[start:][::-1], right[start:][::-1])
    if 2 * (start + end) < _ALIKE * (len(left) + len(right)):
        return (), ()
    spans = ((start, len(left) - end), (start, len(right) - end))
    one, other = (((a, b),) if a < b else () for a, b in spans)
    return one, other


def _spans(words: list[str], equal: set[int]) -> tuple[Span, ...]:
    """Spans of the words whose positions are not in ``equal``; neighbours are one span."""
    spans: list[Span] = []
    place = 0
    for number, word in enumerate(words):
        end = place + len(word)
        if number not in equal:
            if spans and spans[-1][1] == place:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((place, end))
        place = end
    return tuple(spans)


def _groups(places: list[int], gap: int) -> Iterator[tuple[int, int]]:
    """First and last of each group of positions with at most ``gap`` others between neighbours."""
    first = last = -1
    for place in places:
        if first < 0:
            first = place
        elif place - last - 1 > gap:
            yield first, last
            first = place
        last = place
    if first >= 0:
        yield first, last
