"""Running a plan: call after call, each written down before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.calls import Answer, Pace, Pacer, ReplayStatus, event_of
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record import dumps
from mcpaudit_lab.replay.book import UNWRITTEN, PlannedCall, ReplayBook, ReplayState
from mcpaudit_lab.replay.run import ReplayRun
from mcpaudit_lab.storage import progress_bar
from mcpaudit_lab.storage.load import request_text

if TYPE_CHECKING:
    from mcpaudit_lab.replay.plan import PlanItem, PlannedReplay
from mcpaudit_lab.replay.targets import Calls

__all__ = ["RunSettings", "begin_run", "send_calls", "stopper"]

_OPEN: Final = (ReplayStatus.WAITING, ReplayStatus.UNSENT, ReplayStatus.LIMITED)
_ENDED: Final = (ReplayStatus.SUCCEEDED, ReplayStatus.FAILED)
_STOPS: Final = ("failed", "uncertain", "unsent", "refused", "changed")
# So often in a row a target may say that it wants us to wait.
_HOLDS_MAX: Final = 20
_LOST: Final = "the portal wrote an event, but does not give it now; a pull brings it"

StopOn = str | Iterable[str] | Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a plan's calls are sent; :meth:`ReplayPlan.run` says more.

    Raises:
        ReplayError: an invalid limit or number of repetitions.
    """

    pace: Pace | None
    stops: Callable[[ReplayRun, ReplayState], str]
    limit: int | None
    repeat: int
    progress: bool | None
    clock: Callable[[], float]
    sleep: Callable[[float], object]

    def __post_init__(self) -> None:
        if self.repeat < 1 or (self.limit is not None and self.limit < 0):
            raise ReplayError("repeat is 1 or more, limit 0 or more")


def begin_run(plan: PlannedReplay, begun: ReplayRun | None, settings: RunSettings) -> ReplayRun:
    """The run of a plan: begun before, by this process or another, or written down as new.

    Args:
        plan: the plan.
        begun: the run of this plan object; None if it has not begun.
        settings: only the number of repetitions matters here.

    Raises:
        ReplayError: the plan was begun with another number of repetitions.
        LabError: the lab cannot be written.
    """
    plan.lab.check_writable("a replay writes down each call before it is sent")
    book = ReplayBook(plan.lab)
    if begun is not None:
        begun.check_repeat(settings.repeat)
        # The same plan, made again elsewhere, may have continued the run meanwhile.
        known = book.resume(begun.run_id)
        for state in begun.states:
            begun.put(known.get(state.digest, state))
        return begun
    calls = [
        _planned(item, attempt)
        for attempt in range(1, settings.repeat + 1)
        for item in plan.runnable
        if attempt == 1 or item.repeatable
    ]
    run_id, states = book.open_run(plan.target.name, calls, plan.again)
    return ReplayRun(plan, run_id, states)


def send_calls(run: ReplayRun, settings: RunSettings) -> ReplayRun:
    """Send the remaining calls of a run."""
    todo = [state for state in run.states if state.status in _OPEN]
    todo = todo if settings.limit is None else todo[: settings.limit]
    run.stopped = ""
    if not todo:
        return run
    pacer = Pacer(settings.pace, settings.clock, settings.sleep)
    bar = progress_bar(settings.progress, total=len(todo), unit="calls", label="replay")
    with run.plan.target.open() as calls, bar as advance, _worker() as worker:
        runner = _Runner(run, ReplayBook(run.plan.lab), calls, pacer, worker)
        for state in todo:
            done, interrupted = runner.send(state)
            advance(1)
            if interrupted:
                run.stopped = "interrupted"
                raise KeyboardInterrupt
            run.stopped = settings.stops(run, done)
            if run.stopped:
                break
    return run


def _planned(item: PlanItem, attempt: int) -> PlannedCall:
    event, outgoing = item.event, item.outgoing
    # The digest contains no supplied secret.
    told = dumps([event.id, event.tool_name, attempt, item.route, outgoing.modified, outgoing.kept])
    digest = hashlib.sha256(told.encode()).hexdigest()
    return PlannedCall(event.id, attempt, event.tool_name, outgoing.modified, digest)


class _Runner:
    """Sends single calls and writes down how far each came."""

    def __init__(
        self,
        run: ReplayRun,
        book: ReplayBook,
        calls: Calls,
        pacer: Pacer,
        worker: ThreadPoolExecutor,
    ) -> None:
        self._run = run
        self._book = book
        self._calls = calls
        self._pacer = pacer
        self._worker = worker

    def send(self, state: ReplayState) -> tuple[ReplayState, bool]:
        """Send one call; returns its state, and whether the user interrupted."""
        item = self._run.item(state)
        for hold in range(_HOLDS_MAX + 1):
            self._pacer.wait()
            if (known := self._book.claim(self._run.run_id, state)) is not None:
                self._run.put(known)
                return known, False
            try:
                answer, interrupted = self._ask(state, item)
                done = self._note(state, item, answer)
            finally:
                self._book.release(self._run.run_id, state)
            if answer.status is not ReplayStatus.LIMITED or interrupted or hold == _HOLDS_MAX:
                break
            self._pacer.hold(answer.retry_after_s)
        return done, interrupted

    def _ask(self, state: ReplayState, item: PlanItem) -> tuple[Answer, bool]:
        # Should the lab fail from here on, running the plan again does not send it again.
        self._run.put(replace(state, status=str(ReplayStatus.UNCERTAIN), detail=UNWRITTEN))
        try:
            future = self._worker.submit(self._calls.call, item.event, item.outgoing, item.route)
            return _wait(future)
        except BaseException:
            # Nobody waits for the answer any more; it was sent anyway.
            detail = "interrupted before the response"
            self._note(state, item, Answer(ReplayStatus.UNCERTAIN, error=detail))
            raise

    def _note(self, state: ReplayState, item: PlanItem, answer: Answer) -> ReplayState:
        replay_id, detail = "", answer.error
        if answer.status in _ENDED:
            replay_id, detail = self._keep(state, item, answer)
        ms = None if answer.started is None else answer.duration_ms
        done = replace(
            state,
            status=str(answer.status),
            replay_id=replay_id,
            detail=detail,
            duration_ms=ms,
        )
        self._book.ended(self._run.run_id, done)
        self._run.put(done)
        return done

    def _keep(self, state: ReplayState, item: PlanItem, answer: Answer) -> tuple[str, str]:
        """Write the event of a replay into the lab; returns its id, and what to say of it."""
        target, detail = self._run.plan.target, answer.error
        if answer.replay_id:
            event = self._calls.fetch(answer.replay_id)
            if event is None:
                return answer.replay_id, f"{detail}; {_LOST}" if detail else _LOST
        else:
            event = event_of(item.event, item.outgoing, answer, target.transport)
        request = request_text(
            run=self._run.run_id, event=state.event_id, attempt=state.attempt, route=item.route
        )
        self._run.plan.lab.add_events([event], kind="replay", name=target.name, request=request)
        return event.id, detail


def _wait(future: Future[Answer]) -> tuple[Answer, bool]:
    """The response, and whether an interrupt occurred meanwhile. A second interrupt is raised."""
    try:
        return future.result(), False
    except KeyboardInterrupt:
        return future.result(), True


@contextmanager
def _worker() -> Iterator[ThreadPoolExecutor]:
    """A thread for the calls, so that an interrupt does not tear one apart."""
    worker = ThreadPoolExecutor(1, thread_name_prefix="replay")
    try:
        yield worker
    finally:
        worker.shutdown(wait=False, cancel_futures=True)


def stopper(stop_on: StopOn) -> Callable[[ReplayRun, ReplayState], str]:
    """A function that says why to stop after a call; an empty text for going on."""
    if callable(stop_on):
        return lambda run, state: (
            "stop_on says so" if stop_on(run.row(state)) else _no_way_there(state)
        )
    names = {stop_on} if isinstance(stop_on, str) else set(stop_on)
    if names - set(_STOPS):
        raise ReplayError(f"stop_on is a function, or of: {', '.join(_STOPS)}")

    def stops(run: ReplayRun, state: ReplayState) -> str:
        if state.status in names:
            return f"a call {state.status}"
        if "changed" in names and run.row(state)["comparison"] == "changed":
            return "a result changed"
        return _no_way_there(state)

    return stops


def _no_way_there(state: ReplayState) -> str:
    """Why the next call would not get there either."""
    if state.status in (ReplayStatus.UNSENT, ReplayStatus.LIMITED):
        return state.detail or state.status
    return ""
