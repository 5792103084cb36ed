"""Conditions from text: ``tool != echo and (duration_ms > 200 or not success)``.

The grammar is LALR, read by lark. A value is a word, or a text in quotes with JSON's escapes; the
name before it decides what it means: ``5`` is a text for ``tool`` and a number for ``param.n``.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, Final

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.filters.conditions import All, AnyOf, Condition, joined, negated
from mcpaudit_lab.filters.named_tests import Written, bare_test, make_test, split_name
from mcpaudit_lab.record import loads

__all__ = ["parse_where"]

_LONGEST: Final = 10_000
_DEEPEST: Final = 100
_MOST_TESTS: Final = 300

_GRAMMAR: Final = r"""
    ?start: either
    ?either: both (_OR both)*
    ?both: single (_AND single)*
    ?single: _NOT single -> negative
        | "(" either ")"
        | NAME -> bare
        | NAME OPERATOR value -> compared
        | NAME IN list -> within
        | NAME _NOT IN list -> without
        | NAME OPERATOR list -> listed
    list: ("[" value ("," value)* ","? "]") | ("(" value ("," value)* ","? ")")
    value: QUOTED | SINGLE | WORD | NAME

    _AND.3: /and\b/i | "&&"
    _OR.3: /or\b/i | "||"
    _NOT.3: /not\b/i | /!(?![=~])/
    IN.3: /in\b/i
    OPERATOR.2: "==" | "!=" | ">=" | "<=" | "=~" | "!~" | "=" | "<" | ">" | "~"
    QUOTED: /"(?:[^"\\]|\\.)*"/s
    SINGLE: /'[^']*'/
    NAME.1: /[^\W\d]\w*(?:\.(?:"(?:[^"\\]|\\.)*"|[\w-]+))*(?![^\s()\[\],"'=!<>~&|])/
    WORD: /[^\s()\[\],"'=!<>~&|]+/
    %ignore /\s+/
"""


def parse_where(text: str, *, now: datetime | None = None) -> Condition:
    """Read a condition.

    Args:
        text: the condition.
        now: the moment that spans such as ``1h`` count from; the clock's, unless given.

    Raises:
        FilterError: it cannot be read, or means nothing; the message shows the place.
    """
    if len(text) > _LONGEST:
        raise FilterError(f"where: {len(text):,} characters; at most {_LONGEST:,} are read")
    import lark

    try:
        tree = _parser().parse(text)
    except lark.UnexpectedInput as error:
        found: Any = error
        ended = getattr(found, "token", None) is not None and found.token.type == "$END"
        place = len(text) if ended else found.pos_in_stream
        raise _at(text, place, _expected(found.interactive_parser.accepts())) from None
    return _Reader(text, now).read(tree, 0)


@cache
def _parser() -> Any:
    import lark

    return lark.Lark(_GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def _at(text: str, place: int, problem: str) -> FilterError:
    """An error with the line of the text, and a mark under the place."""
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[start : end if end >= 0 else len(text)]
    column = place - start
    first = max(0, column - 60)
    told = "".join(char if char.isprintable() else "·" for char in line[first : first + 100])
    mark = f"{' ' * (column - first)}^"
    return FilterError(f"where, character {place + 1}: {problem}\n  {told}\n  {mark}")


def _expected(kinds: Any) -> str:
    names = {str(kind).lstrip("_") for kind in kinds}
    if "OPERATOR" in names:
        return "expected =, !=, ~, =~, <, <=, >, >=, in, and, or, or the end"
    if "NAME" in names and "WORD" not in names:
        return "expected a name, not, or ("
    if "WORD" in names:
        return "expected a value"
    if "COMMA" in names:
        return "expected , or the end of the list"
    return "expected and, or, or )" if "RPAR" in names else "expected and, or, or the end"


class _Reader:
    """Makes the condition from lark's tree."""

    def __init__(self, text: str, now: datetime | None) -> None:
        self._text = text
        self._now = now
        self._tests = 0

    def read(self, tree: Any, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise FilterError(f"where: more than {_DEEPEST} levels of not and parentheses")
        if tree.data in ("either", "both"):
            items = tuple(self.read(item, depth + 1) for item in tree.children)
            return joined(AnyOf if tree.data == "either" else All, items)
        if tree.data == "negative":
            return negated(self.read(tree.children[0], depth + 1))
        name, *rest = tree.children
        values = self._values(rest[-1]) if rest else []
        try:
            path = split_name(str(name))
            if tree.data == "bare":
                return self._counted(bare_test(path))
            operator = "=" if tree.data in ("within", "without") else str(rest[0])
            # Of several values one must fit; none of them, for a negation.
            plain = {"==": "=", "!=": "=", "!~": "~"}.get(operator, operator)
            found = [self._counted(make_test(path, plain, value, self._now)) for value in values]
        except FilterError as error:
            raise _at(self._text, name.start_pos, str(error)) from None
        either = joined(AnyOf, tuple(found))
        return negated(either) if tree.data == "without" or operator in ("!=", "!~") else either

    def _counted(self, item: Condition) -> Condition:
        self._tests += 1
        if self._tests > _MOST_TESTS:
            raise FilterError(f"more than {_MOST_TESTS} comparisons")
        return item

    def _values(self, tree: Any) -> list[Written]:
        if tree.data == "list":
            return [self._value(item.children[0]) for item in tree.children]
        return [self._value(tree.children[0])]

    def _value(self, token: Any) -> Written:
        if token.type == "SINGLE":
            return Written(str(token)[1:-1], quoted=True)
        if token.type != "QUOTED":
            return Written(str(token), quoted=False)
        try:
            return Written(str(loads(str(token))), quoted=True)
        except RecordError:
            raise _at(self._text, token.start_pos, "a text in quotes has JSON's escapes") from None
