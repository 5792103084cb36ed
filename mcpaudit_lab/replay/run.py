"""What became of a plan's calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.calls import ReplayStatus
from mcpaudit_lab.comparison import ChangeKind, Comparison, compare, format_path
from mcpaudit_lab.errors import EventNotFound, ReplayError
from mcpaudit_lab.record import Event, counted, parse_id, render_html, visible
from mcpaudit_lab.replay.book import ReplayState
from mcpaudit_lab.replay.noise import Noise

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.replay.plan import PlanItem
from mcpaudit_lab.replay.plan import PlannedReplay

__all__ = ["ReplayRun"]

_SHOWN: Final = 20
_TOOL_WIDTH: Final = 24
_KINDS: Final = (*map(str, ChangeKind), "unknown")
_TEXTS: Final = (
    *("event_id", "tool_name", "verdict", "status", "replay_id", "detail", "comparison"),
)
_COLUMNS: Final = (
    *("event_id", "attempt", "tool_name", "verdict", "status", "replay_id", "detail", "modified"),
    *("original_ms", "replay_ms", "comparison", *_KINDS),
)
# Differences here concern how the call ended, not its content.
_STATUS_PATHS: Final = (
    ("summary", "success"),
    ("summary", "error_category"),
    ("response", "isError"),
    ("error",),
)


class ReplayRun:
    """What became of a plan's calls. Made by :meth:`ReplayPlan.run`.

    Attributes:
        plan: the plan.
        run_id: which run it is, in the lab's table ``replays``.
        states: the calls in the order they are sent, with how far each came.
        stopped: why it stopped early; empty if it did not.
    """

    def __init__(self, plan: PlannedReplay, run_id: str, states: Iterable[ReplayState]) -> None:
        self.plan = plan
        self.run_id = run_id
        self.stopped = ""
        self._states = {(state.event_id, state.attempt): state for state in states}
        self._items = {item.event.id: item for item in plan.items}

    @property
    def states(self) -> tuple[ReplayState, ...]:
        """The calls in the order they are sent."""
        return tuple(self._states.values())

    def put(self, state: ReplayState) -> None:
        """Note how far a call came."""
        self._states[state.event_id, state.attempt] = state

    def item(self, state: ReplayState) -> PlanItem:
        """The plan's item of a call."""
        return self._items[state.event_id]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to send."""
        open_ones = (ReplayStatus.WAITING, ReplayStatus.UNSENT, ReplayStatus.LIMITED)
        return all(state.status not in open_ones for state in self.states)

    @property
    def uncertain(self) -> tuple[str, ...]:
        """The events that were sent with no outcome known: each may have run. Look at the target.

        ``plan_replay(…, again=run.uncertain)`` sends them once more.
        """
        found = (s.event_id for s in self.states if s.status == ReplayStatus.UNCERTAIN)
        return tuple(dict.fromkeys(found))

    # Comparing

    def comparison(
        self, event_id: str, *, attempt: int = 1, ignore: Iterable[str] = ()
    ) -> Comparison:
        """The original against its replay.

        Args:
            event_id: the original's id, or the replay's.
            attempt: which of several replays of the original, from 1.
            ignore: paths to ignore, as in :meth:`Lab.compare`.

        Raises:
            RecordError: the id is not a UUID.
            EventNotFound: the run has no such event, or no answer to it.
        """
        wanted = parse_id(event_id)
        for state in self.states:
            asked = (state.event_id == wanted and state.attempt == attempt) or (
                state.replay_id == wanted
            )
            if asked and (replay := self.replay_of(state)) is not None:
                return compare(self.item(state).event, replay, ignore=ignore)
        raise EventNotFound(f"this run has no replay of {wanted}")

    def replay_of(self, state: ReplayState) -> Event | None:
        """The event that records a call; None if there is none in the lab."""
        if not state.replay_id:
            return None
        try:
            return self.plan.lab.event(state.replay_id)
        except EventNotFound:
            return None

    @property
    def noise(self) -> Noise:
        """What differs between replays of the same call; empty without ``repeat``."""
        replays: dict[str, list[Event]] = {}
        for state in self.states:
            replay = self.replay_of(state)
            if replay is not None:
                replays.setdefault(state.event_id, []).append(replay)
        return Noise.learn(replays.values())

    def drift(self, noise: Mapping[str, Iterable[str]] | None = None) -> pd.DataFrame:
        """The differences from the originals that are not noise.

        Args:
            noise: paths to ignore; None for the noise learned in this run.

        Returns:
            One row for each difference, in the order of the calls. Columns ``event_id``,
            ``attempt``, ``tool_name``, ``path``, ``kind``: ``status`` if the call ended
            differently, else ``value``, ``type``, ``order``, ``added`` or ``removed``; and
            ``original`` and ``replay``, the values, None if absent.
        """
        import pandas as pd

        masked = self.noise if noise is None else noise
        rows = []
        for state in self.states:
            replay = self.replay_of(state)
            if replay is None:
                continue
            original = self.item(state).event
            found = compare(original, replay, ignore=tuple(masked.get(original.tool_name, ())))
            for change in found.changes:
                ended = any(change.path[: len(path)] == path for path in _STATUS_PATHS)
                rows.append(
                    {
                        "event_id": state.event_id,
                        "attempt": state.attempt,
                        "tool_name": original.tool_name,
                        "path": format_path(change.path),
                        "kind": "status" if ended else str(change.kind),
                        "original": None if change.kind is ChangeKind.ADDED else change.left,
                        "replay": None if change.kind is ChangeKind.REMOVED else change.right,
                    }
                )
        columns = ["event_id", "attempt", "tool_name", "path", "kind", "original", "replay"]
        texts = dict.fromkeys(("event_id", "tool_name", "path", "kind"), "str")
        values = dict.fromkeys(("original", "replay"), "object")
        return pd.DataFrame(rows, columns=columns).astype({**texts, "attempt": "Int64", **values})

    # Showing

    def row(self, state: ReplayState) -> dict[str, Any]:
        """One row of the frame."""
        item = self.item(state)
        replay = self.replay_of(state)
        found = None if replay is None else compare(item.event, replay)
        counts = {} if found is None else found.counts()
        return {
            **self._start(item, state.attempt),
            "status": str(state.status),
            "replay_id": state.replay_id,
            "detail": state.detail,
            "replay_ms": state.duration_ms if replay is None else replay.duration_ms,
            "comparison": "" if found is None else str(found.verdict),
            **{kind: counts.get(kind) for kind in _KINDS},
        }

    def _start(self, item: PlanItem, attempt: int) -> dict[str, Any]:
        return {
            "event_id": item.event.id,
            "attempt": attempt,
            "tool_name": item.event.tool_name,
            "verdict": str(item.verdict),
            "modified": item.outgoing.modified,
            "original_ms": item.event.duration_ms,
        }

    def df(self) -> pd.DataFrame:
        """One row for each call in sending order, then the events that the plan refused.

        Returns:
            Columns ``event_id``, ``attempt``, ``tool_name``, ``verdict`` (of the plan), ``status``
            (a value of :class:`ReplayStatus`), ``replay_id`` (the event that records it),
            ``detail``, ``modified``, ``original_ms``, ``replay_ms`` (as the target measured it if
            it wrote the event, else as seen from here), ``comparison`` (``equal``, ``changed``,
            ``unknown``, or empty), how many changes of each kind, and ``unknown`` paths.
        """
        import pandas as pd

        rows = [self.row(state) for state in self.states]
        for item in self.plan.items:
            if item.refusal is not None:
                refused = {"status": str(ReplayStatus.REFUSED), "detail": item.detail}
                rows.append({**self._start(item, 0), **refused, "replay_id": "", "comparison": ""})
        numbers = dict.fromkeys(("attempt", "original_ms", "replay_ms", *_KINDS), "Int64")
        texts = dict.fromkeys(_TEXTS, "str")
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        return frame.astype({**texts, **numbers, "modified": "boolean"})

    def counts(self) -> dict[str, int]:
        """Number of calls by status, refused ones included; only statuses that occur."""
        found: dict[str, int] = {}
        for state in self.states:
            found[str(state.status)] = found.get(str(state.status), 0) + 1
        refused = len(self.plan.items) - len(self.plan.runnable)
        if refused:
            found["refused"] = found.get("refused", 0) + refused
        return found

    def describe(self) -> str:
        """The run as lines of text: how it went, then a table of the first calls."""
        counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        calls = counted(len(self._states), "call")
        lines = [f"{calls} to {visible(self.plan.target.name)}: {counts or 'none'}"]
        if self.stopped:
            lines.append(f"  stopped: {visible(self.stopped)}; plan.run() continues")
        if self.uncertain:
            lines.append("  uncertain: sent, with no outcome known; they may have run")
        for state in self.states[:_SHOWN]:
            row = self.row(state)
            tool = visible(row["tool_name"])[:_TOOL_WIDTH]
            told = row["comparison"] or visible(state.detail)[:80]
            line = f"  {state.event_id[:8]}  {tool:{_TOOL_WIDTH}}  {state.status:9}  {told}"
            lines.append(line.rstrip())
        if len(self._states) > _SHOWN:
            lines.append(f"  and {len(self._states) - _SHOWN} more; run.df() has all")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        """How it went, call by call, for a notebook."""
        return render_html("run", self)

    def check_repeat(self, repeat: int) -> None:
        """Refuse to go on with another number of repeats than the run was begun with.

        Raises:
            ReplayError: it is another one.
        """
        begun = max((state.attempt for state in self.states), default=repeat)
        if begun != repeat and not self.finished:
            raise ReplayError(f"the run was begun with repeat={begun}")
