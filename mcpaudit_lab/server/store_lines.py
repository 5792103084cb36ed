"""JSON lines, and a row of SQLite's tables as one, written by SQLite.

The line is what :meth:`mcpaudit_lab.events.Event.to_json` gives for the row, save that a row with
``exact`` comes as the ASCII JSON that stands there. SQLite writes several times as many lines in a
second as Python does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Field
from mcpaudit_lab.sql.portal_rows import EXACT

__all__ = ["SQLITE_DOUBT", "SQLITE_PAYLOAD_DOUBT", "join_lines", "sqlite_line"]

SQLITE_DOUBT = f"e.{EXACT} is not null"
"""SQL: the line is to be looked at before it is given out. A suspect has no line at all."""
SQLITE_PAYLOAD_DOUBT = (
    f"({SQLITE_DOUBT} or payload.{EXACT} is not null or payload.notifications is not null)"
)
"""The same for a line with its payload."""


def join_lines(lines: Sequence[bytes]) -> bytes:
    """JSON lines of some JSON texts in UTF-8.

    U+2028 and U+2029 are escaped, as the reference server does: many a reader takes them for ends
    of lines.
    """
    # Line by line, since few lines have anything but ASCII: a search takes longer than SQLite does.
    return b"\n".join([*(line if line.isascii() else _escaped(line) for line in lines), b""])


def _escaped(line: bytes) -> bytes:
    return line.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")


@cache
def sqlite_line(*, payloads: bool) -> str:
    """SQL: the line, of ``audit_events e`` and, with payloads, an outer join of ``payload``.

    It is a blob, so that nobody has to decode and encode it again.
    """
    line = _open_object("e", EVENT_FIELDS)
    if payloads:
        detail = _open_object("payload", PAYLOAD_FIELDS[:-1])
        member = f"',\"payload\":' || {detail} || '}}'"
        line += f" || case when payload.event_id is null then '' else {member} end"
    return f"cast({line} || '}}' as blob)"


def _open_object(alias: str, fields: Sequence[Field]) -> str:
    """SQL: the JSON object of a row, without its last brace.

    Every member brings a comma. printf() joins them in one go, where ``||`` would copy the text
    again and again; it stops at a NUL, of which JSON has none.
    """
    members = ", ".join(_member(alias, field) for field in fields)
    exact = f"{alias}.{EXACT}"
    return (
        f"case when {exact} is not null then substr({exact}, 1, length({exact}) - 1)"
        f" else '{{' || substr(printf('{'%s' * len(fields)}', {members}), 2) end"
    )


def _member(alias: str, field: Field) -> str:
    column = f"{alias}.{field.column}"
    present, value = f"{column} <> ''", f"json_quote({column})"
    if field.kind == "json":
        empty = "'null', '{}', '[]', '\"\"', '0', 'false'"
        present, value = f"{column} not in ({empty})", column
    elif field.kind == "int":
        present, value = f"{column} <> 0", column
    elif field.kind == "bool":
        present, value = column, f"case when {column} then 'true' else 'false' end"
    elif field.kind == "time":
        value = f"'\"' || rtrim(rtrim(substr({column}, 1, 26), '0'), '.') || 'Z\"'"
    member = f"',\"{field.name}\":' || {value}"
    # What is null counts as absent, too.
    return member if field.always else f"case when {present} then {member} else '' end"
