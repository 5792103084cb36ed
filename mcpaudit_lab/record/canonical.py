"""Canonical JSON: one text for one value, so that equal values have equal hashes.

RFC 8785 (JCS): no spaces, keys sorted by their UTF-16 code units, strings escaped only where they
must be, numbers as ECMAScript writes them. RFC 8785 covers the numbers of IEEE 754 doubles only.
A number that a double would round, such as 9007199254740993, 333333333.33333329 or 1e400, keeps all
of its digits here, because a hash that rounds would call two different values equal. A lone
surrogate, which RFC 8785 refuses, is written as its escape.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any

from mcpaudit_lab.record.jsontext import JsonDecimal, dumps

__all__ = ["canonical_json", "canonical_sha256"]

_SAFE = 2**53
# No rounding, whatever the number of digits.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_PLAIN_DIGITS = 400
_ECMA_MAX, _ECMA_MIN = 21, -6


def canonical_json(value: Any) -> str:
    """The canonical text of a JSON value.

    Args:
        value: what :func:`~mcpaudit_lab.record.loads` gives.

    Raises:
        TypeError: a value that JSON does not have.
        RecursionError: nested about a thousand levels deep.
    """
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: _utf16(item[0]))
        return "{" + ",".join(f"{dumps(key)}:{canonical_json(item)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical_json, value)) + "]"
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return dumps(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= _SAFE else _number(Decimal(value), str(value))
    if isinstance(value, JsonDecimal):
        return _number(value, value.text)
    if isinstance(value, float):
        return _number(Decimal(repr(value)), repr(value))
    raise TypeError(f"JSON has no {type(value).__name__}")


def canonical_sha256(value: Any) -> str:
    """SHA-256 over the canonical text in UTF-8, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: Decimal, text: str) -> str:
    if not value.is_finite():
        # The exponent does not fit a Decimal: keep the text as read.
        return text.lower()
    number = _as_float(value)
    if number is not None and Decimal(repr(number)) == value:
        return _ecmascript(number)
    return _exact(value)


def _as_float(value: Decimal) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _exact(value: Decimal) -> str:
    """All digits of a number that no double has: an integer plainly, others with an exponent."""
    sign, digits, exponent = value.normalize(_EXACT).as_tuple()
    written = "".join(map(str, digits))
    minus = "-" if sign else ""
    if isinstance(exponent, int) and exponent >= 0 and len(written) + exponent <= _PLAIN_DIGITS:
        return f"{minus}{written}{'0' * exponent}"
    point = f"{written[0]}.{written[1:]}" if len(written) > 1 else written
    power = int(exponent) + len(written) - 1
    return f"{minus}{point}e{'+' if power >= 0 else ''}{power}"


def _ecmascript(number: float) -> str:
    """A double as ``JSON.stringify`` writes it (ECMA-262, Number::toString)."""
    if number == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(number)).normalize(_EXACT).as_tuple()
    written, minus = "".join(map(str, digits)), "-" if sign else ""
    count, point = len(written), len(written) + int(exponent)
    if count <= point <= _ECMA_MAX:
        return f"{minus}{written}{'0' * (point - count)}"
    if 0 < point <= _ECMA_MAX:
        return f"{minus}{written[:point]}.{written[point:]}"
    if _ECMA_MIN < point <= 0:
        return f"{minus}0.{'0' * -point}{written}"
    power = point - 1
    rest = f".{written[1:]}" if count > 1 else ""
    return f"{minus}{written[0]}{rest}e{'+' if power >= 0 else '-'}{abs(power)}"
