"""Tests of a condition, made from a name, an operator and a value.

The name decides what the value means. Every comparison becomes the few that
:class:`.filters.conditions.Test` knows: ``duration_ms < 5`` is "not at least 5".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.filters.conditions import (
    DOCUMENTS,
    All,
    AnyOf,
    Condition,
    Test,
    joined,
    negated,
    written,
)
from mcpaudit_lab.filters.query_string import HAS_COLUMNS, TEXT_FIELDS
from mcpaudit_lab.filters.times import parse_moment
from mcpaudit_lab.filters.values import PathTest, is_exact, shown, split_path
from mcpaudit_lab.record import (
    EVENT_FIELDS,
    PAYLOAD_FIELDS,
    canonical_header,
    format_time,
    loads,
    parse_id,
)

__all__ = [
    "OPERATORS",
    "Written",
    "bare_test",
    "keyword_condition",
    "make_test",
    "split_name",
]

_OF_EVENT = {field.name: field for field in EVENT_FIELDS}
_OF_PAYLOAD = {field.name: field for field in PAYLOAD_FIELDS}
_SHORT: Final = {**TEXT_FIELDS, "error": "error_message", "ts": "timestamp", "time": "timestamp"}
# An operator's word in a keyword, as in tool__not.
OPERATORS: Final = {
    "not": "!=",
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "contains": "~",
    "glob": "=~",
}
"""What stands after ``__`` in a keyword, such as ``tool__not``, and the operator for it."""
_WORDS: Final = {"=": "eq", "~": "contains", "=~": "glob", ">=": "ge", "<=": "le"}
_ORDERS: Final = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"|([\w-]+)', re.DOTALL)
_PLAIN_KEY = re.compile(r"[\w-]+")


class Written(NamedTuple):
    """A value as it was written: its text, and whether it can only be a text."""

    text: str
    quoted: bool


def keyword_condition(name: str, operator: str, value: Any, now: datetime | None) -> Condition:
    """The condition of a keyword such as ``tool__not="echo"``; a list has alternatives.

    Raises:
        FilterError: it means nothing.
    """
    path = split_path(name, name)
    several = isinstance(value, list | tuple | set | frozenset)
    found = tuple(
        make_test(path, "=" if operator == "!=" else operator, _given(item, name), now)
        for item in (value if several else (value,))
    )
    if not found:
        raise FilterError(f"{shown(name)}: an empty list can match nothing; leave it out")
    either = joined(AnyOf, found)
    return negated(either) if operator == "!=" else either


def _given(value: Any, name: str) -> Written:
    if isinstance(value, str):
        return Written(value, quoted=True)
    if isinstance(value, datetime):
        return Written(format_time(value), quoted=True)
    return Written(PathTest.of((name,), value).text, quoted=False)


def split_name(name: str) -> tuple[str, ...]:
    """A name's parts: ``param.user.id`` is three, and a key may stand in quotes.

    Raises:
        FilterError: a key in quotes that JSON does not read.
    """
    keys = []
    for quoted, plain in _KEY.findall(name):
        try:
            keys.append(plain or str(loads(f'"{quoted}"')))
        except RecordError:
            raise FilterError(f"where: {shown(name)}: a key in quotes has JSON's escapes") from None
    return tuple(keys)


def _name(path: tuple[str, ...]) -> str:
    first, *rest = path
    return ".".join([first, *(k if _PLAIN_KEY.fullmatch(k) else written(k) for k in rest)])


def bare_test(path: tuple[str, ...]) -> Condition:
    """A name alone: true, not empty, or there.

    Raises:
        FilterError: an unknown name, or one that needs a comparison.
    """
    name = _name(path)
    if path[0] in DOCUMENTS and len(path) > 1:
        return _path_test(path, "present", "null", name, f"not {name}")
    member = _member(path)
    if path[0] in HAS_COLUMNS:
        return Test("has", path[0], True, "present", (), None, name, f"not {name}")
    if member.kind == "bool":
        return _column_test(member.name, "eq", True, name, f"not {name}")
    if member.kind == "text":
        empty = _column_test(member.name, "eq", "", f'{name} = ""', f'{name} != ""')
        return negated(empty)
    raise FilterError(f"{name} needs a comparison, such as {name} >= 5")


def _member(path: tuple[str, ...]) -> Any:
    name = _SHORT.get(path[0], path[0])
    found = _OF_EVENT.get(name) or _OF_PAYLOAD.get(name)
    if found is None or len(path) > 1 or name == "captured_at":
        names = (*TEXT_FIELDS, "duration_ms", "success", "error_message", "time", "q", "trace")
        raise FilterError(
            f"unknown name {shown('.'.join(path))}; there are {', '.join(names)}, every column of"
            " the record, param.<path>, response.<path>, header.<Name>, extra.<path>"
        )
    return found


def make_test(
    path: tuple[str, ...], operator: str, value: Written, now: datetime | None
) -> Condition:
    """A comparison by ``=``, ``~``, ``=~``, ``<``, ``<=``, ``>`` or ``>=``.

    Raises:
        FilterError: an unknown name, or a value that it is never compared with.
    """
    if path[0] in DOCUMENTS and len(path) > 1:
        return _document_test(path, operator, value)
    if path == ("trace",):
        return _document_test(("extra", "trace_id"), operator, Written(value.text.lower(), True))
    if path == ("q",):
        if operator not in ("=", "~"):
            raise FilterError("q finds a text: write q = text")
        told = f"q = {written(value.text)}"
        return Test("q", "", False, "contains", (), value.text, told, f"not {told}")
    if path == ("has",):
        if value.text not in HAS_COLUMNS:
            raise FilterError(f"has: choose from {', '.join(HAS_COLUMNS)}")
        return bare_test((value.text,))
    member = _member(path)
    makers: dict[str, Callable[..., Condition]] = {
        "int": _integer_test,
        "time": _time_test,
        "bool": _bool_test,
        "text": _text_test,
        "id": _text_test,
    }
    if member.kind not in makers:
        raise FilterError(f"{member.name} has members: write param.<path> or response.<path>")
    return makers[member.kind](member.name, operator, value, now)


def _column_test(name: str, op: str, wanted: Any, text: str, opposite: str) -> Test:
    field = _OF_EVENT.get(name) or _OF_PAYLOAD[name]
    return Test(field.kind, field.column, name in _OF_PAYLOAD, op, (), wanted, text, opposite)


def _text_test(name: str, operator: str, value: Written, _: datetime | None) -> Condition:
    if operator not in ("=", "~", "=~"):
        raise FilterError(f"{name} is a text: compare it by =, !=, ~, !~ or =~")
    wanted = value.text
    if name in ("id", "replayed_from"):
        wanted = _id(wanted) if operator == "=" else wanted.lower()
    told = written(wanted)
    negative = {"=": f"{name} != {told}", "~": f"{name} !~ {told}"}
    text = f"{name} {operator} {told}"
    opposite = negative.get(operator, f"not {text}")
    return _column_test(name, _WORDS[operator], wanted, text, opposite)


def _id(text: str) -> str:
    try:
        return parse_id(text)
    except RecordError:
        raise FilterError(f"{shown(text)} is not a UUID; write id =~ 9be4* for its start") from None


def _bool_test(name: str, operator: str, value: Written, _: datetime | None) -> Condition:
    if operator != "=" or value.text not in ("true", "false"):
        raise FilterError(f"{name} is true or false: write {name}, or not {name}")
    true = _column_test(name, "eq", True, name, f"not {name}")
    return true if value.text == "true" else negated(true)


def _integer_test(name: str, operator: str, value: Written, _: datetime | None) -> Condition:
    number = _number(value)
    if number is None or operator not in (*_ORDERS, "="):
        raise FilterError(f"{name} is compared with a number, by =, !=, <, <=, > or >=")
    if abs(number) > Decimal(10) ** 30:
        raise FilterError(f"{name}: the number is too big")

    def least(count: int) -> Condition:
        return _column_test(name, "ge", count, f"{name} >= {count}", f"{name} < {count}")

    up, above = math.ceil(number), math.floor(number) + 1
    if operator == "=":
        # No integer is equal to 2.5: nothing is both at least 3 and not at least 3.
        return All((least(up), negated(least(above))))
    return {
        ">=": least(up),
        ">": least(above),
        "<": negated(least(up)),
        "<=": negated(least(above)),
    }[operator]


def _time_test(name: str, operator: str, value: Written, now: datetime | None) -> Condition:
    if operator not in (*_ORDERS, "="):
        raise FilterError(f"{name} is compared with a time, by =, <, <=, > or >=")
    first = parse_moment(name, value.text, now=now)
    last = parse_moment(name, value.text, now=now, latest=True)

    def since(moment: datetime | None) -> Condition:
        told = format_time(moment) if moment else ""
        return _column_test(name, "ge", moment, f"{name} >= {told}", f"{name} < {told}")

    def until(moment: datetime | None) -> Condition:
        told = format_time(moment) if moment else ""
        return _column_test(name, "le", moment, f"{name} <= {told}", f"{name} > {told}")

    if operator == "=":
        return All((since(first), until(last)))
    return {
        ">=": since(first),
        ">": negated(until(last)),
        "<": negated(since(first)),
        "<=": until(last),
    }[operator]


def _number(value: Written) -> Decimal | None:
    if value.quoted or not re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,4})?", value.text):
        return None
    return Decimal(value.text)


def _document_test(path: tuple[str, ...], operator: str, value: Written) -> Condition:
    source = path[0]
    told = _json_text(value, text_only=source == "header" or operator in ("~", "=~"))
    name = _name(path)
    if operator in _ORDERS:
        if source == "header" or told in ("true", "false", "null"):
            raise FilterError(f"{name}: only numbers and texts come before or after each other")
        return _path_test(path, _ORDERS[operator], told, f"{name} {operator} {told}")
    text = f"{name} {operator} {told}"
    negative = {"=": f"{name} != {told}", "~": f"{name} !~ {told}"}.get(operator)
    return _path_test(path, _WORDS[operator], told, text, negative)


def _json_text(value: Written, *, text_only: bool) -> str:
    """The value as JSON: a number, true, false and null where it is written so, else a text."""
    text = value.text
    if value.quoted or text_only:
        return written(text)
    if text in ("true", "false", "null"):
        return text
    if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", text) and is_exact(text):
        return text.lower()
    return written(text)


def _path_test(
    path: tuple[str, ...], op: str, told: str, text: str, opposite: str | None = None
) -> Test:
    source, *keys = path
    if source == "header":
        if len(keys) > 1:
            raise FilterError("a header is one name, such as header.User-Agent")
        keys = [canonical_header(keys[0])]
    return Test(
        source,
        DOCUMENTS[source],
        source != "extra",
        op,
        tuple(keys),
        told,
        text,
        opposite or f"not {text}",
    )
