"""The arguments of a filter, checked: what each keyword may be, and what it becomes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import index
from typing import Any, TypeAlias

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.conditions import Condition
from mcpaudit_lab.filters.query_string import HAS_COLUMNS, SOURCES
from mcpaudit_lab.filters.values import PathTest, Scalar, shown, shown_key, split_path
from mcpaudit_lab.filters.where import parse_where
from mcpaudit_lab.record import EVENT_FIELDS, canonical_header

__all__ = [
    "Tests",
    "Texts",
    "read_checked",
    "read_condition",
    "read_count",
    "read_has",
    "read_tests",
    "read_texts",
    "read_trace",
]

Texts: TypeAlias = str | Iterable[str] | None
# The keys are dotted paths, or tuples of keys.
Tests: TypeAlias = Mapping[Any, Scalar] | Iterable[PathTest] | None


# Each raises FilterError for what its keyword cannot be.


def read_condition(value: Any, now: datetime | None) -> Condition:
    """``where``: a condition, or its text."""
    if isinstance(value, Condition):
        return value
    return parse_where(read_checked("where", value, str, "a condition in text"), now=now)


def read_texts(name: str, value: Any) -> tuple[str, ...]:
    """A text or several, each once, in the order given."""
    if value is None:
        return ()
    texts = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not all(isinstance(text, str) for text in texts):
        raise FilterError(f"{name} is a text or a list of texts")
    if not texts and not isinstance(value, tuple):
        # Whoever computed this list means "none of them", not "all events".
        raise FilterError(f"{name}: an empty list can match nothing; leave it out, or give None")
    return tuple(dict.fromkeys(texts))


def read_has(value: Any) -> tuple[str, ...]:
    """``has``: columns of the payload."""
    columns = read_texts("has", value)
    for column in columns:
        if column not in HAS_COLUMNS:
            raise FilterError(f"has={shown(column)}: choose from {', '.join(HAS_COLUMNS)}")
    return columns


def read_checked(name: str, value: Any, kind: type, wanted: str) -> Any:
    """A value of a type, or None; ``wanted`` says in words what it should be."""
    if value is not None and not isinstance(value, kind):
        raise FilterError(f"{name} is {wanted}")
    return value


def read_count(name: str, value: Any) -> int | None:
    """A whole number, 0 or more, or None."""
    if value is None:
        return None
    try:
        number = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = -1
    if number < 0:
        raise FilterError(f"{name} is a whole number, 0 or more")
    return number


# The member of extra for a value that a column cannot hold exactly.
_MEMBERS = {"payload", *(field.name for field in EVENT_FIELDS)}


def read_trace(value: Any) -> str:
    """A trace id, in lower case."""
    text = read_checked("trace", value, str, "a trace id")
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise FilterError("trace: a trace id has 32 hexadecimal digits")
    return str(text.lower())


def read_tests(source: str, value: Tests) -> tuple[PathTest, ...]:
    """``params`` and its like: a mapping of path to value, or tests as they are."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        tests = tuple(value)
        if not all(isinstance(test, PathTest) for test in tests):
            raise FilterError(f"{SOURCES[source]} is a mapping of path to value")
        return tuple(PathTest.of(test.path, test.value) for test in tests)
    return tuple(_test(source, path, wanted) for path, wanted in value.items())


def _test(source: str, path: str | tuple[str, ...], wanted: Scalar) -> PathTest:
    if source == "header":
        if not isinstance(path, str) or not path or not isinstance(wanted, str):
            raise FilterError("headers is a mapping of header name to one text")
        return PathTest.of((canonical_header(path),), wanted)
    if isinstance(path, str):
        path = split_path(path, f"{source}.{path}")
    if not path or not all(isinstance(key, str) for key in path):
        raise FilterError(f"{SOURCES[source]}: a path is dotted text or a tuple of keys")
    if source == "extra" and path[0] in _MEMBERS:
        raise FilterError(f"extra.{shown_key(path[0])}: that is a member of every record")
    try:
        return PathTest.of(tuple(path), wanted)
    except FilterError as error:
        raise FilterError(f"{shown(f'{source}.' + '.'.join(path))}: {error}") from None
