"""Two audit events: what changed between the calls, and what cannot be known.

A comparison has five sections, which are the roots of its paths:

=============  ===================================================================================
section        what is compared
=============  ===================================================================================
summary        :data:`SUMMARY_MEMBERS` of the event
param          the arguments: the payload's ``request_params``, or the event's ``parameters`` where
               there are none
response       ``response_result``. The text of a text block that is a JSON object or array on both
               sides is compared as JSON: ``response.content[0].text.{json}.user.id``
error          ``response_error``
notifications  each notification's ``method`` and ``params``, in order
=============  ===================================================================================

Ignored, because it differs between any two calls or says nothing about their outcome:

==========================================  ======================================================
``id``, ``request_id``, ``session_id``      which call it was
``timestamp``, ``duration_ms``              when, and how long; both durations are reported
``user_subject``, ``user_email``            who called: a replay runs as whoever replays
``auth_type``, ``api_key_name``             the same
``transport``, ``source``, ``user_agent``   by which door the call came in
``remote_addr``, headers                    from where
``request_chars``, ``response_chars``       counted from what is compared, as all sizes are
``error_message``, if it is                 what the reference server writes for Try-It and replays
``tool returned IsError``                   where for an MCP call it writes nothing
a notification's ``ts`` and ``id``          when it was sent
:data:`NOTIFICATION_NOISE` in its params    for which request or task, and when
members this package does not know          nobody knows what they are
==========================================  ======================================================

There are three values: if one side was redacted, truncated or not captured, the path is
``unknown``, which is neither equal nor changed. A truncated side is unknown as a whole, even if the
summary contains a part of it. Absence is known: a key that only one side has is a change, even if
its value is redacted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from mcpaudit_lab.comparison.change import change_dict, cut, lines_diff, shown_change
from mcpaudit_lab.comparison.jsondiff import Change, ChangeKind, examine
from mcpaudit_lab.comparison.paths import (
    Path,
    PathMatcher,
    PathPattern,
    Wildcard,
    compile_patterns,
    format_path,
    parse_path_pattern,
)
from mcpaudit_lab.comparison.sections import (
    NOTIFICATION_NOISE,
    SECTIONS,
    SUMMARY_MEMBERS,
    close_texts,
    known_sections,
    open_texts,
    surely_equal,
)
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.record import (
    DEFAULT_DIALECTS,
    Dialect,
    Event,
    counted,
    marks_of,
    render_html,
    visible,
)

__all__ = [
    "NOTIFICATION_NOISE",
    "SECTIONS",
    "SUMMARY_MEMBERS",
    "Comparison",
    "Section",
    "Verdict",
    "compare",
]

# Other names for two of the sections. Filters and frames say param and response.
_ALIASES: Final = {"params": "param", "result": "response"}

_DESCRIBED_MAX: Final = 50
# Lines of a changed text that a report shows at most.
_TEXT_LINES_MAX: Final = 60


class Verdict(StrEnum):
    """The result of comparing two sides."""

    EQUAL = "equal"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, repr=False)
class Section:
    """One part of a comparison.

    Attributes:
        changes: in document order.
        unknown: paths that cannot be compared; the section's own path if it was truncated or not
            captured.
    """

    changes: tuple[Change, ...] = ()
    unknown: tuple[Path, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Changed if there is a change, else unknown if anything is unknown, else equal."""
        if self.changes:
            return Verdict.CHANGED
        return Verdict.UNKNOWN if self.unknown else Verdict.EQUAL

    def __repr__(self) -> str:
        changes = counted(len(self.changes), "change")
        return f"Section({self.verdict}, {changes}, {len(self.unknown)} unknown)"


_ALL_EQUAL: Final = MappingProxyType(dict.fromkeys(SECTIONS, Section()))


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Comparison:
    """What :func:`compare` found. It is neither true nor false: ask for its verdict.

    Attributes:
        left: the first event.
        right: the second.
        sections: the sections by name, in the order of :data:`SECTIONS`.
        ignored: number of places that differ but were ignored because of ``ignore``.
    """

    left: Event
    right: Event
    sections: Mapping[str, Section]
    ignored: int = 0

    def __reduce__(self) -> tuple[type[Comparison], tuple[object, ...]]:
        """A mapping proxy cannot be pickled; its dict can."""
        return Comparison, (self.left, self.right, dict(self.sections), self.ignored)

    @property
    def verdict(self) -> Verdict:
        """Changed if a section is, else unknown if one is, else equal."""
        verdicts = {section.verdict for section in self.sections.values()}
        if Verdict.CHANGED in verdicts:
            return Verdict.CHANGED
        return Verdict.UNKNOWN if Verdict.UNKNOWN in verdicts else Verdict.EQUAL

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes of all sections, in order."""
        return tuple(change for section in self.sections.values() for change in section.changes)

    @property
    def unknown(self) -> tuple[Path, ...]:
        """The unknown paths of all sections, in order."""
        return tuple(path for section in self.sections.values() for path in section.unknown)

    @property
    def ids(self) -> tuple[str, str]:
        """The ids of both events; an empty text for an event without one."""
        return self.left.id, self.right.id

    @property
    def durations_ms(self) -> tuple[int, int]:
        """How long both calls took, in milliseconds."""
        return self.left.duration_ms, self.right.duration_ms

    def counts(self) -> dict[str, int]:
        """Number of changes of each kind, and of unknown paths under ``unknown``.

        Every kind is present, with 0 if there is none.
        """
        counts = {kind.value: 0 for kind in ChangeKind}
        for change in self.changes:
            counts[change.kind] += 1
        counts["unknown"] = len(self.unknown)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object, with paths as text.

        A change has ``left`` and ``right``, but only one of them if it was removed or added.
        """
        left_id, right_id = self.ids
        left_ms, right_ms = self.durations_ms
        return {
            "verdict": self.verdict.value,
            "left": {"id": left_id, "duration_ms": left_ms},
            "right": {"id": right_id, "duration_ms": right_ms},
            "counts": self.counts(),
            "ignored": self.ignored,
            "sections": {
                name: {
                    "verdict": section.verdict.value,
                    "changes": [change_dict(change) for change in section.changes],
                    "unknown": [format_path(path) for path in section.unknown],
                }
                for name, section in self.sections.items()
            },
        }

    def describe(self, *, changes_max: int = _DESCRIBED_MAX, width: int = 60) -> str:
        """A report of several lines for a terminal: verdict, changes, unknown paths.

        Control characters and others that a terminal would obey are shown as escapes.

        Args:
            changes_max: how many changes, and how many unknown paths, are listed.
            width: characters after which a value is cut.
        """
        return "\n".join(self._lines(changes_max, width))

    def _lines(self, changes_max: int, width: int) -> Iterator[str]:
        yield self._headline()
        for side, event in (("left", self.left), ("right", self.right)):
            yield (
                f"  {side:5}  {event.id or '(no id)'}  {visible(cut(event.tool_name, width))}"
                f"  {event.duration_ms} ms"
            )
        changes, unknown = self.changes, self.unknown
        kind_width = max((len(change.kind) for change in changes[:changes_max]), default=0)
        for change in changes[:changes_max]:
            kind = f"{change.kind:{kind_width}}"
            yield f"  {kind}  {cut(format_path(change.path), 200)}: {shown_change(change, width)}"
            if text := lines_diff(change):
                for line in text.report(width=2 * width, lines_max=_TEXT_LINES_MAX):
                    yield f"    {line}"
        if len(changes) > changes_max:
            yield f"  and {counted(len(changes) - changes_max, 'more change')}"
        for path in unknown[:changes_max]:
            yield f"  unknown  {cut(format_path(path), 200)}"
        if len(unknown) > changes_max:
            yield f"  and {len(unknown) - changes_max} more unknown"
        if self.ignored:
            yield f"  {self.ignored} ignored"

    def _headline(self) -> str:
        counts = [f"{count} {kind}" for kind, count in self.counts().items() if count]
        return f"{self.verdict}: {', '.join(counts)}" if counts else f"{self.verdict}"

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        left_id, right_id = (id_ or "no id" for id_ in self.ids)
        return f"Comparison({self._headline()}; {left_id}, {right_id})"

    def _repr_html_(self) -> str:
        """Both sides and what changed, for a notebook."""
        return render_html("comparison", self)

    def __bool__(self) -> bool:
        raise TypeError("a comparison is neither true nor false: ask for its verdict")


def compare(
    a: Event,
    b: Event,
    *,
    ignore: Iterable[str | PathPattern] = (),
    dialects: Iterable[Dialect | str] = DEFAULT_DIALECTS,
) -> Comparison:
    """Compare two events, section by section; this module's docstring says what with what.

    Args:
        a: the left event, with or without its payload.
        b: the right one.
        ignore: patterns of paths to ignore, with everything below them, such as
            ``response.structuredContent.ms`` or ``response.content[*].text.**.took_ms``; see
            :mod:`.comparison.paths`. The first segment is a section or a wildcard; ``params`` and
            ``result`` mean ``param`` and ``response``.
        dialects: which redaction marks count.

    Raises:
        FilterError: a malformed pattern, or one that does not start with a section.
        ValueError: for a dialect that does not exist.
    """
    matcher = _matcher((ignore,) if isinstance(ignore, str | PathPattern) else tuple(ignore))
    marks = marks_of(dialects)
    left, left_unknown = known_sections(a)
    right, right_unknown = known_sections(b)
    if not left_unknown and not right_unknown and surely_equal(left, right, marks):
        return Comparison(a, b, _ALL_EQUAL)
    unknown: list[Path] = []
    ignored = 0
    if left_unknown or right_unknown:
        for name in dict.fromkeys((*left_unknown, *right_unknown)):
            left.pop(name, None)
            right.pop(name, None)
            if _is_ignored(name, matcher):
                ignored += 1
            else:
                unknown.append((name,))
    opened = open_texts(left, right, marks)
    findings = examine(left, right, matcher=matcher, marks=marks)
    changes = findings.changes
    if opened:
        changes = tuple(map(close_texts, changes))
    sections = _sections(changes, (*findings.unknown, *unknown))
    return Comparison(a, b, sections, ignored + findings.ignored)


@lru_cache(maxsize=64)
def _matcher(ignore: tuple[str | PathPattern, ...]) -> PathMatcher | None:
    patterns = []
    for item in ignore:
        pattern = parse_path_pattern(item) if isinstance(item, str) else item
        first, *rest = pattern.segments or (Wildcard.MANY,)
        name = _ALIASES.get(first, first) if isinstance(first, str) else first
        if name not in SECTIONS and not isinstance(name, Wildcard):
            raise FilterError(
                f"the path {str(pattern)!r} begins with no section: {', '.join(SECTIONS)}"
            )
        patterns.append(PathPattern((name, *rest)))
    return compile_patterns(patterns)


def _is_ignored(name: str, matcher: PathMatcher | None) -> bool:
    if matcher is None or matcher.start is None:
        return False
    state = matcher.step(matcher.start, name)
    return state is not None and matcher.accepts(state)


def _sections(changes: tuple[Change, ...], unknown: tuple[Path, ...]) -> Mapping[str, Section]:
    sections = dict(_ALL_EQUAL)
    for name in dict.fromkeys([item.path[0] for item in changes] + [path[0] for path in unknown]):
        sections[str(name)] = Section(
            tuple([change for change in changes if change.path[0] == name]),
            tuple([path for path in unknown if path[0] == name]),
        )
    return MappingProxyType(sections)
