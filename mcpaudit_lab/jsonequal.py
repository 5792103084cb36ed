"""Quick looks at two JSON values: equal for sure, or not known to be.

Python's ``==`` is fast, but not JSON's: to it ``True`` is ``1``, and it fails on deep values. What
it calls different is different; what it calls equal needs a second look at the types.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

__all__ = ["ATOMS", "identical", "kind_of", "same_types", "surely_equal"]

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
        TypeError: for what is not JSON.
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
    """Whether two JSON values are equal and surely hold no redaction mark.

    False says nothing: they may still be equal, written differently, or hold strings that only
    start like a mark.

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
