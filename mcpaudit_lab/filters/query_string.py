"""The filter's query string, read and written.

The grammar is the reference server's, with one difference: what that server silently drops is an
error here. A value determines its own type, as Go's ``strconv`` reads it: ``true`` and ``false``
are booleans, ``200``, ``+16``, ``2e2``, ``.5``, ``0x10p0`` and ``1_000`` are numbers, anything in
double quotes, such as ``"200"``, is a string, and everything else is a string. A name with an empty
value is a blank form field and is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.values import (
    PathTest,
    Scalar,
    is_exact,
    shown,
    split_path,
)
from mcpaudit_lab.record import canonical_header, loads

__all__ = [
    "HAS_COLUMNS",
    "SOURCES",
    "TEXT_FIELDS",
    "choices",
    "parse_query",
    "parse_scalar",
    "write_path",
    "write_query",
    "write_scalar",
]

# The first part of a dotted name -> the keyword for the same.
SOURCES: Final[dict[str, str]] = {
    "param": "params",
    "response": "responses",
    "header": "headers",
    "extra": "extra",
}
# Query name and keyword -> column of audit_events.
TEXT_FIELDS: Final[dict[str, str]] = {
    "tool": "tool_name",
    "user": "user_subject",
    "session": "session_id",
    "error_category": "error_category",
    "source": "source",
    "tool_group": "tool_group",
    "auth_type": "auth_type",
}
HAS_COLUMNS: Final = (
    "request_params",
    "request_headers",
    "response_result",
    "response_error",
    "notifications",
    "replayed_from",
)
_ONCE: Final = ("from", "to", "since", "success", "q", "min_duration_ms", "trace", "where")
_REPEATED: Final = (*TEXT_FIELDS, "has")
_PAGING: Final = ("limit", "offset")

_BAD_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
_PLUS_LOST = re.compile(r"\d{4}-\d\d-\d\d[Tt][\d:.]+ \d\d:\d\d", re.ASCII)
_COUNT = re.compile(r"\+?\d{1,18}", re.ASCII)

# Go's numbers: an underscore is allowed between two digits.
_D: Final = r"\d(?:_?\d)*"
_X: Final = r"[0-9a-f](?:_?[0-9a-f])*"
_DECIMAL_NUMBER = re.compile(
    rf"([+-]?)(?:({_D})(?:\.({_D})?)?|\.({_D}))(?:e([+-]?{_D}))?", re.ASCII | re.IGNORECASE
)
_HEX_NUMBER = re.compile(
    rf"[+-]?0x_?(?:{_X}(?:\.(?:{_X})?)?|\.{_X})p[+-]?{_D}", re.ASCII | re.IGNORECASE
)
_NOT_A_NUMBER = re.compile(r"[+-]?inf(?:inity)?|nan", re.ASCII | re.IGNORECASE)


def choices() -> str:
    """The names that a query string may have, for a message."""
    names = (*_ONCE, *_REPEATED, *_PAGING, "param.<path>", "response.<path>", "header.<Name>")
    names += ("extra.<path>",)
    return f"the choices are {', '.join(names)}"


def parse_query(query: str | Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A query string -> keywords for the filter.

    Args:
        query: as it stood in the URL, percent-encoded, with or without the ``?``; or the pairs,
            decoded.

    Returns:
        Text fields and ``has`` as lists, the three sources as lists of :class:`PathTest`, the rest
        as text or numbers. ``limit`` and ``offset`` given twice: the first counts.

    Raises:
        FilterError: for what the reference server would drop; the message says what to write.
    """
    keywords: dict[str, Any] = {}
    for name, value in _pairs(query):
        source, dot, rest = name.partition(".")
        if dot and source in SOURCES:
            _read_test(keywords, source, rest, value)
        elif name in (*_ONCE, *_REPEATED, *_PAGING):
            if value:
                _read_field(keywords, name, value)
        else:
            what = f"source {shown(source)}" if dot else f"filter {shown(name)}"
            raise FilterError(f"unknown {what}; {choices()}")
    if "from" in keywords:
        keywords["from_"] = keywords.pop("from")
    return keywords


def _pairs(query: str | Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    if isinstance(query, str):
        query = query.removeprefix("?")
        if ";" in query:
            raise FilterError("a ; does not separate filters; write & between them, %3B inside one")
        if _BAD_PERCENT.search(query):
            raise FilterError("a % lacks two hex digits after it; write %25")
        try:
            query = parse_qsl(query, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise FilterError("the query string is not UTF-8") from None
    for name, value in query:
        if "\x00" in value:
            raise FilterError(f"{shown(name)}: a query string cannot ask for the character NUL")
        yield name, value


def _read_test(keywords: dict[str, Any], source: str, rest: str, value: str) -> None:
    name = f"{source}.{rest}"
    path = split_path(rest, name)
    if source == "header":
        if len(path) > 1:
            raise FilterError(f"{shown(name)}: a header is one name, such as header.User-Agent")
        path = (canonical_header(rest),)
    if not value:
        return
    try:
        wanted = value if source == "header" else parse_scalar(value)
    except FilterError as error:
        raise FilterError(f"{shown(name)}: {error}") from None
    keywords.setdefault(SOURCES[source], []).append(PathTest.of(path, wanted))


def _read_field(keywords: dict[str, Any], name: str, value: str) -> None:
    if name in _REPEATED:
        keywords.setdefault(name, []).append(value)
    elif name in _PAGING:
        keywords.setdefault(name, _count(name, value))
    elif keywords.setdefault(name, parsed := _parse_once(name, value)) != parsed:
        raise FilterError(f"{name} stands twice with different values; it takes one")


def _parse_once(name: str, value: str) -> str | bool | int:
    if name == "min_duration_ms":
        return _count(name, value)
    if name == "success":
        if value not in ("true", "false"):
            raise FilterError("success is true or false, in lower case")
        return value == "true"
    if name not in ("q", "trace", "where") and _PLUS_LOST.fullmatch(value):
        raise FilterError(f"{name}: a raw + in a query string is a space; write %2B02:00")
    return value


def _count(name: str, value: str) -> int:
    if not _COUNT.fullmatch(value):
        raise FilterError(f"{name} is a whole number, 0 or more")
    return int(value)


def parse_scalar(text: str) -> Scalar:
    """A value of a query string, by the rules at the top of this module.

    Raises:
        FilterError: for ``Inf`` and ``NaN``, which Go takes for numbers and JSON does not have.
    """
    if text in ("true", "false"):
        return text == "true"
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if _NOT_A_NUMBER.fullmatch(text):
        raise FilterError("Inf and NaN are no JSON numbers; for the string, write it in quotes")
    number = _number_text(text)
    if number is None or not is_exact(number):
        return text
    return loads(number)  # type: ignore[return-value]  # a number's text gives a number


def _number_text(text: str) -> str | None:
    """The JSON spelling of a number in Go's syntax; None if it is not a number."""
    if _HEX_NUMBER.fullmatch(text):
        try:
            return repr(float.fromhex(text.replace("_", "")))
        except OverflowError:
            return None
    found = _DECIMAL_NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction, bare_fraction, exponent = (
        (part or "").replace("_", "") for part in found.groups()
    )
    fraction = fraction or bare_fraction
    return (
        f"{sign.strip('+')}{whole.lstrip('0') or '0'}"
        f"{'.' if fraction else ''}{fraction}{'e' if exponent else ''}{exponent}"
    )


def write_scalar(test: PathTest) -> str:
    """The text that :func:`parse_scalar` reads as this test's value.

    Raises:
        FilterError: for null, which the query string has no word for.
    """
    value = test.value
    if value is None:
        raise FilterError("a query string cannot ask for null")
    if not isinstance(value, str):
        return test.text
    try:
        bare = bool(value) and parse_scalar(value) == value
    except FilterError:
        bare = False
    return value if bare else f'"{value}"'


def write_path(source: str, path: tuple[str, ...]) -> str:
    """``("user", "id")`` -> ``param.user.id``.

    Raises:
        FilterError: for a key that the dotted form cannot say.
    """
    name = f"{source}.{'.'.join(path)}"
    if any("." in key for key in path):
        raise FilterError(f"{shown(name)}: a query string cannot ask for a key with a dot in it")
    split_path(name, name)
    return name


def write_query(pairs: Iterable[tuple[str, str]]) -> str:
    """The pairs as a query string, percent-encoded.

    Raises:
        FilterError: for an empty value, NUL, or a lone surrogate, which it cannot carry.
    """
    written = []
    for name, value in pairs:
        if not value or "\x00" in value:
            what = "the character NUL" if value else "an empty text"
            raise FilterError(f"{shown(name)}: a query string cannot ask for {what}")
        try:
            written.append(f"{quote(name, safe='')}={quote(value, safe=':')}")
        except UnicodeEncodeError:
            raise FilterError(
                f"{shown(name)}: a query string cannot ask for a lone surrogate"
            ) from None
    return "&".join(written)
