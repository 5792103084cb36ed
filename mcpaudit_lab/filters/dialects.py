"""The SQL of each engine for the same conditions, and what each engine cannot express.

What is exact where:

- A string, boolean or null at a path: DuckDB compares the JSON text that it writes of both, SQLite
  type and value, and PostgreSQL has containment (``@>``), which a ``jsonb_path_ops`` index answers.
- A number: PostgreSQL's ``jsonb`` is exact. DuckDB and SQLite read most numbers as doubles, which
  decide only where neither side can have more digits than a double tells apart; Python decides
  otherwise.
- A numeric segment of a pointer indexes lists in DuckDB, so the parent must be an object.
- SQLite's paths do not reach a key that is empty or has a quote, a backslash or a control character
  in it, and its JSON functions refuse more than 1,000 levels.
- No column holds lone surrogates, and PostgreSQL's hold no NUL: U+FFFD replaces them. A filter
  value with one of the three must be checked on the event itself (``residual``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from mcpaudit_lab.filters.dialect import INT64, Dialect, DoubleReader, decimal_of, is_whole
from mcpaudit_lab.filters.sql_functions import HEADER, VALUE
from mcpaudit_lab.filters.values import PathTest, fold
from mcpaudit_lab.record import dumps

__all__ = ["DIALECTS", "sqlite_moment"]

# PostgreSQL's numeric, in which jsonb stores numbers.
_NUMERIC_POWERS: Final = range(-16383, 131072)
# How deep a path PostgreSQL's parser may be given. It keeps its stack small.
_JSONB_DEPTH: Final = 1000
# What JSON spells with a backslash, always or as it likes.
_SPELLED = re.compile(r'["\\/\x00-\x1f]')


def sqlite_moment(moment: datetime) -> str:
    """A time as SQLite keeps it: UTC, six decimals always, so that it sorts as text."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class PostgreSQL(Dialect):
    """``jsonb`` decides alone; values that ``jsonb`` cannot hold are left to Python."""

    lossy = re.compile("[\x00\ud800-\udfff\ufffd]")

    def can_say(self, test: PathTest) -> bool:
        number = test.value
        if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
            return super().can_say(test) and len(test.path) <= _JSONB_DEPTH
        exact = decimal_of(number)
        powers = (exact.adjusted(), exact.as_tuple().exponent)
        return super().can_say(test) and all(power in _NUMERIC_POWERS for power in powers)

    def value(self, document: str, test: PathTest) -> str:
        wanted = test.text
        for key in reversed(test.path):
            wanted = f"{{{dumps(key)}:{wanted}}}"
        return f"{document} @> cast({self.bind(wanted)} as jsonb)"

    def header(self, document: str, test: PathTest) -> str:
        return self.value(document, PathTest(test.path, f"[{test.text}]"))

    def _at(self, document: str, path: tuple[str, ...]) -> str:
        # The operator with a text reaches members only, never the elements of a list.
        return document + "".join(f" -> cast({self.bind(key)} as text)" for key in path)

    def number_order(self, document: str, op: str, sign: str, test: PathTest) -> str:  # noqa: ARG002 - as the others have it
        found = f"({self._at(document, test.path)})"
        number = f"cast({self.bind(test.text)} as numeric)"
        compared = f"cast({found} #>> '{{}}' as numeric) {sign} {number}"
        return f"case when jsonb_typeof({found}) = 'number' then {compared} else false end"

    def text_like(self, document: str, op: str, sign: str, test: PathTest) -> str:
        found = f"({self._at(document, test.path)})"
        if op == "present":
            return f"{found} is not null"
        text = f"({found} #>> '{{}}') collate \"C\""
        passes = self._text_passes(text, op, sign, str(test.value))
        return f"case when jsonb_typeof({found}) = 'string' then {passes} else false end"

    def header_like(self, document: str, op: str, test: PathTest) -> str:
        found = f"({self._at(document, test.path)})"
        if op == "present":
            return f"{found} is not null"
        values = f"case when jsonb_typeof({found}) = 'array' then {found} else '[]' end"
        passes = self._text_passes("(h.value #>> '{}')", op, "", str(test.value))
        return (
            f"exists (select 1 from jsonb_array_elements({values}) h"  # noqa: S608 - the texts put in are names of our own and parameters
            f" where jsonb_typeof(h.value) = 'string' and {passes})"
        )


class DuckDB(DoubleReader):
    """The lab: JSON pointers, and the JSON text that DuckDB writes for a match.

    A document is parsed only if it contains a piece of the value, which halves the time. The piece
    consists of characters that JSON can only spell in one way or by code point, and does not start
    with a quote: the search stops at each occurrence of its first character, and quotes are
    everywhere.
    """

    marker = "$"
    long_number = "regexp_matches(cast({} as varchar), '[0-9.]{{16}}')"

    def at_least(self, column: str, least: int, table: str = "e") -> str:
        # An integer over 64 bits is in extra only.
        number = self.bind(min(least, 2**63))
        function = f"mcpaudit_at_least({table}.extra, '{column}', {self.bind(str(least))})"
        found = f"{table}.{column}"
        return f"case when {found} is null then {function} else {found} >= {number} end"

    def contains(self, columns: tuple[str, ...], needle: str) -> str:
        # RE2 folds case as fold() does, and is ten times as fast as translate().
        wanted = self.lossy.sub("\ufffd", needle)
        self.residual |= wanted != needle
        pattern = self.bind(f"(?i){''.join(map(_literal, wanted))}")
        return f"({' or '.join(f'regexp_matches({column}, {pattern})' for column in columns)})"

    def beyond(self, op: str, test: PathTest) -> str | None:
        if op != "eq":
            return self.python("e.extra", op, test)
        # An object as ASCII JSON. DuckDB rejects JSON with a lone surrogate.
        if not self.can_say(test):
            return None
        known, python = self.value("e.extra", test), self.python("e.extra", VALUE, test)
        told = f"case when json_valid(e.extra) then {known} else {python} end"
        return f"(e.extra is not null and coalesce({told}, false))"

    def value(self, document: str, test: PathTest) -> str:
        found = self._extract(document, test.path)
        if isinstance(test.value, str):
            same = f"{found} = to_json({self.bind(test.value)})"
        elif test.text in ("true", "false", "null"):
            same = f"{found} = '{test.text}'"
        else:
            same = self._same_number(f"cast({found} as varchar)", document, test)
        guards = self._guards(document, test.path)
        return " and ".join([*self._pieces(document, test), same, *guards])

    def header(self, document: str, test: PathTest) -> str:
        values = f"json_extract({self._extract(document, test.path)}, '$[*]')"
        same = f"list_contains({values}, to_json({self.bind(test.value)}))"
        return " and ".join([*self._pieces(document, test), same])

    def number_order(self, document: str, op: str, sign: str, test: PathTest) -> str:
        found = self._extract(document, test.path)
        double = f"try_cast(cast({found} as varchar) as double)"
        ordered = self.ordered(double, document, op, sign, test)
        kinds = "'BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT', 'DOUBLE'"
        compared = f"case when json_type({found}) in ({kinds}) then {ordered} else false end"
        return " and ".join([*self._there(document, test), compared])

    def text_like(self, document: str, op: str, sign: str, test: PathTest) -> str:
        found = self._extract(document, test.path)
        there = self._there(document, test)
        if op == "present":
            return " and ".join([*there, f"{found} is not null"])
        text = f"json_extract_string({found}, '$')"
        if op not in ("contains", "glob"):
            text = f"replace({text}, chr(0), chr(65533))"
        passes = self._text_passes(text, op, sign, str(test.value))
        compared = f"case when json_type({found}) = 'VARCHAR' then {passes} else false end"
        return " and ".join([*there, compared])

    def _there(self, document: str, test: PathTest) -> list[str]:
        """Guards: the last key is in the text, and the parents of numeric keys are objects."""
        return [
            *self._pieces(document, PathTest(test.path, "0")),
            *self._guards(document, test.path),
        ]

    def _guards(self, document: str, path: tuple[str, ...]) -> list[str]:
        return [
            f"json_type({self._extract(document, path[:depth])}) = 'OBJECT'"
            for depth, key in enumerate(path)
            if key.isdecimal()
        ]

    def _pieces(self, document: str, test: PathTest) -> list[str]:
        piece = test.text
        if piece not in ("true", "false", "null"):
            text = test.value if isinstance(test.value, str) and test.value else test.path[-1]
            runs = _SPELLED.split(text)
            piece = f'{text}"' if len(runs) == 1 else max(runs, key=len)
        if not piece:
            return []
        return [f"(contains({document}, {self.bind(piece)}) or contains({document}, '\\u'))"]

    def _extract(self, document: str, path: tuple[str, ...]) -> str:
        pointer = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)
        # The lab's columns contain only JSON. Other text in a foreign row would fail the whole
        # query.
        return f"try(json_extract({document}, {self.bind(pointer)}))"

    def _same_number(self, found: str, document: str, test: PathTest) -> str:
        number = decimal_of(test.value)
        near = f"try_cast({found} as double) = {self.bind(float(number))}"
        # DuckDB keeps the text of an integer, however big.
        whole = (
            f"when {found} = {self.bind(str(int(number)))} then true" if is_whole(number) else ""
        )
        doubt, python = self.in_doubt(document, number), self.python(document, VALUE, test)
        exact = f"case {whole} when {doubt} then {python} else true end"
        return f"case when {near} then {exact} else false end"


def _literal(char: str) -> str:
    """A character as itself in a regular expression."""
    return char if char.isalnum() or ord(char) > 127 else f"\\x{{{ord(char):x}}}"


class SQLite(DoubleReader):
    """The embedded portal's store. Its JSON is text that this package wrote."""

    long_number = f"{{}} glob '*{'[0-9.]' * 16}*'"

    def moment(self, moment: datetime) -> str:
        return self.bind(sqlite_moment(moment))

    def contains(self, columns: tuple[str, ...], needle: str) -> str:
        wanted = self.text(fold(needle))
        # SQLite's lower() knows ASCII only. Most texts are: as many bytes as characters.
        folded = (
            f"case when length({column}) = length(cast({column} as blob)) "
            f"then lower({column}) else mcpaudit_fold(cast({column} as blob)) end"
            for column in columns
        )
        conditions = (f"instr({column}, {wanted}) > 0" for column in folded)
        return f"({' or '.join(conditions)})"

    def python(self, document: str, kind: str, test: PathTest) -> str:
        # As bytes: the driver fails the whole query for a text that is not UTF-8.
        return super().python(f"cast({document} as blob)", kind, test)

    def value(self, document: str, test: PathTest) -> str:
        if _unreachable(test):
            return self.python(document, VALUE, test)
        path = self.bind(_sqlite_path(test.path))
        kind, found = f"json_type({document}, {path})", f"json_extract({document}, {path})"
        value = test.value
        if isinstance(value, str):
            python = self.python(document, VALUE, test)
            likely = f"{kind} = 'text' and {found} = {self.bind(value)}"
            # json_extract() may end a string at its first NUL.
            exact = f"case when instr({document}, '\\u0000') then {python} else 1 end"
            same = f"case when {likely} then {exact} else 0 end"
        elif test.text in ("true", "false", "null"):
            same = f"{kind} = '{test.text}'"
        else:
            number = decimal_of(value)
            small = is_whole(number) and int(number) in INT64
            whole = f"{found} = {self.bind(int(number))}" if small else "0"
            doubt, python = self.in_doubt(document, number), self.python(document, VALUE, test)
            same = (
                f"case when coalesce({kind}, '') not in ('integer', 'real') then 0 "
                f"when typeof({found}) = 'integer' then {whole} when {doubt} then {python} "
                f"else cast({found} as real) = {self.bind(float(number))} end"
            )
        return self._guarded(document, VALUE, test, same)

    def header(self, document: str, test: PathTest) -> str:
        if _unreachable(test):
            return self.python(document, HEADER, test)
        path = self.bind(_sqlite_path(test.path))
        python = self.python(document, HEADER, test)
        values = f"select h.value from json_each({document}, {path}) h where h.type = 'text'"  # noqa: S608 - the texts put in are names of our own and parameters
        likely = (
            f"json_type({document}, {path}) = 'array' and {self.bind(test.value)} in ({values})"
        )
        exact = f"case when instr({document}, '\\u0000') then {python} else 1 end"
        same = f"case when {likely} then {exact} else 0 end"
        return self._guarded(document, HEADER, test, same)

    def glob(self, text: str, pattern: str) -> str:
        # SQLite's own GLOB ends a text at its first NUL.
        return f"mcpaudit_like(cast({text} as blob), {self.text(pattern)})"

    def number_order(self, document: str, op: str, sign: str, test: PathTest) -> str:
        if _unreachable(test):
            return self.python(document, op, test)
        path = self.bind(_sqlite_path(test.path))
        double = f"cast(json_extract({document}, {path}) as real)"
        ordered = self.ordered(double, document, op, sign, test)
        number = f"coalesce(json_type({document}, {path}), '') in ('integer', 'real')"
        compared = f"case when {number} then {ordered} else 0 end"
        return self._guarded(document, op, test, compared)

    def text_like(self, document: str, op: str, sign: str, test: PathTest) -> str:  # noqa: ARG002 - as the others have it
        return self.python(document, op, test)

    def _guarded(self, document: str, kind: str, test: PathTest, same: str) -> str:
        python = self.python(document, kind, test)
        parsed = f"case when json_valid({document}) then {same} else {python} end"
        return f"{document} is not null and {parsed}"


def _unreachable(test: PathTest) -> bool:
    if isinstance(test.value, str) and "\x00" in test.value:
        return True
    return any(not key or re.search(r'["\\\x00-\x1f]', key) for key in test.path)


def _sqlite_path(path: tuple[str, ...]) -> str:
    return "$" + "".join(f'."{key}"' for key in path)


DIALECTS: Final[dict[str, type[Dialect]]] = {
    "duckdb": DuckDB,
    "postgresql": PostgreSQL,
    "sqlite": SQLite,
}
