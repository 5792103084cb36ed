r"""The lines that DuckDB reads exactly, and the proof that it did.

DuckDB's JSON parser is fast and lenient: it takes ``NaN`` and trailing commas, turns ``1.10`` into
``1.1``, the number 5 into the text "5", and drops members it was not asked for. So every line is
put together again from the columns it gave, and counts as *plain* only if that text equals the line
byte for byte (or, where the line has white space or other escapes, equals what DuckDB makes of the
line, and no number in it is spelled unusually). Whatever is not plain is read by Python, exactly
and slowly.

Faults that the comparison cannot see are searched for separately: ``NaN``, a repeated key of an
object, ids and times in an unusual spelling.
"""

from __future__ import annotations

import json
from functools import cache

from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Field
from mcpaudit_lab.storage.rows import PAYLOAD_PREFIX

__all__ = ["STAGED_COLUMNS", "line_expression", "plain_parameters", "plain_select"]

_TYPES = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "bool": "BOOLEAN",
    "json": "JSON",
    "id": "UUID",
    "time": "TIMESTAMPTZ",
}
_PARSED = {**_TYPES, "id": "VARCHAR", "time": "VARCHAR"}

# Column and type of everything that is staged for one line, besides its place.
STAGED_COLUMNS: tuple[tuple[str, str], ...] = (
    *((field.column, _TYPES[field.kind]) for field in EVENT_FIELDS),
    ("extra", "VARCHAR"),
    ("has_payload", "BOOLEAN"),
    *((PAYLOAD_PREFIX + field.column, _TYPES[field.kind]) for field in PAYLOAD_FIELDS),
    (f"{PAYLOAD_PREFIX}extra", "VARCHAR"),
)

# A number follows one of : , [ or JSON white space. Unusual numbers have exponents, zeros that a
# double would drop, more than 16 characters, or are minus zero. DuckDB drops trailing commas, so
# this searches for them too.
_ODD = (
    r"[:,\[]\s*-?(?:[0-9]+(?:\.[0-9]+)?[eE]|[0-9]+\.[0-9]+0[,\]}\s]|[0-9.]{17,}|0\.00000)"
    r"|[:,\[]\s*-0[,\]}\s]|,\s*[\]}]"
)
_NAN = r"(?i)[:,\[]-?(?:nan|inf|infinity)[,\]}]"
_CLOCK = r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_DAY = r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}"
_TIME = rf"{_DAY}{_CLOCK}(?:\.[0-9]{{1,6}})?(?:Z|[+-][01][0-9]:[0-5][0-9])"
_USUAL_TIME = rf"{_DAY}{_CLOCK}(?:\.[0-9]{{0,5}}[1-9])?Z"
# Texts that often need escapes; the others are compared as they are, and read by Python if they do.
_ESCAPED = ("error_message",)


def _nested(field: Field) -> str:
    return f"payload.{field.name}"


def _member(name: str, value: str, field: Field, *, escape: bool) -> str:
    # The contract leaves zeros out. One that is written out anyway is read by Python, which keeps
    # note of it; so is a null.
    zero = {"text": "''", "int": "0", "bool": "false", "json": "'null'"}.get(field.kind)
    if field.kind == "json":
        value = f"{value}::VARCHAR"
    if zero and not field.always:
        value = f"nullif({value}, {zero})"
    if field.kind in ("json", "int", "bool"):
        return f"',\"{name}\":' || {value}::VARCHAR"
    if escape or name in _ESCAPED:
        value = f"to_json({value})::VARCHAR"
        quote = ""
    else:
        quote = '"'
    if field.always:
        # An argument of concat() each, which costs less than joining them first.
        return f"',\"{name}\":{quote}', {value}, '{quote}'"
    return f"',\"{name}\":{quote}' || {value} || '{quote}'"


@cache
def line_expression(*, escape: bool, payloads: bool = True) -> str:
    """SQL: the JSON line, with its LF, of columns named as members; ``payload`` a struct or null.

    concat() skips nulls, so a null member is left out; but an event without an id, or a payload
    without a method, makes a broken line.

    Args:
        escape: escape every text. Otherwise only texts that often need it.
        payloads: with the payload; otherwise that column is missing.
    """
    first, *events = EVENT_FIELDS
    method, *others = PAYLOAD_FIELDS
    parts = [f"'{{\"{first.name}\":\"' || {first.name} || '\"'"]
    parts += [_member(field.name, f'"{field.name}"', field, escape=escape) for field in events]
    inner = [f'\',"payload":{{"{method.name}":"\' || {_nested(method)} || \'"\'']
    inner += [_member(field.name, _nested(field), field, escape=escape) for field in others]
    if payloads:
        parts.append(f"case when payload is not null then concat({', '.join(inner)}, '}}') end")
    parts.append("'}' || chr(10)")
    return f"concat({', '.join(parts)})"


def _depth_expression(text: str) -> str:
    """SQL: null where no object of some compact JSON can have a key twice, else if it nests."""
    deep = " or ".join(f"contains({text}, '{mark}{{')" for mark in ":[,")
    return f"case when contains({text}, ',\"') then {deep} end"


def _single(text: str) -> str:
    """SQL: compact JSON with one member of each name, as a VARIANT keeps it."""
    return f"try(({text})::JSON::VARIANT::JSON::VARCHAR)"


def _repeats_expression(text: str, deep: str, single: str) -> str:
    """SQL: whether compact JSON has an object with the same key twice.

    ``single`` has one member of each name. Keys are counted by their quote and colon; texts may
    contain those too, but equally often in both.
    """
    count = "strlen({0}) - strlen(replace({0}, '\":', ''))"
    return (
        f"case when {deep} is null then false"
        f" when {deep} then coalesce({count.format(text)} <> {count.format(single)}, true)"
        f" else coalesce(len(json_keys({text})) <> list_unique(json_keys({text})), false) end"
    )


@cache
def plain_select(source: str, *, payloads: bool) -> str:
    """SQL over a table of lines (``line, byte_offset, byte_size, text``, each text ending in LF).

    Gives the line's place, ``plain``, ``repeats`` (a key may be twice) and :data:`STAGED_COLUMNS`.

    Args:
        source: the table.
        payloads: whether any line may have a payload; without, it costs less, and a line that has
            one anyway is not plain.
    """
    columns = [_value(f'"{field.name}"', field, field.column) for field in EVENT_FIELDS]
    columns.append(
        'case when not usual_time then \'{"timestamp":"\' || "timestamp" || \'"}\' end extra'
    )
    texts = [f'"{field.name}"::VARCHAR' for field in EVENT_FIELDS if field.kind == "json"]
    usual = [
        "same",
        "try_cast(id as UUID)::VARCHAR = id",
        'case when usual_time then true else regexp_full_match("timestamp", $time) end',
        'try_cast("timestamp" as TIMESTAMPTZ) is not null',
    ]
    if payloads:
        columns.append("payload is not null has_payload")
        texts += [f"{_nested(field)}::VARCHAR" for field in PAYLOAD_FIELDS if field.kind == "json"]
        usual.append(f"case when payload is null then true else {_USUAL_PAYLOAD} end")
    else:
        columns.append("false has_payload")
    for field in PAYLOAD_FIELDS:
        name = _nested(field) if payloads else "null"
        columns.append(_value(name, field, PAYLOAD_PREFIX + field.column))
    columns.append(f"null::VARCHAR {PAYLOAD_PREFIX}extra")
    usual += [f"not coalesce(regexp_matches({text}, $nan), false)" for text in texts]
    numbered = list(enumerate(texts))
    repeats = [_repeats_expression(text, f"deep{n}", f"single{n}") for n, text in numbered]
    singles = [f"case when deep{n} then {_single(text)} end single{n}" for n, text in numbered]
    depths = [f"{_depth_expression(text)} deep{n}" for n, text in numbered]
    return f"""
    select line, byte_offset, byte_size, {", ".join(columns)},
      {" or ".join(repeats)} repeats,
      coalesce({" and ".join(usual)}, false) plain
    from (
      select *, case when rebuilt = text then true
                     when id is null or regexp_matches(text, $odd) then false
                     else rebuilt = json(text) || chr(10) end same,
        {", ".join(singles)}
      from (
        select *, regexp_full_match("timestamp", $usual_time) usual_time,
          {line_expression(escape=False, payloads=payloads)} rebuilt,
          {", ".join(depths)} from (
          select line, byte_offset, byte_size, text,
            unnest(try(json_transform(text, $shape)))
          from {source})))
    """


_USUAL_PAYLOAD = """(
    (payload.replayed_from is null
      or try_cast(payload.replayed_from as UUID)::VARCHAR = payload.replayed_from)
    and (payload.captured_at is null or regexp_full_match(payload.captured_at, $usual_time)
      and try_cast(payload.captured_at as TIMESTAMPTZ) is not null)
    and (payload.request_headers is null or json_type(payload.request_headers) = 'OBJECT')
    and (payload.notifications is null or json_type(payload.notifications) = 'ARRAY'
      and list_distinct(json_type(payload.notifications, '$[*]')) = ['OBJECT']))"""


def _value(expression: str, field: Field, column: str) -> str:
    if expression == "null":
        return f"null::{_TYPES[field.kind]} {column}"
    if field.kind in ("id", "time"):
        return f"try_cast({expression} as {_TYPES[field.kind]}) {column}"
    zero = {"text": "''", "int": "0", "bool": "false"}.get(field.kind)
    return f"coalesce({expression}, {zero}) {column}" if zero else f"{expression} {column}"


@cache
def plain_parameters(*, payloads: bool) -> dict[str, str]:
    """The values bound in :func:`plain_select`."""
    shape: dict[str, object] = {field.name: _PARSED[field.kind] for field in EVENT_FIELDS}
    if payloads:
        shape["payload"] = {field.name: _PARSED[field.kind] for field in PAYLOAD_FIELDS}
    return {
        "odd": _ODD,
        "nan": _NAN,
        "time": _TIME,
        "usual_time": _USUAL_TIME,
        "shape": json.dumps(shape),
    }
