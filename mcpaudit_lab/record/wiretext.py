"""JSON as the reference server writes it.

It is written in Go, whose encoder differs in three things that show in an event: the sizes of both
sides, and the text of a tool's answer. ``<``, ``>``, ``&`` and the two line separators are
escaped; a whole number has no point (``1.0`` is ``1``); exponents have no zeros in front and begin
later (``1e-05`` is ``0.00001``, ``1e-07`` is ``1e-7``). Integers keep all their digits here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from mcpaudit_lab.record.jsontext import JsonDecimal, dumps
from mcpaudit_lab.record.sanitize import copy_json

__all__ = ["wire_size", "wire_text"]

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
# What of a text could be a number that Go writes otherwise.
_FLOAT = re.compile(r"\.0|e[-+]?\d")


def wire_text(value: Any) -> str:
    """``value`` as compact JSON, members of objects sorted by name.

    Args:
        value: JSON; floats finite.
    """
    return dumps(_rewrite(value)).translate(_ESCAPED)


def wire_size(value: Any) -> int:
    """How many bytes the JSON text of ``value`` has, in UTF-8.

    Values outside JSON are counted as :func:`~mcpaudit_lab.record.sanitize.copy_json` writes them.
    """
    try:
        text = _ENCODER.encode(value)
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
    except (TypeError, ValueError, RecursionError):
        # Very deep, a lone surrogate, or not quite JSON.
        value = copy_json(value)
        text = dumps(value)
        size = len(text.encode("utf-8"))
    size += 5 * (text.count("<") + text.count(">") + text.count("&"))
    if not text.isascii():
        size += 3 * (text.count("\u2028") + text.count("\u2029"))
    if _FLOAT.search(text):
        size += sum(len(_number(item)) - len(repr(item)) for item in _floats(value))
    return size


def _floats(value: Any) -> Iterator[float]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, float):
            yield item
        elif isinstance(item, Mapping):
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)


def _number(number: float) -> str:
    text = repr(number)
    if number.is_integer() and abs(number) < 1e21:
        # Go writes the shortest digits and fills up with zeros, as the decimal text says.
        return "-0" if text == "-0.0" else f"{Decimal(text):f}".removesuffix(".0")
    if "e-" in text:
        if abs(number) >= 1e-6:
            return f"{Decimal(text):f}"
        return text.replace("e-0", "e-")
    return text


def _rewrite(value: Any) -> Any:
    """A copy with members sorted and floats that know their text."""
    root: list[Any] = []
    stack: list[tuple[Any, dict[str, Any] | list[Any]]] = [([value], root)]
    while stack:
        source, target = stack.pop()
        items: Iterable[tuple[Any, Any]] = (
            sorted(source.items()) if isinstance(source, Mapping) else enumerate(source)
        )
        for key, item in items:
            child: Any = item
            if isinstance(item, Mapping | list | tuple):
                child = {} if isinstance(item, Mapping) else []
                stack.append((item, child))
            elif isinstance(item, float):
                child = JsonDecimal(_number(item))
            if isinstance(target, dict):
                target[key] = child
            else:
                target.append(child)
    return root[0]
