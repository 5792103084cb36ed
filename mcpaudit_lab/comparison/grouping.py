"""Many comparisons at once: how many are equal, and which places differ in how many of them.

A place is a path with every position in a list as ``[*]``: the same change in the third and in the
fifth element is one group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mcpaudit_lab.comparison.change import Change, ChangeKind, cut, shown_change
from mcpaudit_lab.comparison.comparison import Comparison, Verdict
from mcpaudit_lab.comparison.paths import Path, format_place
from mcpaudit_lab.record import counted, dumps, visible

__all__ = ["ChangeGroup", "ComparedTool", "ComparisonGroups"]

_UNKNOWN: Final = "unknown"
# Whoever names the keys of an answer could make any number of groups.
_GROUPS_MAX: Final = 5_000
_EXAMPLES_MAX: Final = 40
_NOISE_LEAST: Final = 3
_DESCRIBED_MAX: Final = 40
_VALUE_WIDTH: Final = 40


@dataclass(slots=True)
class ChangeGroup:
    """One place of one tool that differs in the same way in some comparisons.

    Attributes:
        tool_name: the tool.
        path: the place, as a pattern that ``ignore`` takes.
        kind: a :class:`ChangeKind`, or ``unknown`` where a side cannot be known.
        ids: ids of the two events of the first such comparison.
        section: the part of the event.
        change: the first such change; None for ``unknown``.
        example: that comparison; None after the first forty groups, which would need much memory.
        count: number of comparisons that have it.
        types: JSON types of what changed, with their counts; empty for ``unknown``.
        varies: whether the new values differ from each other.
    """

    tool_name: str
    path: str
    kind: str
    ids: tuple[str, str]
    section: str
    change: Change | None = None
    example: Comparison | None = None
    count: int = 0
    types: Counter[str] = field(default_factory=Counter)
    varies: bool = False

    def take(self, change: Change | None, *, again: bool) -> None:
        """Count one more; ``again`` if the same comparison is counted already."""
        self.count += not again
        if change is None or self.change is None:
            return
        self.types[_types(change)] += 1
        if not self.varies:
            self.varies = dumps(change.right) != dumps(self.change.right)

    def words(self, of: int) -> str:
        """``41 of 60, always a number``.

        Args:
            of: number of comparisons of the tool.
        """
        told = f"{self.count:,} of {of:,}"
        if not self.types:
            return told
        kinds = " or ".join(sorted(self.types))
        always = "always " if len(self.types) == 1 and self.count > 1 else ""
        return f"{told}, {always}{kinds}"

    def shown(self, width: int = _VALUE_WIDTH) -> str:
        """The values of the first such change, on one line."""
        return "" if self.change is None else shown_change(self.change, width)


@dataclass(slots=True)
class ComparedTool:
    """How many comparisons of a tool came out how.

    Attributes:
        name: the tool.
        equal: number of equal ones.
        changed: of changed ones.
        unknown: of unknown ones, those included whose other side is missing.
        compared: number of those that have two sides.
    """

    name: str
    equal: int = 0
    changed: int = 0
    unknown: int = 0
    compared: int = 0

    @property
    def total(self) -> int:
        """Number of all."""
        return self.equal + self.changed + self.unknown


class ComparisonGroups:
    """Groups of comparisons, filled one by one with :meth:`add`.

    Attributes:
        left_out: number of changes without a group, because there were 5,000 groups.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._tools: dict[str, ComparedTool] = {}
        self._groups: dict[tuple[str, str, str], ChangeGroup] = {}

    def add(self, tool_name: str, found: Comparison | None) -> None:
        """Count a comparison; None where one of the two events is missing."""
        tool = self._tools.setdefault(tool_name, ComparedTool(tool_name))
        if found is None:
            tool.unknown += 1
            return
        tool.compared += 1
        verdict = found.verdict
        tool.equal += verdict is Verdict.EQUAL
        tool.changed += verdict is Verdict.CHANGED
        tool.unknown += verdict is Verdict.UNKNOWN
        # Several elements of a list may differ in one place: the comparison counts once.
        seen: set[tuple[str, str]] = set()
        differing = [(change.path, change.kind.value, change) for change in found.changes]
        for path, kind, change in [*differing, *((path, _UNKNOWN, None) for path in found.unknown)]:
            group = self._group(tool_name, path, kind, change, found)
            if group is None:
                self.left_out += 1
                continue
            group.take(change, again=(group.path, kind) in seen)
            seen.add((group.path, kind))

    def _group(
        self, tool_name: str, path: Path, kind: str, change: Change | None, found: Comparison
    ) -> ChangeGroup | None:
        key = (tool_name, format_place(path), kind)
        group = self._groups.get(key)
        if group is None and len(self._groups) < _GROUPS_MAX:
            example = found if len(self._groups) < _EXAMPLES_MAX else None
            group = ChangeGroup(*key, found.ids, str(path[0]), change, example)
            self._groups[key] = group
        return group

    @property
    def total(self) -> int:
        """Number of comparisons."""
        return sum(tool.total for tool in self._tools.values())

    def counts(self) -> dict[str, int]:
        """Number of ``equal``, ``changed`` and ``unknown`` comparisons."""
        tools = self._tools.values()
        return {name: sum(getattr(tool, name) for tool in tools) for name in map(str, Verdict)}

    def tools(self) -> list[ComparedTool]:
        """The tools; those with most changes first."""
        return sorted(
            self._tools.values(), key=lambda tool: (-tool.changed, -tool.unknown, tool.name)
        )

    def changes_of(self, tool_name: str) -> list[ChangeGroup]:
        """The places of a tool that differ; the most frequent first."""
        found = (group for group in self._groups.values() if group.tool_name == tool_name)
        return sorted(found, key=lambda group: (-group.count, group.path, group.kind))

    def noise(self) -> dict[str, tuple[str, ...]]:
        """What always differs and says nothing, by tool: patterns for ``ignore``.

        A place is proposed if its value differs in every one of at least three comparisons of the
        tool, keeps its type, and is not always the same new value. Arguments are never proposed.
        """
        found: dict[str, tuple[str, ...]] = {}
        for tool in self.tools():
            paths = [g.path for g in self.changes_of(tool.name) if _is_noise(g, tool.compared)]
            if paths:
                found[tool.name] = tuple(paths)
        return found

    def describe(self, noun: str = "comparison") -> str:
        """The groups as lines for a terminal: by tool, then by place.

        Args:
            noun: what one comparison is called.
        """
        return "\n".join(self._lines(noun))

    def _lines(self, noun: str) -> Iterator[str]:
        yield f"{counted(self.total, noun)}: {_told(self.counts())}"
        for tool in self.tools():
            counts = {"equal": tool.equal, "changed": tool.changed, "unknown": tool.unknown}
            yield f"  {visible(cut(tool.name, 60)) or '(no tool)'}: {_told(counts)}"
            groups = self.changes_of(tool.name)
            shown = groups[:_DESCRIBED_MAX]
            kinds = max((len(group.kind) for group in shown), default=0)
            for group in shown:
                values = f"; {group.shown()}" if group.change is not None else ""
                example = " ".join(event_id[:8] for event_id in group.ids)
                yield (
                    f"    {group.kind:{kinds}}  {cut(group.path, 120)}:"
                    f" {group.words(tool.compared)} ({example}){values}"
                )
            if len(groups) > len(shown):
                yield f"    and {counted(len(groups) - len(shown), 'more place')}"
        if self.left_out:
            yield f"  {counted(self.left_out, 'more change')} in other places"
        for name, paths in self.noise().items():
            listed = ", ".join(cut(path, 120) for path in paths)
            yield f"  always differs, so perhaps noise of {visible(cut(name, 60))}: {listed}"


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


def _is_noise(group: ChangeGroup, compared: int) -> bool:
    return (
        group.kind == ChangeKind.VALUE
        and group.count == compared >= _NOISE_LEAST
        and len(group.types) == 1
        and group.varies
        and group.section != "param"
    )


def _types(change: Change) -> str:
    left, right = _type_name(change.left), _type_name(change.right)
    if change.kind is ChangeKind.TYPE:
        return f"{left} to {right}"
    return right if change.kind is ChangeKind.ADDED else left


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if value is None:
        return "null"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else "a number"
