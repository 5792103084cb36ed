r"""JSON in and out without changing a value.

The standard library's ``json`` does most of the work. What it would lose is mended here:

- a number whose text a ``float`` or ``int`` cannot give back (``1.10``, ``1e400``, ``-0``, forty
  decimals) becomes a :class:`JsonDecimal`, which keeps the text;
- nesting deeper than the interpreter's recursion limit is read and written with a stack;
- lone surrogates, which JSON allows as ``\ud800``, are written escaped, since UTF-8 has no form
  for them;
- ``NaN`` and ``Infinity`` are refused: RFC 8259 section 6 knows no such numbers.

Duplicate keys: the last one counts, as in ECMAScript and in PostgreSQL's ``jsonb``.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C scanner, undocumented name
from typing import Any, Self, TypeAlias

from mcpaudit_lab.errors import RecordError, RejectReason

__all__ = [
    "Json",
    "JsonDecimal",
    "dumps",
    "has_duplicate_keys",
    "loads",
    "replace_surrogates",
    "same",
    "same_number",
    "scan",
    "skip_space",
]

Json: TypeAlias = "dict[str, Any] | list[Any] | str | int | float | Decimal | bool | None"

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
# Python refuses to convert longer texts to int by default (sys.set_int_max_str_digits).
_INT_DIGITS = 4000


class JsonDecimal(Decimal):
    """A JSON number that neither ``int`` nor ``float`` would write back as it was read.

    It compares and computes as the decimal it is; ``text`` is the number as it stood in the JSON.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Make one from the number's JSON text."""
        try:
            number = super().__new__(cls, text)
        except InvalidOperation:
            # The exponent has more than 18 digits, which Decimal cannot represent. The text is
            # kept.
            tiny = "e-" in text.lower()
            number = super().__new__(
                cls, "0" if tiny else f"{text[:1].strip('0123456789')}Infinity"
            )
        number.text = text
        return number

    def __repr__(self) -> str:
        return f"JsonDecimal({self.text!r})"

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[JsonDecimal], tuple[str]]:
        return (JsonDecimal, (self.text,))

    def __copy__(self) -> JsonDecimal:
        return self

    def __deepcopy__(self, memo: object) -> JsonDecimal:
        return self


def _parse_int(text: str) -> int | JsonDecimal:
    if len(text) > _INT_DIGITS or text == "-0":
        return JsonDecimal(text)
    return int(text)


def _parse_float(text: str) -> float | JsonDecimal:
    number = float(text)
    return number if repr(number) == text else JsonDecimal(text)


class _NotANumberError(ValueError):
    """NaN or an infinity stood where JSON wants a value."""


def _parse_constant(name: str) -> None:
    raise _NotANumberError(name)


_DECODER = json.JSONDecoder(
    parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ASCII_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes) -> Json:
    """Parse one JSON text.

    Args:
        text: a ``str``, or UTF-8 bytes. A byte order mark is not part of JSON and is refused.

    Raises:
        RecordError: with reason ``invalid_utf8``, ``nan_or_infinity`` or ``not_json``. The message
            contains the position, never the data.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                RejectReason.INVALID_UTF8, f"byte {error.start} is not UTF-8"
            ) from None
    try:
        return _decode(text)
    except _NotANumberError as error:
        raise RecordError(
            RejectReason.NAN_OR_INFINITY, f"{error} is not a JSON number (RFC 8259 section 6)"
        ) from None
    except json.JSONDecodeError as error:
        raise RecordError(RejectReason.NOT_JSON, f"{error.msg} at character {error.pos}") from None


def _decode(text: str) -> Json:
    value, pos = scan(text, skip_space(text, 0))
    pos = skip_space(text, pos)
    if pos != len(text):
        raise json.JSONDecodeError("Extra data", text, pos)
    return value


def scan(text: str, pos: int) -> tuple[Json, int]:
    """Parse the value that starts at ``pos``; returns the value and its end.

    Raises:
        ValueError: no value starts there.
    """
    try:
        found: tuple[Json, int] = _DECODER.raw_decode(text, pos)
    except RecursionError:
        return _decode_deep(text, pos)
    return found


def _decode_deep(text: str, pos: int) -> tuple[Json, int]:  # noqa: C901, PLR0912 - one state machine, read best in one place
    """Parse without recursion: a stack of open containers, and the key each is waiting for."""
    stack: list[dict[str, Any] | list[Any]] = []
    keys: list[str] = []
    while True:
        # A value starts here.
        char = text[pos : pos + 1]
        value: Any
        if char in "{[" and char:
            container: dict[str, Any] | list[Any] = {} if char == "{" else []
            pos = skip_space(text, pos + 1)
            if text[pos : pos + 1] == ("}" if char == "{" else "]"):
                value, pos = container, pos + 1
            else:
                stack.append(container)
                if isinstance(container, dict):
                    key, pos = _key(text, pos)
                    keys.append(key)
                continue
        else:
            value, pos = _scalar(text, pos)
        # A value ended here: put it into its container, and close what ends with it.
        while True:
            if not stack:
                return value, pos
            top = stack[-1]
            if isinstance(top, dict):
                top[keys[-1]] = value
            else:
                top.append(value)
            pos = skip_space(text, pos)
            char = text[pos : pos + 1]
            if char == ",":
                pos = skip_space(text, pos + 1)
                if isinstance(top, dict):
                    keys[-1], pos = _key(text, pos)
                break
            if char != ("}" if isinstance(top, dict) else "]"):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, pos)
            pos += 1
            value = stack.pop()
            if isinstance(value, dict):
                keys.pop()


def skip_space(text: str, pos: int) -> int:
    """Where the white space that starts at ``pos`` ends."""
    found = _SPACE.match(text, pos)
    return found.end() if found else pos


def _key(text: str, pos: int) -> tuple[str, int]:
    if text[pos : pos + 1] != '"':
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, pos)
    key, pos = scanstring(text, pos + 1, True)
    pos = skip_space(text, pos)
    if text[pos : pos + 1] != ":":
        raise json.JSONDecodeError("Expecting ':' delimiter", text, pos)
    return key, skip_space(text, pos + 1)


def _scalar(text: str, pos: int) -> tuple[Any, int]:
    if text[pos : pos + 1] == '"':
        found: tuple[str, int] = scanstring(text, pos + 1, True)
        return found
    for name, value in (("true", True), ("false", False), ("null", None)):
        if text.startswith(name, pos):
            return value, pos + len(name)
    for name in ("NaN", "Infinity", "-Infinity"):
        if text.startswith(name, pos):
            raise _NotANumberError(name)
    number = _NUMBER.match(text, pos)
    if number is None:
        raise json.JSONDecodeError("Expecting value", text, pos)
    lexeme = number.group()
    parse = _parse_float if number.group(1) or number.group(2) else _parse_int
    return parse(lexeme), number.end()


def dumps(value: Any, *, ascii_only: bool = False, lossy: bool = False) -> str:
    """Write a JSON value compactly, keys in their order, numbers as they were read.

    Args:
        value: as returned by :func:`loads`; tuples count as lists.
        ascii_only: escape everything outside ASCII. Otherwise only lone surrogates are escaped.
        lossy: write U+FFFD for a lone surrogate. Most JSON parsers refuse the escape.

    Raises:
        ValueError: for NaN and the infinities.
        TypeError: a value that JSON does not have.
    """
    encoder = _ASCII_ENCODER if ascii_only and not lossy else _ENCODER
    try:
        text = encoder.encode(value)
    except (TypeError, RecursionError):
        # A JsonDecimal, or very deep: the C encoder can do neither.
        text = _encode_deep(value, encoder)
    if text.isascii():
        return text
    if lossy:
        return replace_surrogates(text)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, so that it has a UTF-8 form."""
    return _SURROGATE.sub("\ufffd", text)


def _encode_deep(value: Any, encoder: json.JSONEncoder) -> str:
    """Write without recursion. The stack contains values to write and text between them."""
    parts: list[str] = []
    stack: list[tuple[bool, Any]] = [(False, value)]
    while stack:
        is_text, item = stack.pop()
        if is_text:
            parts.append(item)
        elif isinstance(item, dict):
            entries: list[tuple[bool, Any]] = []
            for number, (key, child) in enumerate(item.items()):
                if not isinstance(key, str):
                    raise TypeError(f"JSON object keys are strings, not {type(key).__name__}")
                comma = "," if number else ""
                entries += [(True, f"{comma}{encoder.encode(key)}:"), (False, child)]
            stack += [(True, "}"), *reversed(entries)]
            parts.append("{")
        elif isinstance(item, list | tuple):
            entries = []
            for number, child in enumerate(item):
                entries += [(True, "," if number else ""), (False, child)]
            stack += [(True, "]"), *reversed(entries)]
            parts.append("[")
        elif isinstance(item, Decimal):
            if not isinstance(item, JsonDecimal) and not item.is_finite():
                raise ValueError("NaN and infinities are not JSON")
            parts.append(str(item))
        else:
            parts.append(encoder.encode(item))
    return "".join(parts)


def same(left: Any, right: Any, *, spelling: bool = False) -> bool:
    """Whether two JSON values are equal, objects regardless of the order of their keys.

    Python's ``==`` will not do: ``True == 1 == 1.0``, and it recurses.

    Args:
        left: one value.
        right: the other.
        spelling: also tell ``1`` from ``1.0``. Otherwise numbers are compared exactly, by value:
            ``200`` equals ``200.0``, and 9007199254740993 does not equal 9007199254740992.0.
    """
    stack = [(left, right)]
    while stack:
        a, b = stack.pop()
        if isinstance(a, dict):
            if not isinstance(b, dict) or a.keys() != b.keys():
                return False
            stack.extend((a[key], b[key]) for key in a)
        elif isinstance(a, list | tuple):
            if not isinstance(b, list | tuple) or len(a) != len(b):
                return False
            stack.extend(zip(a, b, strict=True))
        elif isinstance(b, dict | list | tuple) or not _same_scalar(a, b, spelling):
            return False
    return True


def _same_scalar(a: Any, b: Any, spelling: bool) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    return dumps(a) == dumps(b) if spelling else same_number(a, b)


def same_number(a: float | Decimal, b: float | Decimal) -> bool:
    """Whether two JSON numbers are equal as the decimals their texts say.

    A ``float`` means its shortest decimal text, as it was written: 1e23 is 10**23, although the
    nearest double is not.
    """
    if type(a) is type(b):
        return bool(a == b)
    a = Decimal(repr(a)) if isinstance(a, float) else a
    b = Decimal(repr(b)) if isinstance(b, float) else b
    return bool(a == b)


class _DuplicateError(Exception):
    """Found one; nothing more to read."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateError


_DUPLICATES = json.JSONDecoder(object_pairs_hook=_no_duplicates)


def has_duplicate_keys(text: str) -> bool:
    """Whether any object in this JSON text has a key twice. ``text`` must be valid JSON.

    Too deep for the interpreter counts as yes: the caller takes the careful way then.
    """
    try:
        _DUPLICATES.decode(text)
    except (_DuplicateError, RecursionError):
        return True
    return False
