"""What the SQL of all engines shares: values are bound, and what an engine cannot say is told."""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from mcpaudit_lab.filters.sql_functions import written_test
from mcpaudit_lab.filters.values import PathTest, fold, variants

__all__ = ["INT64", "Dialect", "DoubleReader", "decimal_of", "is_whole"]

INT64: Final = range(-(2**63), 2**63)
# As many significant digits as a double always tells apart.
_DOUBLE_DIGITS: Final = 15


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

    def at_least(self, column: str, least: int, table: str = "e") -> str:
        """A column of ``audit_events e`` or ``audit_payloads p`` is not less than an integer."""
        return f"{table}.{column} >= {self.bind(least)}" if least in INT64 else "1 = 0"

    def contains(self, columns: tuple[str, ...], needle: str) -> str:
        """One of the columns contains the needle, both case-folded."""
        needle = fold(needle)
        tables = [self.bind(table) for table in variants(needle)]
        wanted = self.text(needle)
        conditions = (
            f"strpos(translate({column}, {', '.join(tables)}), {wanted}) > 0" for column in columns
        )
        return f"({' or '.join(conditions)})"

    def glob(self, text: str, pattern: str) -> str:
        """The whole text fits a pattern of ``*`` and ``?``."""
        return f"{text} like {self.text(_like_pattern(pattern))} escape '^'"

    def number_order(self, document: str, op: str, sign: str, test: PathTest) -> str:
        """The number at the path is before or after the test's."""
        raise NotImplementedError

    def text_like(self, document: str, op: str, sign: str, test: PathTest) -> str:
        """The text at the path passes by ``contains``, ``glob`` or order; or something is there."""
        raise NotImplementedError

    def header_like(self, document: str, op: str, test: PathTest) -> str:
        """One of the header's values passes by ``contains`` or ``glob``; or there is the header."""
        raise NotImplementedError

    def _text_passes(self, found: str, op: str, sign: str, value: str) -> str:
        """A text as SQL passes, compared as the engine compares texts by code point."""
        if op == "glob":
            return self.glob(found, value)
        if op == "contains":
            return self.contains((found,), value)
        return f"{found} {sign} {self.bind(value.replace(chr(0), chr(0xFFFD)))}"

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

    def beyond(self, op: str, test: PathTest) -> str | None:  # noqa: ARG002 - what a subclass needs
        """The test passes on the members beyond the columns; None: ask Python."""
        return None

    def present(self, column: str) -> str:
        """A payload's column is present and not empty. Stored JSON has no white space."""
        text = f"cast({column} as varchar)"
        return f"({column} is not null and {text} not in ('', '{{}}', '[]', 'null', '\"\"'))"


def _like_pattern(glob: str) -> str:
    """A pattern of ``*`` and ``?`` for LIKE, with ``^`` before what it would take for a sign."""
    escaped = re.sub(r"([\^%_])", r"^\1", glob)
    return escaped.replace("*", "%").replace("?", "_")


class DoubleReader(Dialect):
    """An engine that reads JSON numbers as doubles, with Python functions at hand."""

    # Whether a document may have a number of more digits than a double tells apart.
    long_number: ClassVar[str]

    def python(self, document: str, kind: str, test: PathTest) -> str:
        """A test that Python decides, on a document as text."""
        return f"mcpaudit_json_test({document}, {self.bind(written_test(kind, test))})"

    def header_like(self, document: str, op: str, test: PathTest) -> str:
        """One of the header's values passes."""
        return self.python(document, f"header {op}", test)

    def ordered(self, double: str, document: str, op: str, sign: str, test: PathTest) -> str:
        """The order of a number that reads as a double: Python decides where both are the same."""
        number, python = decimal_of(test.value), self.python(document, op, test)
        bound = float(number)
        if not math.isfinite(bound):
            return python
        near = self.bind(bound)
        tie = "1 = 1" if op in ("ge", "le") else "1 = 0"
        doubt = self.in_doubt(document, number)
        return (
            f"case when {double} is null then {python}"
            f" when {double} = {near} then case when {doubt} then {python} else {tie} end"
            f" else {double} {sign} {near} end"
        )

    def in_doubt(self, document: str, number: Decimal) -> str:
        """SQL: a number of this document that reads as the same double may be another number."""
        return self.long_number.format(document) if _is_plain(number) else "1 = 1"


def decimal_of(number: Any) -> Decimal:
    """The number that its JSON text says: of a float, the shortest decimal that reads back."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _is_plain(number: Decimal) -> bool:
    """Whether every engine reads this number as the same double, and no other short one as that."""
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    return (
        len(digits) <= _DOUBLE_DIGITS and -7 <= number.adjusted() < _DOUBLE_DIGITS and bool(number)
    )


def is_whole(number: Decimal) -> bool:
    """Whether a number is an integer of at most 40 digits."""
    return number.adjusted() < 40 and number == number.to_integral_value()
