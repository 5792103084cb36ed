"""Removing supplied secrets from everything that is stored or shown.

A tool may echo its arguments: unchanged, inside a longer text, inside JSON in a text, or escaped
for a URL or HTML. The values are searched for, not the keys.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import REDACTED, dumps, has_duplicate_keys, loads, same

__all__ = ["Scrubber", "scrubbed_logs", "text_leaves"]

# A shorter number matches too many unrelated places inside texts.
_NUMBER_MIN = 4
_JSON_STARTS = ("{", "[", '"')
# JSON in a text in JSON in a text: so deep is looked.
_TEXT_LEVELS = 8
_LIBRARIES = ("mcp", "httpx2", "httpcore2", "client")


class Scrubber:
    """Replaces secrets by the redaction mark. It is false if there are no secrets.

    Args:
        secrets: any JSON values; of containers, every text and number in them.
    """

    __slots__ = ("_numbers", "_pattern")

    def __init__(self, secrets: Iterable[Any] = ()) -> None:
        leaves = [leaf for secret in secrets for leaf in _leaves(secret)]
        texts = {leaf for leaf in leaves if isinstance(leaf, str)}
        numbers = {dumps(leaf): leaf for leaf in leaves if not isinstance(leaf, str | bool | None)}
        texts |= {text for text in numbers if len(text) >= _NUMBER_MIN}
        self._numbers = list(numbers.values())
        spellings = {form for text in texts for form in _spellings(text)}
        longest_first = sorted(spellings, key=len, reverse=True)
        # The mark itself first: a secret may be a part of it.
        forms = map(re.escape, (REDACTED, *longest_first))
        self._pattern = re.compile("|".join(forms)) if spellings else None

    def __bool__(self) -> bool:
        return self._pattern is not None or bool(self._numbers)

    def __repr__(self) -> str:
        return f"Scrubber({'something' if self else 'nothing'} to look for)"

    def clean_text(self, text: str) -> str:
        """The text without secrets."""
        return self._clean_text(text, _TEXT_LEVELS)

    def clean(self, value: Any) -> Any:
        """A copy of a JSON value without secrets, keys included; the value itself if it has none.

        Nesting is bounded by memory alone.
        """
        return self._clean(value, _TEXT_LEVELS) if self else value

    def _clean_text(self, text: str, levels: int) -> str:
        if levels and text.lstrip(" \t\r\n")[:1] in _JSON_STARTS:
            text = self._clean_json(text, levels - 1)
        # A secret may also be longer than any value of the JSON.
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def _clean_json(self, text: str, levels: int) -> str:
        """Whatever way its characters are escaped: read as JSON it is the secret."""
        try:
            value = loads(text)
        except RecordError:
            return text
        cleaned = self._clean(value, levels)
        # For a repeated key, only the last value was examined.
        if same(cleaned, value, spelling=True) and not has_duplicate_keys(text):
            return text
        return dumps(cleaned)

    def _clean(self, value: Any, levels: int) -> Any:
        root: list[Any] = [None]
        pending: list[tuple[Any, Any, Any]] = [(value, root, 0)]
        while pending:
            item, target, place = pending.pop()
            if isinstance(item, dict):
                copy: Any = {}
                for key, child in item.items():
                    name = self._clean_text(key, 0)
                    copy[name] = None
                    pending.append((child, copy, name))
            elif isinstance(item, list | tuple):
                copy = [None] * len(item)
                pending.extend((child, copy, n) for n, child in enumerate(item))
            else:
                copy = self._clean_scalar(item, levels)
            target[place] = copy
        return root[0]

    def _clean_scalar(self, item: Any, levels: int) -> Any:
        if isinstance(item, str):
            return self._clean_text(item, levels)
        if isinstance(item, bool) or item is None:
            return item
        return REDACTED if any(same(item, number) for number in self._numbers) else item


def _leaves(value: Any) -> Iterator[Any]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif item != "":
            yield item


def text_leaves(text: str) -> Iterator[Any]:
    """The texts and numbers in a text that is JSON or JSON Lines, at any level; else nothing."""
    if text.lstrip(" \t\r\n")[:1] not in _JSON_STARTS:
        return
    try:
        leaves = list(_leaves(loads(text)))
    except RecordError:
        lines = text.split("\n")
        for line in lines if len(lines) > 1 else ():
            yield from text_leaves(line)
        return
    for leaf in leaves:
        yield leaf
        if isinstance(leaf, str):
            yield from text_leaves(leaf)


def _spellings(text: str) -> Iterator[str]:
    """The spellings that a text may have inside another text."""
    yield text
    yield repr(text)[1:-1]
    yield html.escape(text)
    data = text.encode("utf-8", "surrogatepass")
    yield quote(data, safe="")
    yield quote(data)
    yield quote_plus(data)
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")
    for ascii_only in (False, True):
        escaped = text
        for _ in range(3):
            escaped = json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]
            yield escaped
            # As Go writes JSON.
            go = escaped.replace("<", "\\u003c").replace(">", "\\u003e")
            yield go.replace("&", "\\u0026")


@contextmanager
def scrubbed_logs(scrubber: Scrubber) -> Iterator[None]:
    """Take secrets out of what the MCP and HTTP libraries log while the block runs."""
    if not scrubber:
        yield
        return
    rule = _LogRule(scrubber)
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_LIBRARIES)]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(rule)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(rule)


class _LogRule(logging.Filter):
    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self._scrubber = scrubber

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._scrubber.clean_text(record.getMessage()), ()
        # An exception's text may quote the response.
        record.exc_info = record.exc_text = None
        return True
