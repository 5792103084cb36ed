"""One difference between two JSON trees, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcpaudit_lab.comparison.paths import Path, format_path
from mcpaudit_lab.comparison.textdiff import TextDiff, diff_texts
from mcpaudit_lab.record import dumps, same, visible

__all__ = ["Change", "ChangeKind", "change_dict", "cut", "lines_diff", "shown_change"]


class ChangeKind(StrEnum):
    """What happened at a path."""

    VALUE = "value"
    TYPE = "type"
    ORDER = "order"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Change:
    """One difference between a left and a right tree.

    Attributes:
        path: the place. Positions in lists are those of the left tree; only the last position of an
            added element is that of the right tree.
        kind: ``value``: another value of the same type (a number is one type); ``type``: a value of
            another type; ``order``: the same elements in another order, reported for the whole
            list; ``removed`` or ``added``: a key or an element that only the left or the right has.
        left: the value in the left tree; None if it was ``added``.
        right: the value in the right tree; None if it was ``removed``.
    """

    path: Path
    kind: ChangeKind
    left: Any
    right: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return (
            self.path == other.path
            and self.kind == other.kind
            and same(self.left, other.left, spelling=True)
            and same(self.right, other.right, spelling=True)
        )

    def __hash__(self) -> int:
        return hash((self.path, self.kind))

    def text_diff(self, *, context: int = 3) -> TextDiff | None:
        """Compare two texts line by line, and word by word within changed lines.

        Args:
            context: how many equal lines to keep before and after each changed line.

        Returns:
            None unless both sides are texts.
        """
        if not isinstance(self.left, str) or not isinstance(self.right, str):
            return None
        return diff_texts(self.left, self.right, context=context)

    def __repr__(self) -> str:
        # The values are left out: they may be secrets.
        return f"Change({format_path(self.path)!r}, {self.kind})"


def change_dict(change: Change) -> dict[str, Any]:
    """A change as JSON: ``path``, ``kind``, and the values of the sides that it has."""
    members = {"path": format_path(change.path), "kind": change.kind.value}
    if change.kind is not ChangeKind.ADDED:
        members["left"] = change.left
    if change.kind is not ChangeKind.REMOVED:
        members["right"] = change.right
    return members


def cut(text: str, width: int) -> str:
    """A text, cut after a number of characters."""
    return text if len(text) <= width else f"{text[:width]}…"


def shown_change(change: Change, width: int) -> str:
    """A change's values on one line, each side cut after a number of characters."""
    if change.kind is ChangeKind.ORDER:
        return f"the same {len(change.left)} elements in another order"
    if text := lines_diff(change):
        return text.summary()
    values = change_dict(change)
    if (excerpts := _excerpts(change, width)) is not None:
        return excerpts
    sides = [
        visible(cut(dumps(values[side]), width)) for side in ("left", "right") if side in values
    ]
    return " -> ".join(sides)


def lines_diff(change: Change) -> TextDiff | None:
    """The difference of two texts of several lines that have a line in common; else None."""
    if not isinstance(change.left, str) or not isinstance(change.right, str):
        return None
    if "\n" not in change.left or "\n" not in change.right:
        return None
    diff = change.text_diff()
    return diff if diff and diff.removed < diff.left_lines else None


def _excerpts(change: Change, width: int) -> str | None:
    """The parts of two long texts around their first difference; None where the start shows it."""
    left, right = change.left, change.right
    if not isinstance(left, str) or not isinstance(right, str):
        return None
    pairs = enumerate(zip(left, right, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), min(len(left), len(right)))
    if first < width - width // 4:
        return None
    start = first - width // 3
    shown = [visible(f"…{cut(dumps(side[start:])[1:-1], width)}") for side in (left, right)]
    return (
        f"{' -> '.join(shown)}"
        f"  (from character {first + 1:,}; {len(left):,} and {len(right):,} characters)"
    )
