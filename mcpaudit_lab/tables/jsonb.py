"""JSON out of ``jsonb``, spelled as a portal's wire spells it.

``jsonb`` keeps values and forgets spelling: it orders keys by length and writes every number out in
full. The reference server answers with keys in order and numbers as ECMAScript writes them
(ECMA-262, Number::toString), so that is what a row becomes here; no value changes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mcpaudit_lab.record import Json, JsonDecimal

__all__ = ["NOTIFICATION_KEYS", "respell"]

# A notification is a structure in the reference server, everything else a map.
NOTIFICATION_KEYS = ("ts", "method", "params")
_LARGE, _SMALL = 10**21, Decimal("1e-6")


def respell(value: Json, *, first: tuple[str, ...] = ()) -> Json:
    """The value with keys in order and numbers as ECMAScript writes them.

    Args:
        value: a JSON value as returned by PostgreSQL.
        first: keys that come before the others in objects of the outermost list.
    """
    root: list[Any] = [None]
    stack: list[tuple[Any, Any, Any, int]] = [(value, root, 0, 0)]
    while stack:
        item, into, place, depth = stack.pop()
        if isinstance(item, dict):
            keys = sorted(item)
            if depth == 1 and first:
                keys = [k for k in first if k in item] + [k for k in keys if k not in first]
            new: Any = dict.fromkeys(keys)
            stack.extend((item[key], new, key, depth + 1) for key in keys)
        elif isinstance(item, list):
            new = [None] * len(item)
            stack.extend((child, new, n, depth + 1) for n, child in enumerate(item))
        else:
            new = _number(item) if isinstance(item, int | Decimal) else item
        into[place] = new
    result: Json = root[0]
    return result


def _number(value: int | Decimal) -> int | float | Decimal:
    """Large and small numbers with an exponent, if a double's shortest decimal is that number."""
    size: int | Decimal = value.copy_abs() if isinstance(value, Decimal) else abs(value)
    if isinstance(value, bool) or not value or _SMALL <= size < _LARGE:
        return value
    try:
        double = float(value)
    except OverflowError:
        return value
    text = repr(double)
    if double in (float("inf"), float("-inf")) or Decimal(text) != value:
        return value
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return value
    # Python writes 1e-07 where ECMAScript writes 1e-7.
    spelled = f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return double if spelled == text else JsonDecimal(spelled)
