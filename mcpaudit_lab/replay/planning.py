"""Making a plan: one check after the other, the first that fails is the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcpaudit_lab.calls import (
    ALL_DIALECTS,
    Edit,
    Outgoing,
    Pace,
    Refusal,
    RefusalReason,
    Scrubber,
    Secrets,
    ToolFacts,
    not_captured,
    not_whole,
    parse_pace,
    prepare,
    schema_check,
)
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record import Dialect, Event, ToolDefinition, counted, parse_id, visible
from mcpaudit_lab.replay.book import SENT_BEFORE, ReplayBook
from mcpaudit_lab.replay.plan import PlanItem, PlannedReplay
from mcpaudit_lab.replay.run import ReplayRun
from mcpaudit_lab.replay.runner import RunSettings, begin_run, send_calls, stopper
from mcpaudit_lab.replay.targets import Target, TargetLike, target_of
from mcpaudit_lab.storage import definitions_in_force

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["AllowLike", "Allowed", "EventsLike", "ReplayPlan", "make_plan"]

EventsLike: TypeAlias = "Iterable[Event | str] | Event | str"
AllowLike: TypeAlias = "Allowed | str | Iterable[str] | None"

_ALL: Final = "all"
_READ_ONLY: Final = "read-only"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which tools may be called.

    Attributes:
        names: these, whatever their target says of them.
        every: all others too, unless their target says that they destroy.
        read_only: tools that their server declares read-only.
    """

    names: frozenset[str] = frozenset()
    every: bool = False
    read_only: bool = False

    @classmethod
    def of(cls, allow: AllowLike) -> Allowed:
        """Read ``"all"``, ``"read-only"``, one name, or several.

        In a collection everything is a name: it may have been made from a log, where a tool may be
        called ``all``.
        """
        if allow is None:
            return cls()
        if isinstance(allow, Allowed):
            return allow
        if isinstance(allow, str):
            if allow == _ALL:
                return cls(every=True)
            return cls(read_only=True) if allow == _READ_ONLY else cls(frozenset({allow}))
        return cls(frozenset(allow))

    def refuse(self, name: str, tool: ToolFacts | None) -> Refusal | None:
        """Why a tool may not be called; None if it may."""
        if name in self.names:
            return None
        if tool is not None and tool.destructive:
            detail = "its server says that the tool destroys; allow= must name it"
            return Refusal(RefusalReason.DESTRUCTIVE, detail)
        if self.every or (self.read_only and tool is not None and tool.read_only):
            return None
        detail = "the tool is not in allow="
        if self.read_only:
            detail = "its server does not say that the tool only reads"
        return Refusal(RefusalReason.NOT_ALLOWED, detail)


@dataclass(slots=True, repr=False, eq=False)
class ReplayPlan(PlannedReplay):
    """What would be called again. Made by :meth:`Lab.plan_replay`; nothing was called.

    Attributes:
        lab: where outcomes are written.
        target: where the calls would go.
        items: the verdicts, in the order of the calls: oldest first.
        pace: how fast the target takes them; None for no limit.
        warnings: what to think of before running it.
        left_out: number of replays left out because their originals are in the plan.
        again: calls with unknown outcome that are sent again.
        begun: the run, once it has begun.
    """

    begun: ReplayRun | None = field(default=None, init=False)

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

        If interrupted, stopped or killed, it resumes: run the plan again, or make the same plan
        again in another process. Nothing is sent twice. A call with unknown outcome is
        ``uncertain`` and stays so. An interrupt (Ctrl-C) waits for the current call; a second one
        does not.

        Args:
            limit: how many calls are sent now, at most.
            rate: a rate instead of the target's own: ``"10/s"``, ``"1/12s"``, calls per second or a
                :class:`Pace`. A target's 429 is honoured anyway.
            stop_on: stop after a call that ``failed``, is ``uncertain``, ``unsent`` or ``refused``,
                or whose result ``changed``; or a function that is called with each row of the run's
                frame. It stops anyway where the target cannot be reached, or goes on to want us to
                wait.
            repeat: how often each call is sent, to learn what differs between two calls of the
                same: :attr:`ReplayRun.noise`. Tools that neither say that they are idempotent or
                read-only nor are named in ``allow`` are called once.
            progress: show a progress bar; None shows it in a terminal or notebook.
            clock: monotonic seconds, for the rate.
            sleep: waits a number of seconds, for the rate.

        Raises:
            ReplayError: an invalid rate, limit or stop condition.
            LabError: the lab cannot be written.
        """
        settings = RunSettings(
            pace=parse_pace(rate) or self.pace,
            stops=stopper(stop_on),
            limit=limit,
            repeat=repeat,
            progress=progress,
            clock=clock or time.monotonic,
            sleep=sleep or time.sleep,
        )
        self.begun = begin_run(self, self.begun, settings)
        return send_calls(self.begun, settings)


def make_plan(
    lab: LabStore,
    events: EventsLike,
    target: TargetLike,
    *,
    allow: AllowLike = None,
    secrets: Secrets | None = None,
    edit: Edit | None = None,
    via_tryit: bool = False,
    again: Collection[str] = (),
    dialects: Iterable[Dialect | str] = ALL_DIALECTS,
) -> ReplayPlan:
    """A verdict for each event; :meth:`Lab.plan_replay` says more."""
    where = target_of(target)
    given = _chosen(lab, events)
    chosen = [event for event in given.values() if _original(event) not in given]
    repeated = frozenset(map(parse_id, again))
    uncertain = ReplayBook(lab).uncertain(where.name)
    planner = _Planner(
        target=where,
        # Do not ask the target if there is nothing to send.
        tools=where.tools() if chosen else None,
        allowed=Allowed.of(allow),
        uncertain={sending.event_id for sending in uncertain} - repeated,
        secrets=secrets,
        edit=edit,
        via_tryit=via_tryit,
        # A portal's own mark is one whatever is chosen: it is never sent out.
        dialects=(Dialect.BRACKETS, *dialects),
    )
    then = definitions_in_force(lab.connection.cursor(), [event.id for event in chosen])
    items = _scrubbed_together(
        [planner.with_definition(planner.examine(event), then.get(event.id)) for event in chosen]
    )
    return ReplayPlan(
        lab,
        where,
        items,
        where.pace() if chosen else None,
        tuple(_warnings(items, where)),
        left_out=len(given) - len(chosen),
        again=frozenset(sending for sending in uncertain if sending.event_id in repeated),
    )


def _original(event: Event) -> str:
    payload = event.payload
    return "" if payload is None else payload.replayed_from or ""


def _chosen(lab: LabStore, events: EventsLike) -> dict[str, Event]:
    """The events with their payloads by id, oldest first, without duplicates."""
    listed: Iterable[Any] = (events,) if isinstance(events, Event | str) else events
    found: dict[str, Event] = {}
    for item in listed:
        event = lab.event(item) if isinstance(item, str) else item
        if not event.id:
            raise ReplayError(
                "an event without an id cannot be replayed; a live stream's have none"
            )
        found[event.id] = event
    ordered = sorted(found.values(), key=lambda event: (event.timestamp_ns, event.id))
    return {event.id: event for event in ordered}


@dataclass(frozen=True, slots=True)
class _Planner:
    target: Target
    tools: Mapping[str, ToolFacts] | None
    allowed: Allowed
    uncertain: Collection[str]
    secrets: Secrets | None
    edit: Edit | None
    via_tryit: bool
    dialects: tuple[Dialect | str, ...]
    checks: dict[str, Any] = field(default_factory=dict)

    def examine(self, event: Event) -> PlanItem:
        refusal = not_captured(event)
        if refusal is not None:
            return PlanItem(event, refusal, Outgoing(None, None))
        outgoing = prepare(event, secrets=self.secrets, edit=self.edit, dialects=self.dialects)
        refusal = not_whole(event, outgoing, self.dialects)
        if refusal is None and event.id in self.uncertain:
            refusal = Refusal(RefusalReason.UNCERTAIN, SENT_BEFORE)
        if refusal is not None:
            return PlanItem(event, refusal, outgoing)
        name = event.tool_name
        tool = None if self.tools is None else self.tools.get(name)
        unknown: tuple[str, ...] = ("tools",) if self.tools is None else ()
        if self.tools is not None and tool is None:
            detail = "the target has no tool of this name"
            return PlanItem(event, Refusal(RefusalReason.TOOL_MISSING, detail), outgoing)
        if tool is not None:
            refusal, unknown = self._vouched(tool, outgoing)
        refusal = refusal or self.allowed.refuse(name, tool)
        if refusal is not None:
            return PlanItem(event, refusal, outgoing, unknown)
        route = self.target.route(event, outgoing, via_tryit=self.via_tryit)
        if isinstance(route, Refusal):
            return PlanItem(event, route, outgoing, unknown)
        repeatable = name in self.allowed.names or (tool is not None and tool.repeatable)
        return PlanItem(event, None, outgoing, unknown, route, repeatable)

    def with_definition(self, item: PlanItem, then: ToolDefinition | None) -> PlanItem:
        """The item with what the target has changed about its tool since the call."""
        tool = None if self.tools is None else self.tools.get(item.event.tool_name)
        if then is None or tool is None or tool.definition is None:
            return item
        return replace(item, definition_changes=then.differing(tool.definition))

    def _vouched(
        self, tool: ToolFacts, outgoing: Outgoing
    ) -> tuple[Refusal | None, tuple[str, ...]]:
        """Check the arguments against the tool's schema; also returns what is undeclared."""
        unknown = ("annotations",) if tool.annotations is None else ()
        if tool.schema is None:
            return None, ("schema", *unknown)
        if tool.name not in self.checks:
            self.checks[tool.name] = schema_check(tool.schema)
        found = self.checks[tool.name](outgoing.arguments or {})
        if found is None:
            return None, ("schema", *unknown)
        if not found:
            return None, unknown
        keywords = ", ".join(dict.fromkeys(keyword for _, keyword in found))
        detail = f"the arguments do not fit the tool's schema any more: {keywords}"
        paths = tuple(dict.fromkeys(path for path, _ in found))
        return Refusal(RefusalReason.DOES_NOT_FIT, detail, paths), unknown


def _scrubbed_together(items: list[PlanItem]) -> tuple[PlanItem, ...]:
    """The items, each with all that is supplied for any of them to be taken out of its answer."""
    supplied = [value for item in items if not item.refusal for value in item.outgoing.supplied]
    if not supplied:
        return tuple(items)
    scrubber = Scrubber(supplied)
    return tuple(
        replace(item, outgoing=replace(item.outgoing, scrubber=scrubber)) for item in items
    )


def _warnings(items: Iterable[PlanItem], target: Target) -> Iterator[str]:
    sent = [item for item in items if item.refusal is None]
    redefined = sorted({visible(i.event.tool_name) for i in sent if i.definition_changes})
    if redefined:
        names = ", ".join(redefined[:5])
        yield f"the target defines these tools otherwise than they were at the call: {names}"
    supplied = [item for item in sent if item.outgoing.supplied]
    if not supplied:
        return
    exposed = sorted({path for item in supplied for path in item.outgoing.exposed})
    told = (
        f"{target.name} sees what you supply for {counted(len(supplied), 'call')}; its tools'"
        " answers may repeat it, and a portal stores answers as they are"
    )
    yield told
    if not exposed:
        return
    paths = ", ".join(exposed[:5])
    yield f"an audited target stores these in clear, unless it redacts their names: {paths}"
