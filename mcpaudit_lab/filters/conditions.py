"""Conditions with and, or and not: their parts, what they mean in Python, and their text.

A condition has two answers. What an event does not have is not equal to anything, so
``param.n != 5`` holds for an event without arguments.

- ``=`` is exact. ``~`` finds a text inside, in any case (:func:`.filters.values.fold`). ``=~``
  compares the whole text with a pattern: ``*`` is any text, ``?`` one character.
- At a path into JSON, ``<`` and its like compare numbers by value and exactly, and texts by code
  point, where NUL and a lone surrogate count as U+FFFD. A number is never before or after a text.
- A header has several values; one that fits is enough.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcpaudit_lab.filters.values import PathTest, fold
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, dumps

if TYPE_CHECKING:
    from mcpaudit_lab.record import Event, Json

__all__ = [
    "DOCUMENTS",
    "All",
    "AnyOf",
    "Condition",
    "Not",
    "Test",
    "asks_payload",
    "glob_matches",
    "holds_at",
    "implied",
    "joined",
    "negated",
    "written",
]

# Column -> the record's member.
_MEMBERS: Final = {field.column: field.name for field in (*EVENT_FIELDS, *PAYLOAD_FIELDS)}
# What a path leads into -> the payload's column; extra has none.
DOCUMENTS: Final = {
    "param": "request_params",
    "response": "response_result",
    "header": "request_headers",
    "extra": "",
}
_ORDERS: Final = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. All others are made of these with and, or and not.

    Attributes:
        kind: ``text``, ``int``, ``bool``, ``time``, ``id``, ``q``, ``has``; or the document that a
            path leads into: ``param``, ``response``, ``header``, ``extra``.
        column: the column, or that of the document; empty for ``q`` and ``extra``.
        in_payload: whether it is a column of the payload.
        op: ``eq``, ``contains``, ``glob``, ``ge``, ``le``, ``gt``, ``lt``, ``present``.
        path: the keys from the top of the document down.
        wanted: what it is compared with: text, an integer, a moment; for a path JSON text.
        text: the test as :func:`.filters.where.parse_where` reads it.
        opposite: the same for its negation.
    """

    __test__ = False  # its name is no reason for pytest to collect it

    kind: str
    column: str
    in_payload: bool
    op: str
    path: tuple[str, ...]
    wanted: str | int | datetime | None
    text: str
    opposite: str

    def holds(self, event: Event) -> bool:
        """Whether an event passes."""
        record: Any = event.payload if self.in_payload else event
        if record is None:
            return False
        if self.kind == "q":
            texts = (event.tool_name, event.error_message, event.user_subject)
            return any(_text_holds(text, "contains", str(self.wanted)) for text in texts)
        if self.kind == "has":
            return record.wire.get(self.column) not in (None, "", [], {}, ())
        if self.kind in DOCUMENTS:
            document = getattr(record, self.column or "extra")
            wanted = str(self.wanted)
            return holds_at(document, self.op, self.path, wanted, header=self.is_header)
        return self._holds_for(getattr(record, _MEMBERS[self.column]))

    def _holds_for(self, value: Any) -> bool:
        if self.kind in ("text", "id"):
            return _text_holds(value or "", self.op, str(self.wanted))
        if self.kind == "bool":
            return value is True
        return bool(value >= self.wanted if self.op == "ge" else value <= self.wanted)

    @property
    def is_header(self) -> bool:
        """Whether it is about a header's values."""
        return self.kind == "header"

    @property
    def path_test(self) -> PathTest:
        """The path with the value to compare with."""
        return PathTest(self.path, str(self.wanted))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Not:
    """A test that must not hold."""

    item: Condition

    def holds(self, event: Event) -> bool:
        """Whether an event passes."""
        return not self.item.holds(event)

    def __str__(self) -> str:
        return self.item.opposite if isinstance(self.item, Test) else f"not ({self.item})"


@dataclass(frozen=True, slots=True)
class All:
    """Conditions that must all hold."""

    items: tuple[Condition, ...]

    def holds(self, event: Event) -> bool:
        """Whether an event passes."""
        return all(item.holds(event) for item in self.items)

    def __str__(self) -> str:
        return " and ".join(
            f"({item})" if isinstance(item, AnyOf) else str(item) for item in self.items
        )


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Conditions of which one must hold."""

    items: tuple[Condition, ...]

    def holds(self, event: Event) -> bool:
        """Whether an event passes."""
        return any(item.holds(event) for item in self.items)

    def __str__(self) -> str:
        return " or ".join(map(str, self.items))


Condition: TypeAlias = Test | Not | All | AnyOf


def asks_payload(item: Condition) -> bool:
    """Whether a condition asks anything of the payload."""
    if isinstance(item, Test):
        return item.in_payload
    parts = (item.item,) if isinstance(item, Not) else item.items
    return any(map(asks_payload, parts))


def implied(item: Condition) -> dict[str, str]:
    """Columns of ``audit_events`` with the text that each must have, whatever else holds."""
    parts = item.items if isinstance(item, All) else (item,)
    return {
        part.column: str(part.wanted)
        for part in parts
        if isinstance(part, Test) and (part.kind, part.op) == ("text", "eq") and not part.in_payload
    }


def joined(kind: type[All | AnyOf], items: tuple[Condition, ...]) -> Condition:
    """Conditions joined, without a join of the same kind inside; of one, itself."""
    flat: list[Condition] = []
    for item in items:
        flat += item.items if isinstance(item, kind) else (item,)
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else kind(unique)


def negated(item: Condition) -> Condition:
    """The opposite of a condition."""
    return item.item if isinstance(item, Not) else Not(item)


def _text_holds(value: str, op: str, wanted: str) -> bool:
    if op == "contains":
        return fold(wanted) in fold(value)
    if op == "glob":
        return glob_matches(value, wanted)
    return value == wanted


def glob_matches(value: str, glob: str) -> bool:
    """Whether a whole text fits a pattern of ``*`` and ``?``."""
    return _pattern(glob).fullmatch(value) is not None


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    """A pattern of ``*`` and ``?`` as a regular expression.

    Between two stars the first place is as good as any later one, so the search never goes back
    there: many stars would otherwise take it forever.
    """
    first, *rest = (
        "".join("." if char == "?" else re.escape(char) for char in part)
        for part in re.split(r"\*+", glob)
    )
    between = "".join(f"(?>.*?{part})" for part in rest[:-1])
    last = f".*{rest[-1]}" if rest else ""
    return re.compile(f"{first}{between}{last}", re.DOTALL)


def holds_at(
    document: Json, op: str, path: tuple[str, ...], wanted: str, *, header: bool = False
) -> bool:
    """Whether what a document has at a path passes.

    Args:
        document: the JSON value.
        op: the comparison.
        path: the keys from the top down.
        wanted: JSON text of the value to compare with.
        header: whether the value must be a list, of which one text must pass.
    """
    test = PathTest(path, wanted)
    if op == "eq":
        return test.holds_for_header(document) if header else test.holds(document)
    found: Any = document
    for key in path:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    if op == "present":
        return True
    if header and not isinstance(found, list | tuple):
        return False
    values = found if header else [found]
    return any(_value_holds(value, op, test.value) for value in values)


def _value_holds(value: Any, op: str, wanted: Any) -> bool:
    if op in ("contains", "glob"):
        return isinstance(value, str) and _text_holds(value, op, wanted)
    left, right = _ordered(value), _ordered(wanted)
    if left is None or right is None or isinstance(left, str) is not isinstance(right, str):
        return False
    return bool(_ORDERS[op](left, right))


def _ordered(value: Any) -> Any:
    """A value for comparison by order; None where it has none."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def written(value: Any) -> str:
    """A value as the text form has it: JSON, in ASCII."""
    return dumps(value, ascii_only=True)
