"""What must not be stored: secrets in arguments, results, notifications and headers.

Redaction is by key, as the portal's contract has it: the whole value of a member whose name
contains one of the redact keys becomes :data:`REDACTED`, at any depth, in lists of objects too. A
secret inside a value is not found; nothing short of a guess could.

Three things go further than the reference server:

- names are compared without case, hyphens, underscores and spaces, so that ``api_key`` finds
  ``X-Api-Key``, ``apiKey`` and ``API KEY``;
- a text that is itself JSON is looked into, and written anew where something was found;
- names that only count tokens (``max_tokens``) are kept, unless they are asked for by name.

Everything works on a deep copy and with a stack, so that nesting is bounded by memory alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record.jsontext import Json, JsonDecimal, dumps, has_duplicate_keys, loads, same

__all__ = [
    "DEFAULT_KEPT_KEYS",
    "DEFAULT_REDACT_KEYS",
    "MASKED_HEADERS",
    "REDACTED",
    "Sanitizer",
    "canonical_header",
    "copy_json",
]

REDACTED = "[redacted]"
"""The mark that replaces a removed value."""

# The keys of the recorded reference server; the contract's page lists seven of them.
DEFAULT_REDACT_KEYS: tuple[str, ...] = (
    "password",
    "token",
    "secret",
    "authorization",
    "api_key",
    "credentials",
    "bearer",
    "cookie",
    "jwt",
    "session_id",
    "private_key",
    "passwd",
)
"""Names, or parts of names, whose values are taken out."""

# Numbers of tokens say what a call cost. The id of an MCP session is a field of every event.
DEFAULT_KEPT_KEYS: tuple[str, ...] = (
    "cached_tokens",
    "completion_tokens",
    "input_tokens",
    "max_completion_tokens",
    "max_input_tokens",
    "max_new_tokens",
    "max_output_tokens",
    "max_tokens",
    "mcp_session_id",
    "min_tokens",
    "num_tokens",
    "output_tokens",
    "prompt_tokens",
    "reasoning_tokens",
    "token_count",
    "total_tokens",
)
"""Whole names that are kept although a redact key is part of them."""

MASKED_HEADERS: frozenset[str] = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"}
)
"""Headers whose values are never stored, whatever the redact keys are."""

_CYCLE = "<cycle>"
_MAX_REMEMBERED = 64
_PLAIN_SCALARS = frozenset({str, int, float, bool, type(None)})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


def _squeeze(name: str) -> str:
    """A name as it is compared: no case, no separators."""
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


def canonical_header(name: str) -> str:
    """A header's name as Go's ``net/http`` and the record have it: ``X-Api-Key``.

    A name that is not a token of RFC 9110 section 5.6.2 is kept unchanged.
    """
    return _usual(name) if len(name) <= _MAX_REMEMBERED else _canonical(name)


def _canonical(name: str) -> str:
    if _HEADER_NAME.fullmatch(name) is None:
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


# The same few names come with every call.
_usual = lru_cache(maxsize=1024)(_canonical)


@dataclass(frozen=True, slots=True)
class Sanitizer:
    """Rules for what is removed before anything is stored.

    Attributes:
        redact_keys: names, or parts of names; ``()`` removes nothing (the headers in
            :data:`MASKED_HEADERS` are masked anyway).
        kept_keys: whole names that are kept although a redact key is part of them. A name that is
            also in ``redact_keys`` is redacted.

    Raises:
        ValueError: a redact key is empty; it would match every name.
    """

    redact_keys: tuple[str, ...] = DEFAULT_REDACT_KEYS
    kept_keys: tuple[str, ...] = DEFAULT_KEPT_KEYS
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _is_secret: Callable[[str], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        squeezed = [_squeeze(key) for key in self.redact_keys]
        if not all(squeezed):
            raise ValueError("an empty redact key would match every name")
        pattern = re.compile("|".join(map(re.escape, squeezed))) if squeezed else None
        kept = frozenset(map(_squeeze, self.kept_keys)) - frozenset(squeezed)

        # The same few names come with every call.
        @lru_cache(maxsize=4096)
        def is_secret(name: str) -> bool:
            text = _squeeze(name)
            return pattern is not None and pattern.search(text) is not None and text not in kept

        object.__setattr__(self, "_pattern", pattern)
        object.__setattr__(self, "_is_secret", is_secret)

    def is_secret(self, name: str) -> bool:
        """Whether the value of a member or header with this name is taken out."""
        # A long name is not worth remembering, and could be one of many made to fill the memory.
        if len(name) <= _MAX_REMEMBERED:
            return self._is_secret(name)
        found: bool = self._is_secret.__wrapped__(name)  # type: ignore[attr-defined]  # lru_cache's
        return found

    def clean(self, value: Any) -> Json:
        """A deep copy of ``value`` without its secrets, made of JSON types only.

        Values outside JSON become text: NaN and the infinities their names, other objects
        ``<type>``, a container inside itself ``<cycle>``.
        """
        return _copy(value, self)

    def clean_text(self, text: str) -> str:
        """The text, or, if it is JSON that contains secrets, that JSON without them.

        JSON Lines are looked at line by line. A repeated member of an object counts as something
        to take out: of the two only the last is seen by a reader, and the other one would stay.
        """
        if not self._may_hide_secrets(text):
            return text
        try:
            value = loads(text)
        except RecordError:
            if "\n" not in text:
                return text
            return "\n".join(self.clean_text(line) for line in text.split("\n"))
        cleaned = self.clean(value)
        if same(cleaned, value, spelling=True) and not has_duplicate_keys(text):
            return text
        return dumps(cleaned)

    def _may_hide_secrets(self, text: str) -> bool:
        """Whether parsing is worth it: most texts are not JSON, or do not name any redact key."""
        if self._pattern is None or text.lstrip(" \t\r\n")[:1] not in ("{", "[", '"'):
            return False
        # An escape may spell a letter of a key: "\u0070assword".
        return "\\u" in text or self._pattern.search(_squeeze(text)) is not None

    def mask_headers(self, headers: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """The headers as they are stored: names canonical and sorted, secrets masked.

        Args:
            headers: name to values. Names that differ only in case are put together.
        """
        masked: dict[str, list[str]] = {}
        for name in sorted(headers):
            canonical = canonical_header(name)
            if canonical.lower() in MASKED_HEADERS or self.is_secret(canonical):
                masked[canonical] = [REDACTED]
            else:
                masked.setdefault(canonical, []).extend(headers[name])
        return masked


def copy_json(value: Any) -> Json:
    """A deep copy of ``value`` made of JSON types only, nothing taken out.

    ``copy.deepcopy`` recurses: a few hundred levels of nesting end it.
    """
    return _copy(value, None)


def _copy(value: Any, rules: Sanitizer | None) -> Json:
    # Containers still to fill. A container followed by None ends there, so the ids in progress are
    # exactly those on the path to the root.
    stack: list[tuple[Any, dict[str, Any] | list[Any] | None]] = []
    way: set[int] = set()

    def copy_of(item: Any) -> Json:
        container = _empty(item)
        if container is None:
            return _scalar(item, rules)
        if id(item) in way:
            return _CYCLE
        stack.append((item, container))
        return container

    root = copy_of(value)
    while stack:
        source, target = stack.pop()
        if target is None:
            way.discard(source)
            continue
        way.add(id(source))
        stack.append((id(source), None))
        if isinstance(target, dict):
            for key, item in source.items():
                name = key if type(key) is str else _name(key)
                secret = rules is not None and rules.is_secret(name)
                target[name] = REDACTED if secret else copy_of(item)
        else:
            target.extend(map(copy_of, source))
    return root


def _empty(value: Any) -> dict[str, Any] | list[Any] | None:
    """The empty container that a copy of ``value`` goes into; None for a scalar."""
    # Called for every value: check the plain types first.
    kind = type(value)
    if kind in _PLAIN_SCALARS:
        return None
    if kind is list or isinstance(value, list | tuple | set | frozenset):
        return []
    if kind is dict or isinstance(value, Mapping):
        return {}
    return None


def _name(key: Any) -> str:
    """An object key that is not exactly a ``str``, written as ``json`` would where it can."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool | int | float):
        return dumps(_scalar(key, None)).strip('"')
    return f"<{type(key).__name__}>"


def _scalar(value: Any, rules: Sanitizer | None) -> Json:
    kind = type(value)
    if kind is str or isinstance(value, str):
        text: str = value if kind is str else str.__str__(value)
        return text if rules is None else rules.clean_text(text)
    if value is None or kind in (bool, int) or isinstance(value, JsonDecimal):
        return value  # type: ignore[no-any-return]  # JSON as it is
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return value if value.is_finite() else str(value)
    if isinstance(value, float):
        # "NaN" and "Infinity" say what stood there; null would not.
        return float(value) if math.isfinite(value) else str(Decimal(value))
    return f"<{kind.__name__}>"
