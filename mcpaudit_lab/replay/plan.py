"""What would be called again, and why not: a verdict for each event, before anything is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.calls import Outgoing, Pace, PlanVerdict, Refusal, RefusalReason
from mcpaudit_lab.record import counted, render_html, visible

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.record import Event
    from mcpaudit_lab.replay.book import Sending
    from mcpaudit_lab.replay.targets import Target
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["PlanItem", "PlannedReplay"]

_SHOWN: Final = 20
_TOOL_WIDTH: Final = 24
_COLUMNS: Final = (
    *("event_id", "ts", "tool_name", "verdict", "reason", "detail", "paths", "modified", "route"),
    "definition",
)


@dataclass(frozen=True, slots=True, repr=False)
class PlanItem:
    """The verdict on one event.

    Attributes:
        event: the event.
        refusal: why it is not sent, or None.
        unknown: what the target does not declare, so that it cannot be checked: ``schema``,
            ``annotations``, or ``tools`` for all of it.
        route: the target's route for the call; empty for a refused call.
        outgoing: what would be sent.
        definition_changes: the members of the tool's definition that the target has changed since
            the call, such as ``description``; empty if it is the same, None if one of the two is
            unknown.
        repeatable: whether it may be sent several times: its tool says so, or ``allow`` names it.
    """

    event: Event
    refusal: Refusal | None
    outgoing: Outgoing
    unknown: tuple[str, ...] = ()
    route: str = ""
    repeatable: bool = False
    definition_changes: tuple[str, ...] | None = None

    @property
    def verdict(self) -> PlanVerdict:
        """Ready, unknown (sent, but unchecked) or refused."""
        if self.refusal is not None:
            return PlanVerdict.REFUSED
        return PlanVerdict.UNKNOWN if self.unknown else PlanVerdict.READY

    @property
    def detail(self) -> str:
        """The verdict's grounds for a person, without a value of the call."""
        if self.refusal is not None:
            return str(self.refusal)
        notes = ["modified"] if self.outgoing.modified else []
        if self.unknown:
            notes = [f"the target does not say: {', '.join(self.unknown)}; sent unchecked"]
        if self.definition_changes:
            changed = ", ".join(map(visible, self.definition_changes))
            notes.append(f"the tool was redefined since the call: {changed}")
        return "; ".join(notes)

    @property
    def definition(self) -> str:
        """The tool's definition now, compared with the call: same, changed or unknown."""
        if self.definition_changes is None:
            return "unknown"
        return "changed" if self.definition_changes else "same"

    def __repr__(self) -> str:
        return f"PlanItem({self.event.id}, {self.event.tool_name!r}, {self.verdict})"


@dataclass(slots=True, repr=False, eq=False)
class PlannedReplay:
    """What would be called again: the verdicts, and what a person reads of them.

    :class:`~mcpaudit_lab.replay.planning.ReplayPlan` is one that can be run.
    """

    lab: LabStore
    target: Target
    items: tuple[PlanItem, ...]
    pace: Pace | None
    warnings: tuple[str, ...] = ()
    left_out: int = 0
    again: frozenset[Sending] = frozenset()

    @property
    def runnable(self) -> tuple[PlanItem, ...]:
        """The events that would be sent."""
        return tuple(item for item in self.items if item.refusal is None)

    @property
    def wait_s(self) -> float:
        """How long the limiter delays the calls, in seconds, excluding the calls' own time."""
        return 0.0 if self.pace is None else self.pace.wait_s(len(self.runnable))

    def counts(self) -> dict[str, int]:
        """Number of events for each verdict, and for each reason of refusal that occurs."""
        counts = Counter(str(item.verdict) for item in self.items)
        reasons = Counter(str(i.refusal.reason) for i in self.items if i.refusal is not None)
        return {str(name): counts[name] for name in PlanVerdict} | dict(sorted(reasons.items()))

    def df(self) -> pd.DataFrame:
        """One row for each event, in the order of the calls.

        Returns:
            Columns ``event_id``, ``ts`` (UTC), ``tool_name``, ``verdict`` (``ready``, ``unknown``,
            ``refused``), ``reason`` (a value of :class:`RefusalReason`, or empty), ``detail``,
            ``paths`` (a list of texts), ``modified``, ``route``, ``definition`` (``same``,
            ``changed`` since the call, ``unknown``).
        """
        import pandas as pd

        rows = [
            {
                "event_id": item.event.id,
                "ts": item.event.timestamp,
                "tool_name": item.event.tool_name,
                "verdict": str(item.verdict),
                "reason": str(item.refusal.reason) if item.refusal else "",
                "detail": item.detail,
                "paths": list(item.refusal.paths) if item.refusal else [],
                "modified": item.outgoing.modified,
                "route": item.route,
                "definition": item.definition,
            }
            for item in self.items
        ]
        types: dict[str, Any] = dict.fromkeys(
            ("event_id", "tool_name", "verdict", "reason", "detail", "route", "definition"), "str"
        )
        types |= {"modified": "boolean", "ts": "datetime64[us, UTC]"}
        return pd.DataFrame(rows, columns=_COLUMNS).astype(types)

    def describe(self) -> str:
        """The plan as lines of text: what would happen, then a table of the first events."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        total = len(self.items)
        counts = {name: count for name, count in self.counts().items() if count}
        told = ", ".join(f"{n} {name}" for name, n in counts.items() if name in set(PlanVerdict))
        reasons = ", ".join(
            f"{n} {name}" for name, n in counts.items() if name in set(RefusalReason)
        )
        told += f" ({reasons})" if reasons else ""
        yield f"{counted(total, 'event')} for {visible(self.target.name)}: {told or 'none'}"
        if self.wait_s:
            yield f"  at least {self.wait_s:g} s: {self.pace}"
        if self.left_out:
            yield f"  left out: {counted(self.left_out, 'replay')} of these"
        for warning in self.warnings:
            yield f"  warning: {warning}"
        for item in self.items[:_SHOWN]:
            tool = visible(item.event.tool_name)[:_TOOL_WIDTH]
            line = f"  {item.event.id[:8]}  {tool:{_TOOL_WIDTH}}  {item.verdict:8}  {item.detail}"
            yield line.rstrip()
        if total > _SHOWN:
            yield f"  and {total - _SHOWN} more; plan.df() has all"

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        """The verdicts, for a notebook."""
        return render_html("plan", self)

    def __len__(self) -> int:
        return len(self.items)
