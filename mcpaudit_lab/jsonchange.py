"""One difference between two JSON trees, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcpaudit_lab.jsonpaths import Path, format_path
from mcpaudit_lab.jsontext import same
from mcpaudit_lab.textdiff import TextDiff, diff_texts

__all__ = ["Change", "ChangeKind"]


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
        path: where. Positions in lists are those of the left tree, save the last one of something
            added, which is its position in the right tree.
        kind: ``value``: another value of the same type (a number is one type); ``type``: a value of
            another type; ``order``: the same elements in another order, told of the whole list;
            ``removed`` or ``added``: a key or an element that only the left or the right has.
        left: the value in the left tree; None where it was ``added``.
        right: the value in the right tree; None where it was ``removed``.
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
