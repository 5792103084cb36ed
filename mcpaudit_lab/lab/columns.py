"""The columns of a frame of events: names of columns, and paths into payloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import split_path
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, canonical_header, replace_surrogates
from mcpaudit_lab.storage import json_values

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChosenColumns", "column_list", "decode_columns"]

_PATHS = {"param": "p.request_params", "response": "p.response_result", "extra": "e.extra"}
_EVENTS = {field.column: f'e."{field.column}"' for field in EVENT_FIELDS} | {"extra": "e.extra"}
# Also in labs made before these columns were generated.
_EVENTS |= {
    name: f"try(json_extract_string(e.extra, '$.{name}'))" for name in ("trace_id", "span_id")
}
# captured_at is known for rows from a database only, so that frames would depend on the way taken.
_PAYLOADS = {field.name: f'p."{field.name}"' for field in PAYLOAD_FIELDS}
_DEFAULT_EVENTS = tuple(field.column for field in EVENT_FIELDS)
_DEFAULT_PAYLOADS = tuple(name for name in _PAYLOADS if name != "captured_at")
_JOIN = "left join audit_payloads p on p.event_id = e.id"


@dataclass(frozen=True, slots=True)
class ChosenColumns:
    """Columns as SQL over ``audit_events e`` and ``audit_payloads p``.

    Attributes:
        sql: the list of expressions.
        join: the join that brings ``p``, or nothing where no column needs it.
        params: the paths, bound.
        paths: the columns with the JSON text of a value at a path.
    """

    sql: str
    join: str
    params: dict[str, Any]
    paths: tuple[str, ...]


def column_list(columns: Sequence[str] | None, *, payloads: bool) -> ChosenColumns:
    """Choose columns, as :meth:`EventSet.df` describes.

    Raises:
        FilterError: an unknown column; the message names the choices.
    """
    names = list(_DEFAULT_EVENTS if columns is None else columns)
    if isinstance(columns, str):
        raise FilterError("columns is a list of names")
    if payloads:
        names += [name for name in _DEFAULT_PAYLOADS if name not in names]
    expressions: list[str] = []
    params: dict[str, Any] = {}
    paths: list[str] = []
    for number, name in enumerate(names):
        if replace_surrogates(name) != name:
            raise FilterError(f"no column {name!r}: a column cannot hold a lone surrogate")
        expression = _EVENTS.get(name) or _PAYLOADS.get(name)
        if expression is None:
            expression = _path(name, f"c{number}", params)
            paths.append(name)
        quoted = name.replace('"', '""')
        expressions.append(f'{expression} as "{quoted}"')
    joined = any("p." in expression for expression in expressions)
    return ChosenColumns(", ".join(expressions), _JOIN if joined else "", params, tuple(paths))


def _path(name: str, parameter: str, params: dict[str, Any]) -> str:
    source, _, rest = name.partition(".")
    if source == "header" and rest:
        params[parameter] = [canonical_header(rest)]
        return _walk("p.request_headers", parameter, params)
    if source not in _PATHS or not rest:
        choices = ", ".join(
            [
                *_EVENTS,
                *_PAYLOADS,
                "param.<path>",
                "response.<path>",
                "header.<Name>",
                "extra.<path>",
            ]
        )
        raise FilterError(f"no column {name!r}; choose from {choices}")
    params[parameter] = list(split_path(rest, name))
    return _walk(_PATHS[source], parameter, params)


def _walk(document: str, parameter: str, params: dict[str, Any]) -> str:
    """SQL: JSON text at a path of keys.

    A numeric key would index a list too, so its parent is checked to be an object.
    """
    keys: list[str] = params.pop(parameter)
    pointers = [
        "".join("/" + k.replace("~", "~0").replace("/", "~1") for k in keys[:n])
        for n in range(len(keys) + 1)
    ]
    checks = []
    for depth, key in enumerate(keys):
        if key.isdecimal():
            params[f"{parameter}_{depth}"] = pointers[depth]
            checks.append(f"json_type({document}, ${parameter}_{depth}) = 'OBJECT'")
    params[parameter] = pointers[-1]
    # Extra may contain a lone surrogate, and is then not JSON for DuckDB.
    value = f"try(json_extract({document}, ${parameter}))::varchar"
    return f"case when {' and '.join(checks)} then {value} end" if checks else value


def decode_columns(frame: pd.DataFrame, chosen: ChosenColumns) -> pd.DataFrame:
    """Turn the JSON text of paths into values."""
    for name in chosen.paths:
        frame[name] = json_values(frame[name], join_lists=name.startswith("header."))
    return frame
