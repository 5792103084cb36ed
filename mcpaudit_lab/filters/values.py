"""What the values of a filter mean: equality in a payload, header names, and case.

Equality is that of :func:`.record.jsontext.same`: numbers are compared by value and exactly,
as the decimals that the JSON text says; a boolean is never a number; null is equal to null only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from operator import index
from typing import Any, Final, TypeAlias

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record import Json, JsonDecimal, dumps, loads, same

__all__ = [
    "PathTest",
    "Scalar",
    "fold",
    "is_exact",
    "shown",
    "shown_key",
    "split_path",
    "variants",
]

Scalar: TypeAlias = str | bool | int | float | Decimal | None

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# No character beyond this one has a case.
_LAST_CASED: Final = 0x1FFFF


@dataclass(frozen=True, slots=True)
class PathTest:
    """One question into a payload: is this value at this path?

    Attributes:
        path: the keys from the top down; for a header, its one canonical name.
        text: the value as JSON text, so that ``1``, ``true`` and ``"1"`` stay three values.
    """

    path: tuple[str, ...]
    text: str

    @classmethod
    def of(cls, path: tuple[str, ...], value: Scalar) -> PathTest:
        """Make one from a Python value.

        Raises:
            FilterError: if it is not a JSON scalar.
        """
        return cls(path, _scalar_text(value))

    @property
    def value(self) -> Json:
        """The value, as returned by :func:`mcpaudit_lab.record.jsontext.loads`."""
        return _loads(self.text)

    def holds(self, document: Json) -> bool:
        """Whether the value at the path of a JSON document is exactly this one."""
        found: Any = document
        for key in self.path:
            if not isinstance(found, dict) or key not in found:
                return False
            found = found[key]
        return same(found, self.value)

    def holds_for_header(self, headers: Json) -> bool:
        """Whether one of the header's values is this text, in an object of name -> values."""
        values = headers.get(self.path[0]) if isinstance(headers, dict) else None
        return isinstance(values, list | tuple) and any(
            isinstance(value, str) and value == self.value for value in values
        )


_loads = lru_cache(maxsize=1024)(loads)


def _scalar_text(value: Any) -> str:
    try:
        if not isinstance(value, str | int | float | Decimal | None):
            value = index(value)  # numpy's integers
        text = dumps(value)
    except (TypeError, ValueError):
        text = ""
    if isinstance(value, Decimal) and text:
        text = text.lower() if is_exact(text) else ""
    if not text:
        raise FilterError(
            "a value to compare with is a string, a number that JSON has, True, False or None"
        )
    return text


def is_exact(text: str) -> bool:
    """Whether a decimal can hold the number: its exponent has at most 18 digits."""
    number = loads(text)
    return not isinstance(number, JsonDecimal) or number.is_finite()


def shown(text: str) -> str:
    """A text from outside, for people: quoted, one line, nothing invisible, not long."""
    text = text if len(text) <= 60 else text[:60] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in dumps(text))


def shown_key(key: str) -> str:
    """A key of a path, for people: quoted only where it would be misread."""
    return key if key.isprintable() and key and not set(key) & set('. "') else shown(key)


def split_path(dotted: str, name: str) -> tuple[str, ...]:
    """``user.id`` -> ``("user", "id")``.

    Raises:
        FilterError: for an empty segment or a control character; ``name`` is its origin.
    """
    if _CONTROL.search(dotted):
        raise FilterError(f"{shown(name)}: a path has no control characters")
    path = tuple(dotted.split("."))
    if "" in path:
        raise FilterError(
            f"{shown(name)}: a segment of the path is empty; write a path like user.id "
            "(in Python, a tuple of keys takes any key)"
        )
    return path


class _Folding(dict[int, str]):
    """Code point -> the character it compares as; filled as it is asked."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        full, lower = char.casefold(), char.lower()
        self[code] = full if len(full) == 1 else lower if len(lower) == 1 else char
        return self[code]


_FOLDING = _Folding()


def fold(text: str) -> str:
    """The text as ``q`` compares it: character by character, by Unicode simple case folding.

    ``É`` is ``é``, the three Greek sigmas are one, the Kelvin sign is ``k``; ``ß`` is ``ẞ`` but not
    ``ss``, and ``İ`` is itself alone. No character becomes two, so that SQL engines, whose own
    ``lower`` all differ, can do exactly the same with a table of single characters.
    """
    return text.translate(_FOLDING)


def variants(needle: str) -> tuple[str, str]:
    """The characters that fold into one of a folded text, and what each folds into, in step."""
    table = _variants()
    pairs = [(other, char) for char in dict.fromkeys(needle) for other in table.get(char, "")]
    return "".join(other for other, _ in pairs), "".join(char for _, char in pairs)


@cache
def _variants() -> dict[str, str]:
    table: dict[str, str] = {}
    for code in range(_LAST_CASED + 1):
        char, folded = chr(code), fold(chr(code))
        if folded != char:
            table[folded] = table.get(folded, "") + char
    return table
