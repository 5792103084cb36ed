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
from typing import Any, ClassVar, Final

from mcpaudit_lab.filters.sql_functions import HEADER, VALUE, written_test
from mcpaudit_lab.filters.values import PathTest, fold, variants
from mcpaudit_lab.record import dumps

__all__ = ["DIALECTS", "Dialect", "sqlite_moment"]

_INT64: Final = range(-(2**63), 2**63)
# As many significant digits as a double always tells apart.
_DOUBLE_DIGITS: Final = 15
# What JSON spells with a backslash, always or as it likes.
_SPELLED = re.compile(r'["\\/\x00-\x1f]')
# PostgreSQL's numeric, in which jsonb stores numbers.
_NUMERIC_POWERS: Final = range(-16383, 131072)
# How deep a path PostgreSQL's parser may be given. It keeps its stack small.
_JSONB_DEPTH: Final = 1000


def sqlite_moment(moment: datetime) -> str:
    """A time as SQLite keeps it: UTC, six decimals always, so that it sorts as text."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class Dialect:
    """Writes conditions and collects what they bind. This one says what all engines share."""

    marker: ClassVar[str] = ":"
    lossy: ClassVar[re.Pattern[str]] = re.compile("[\ud800-\udfff\ufffd]")

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.residual = False

    def bind(self, value: Any) -> str:
        """Bind a value; returns the parameter as written in the SQL."""
        for name, bound in self.params.items():
            if type(bound) is type(value) and bound == value:
                return f"{self.marker}{name}"
        name = f"f{len(self.params)}"
        self.params[name] = value
        return f"{self.marker}{name}"

    def text(self, value: str) -> str:
        """Bind a text for comparison with a column of text."""
        if self.lossy.search(value):
            self.residual = True
            value = self.lossy.sub("\ufffd", value)
        return self.bind(value)

    def moment(self, moment: datetime) -> str:
        """Bind a time for comparison with a column of times."""
        return self.bind(moment)

    def at_least(self, column: str, least: int) -> str:
        """``column`` of ``audit_events`` is not less than an integer."""
        return f"e.{column} >= {self.bind(least)}" if least in _INT64 else "1 = 0"

    def contains(self, columns: tuple[str, ...], needle: str) -> str:
        """One of the columns contains the needle, both case-folded."""
        needle = fold(needle)
        tables = [self.bind(table) for table in variants(needle)]
        wanted = self.text(needle)
        conditions = (
            f"strpos(translate({column}, {', '.join(tables)}), {wanted}) > 0" for column in columns
        )
        return f"({' or '.join(conditions)})"

    def can_say(self, test: PathTest) -> bool:
        """Whether a payload's column stores this path and value unchanged."""
        texts = (*test.path, test.value)
        return not any(isinstance(text, str) and self.lossy.search(text) for text in texts)

    def value(self, document: str, test: PathTest) -> str:
        """The value at the path equals the test's value exactly."""
        raise NotImplementedError

    def header(self, document: str, test: PathTest) -> str:
        """One of the header's values is the test's."""
        raise NotImplementedError

    def beyond(self, test: PathTest) -> str | None:  # noqa: ARG002 - what a subclass needs
        """The test's value is in the members beyond the columns; None: ask Python."""
        return None

    def present(self, column: str) -> str:
        """A payload's column is present and not empty. Stored JSON has no white space."""
        text = f"cast({column} as varchar)"
        return f"({column} is not null and {text} not in ('', '{{}}', '[]', 'null', '\"\"'))"


class PostgreSQL(Dialect):
    """``jsonb`` decides alone; values that ``jsonb`` cannot hold are left to Python."""

    lossy = re.compile("[\x00\ud800-\udfff\ufffd]")

    def can_say(self, test: PathTest) -> bool:
        number = test.value
        if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
            return super().can_say(test) and len(test.path) <= _JSONB_DEPTH
        exact = _decimal(number)
        powers = (exact.adjusted(), exact.as_tuple().exponent)
        return super().can_say(test) and all(power in _NUMERIC_POWERS for power in powers)

    def value(self, document: str, test: PathTest) -> str:
        wanted = test.text
        for key in reversed(test.path):
            wanted = f"{{{dumps(key)}:{wanted}}}"
        return f"{document} @> cast({self.bind(wanted)} as jsonb)"

    def header(self, document: str, test: PathTest) -> str:
        return self.value(document, PathTest(test.path, f"[{test.text}]"))


class _DoubleReader(Dialect):
    """An engine that reads JSON numbers as doubles, with Python functions at hand."""

    # Whether a document may have a number of more digits than a double tells apart.
    long_number: ClassVar[str]

    def python(self, document: str, kind: str, test: PathTest) -> str:
        return f"mcpaudit_json_test({document}, {self.bind(written_test(kind, test))})"

    def in_doubt(self, document: str, number: Decimal) -> str:
        """SQL: a number of this document that reads as the same double may be another number."""
        return self.long_number.format(document) if _is_plain(number) else "1 = 1"


def _decimal(number: Any) -> Decimal:
    """The number that its JSON text says: of a float, the shortest decimal that reads back."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _is_plain(number: Decimal) -> bool:
    """Whether every engine reads this number as the same double, and no other short one as that."""
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    return (
        len(digits) <= _DOUBLE_DIGITS and -7 <= number.adjusted() < _DOUBLE_DIGITS and bool(number)
    )


def _is_whole(number: Decimal) -> bool:
    return number.adjusted() < 40 and number == number.to_integral_value()


class DuckDB(_DoubleReader):
    """The lab: JSON pointers, and the JSON text that DuckDB writes for a match.

    A document is parsed only if it contains a piece of the value, which halves the time. The piece
    consists of characters that JSON can only spell in one way or by code point, and does not start
    with a quote: the search stops at each occurrence of its first character, and quotes are
    everywhere.
    """

    marker = "$"
    long_number = "regexp_matches(cast({} as varchar), '[0-9.]{{16}}')"

    def at_least(self, column: str, least: int) -> str:
        # An integer over 64 bits is in extra only.
        number = self.bind(min(least, 2**63))
        function = f"mcpaudit_at_least(e.extra, '{column}', {self.bind(str(least))})"
        return f"case when e.{column} is null then {function} else e.{column} >= {number} end"

    def beyond(self, test: PathTest) -> str | None:
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
        pieces = self._pieces(document, test)
        guards = [
            f"json_type({self._extract(document, test.path[:depth])}) = 'OBJECT'"
            for depth, key in enumerate(test.path)
            if key.isdecimal()
        ]
        return " and ".join([*pieces, same, *guards])

    def header(self, document: str, test: PathTest) -> str:
        values = f"json_extract({self._extract(document, test.path)}, '$[*]')"
        same = f"list_contains({values}, to_json({self.bind(test.value)}))"
        return " and ".join([*self._pieces(document, test), same])

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
        number = _decimal(test.value)
        near = f"try_cast({found} as double) = {self.bind(float(number))}"
        # DuckDB keeps the text of an integer, however big.
        whole = (
            f"when {found} = {self.bind(str(int(number)))} then true" if _is_whole(number) else ""
        )
        doubt, python = self.in_doubt(document, number), self.python(document, VALUE, test)
        exact = f"case {whole} when {doubt} then {python} else true end"
        return f"case when {near} then {exact} else false end"


class SQLite(_DoubleReader):
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
            number = _decimal(value)
            small = _is_whole(number) and int(number) in _INT64
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
