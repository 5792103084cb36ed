"""Quick looks at two JSON values: equal for sure, or not known to be.

Python's ``==`` is fast, but not JSON's equality: ``True == 1``, and it fails on deep values. Values
that it calls different are different; values that it calls equal need a check of their types.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, TypeAlias

from mcpaudit_lab.comparison.paths import JSON_TEXT, PathMatcher, Segment, State
from mcpaudit_lab.record import Marks

__all__ = [
    "ATOMS",
    "Digest",
    "Digests",
    "JsonText",
    "identical",
    "kind_of",
    "same_types",
    "surely_equal",
]


Digest: TypeAlias = str | None

# A number with as many digits before the point is neither an int nor equal to one: see jsontext.
_INT_DIGITS = 5000
# Nor is one beyond 1e308 equal to a float.
_FLOAT_DIGITS = 310


class JsonText(str):
    """A text that is JSON, with its parsed value.

    Two of them are ``==`` if what they say is, whatever the spelling; else it is a ``str``.

    Attributes:
        tree: the JSON value.
    """

    __slots__ = ("tree",)
    tree: Any

    @classmethod
    def of(cls, text: str, tree: Any) -> JsonText:
        """Put a text and its value together."""
        made = cls(text)
        made.tree = tree
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, JsonText):
            return bool(self.tree == other.tree)
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Digests:
    """Digests of the values of two trees, which must not change during the comparison.

    Args:
        marks: what counts as redacted, if anything does.
        matcher: what to leave out of the values, if anything.
    """

    __slots__ = ("_marks", "_matcher", "_memo")

    def __init__(self, marks: Marks | None, matcher: PathMatcher | None) -> None:
        self._marks = marks
        self._matcher = matcher
        self._memo: dict[tuple[int, State | None], Digest] = {}

    def of(self, value: Any, state: State | None = None) -> Digest:
        """The digest of a value at any depth, or None if it contains a redaction mark.

        Args:
            value: a JSON value.
            state: the matcher's state at the value.

        Raises:
            TypeError: a value that JSON does not have.
        """
        if not isinstance(value, dict | list | tuple | JsonText):
            return self._scalar(value)
        memo = self._memo
        pending = [(value, state)]
        while pending:
            node, at = pending[-1]
            if (id(node), at) in memo:
                pending.pop()
                continue
            below = [
                (child, child_at)
                for _, child, child_at in self._members(node, at)
                if isinstance(child, dict | list | tuple | JsonText)
                and (id(child), child_at) not in memo
            ]
            if below:
                pending += below
            else:
                memo[id(node), at] = self._container(node, at)
                pending.pop()
        return memo[id(value), state]

    def _members(
        self, node: Any, state: State | None
    ) -> Iterator[tuple[Segment, Any, State | None]]:
        """The members of a container that are not left out, each with the state at it."""
        members: Any
        if isinstance(node, JsonText):
            members = ((JSON_TEXT, node.tree),)
        else:
            members = node.items() if isinstance(node, dict) else enumerate(node)
        matcher = self._matcher
        if matcher is None or state is None:
            for segment, child in members:
                yield segment, child, None
            return
        for segment, child in members:
            at = matcher.step(state, segment)
            if at is None or not matcher.accepts(at):
                yield segment, child, at

    def _container(self, node: Any, state: State | None) -> Digest:
        parts: list[str] = []
        for segment, child, at in self._members(node, state):
            if isinstance(child, dict | list | tuple | JsonText):
                digest = self._memo[id(child), at]
            else:
                digest = self._scalar(child)
            if digest is None:
                return None
            # The lengths keep concatenated parts apart. The position is included, since elements
            # may be left out before it.
            name = str(segment)
            parts.append(f"{len(name)}:{name}={len(digest)}:{digest}")
        if isinstance(node, dict):
            parts.sort()
            kind = "{"
        elif isinstance(node, JsonText):
            kind = "j"
        else:
            kind = f"[{len(node)}:"
        content = "".join(parts).encode("utf-8", "surrogatepass")
        return kind + hashlib.blake2b(content, digest_size=16).hexdigest()

    def _scalar(self, value: Any) -> Digest:
        if isinstance(value, str):
            if self._marks is not None and self._marks.is_mark(value):
                return None
            return f"s{value}"
        if value is None or isinstance(value, bool):
            return f"c{value}"
        if isinstance(value, int | float | Decimal):
            return f"n{_number_text(value)}"
        raise TypeError(f"{type(value).__name__} is not a JSON value")


def _number_text(number: float | Decimal) -> str:
    """A text that numbers share if and only if they are equal: 1, 1.0 and 10e-1."""
    if isinstance(number, float):
        # A large one is the decimal it was written as, not always the double's own value.
        small = number.is_integer() and abs(number) < 2**53
        number = int(number) if small else Decimal(repr(number))
    if isinstance(number, int):
        return f"{number:x}"
    if not number.is_finite():
        return f"{'-' if number < 0 else ''}inf"
    if number.adjusted() < _INT_DIGITS and number == number.to_integral_value():
        return f"{int(number):x}"
    if number.adjusted() < _FLOAT_DIGITS and number == Decimal(nearest := repr(float(number))):
        return nearest
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    return f"{'-' * sign}{stripped}e{int(exponent) + len(text) - len(stripped)}"


ATOMS: Final = frozenset({bool, int, float, type(None)})
"""Types whose values can be compared with ``==``, if both are of the same."""

_KINDS: dict[type, str] = {
    dict: "object",
    list: "array",
    tuple: "array",
    str: "string",
    bool: "boolean",
    type(None): "null",
    int: "number",
    float: "number",
    Decimal: "number",
}


def kind_of(value: Any) -> str:
    """The JSON type of a value, subclasses and tuples included.

    Raises:
        TypeError: a value that JSON does not have.
    """
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    for base, kind in _KINDS.items():
        if isinstance(value, base):
            return kind
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def identical(left: Any, right: Any, unless: Iterable[bytes] = ()) -> bool:
    """Whether two JSON values are surely equal, found at the speed of C.

    False says nothing: they may still be equal, written differently.

    Args:
        left: one value.
        right: the other.
        unless: texts in lower case; if one occurs in a key or string, the answer is False.
    """
    try:
        # == alone takes True for 1. The bytes tell types apart, but take longer to make.
        if left != right:
            return False
        content = marshal.dumps(left)
        if content != marshal.dumps(right):
            return False
    except (RecursionError, ValueError):
        # Nested too deep for either, or a JsonDecimal, which has no such bytes.
        return False
    if unless:
        content = content.lower()
        for text in unless:
            if text in content:
                return False
    return True


def surely_equal(left: Any, right: Any, starts: frozenset[str] | None) -> bool:
    """Whether two JSON values are certainly equal and without redaction marks.

    False decides nothing: they may still be equal but written differently, or contain strings that
    only start like a mark.

    Args:
        left: one value.
        right: the other.
        starts: the first characters of redaction marks, if there are any.

    Raises:
        RecursionError: if they are too deep for ``==``.
    """
    kind = type(left)
    if left != right or kind is not type(right):
        return False
    if kind is str:
        return not starts or left[:1] not in starts
    return kind in ATOMS or ((kind is dict or kind is list) and same_types(left, right, starts))


def same_types(left: Any, right: Any, starts: frozenset[str] | None) -> bool:
    """The second look at two containers that ``==`` calls equal; as :func:`surely_equal`."""
    pairs = [(left, right)]
    for one, other in pairs:
        for segment, value in one.items() if type(one) is dict else enumerate(one):
            kind = type(value)
            if kind is str:
                if starts and value[:1] in starts:
                    return False
            elif kind is dict or kind is list:
                pairs.append((value, other[segment]))
            elif kind not in ATOMS or type(other[segment]) is not kind:
                return False
    return True
