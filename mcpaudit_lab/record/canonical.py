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
from collections.abc import Callable, Mapping, Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from json.encoder import encode_basestring
from typing import Any, Final

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
    # Every event of a portal passes here: the exact types that JSON gives come first.
    write = _WRITERS.get(type(value))
    return _other(value) if write is None else write(value)


def _object(value: Mapping[str, Any]) -> str:
    # ASCII sorts the same way in UTF-16.
    names = sorted(value) if "".join(value).isascii() else sorted(value, key=_utf16)
    return f"{{{','.join([f'{_text(name)}:{canonical_json(value[name])}' for name in names])}}}"


def _array(value: Sequence[Any]) -> str:
    return f"[{','.join([canonical_json(item) for item in value])}]"


def _text(value: str) -> str:
    return encode_basestring(value) if value.isascii() else dumps(value)


def _integer(value: int) -> str:
    return str(value) if abs(value) <= _SAFE else _number(Decimal(value), str(value))


_WRITERS: Final[dict[type, Callable[[Any], str]]] = {
    str: _text,
    dict: _object,
    list: _array,
    int: _integer,
    bool: dumps,
    type(None): dumps,
}


def _other(value: Any) -> str:
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple):
        return _array(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, JsonDecimal):
        return _number(value, value.text)
    if isinstance(value, float):
        return _number(Decimal(repr(value)), repr(value))
    if isinstance(value, int):
        return _integer(value)
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
