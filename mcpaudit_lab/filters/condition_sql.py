"""A condition with and, or and not as SQL.

``not`` is moved down to the tests, so that only "and" and "or" stand above them. A test that an
engine cannot express then selects every row, whatever it stands in: the condition selects more than
is wanted and never less.
"""

from __future__ import annotations

from typing import Final

from mcpaudit_lab.filters.conditions import DOCUMENTS, All, Condition, Not, Test
from mcpaudit_lab.filters.dialect import Dialect

__all__ = ["condition_sql"]

_EVERYTHING: Final = "1 = 1"
_NOTHING: Final = "1 = 0"
_SIGNS: Final = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def condition_sql(condition: Condition, writer: Dialect, payloads: str) -> str:
    """The SQL of a condition over ``audit_events e``.

    Args:
        condition: the condition.
        writer: of the engine; collects what is bound, and whether rows are a superset.
        payloads: ``from … where …`` that finds the payload ``p`` of ``e``.
    """

    def write(item: Condition, *, wanted: bool) -> str:
        if isinstance(item, Not):
            return write(item.item, wanted=not wanted)
        if isinstance(item, Test):
            return _written(item, writer, payloads, wanted=wanted)
        word = " and " if isinstance(item, All) is wanted else " or "
        return f"({word.join(write(part, wanted=wanted) for part in item.items)})"

    return write(condition, wanted=True)


def _written(test: Test, writer: Dialect, payloads: str, *, wanted: bool) -> str:
    superset_before, writer.residual = writer.residual, False
    bound_before = dict(writer.params)
    sql = _condition(test, writer)
    if test.in_payload:
        sql = f"exists (select 1 {payloads} and {sql})"
    exact = not writer.residual
    writer.residual |= superset_before
    if wanted:
        return f"({sql})"
    if exact:
        return f"(not coalesce({sql}, {_NOTHING}))"
    writer.params = bound_before
    return _EVERYTHING


def _condition(test: Test, writer: Dialect) -> str:
    if test.kind == "extra":
        return f"({_beyond(test, writer)})"
    if test.kind in DOCUMENTS:
        return f"({_in_document(test, writer)})"
    if test.kind == "q":
        columns = ("e.tool_name", "e.error_message", "e.user_subject")
        return writer.contains(columns, str(test.wanted))
    if test.kind == "has":
        return writer.present(f"p.{test.column}")
    return _on_column(test, writer)


def _on_column(test: Test, writer: Dialect) -> str:
    column = f"{'p' if test.in_payload else 'e'}.{test.column}"
    if test.kind == "bool":
        return f"{column} = {writer.bind(True)}"
    if test.kind == "time":
        return f"{column} {_SIGNS[test.op]} {writer.moment(test.wanted)}"  # type: ignore[arg-type]  # a time's test has a moment
    if test.kind == "int":
        return _at_least(test, writer)
    return _on_text(test, writer, column)


def _at_least(test: Test, writer: Dialect) -> str:
    least = int(test.wanted)  # type: ignore[arg-type]  # an integer's test has an integer
    if least <= 0:
        # What the record does not have is 0, and no count is less.
        return _EVERYTHING
    return writer.at_least(test.column, least, "p" if test.in_payload else "e")


def _on_text(test: Test, writer: Dialect, column: str) -> str:
    wanted = str(test.wanted)
    if test.kind == "id":
        column = f"cast({column} as varchar)"
    if test.op == "eq" and wanted:
        return f"{column} = {writer.text(wanted)}"
    column = f"coalesce({column}, '')"
    if test.op == "eq":
        return f"{column} = {writer.text(wanted)}"
    if test.op == "glob":
        return writer.glob(column, wanted)
    return writer.contains((column,), wanted)


def _beyond(test: Test, writer: Dialect) -> str:
    """A test of what a record has beyond its columns; only a lab keeps that."""
    if (known := writer.beyond(test.op, test.path_test)) is None:
        writer.residual = True
    return known or _EVERYTHING


def _in_document(test: Test, writer: Dialect) -> str:
    question, document = test.path_test, f"p.{test.column}"
    if not writer.can_say(question):
        writer.residual = True
        return f"{document} is not null"
    if test.op == "eq":
        same = writer.header if test.is_header else writer.value
        return same(document, question)
    if test.is_header:
        return writer.header_like(document, test.op, question)
    sign = _SIGNS.get(test.op, "")
    if sign and not isinstance(question.value, str):
        return writer.number_order(document, test.op, sign, question)
    return writer.text_like(document, test.op, sign, question)
