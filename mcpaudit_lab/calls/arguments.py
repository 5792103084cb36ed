"""The arguments to send for an event: captured, edited, with redacted values supplied.

Redaction marks are never sent. They are filled in by ``secrets``, or the event is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mcpaudit_lab.calls.scrubbing import Scrubber, text_leaves
from mcpaudit_lab.comparison import Path, format_path
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record import (
    REDACTED,
    Dialect,
    Event,
    Sanitizer,
    copy_json,
    dumps,
    marked_texts,
    marks_of,
    redacted_paths,
    same,
)

__all__ = ["ALL_DIALECTS", "Edit", "Outgoing", "Secrets", "prepare"]

Secrets: TypeAlias = "Mapping[str, Any] | Callable[[Event, str], Any]"
Edit: TypeAlias = "Mapping[str, Any] | Callable[[Event, dict[str, Any]], dict[str, Any]]"

ALL_DIALECTS: tuple[Dialect, ...] = tuple(Dialect)
"""Every way of writing that a value was redacted: to refuse a call costs less than to send one."""

_RULES = Sanitizer()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The arguments of one call.

    Attributes:
        arguments: what is sent, secrets included; None if the call has none.
        kept: what may be kept of it: the same with the redaction marks where values were supplied.
        missing: redacted places for which no value is supplied; a call with any is never sent.
        modified: whether it is another call than the captured one.
        supplied: the secrets that were filled in.
        scrubber: removes supplied secrets from responses. All calls of a plan share one, because a
            tool may repeat what an earlier call gave it.
        exposed: supplied places that a portal with the usual rules would store in clear.
    """

    arguments: Any = field(repr=False)
    kept: Any = field(repr=False)
    missing: tuple[str, ...] = ()
    modified: bool = False
    supplied: tuple[Any, ...] = field(default=(), repr=False)
    scrubber: Scrubber = field(default_factory=Scrubber)
    exposed: tuple[str, ...] = ()


def prepare(
    event: Event,
    *,
    secrets: Secrets | None = None,
    edit: Edit | None = None,
    dialects: Iterable[Dialect | str] = ALL_DIALECTS,
) -> Outgoing:
    """Make ready what goes out for an event that has a payload.

    Args:
        event: the event.
        secrets: the redacted values, by path or by the last key of the path; or a function that is
            called with the event and the path as text and returns the value, or None. A text that
            is JSON with marks inside is one value: supply the whole text.
        edit: arguments to change, by name; or a function that is called with the event and a copy
            of the arguments and returns the new ones.
        dialects: what counts as redacted.

    Raises:
        ReplayError: an edit that does not return an object, or fails; a value that is not JSON.
    """
    captured = _captured(event)
    marks = tuple(dialects)
    changed = _edited(event, captured, edit)
    arguments, kept = copy_json(changed), copy_json(changed)
    supplied: list[Any] = []
    places: list[Path] = []
    # A mark that an edit has replaced was as secret as one that was filled in.
    for path in _marked(captured, marks):
        value = _value_at(changed, path)
        if value is not _ABSENT and not (isinstance(value, str) and _marked(value, marks)):
            supplied += _secrets_of(value, _value_at(captured, path))
            places.append(path)
            kept = _with(kept, path, REDACTED)
    for path in _marked(arguments, marks):
        value = _supplied(event, path, secrets)
        if value is not None and path:
            supplied += _secrets_of(value, _value_at(arguments, path))
            places.append(path)
            arguments = _with(arguments, path, copy_json(value))
    left = _marked(arguments, marks) + _marked_keys(arguments, marks)
    scrubber = Scrubber(supplied)
    return Outgoing(
        arguments=arguments,
        kept=scrubber.clean(kept),
        missing=tuple(dict.fromkeys(map(format_path, left))),
        modified=bool(supplied) or not same(changed, captured, spelling=True),
        supplied=tuple(supplied),
        scrubber=scrubber,
        exposed=tuple(
            format_path(path)
            for path in places
            if not any(isinstance(part, str) and _RULES.is_secret(part) for part in path)
        ),
    )


def _marked(tree: Any, dialects: tuple[Dialect | str, ...]) -> list[Path]:
    """Where a value is a mark, or a text that is JSON with marks inside."""
    inside = marked_texts(tree, dialects=dialects, keys=True)
    return redacted_paths(tree, dialects=dialects) + inside


def _secrets_of(value: Any, redacted: str) -> list[Any]:
    """The secret part of a supplied value: all of it; for JSON in a text, what is new in it."""
    if not isinstance(value, str):
        return [value]
    known = list(text_leaves(redacted))
    return [value, *(leaf for leaf in text_leaves(value) if leaf not in known)]


def _captured(event: Event) -> Any:
    payload = event.payload
    params = None if payload is None else payload.request_params
    return event.parameters if params is None else params


def _edited(event: Event, captured: Any, edit: Edit | None) -> Any:
    if edit is None:
        return captured
    if callable(edit):
        changed = edit(event, copy_json(captured or {}))  # type: ignore[arg-type]  # an object, or the function sees what else it is
        if not isinstance(changed, dict):
            raise ReplayError("the edit returned no arguments: the function must return a dict")
        return copy_json(_as_json(changed, "edit="))
    if not isinstance(captured, dict | None):
        return captured
    return {**(captured or {}), **_as_json(dict(edit), "edit=")}


def _supplied(event: Event, path: Path, secrets: Secrets | None) -> Any:
    if secrets is None:
        return None
    text = format_path(path)
    keys = [part for part in path if isinstance(part, str)]
    if callable(secrets):
        value = secrets(event, text)
    elif text in secrets:
        value = secrets[text]
    else:
        value = secrets.get(keys[-1]) if keys else None
    return _as_json(value, "secrets=")


def _as_json(value: Any, option: str) -> Any:
    """The value itself if it is JSON; a substitute would be another call."""
    try:
        dumps(value)
    except (TypeError, ValueError):
        # The exception's text may contain the value.
        raise ReplayError(f"{option} gave a {type(value).__name__} that is no JSON") from None
    return value


class _Absent:
    """Nothing exists at this path."""


_ABSENT = _Absent()


def _value_at(tree: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, str):
            if not isinstance(tree, dict) or part not in tree:
                return _ABSENT
        elif not isinstance(tree, list) or part >= len(tree):
            return _ABSENT
        tree = tree[part]
    return tree


def _with(tree: Any, path: Path, value: Any) -> Any:
    """The tree with a value inserted; the value itself for the empty path."""
    if not path:
        return value
    inner = tree
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return tree


def _marked_keys(tree: Any, dialects: Iterable[Dialect | str]) -> list[Path]:
    """Where a key is a mark; :func:`redacted_paths` looks at values."""
    is_mark = marks_of(dialects).is_mark
    found: list[Path] = []
    # A path is a chain of (the way to here, segment), so that depth costs nothing.
    pending: list[tuple[tuple[Any, ...], Any]] = [((), tree)]
    while pending:
        way, item = pending.pop()
        if isinstance(item, dict):
            found += [_unchained((way, key)) for key in item if is_mark(key)]
            pending.extend(((way, key), child) for key, child in item.items())
        elif isinstance(item, list):
            pending.extend(((way, n), child) for n, child in enumerate(item))
    return found


def _unchained(chain: tuple[Any, ...]) -> Path:
    parts: list[str | int] = []
    while chain:
        chain, part = chain
        parts.append(part)
    return tuple(reversed(parts))
