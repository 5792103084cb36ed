"""What would be called again, and why not: a verdict for each event, before anything is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.replay.arguments import Outgoing
from mcpaudit_lab.replay.pace import Pace
from mcpaudit_lab.replay.refusals import PlanVerdict, Refusal, RefusalReason
from mcpaudit_lab.terminal import counted, visible

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.events import Event
    from mcpaudit_lab.lab.replay_states import Sending
    from mcpaudit_lab.lab.workbench import Lab
    from mcpaudit_lab.replay.run import ReplayRun
    from mcpaudit_lab.replay.targets import Target

__all__ = ["PlanItem", "ReplayPlan"]

_SHOWN: Final = 20
_TOOL_WIDTH: Final = 24
_COLUMNS: Final = (
    *("event_id", "ts", "tool_name", "verdict", "reason", "detail", "paths", "modified", "route"),
)


@dataclass(frozen=True, slots=True, repr=False)
class PlanItem:
    """The verdict on one event.

    Attributes:
        event: the event.
        refusal: why it is not sent, or None.
        unknown: what the target does not say, so that nobody can vouch for it: ``schema``,
            ``annotations``, or ``tools`` for all of it.
        route: by which door of the target it would go in; empty where it is refused.
        outgoing: what would be sent.
        repeatable: whether it may be sent several times: its tool says so, or ``allow`` names it.
    """

    event: Event
    refusal: Refusal | None
    outgoing: Outgoing
    unknown: tuple[str, ...] = ()
    route: str = ""
    repeatable: bool = False

    @property
    def verdict(self) -> PlanVerdict:
        """Ready, unknown (it is sent, but nobody vouches) or refused."""
        if self.refusal is not None:
            return PlanVerdict.REFUSED
        return PlanVerdict.UNKNOWN if self.unknown else PlanVerdict.READY

    @property
    def detail(self) -> str:
        """The verdict's grounds for a person, without a value of the call."""
        if self.refusal is not None:
            return str(self.refusal)
        if self.unknown:
            return f"the target does not say: {', '.join(self.unknown)}; nobody vouches"
        return "modified" if self.outgoing.modified else ""

    def __repr__(self) -> str:
        return f"PlanItem({self.event.id}, {self.event.tool_name!r}, {self.verdict})"


@dataclass(slots=True, repr=False, eq=False)
class ReplayPlan:
    """What would be called again. Made by :meth:`Lab.plan_replay`; nothing was called.

    Attributes:
        lab: where outcomes are written.
        target: where the calls would go.
        items: the verdicts, in the order of the calls: oldest first.
        pace: how fast the target takes them; None for no limit.
        warnings: what to think of before running it.
        left_out: how many events were left out because their originals are there: they are replays
            themselves.
        again: what was sent before with no outcome known and is sent once more all the same.
        begun: the run, once there is one.
    """

    lab: Lab
    target: Target
    items: tuple[PlanItem, ...]
    pace: Pace | None
    warnings: tuple[str, ...] = ()
    left_out: int = 0
    again: frozenset[Sending] = frozenset()
    begun: ReplayRun | None = field(default=None, init=False)

    @property
    def runnable(self) -> tuple[PlanItem, ...]:
        """The events that would be sent."""
        return tuple(item for item in self.items if item.refusal is None)

    @property
    def wait_s(self) -> float:
        """How long the limiter holds the calls back, in seconds, the calls' own time aside."""
        return 0.0 if self.pace is None else self.pace.wait_s(len(self.runnable))

    def counts(self) -> dict[str, int]:
        """How many events have each verdict, and each reason of refusal that there is."""
        counts = Counter(str(item.verdict) for item in self.items)
        reasons = Counter(str(i.refusal.reason) for i in self.items if i.refusal is not None)
        return {str(name): counts[name] for name in PlanVerdict} | dict(sorted(reasons.items()))

    def df(self) -> pd.DataFrame:
        """One row for each event, in the order of the calls.

        Returns:
            Columns ``event_id``, ``ts`` (UTC), ``tool_name``, ``verdict`` (``ready``, ``unknown``,
            ``refused``), ``reason`` (a value of :class:`RefusalReason`, or empty), ``detail``,
            ``paths`` (a list of texts), ``modified``, ``route``.
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
            }
            for item in self.items
        ]
        types: dict[str, Any] = dict.fromkeys(
            ("event_id", "tool_name", "verdict", "reason", "detail", "route"), "str"
        )
        types |= {"modified": "boolean", "ts": "datetime64[us, UTC]"}
        return pd.DataFrame(rows, columns=_COLUMNS).astype(types)

    def run(
        self,
        *,
        limit: int | None = None,
        rate: str | float | Pace | None = None,
        stop_on: str | Iterable[str] | Callable[[Mapping[str, Any]], object] = (),
        repeat: int = 1,
        progress: bool | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> ReplayRun:
        """Send the calls, one after another, and write what became of them into the lab.

        Interrupted, stopped or killed, it goes on where it was: run the plan again, or make the
        same plan again in another process. Nothing is sent twice. A call that was sent with no
        outcome known is ``uncertain`` and stays so. An interrupt (Ctrl-C) waits for the call that
        is on its way; a second one does not.

        Args:
            limit: how many calls are sent now, at most.
            rate: how fast, in place of the target's own: ``"10/s"``, ``"1/12s"``, calls per second
                or a :class:`Pace`. A target's 429 is honoured all the same.
            stop_on: stop after a call that ``failed``, is ``uncertain``, ``unsent`` or
                ``refused``, or whose result ``changed``; or a function that is called with each
                row of the run's frame. It stops all the same where the target cannot be reached, or
                goes on to want us to wait.
            repeat: how often each call is sent, to learn what differs between two calls of the
                same: :attr:`ReplayRun.noise`. Tools that neither say that they are idempotent or
                read-only nor are named in ``allow`` are called once.
            progress: show a progress bar; None shows it where there is a terminal or notebook.
            clock: monotonic seconds, for the rate.
            sleep: waits so many seconds, for the rate.

        Raises:
            ReplayError: a rate, a limit, or something to stop on that is none.
            LabError: the lab cannot be written.
        """
        import time

        from mcpaudit_lab.replay.runner import run_plan

        return run_plan(
            self,
            limit=limit,
            rate=rate,
            stop_on=stop_on,
            repeat=repeat,
            progress=progress,
            clock=clock or time.monotonic,
            sleep=sleep or time.sleep,
        )

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
        from mcpaudit_lab.widgets.replay_view import plan_html

        return plan_html(self)

    def __len__(self) -> int:
        return len(self.items)
