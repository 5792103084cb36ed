"""Takes values out of events for a bundle, and leaves a commitment to each.

A commitment is SHA-256 over a salt and the value in canonical JSON. The salt comes from the signing
key, the event and the path: nobody else can guess a value by trying, and the key's owner can show a
value with its salt later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.comparison import PathMatcher, compile_patterns, format_path
from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.record import REDACTED, Event, canonical_json

if TYPE_CHECKING:
    from mcpaudit_lab.proof import LogSigner

__all__ = ["Redactor", "commitment"]

# Without these a line is no event, or no longer the same one.
_KEPT: Final = ("id", "timestamp")


def commitment(salt: bytes, value: Any) -> str:
    """The commitment to a value, in hex."""
    return hashlib.sha256(salt + canonical_json(value).encode()).hexdigest()


@dataclass
class Redactor:
    """Takes the values at some paths out of events.

    Args:
        patterns: paths in the event's JSON, such as ``payload.request_params.arguments.token`` or
            ``**.token``.
        signer: whose key the salts come from.

    Attributes:
        rows: what was taken out: id, path, commitment.
        redacted: ids of the events that values were taken out of.

    Raises:
        FilterError: a malformed path.

    :meth:`apply` raises the same where an event cannot be without a value, such as its duration.
    """

    patterns: Iterable[str]
    signer: LogSigner
    rows: list[dict[str, Any]] = field(default_factory=list)
    redacted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._matcher = compile_patterns(tuple(self.patterns))

    def apply(self, event: Event) -> Event:
        """The event without these values; the same event if it has none of them."""
        matcher = self._matcher
        if matcher is None or matcher.start is None:
            return event
        taken: dict[str, Any] = {}
        wire = {
            name: value if name in _KEPT else self._walk(value, (name,), matcher, taken)
            for name, value in event.wire.items()
        }
        if not taken:
            return event
        try:
            redacted = Event(wire)
        except RecordError as error:
            raise FilterError(f"an event cannot be without {', '.join(taken)}: {error}") from None
        if event.id not in self.redacted:
            self.redacted.add(event.id)
            self.rows += [
                {
                    "id": event.id,
                    "path": path,
                    "commitment": commitment(self.salt(event.id, path), value),
                }
                for path, value in taken.items()
            ]
        return redacted

    def salt(self, event_id: str, path: str) -> bytes:
        """The salt of one commitment, 32 bytes."""
        return self.signer.derive(f"bundle redaction\n{event_id}\n{path}")

    def _walk(
        self, value: Any, path: tuple[str | int, ...], matcher: PathMatcher, taken: dict[str, Any]
    ) -> Any:
        state = matcher.start
        for segment in path:
            state = None if state is None else matcher.step(state, segment)
        if state is None:
            return value
        if matcher.accepts(state):
            taken[format_path(path)] = value
            return REDACTED
        if isinstance(value, dict):
            return {
                name: self._walk(item, (*path, name), matcher, taken)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [
                self._walk(item, (*path, index), matcher, taken) for index, item in enumerate(value)
            ]
        return value
