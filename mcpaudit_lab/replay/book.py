"""How far each replay came, kept in the lab: written before a call is sent, and after.

One row of ``replays`` is one call of one run. A row with status ``sent`` while nobody is sending
was left by a process that died: it is unknown whether the call ran.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

if TYPE_CHECKING:
    import duckdb

    from mcpaudit_lab.storage import LabFile

__all__ = ["SENT_BEFORE", "UNWRITTEN", "PlannedCall", "ReplayBook", "ReplayState", "Sending"]

SENT_BEFORE: Final = "it was sent before and may have run; again= sends it once more"
UNWRITTEN: Final = "sent, but the outcome was not recorded"
TAKEN: Final = (
    "another replay has sent it again in the meantime; make a new plan to send it once more"
)

_TABLE: Final = (
    "create table if not exists replays (run_id varchar, digest varchar, place integer,"
    " event_id uuid, attempt integer, tool_name varchar, target varchar, modified boolean,"
    " status varchar, replay_id varchar, detail varchar, duration_ms bigint,"
    " sent_at timestamptz, ended_at timestamptz)"
)
_COLUMNS: Final = "event_id::varchar, attempt, digest, status, replay_id, detail, duration_ms"
# A row that was sent again stays as it was; the call has another one then.
_CURRENT: Final = "run_id = $run and status <> 'abandoned'"
_OPEN: Final = ("waiting", "unsent", "limited")
# Two threads that begin the same calls must find one run instead of creating two, and DuckDB
# rejects the second of two concurrent updates of a row. Other processes cannot open the lab
# meanwhile.
_CHANGING: Final = threading.RLock()
# The calls that this process is sending, by run and digest. No other process can write to the lab
# meanwhile, so a row with status ``sent`` that is not here was left by a process that died.
_UNDER_WAY: Final[set[tuple[str, str]]] = set()


@dataclass(frozen=True, slots=True)
class ReplayState:
    """One row: a call of a run.

    Attributes:
        event_id: the original.
        attempt: which call of the same event it is, from 1.
        digest: which call of its run it is; edited, the same event is another call.
        status: how far it came.
        replay_id: the event that records it, or an empty text.
        detail: why it failed, or an empty text.
        duration_ms: how long it took; None before it ended.
    """

    event_id: str
    attempt: int
    digest: str
    status: str
    replay_id: str = ""
    detail: str = ""
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call that is to be sent.

    Attributes:
        event_id: the original.
        attempt: which call of the same event it is, from 1.
        tool_name: the tool.
        modified: whether it is another call than the captured one.
        digest: what would be sent, as a hash: the same call has the same one in any process.
    """

    event_id: str
    attempt: int
    tool_name: str
    modified: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Sending:
    """A call that was sent with unknown outcome, and that somebody decided to send again.

    Attributes:
        event_id: the original.
        run_id: the run that sent it.
        digest: which call of that run it is.
    """

    event_id: str
    run_id: str
    digest: str


class ReplayBook:
    """The table ``replays`` of a lab, made when it is first needed.

    Args:
        lab: the lab. Each change is stored before the method returns.
    """

    def __init__(self, lab: LabFile) -> None:
        self._lab = lab
        if not lab.read_only:
            self._cursor().execute(_TABLE)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        return self._lab.connection.cursor()

    def uncertain(self, target: str) -> frozenset[Sending]:
        """What was sent to a target with no outcome known, and not again since."""
        cursor = self._cursor()
        # A lab that is open read-only may have no such table yet.
        known = (
            "select 1 from duckdb_tables() where schema_name = 'main' and table_name = 'replays'"
        )
        if self._lab.read_only and not cursor.execute(known).fetchall():
            return frozenset()
        rows = cursor.execute(
            "select event_id::varchar, run_id, digest from replays"
            " where target = $target and status in ('sent', 'uncertain')",
            {"target": target},
        )
        return frozenset(Sending(*row) for row in rows.fetchall())

    def _settle(self, again: Collection[Sending]) -> set[str]:
        """The unknown outcome of these no longer blocks them: they are sent again, once.

        Returns:
            Events that somebody else has decided about meanwhile, and sends or has sent.
        """
        rows = [(s.run_id, s.digest) for s in again if (s.run_id, s.digest) not in _UNDER_WAY]
        settled = (
            self._cursor()
            .execute(
                "update replays set status = 'abandoned' where status in ('sent', 'uncertain')"
                " and (run_id, digest) in"
                " (select unnest($runs::varchar[]), unnest($digests::varchar[]))"
                " returning event_id::varchar",
                {"runs": [run for run, _ in rows], "digests": [digest for _, digest in rows]},
            )
            .fetchall()
        )
        return {s.event_id for s in again} - {event_id for (event_id,) in settled}

    def open_run(
        self, target: str, calls: Sequence[PlannedCall], again: Collection[Sending] = ()
    ) -> tuple[str, list[ReplayState]]:
        """Go on with a run that was not finished, or begin one.

        A run goes on if it has calls left to send, and any of these calls among its own. What it
        did not have is added to it; what else it has is left as it is. What another run has sent
        there with no outcome known is not to be sent by this one either.

        Args:
            target: where the calls go.
            calls: in their order.
            again: calls to send again although their outcome is unknown. If two plans name the same
                call, one sends it and the other gets the result.

        Returns:
            The run's id, and how far each of the calls is, in their order.
        """
        with _CHANGING:
            taken = self._settle(again)
            run_id = (
                self._open_run_of(target, calls)
                or self._run_that_took(target, [c.digest for c in calls if c.event_id in taken])
                or str(uuid4())
            )
            return self._begin_run(run_id, target, calls, taken)

    def _begin_run(
        self, run_id: str, target: str, calls: Sequence[PlannedCall], taken: Collection[str]
    ) -> tuple[str, list[ReplayState]]:
        known = self.resume(run_id)
        uncertain = {sending.event_id for sending in self.uncertain(target)}

        def start_of(call: PlannedCall) -> tuple[str, str]:
            if call.event_id in uncertain:
                return "uncertain", SENT_BEFORE
            return ("refused", TAKEN) if call.event_id in taken else ("waiting", "")

        new = [
            (
                run_id,
                call.digest,
                len(known) + place,
                call.event_id,
                call.attempt,
                call.tool_name,
                target,
                call.modified,
                *start_of(call),
            )
            for place, call in enumerate(call for call in calls if call.digest not in known)
        ]
        if new:
            self._cursor().executemany(
                "insert into replays (run_id, digest, place, event_id, attempt, tool_name, target,"
                " modified, status, detail) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                new,
            )
        known = self._states(run_id)
        return run_id, [known[call.digest] for call in calls]

    def resume(self, run_id: str) -> dict[str, ReplayState]:
        """How far each call of a run is, by digest. What was left as ``sent`` is ``uncertain``.

        What another thread is sending now stays ``sent``.
        """
        with _CHANGING:
            under_way = [digest for run, digest in _UNDER_WAY if run == run_id]
            self._cursor().execute(
                "update replays set status = 'uncertain', detail = $detail"
                " where run_id = $run and status = 'sent'"
                " and digest not in (select unnest($digests::varchar[]))",
                {"run": run_id, "detail": UNWRITTEN, "digests": under_way},
            )
            return self._states(run_id)

    def _open_run_of(self, target: str, calls: Sequence[PlannedCall]) -> str:
        row = (
            self._cursor()
            .execute(
                "select run_id from replays where target = $target group by run_id"
                " having bool_or(status in (select unnest($open)))"
                " and bool_or(digest in (select unnest($digests)))"
                " order by max(sent_at) desc nulls last limit 1",
                {
                    "target": target,
                    "open": list(_OPEN),
                    "digests": [call.digest for call in calls],
                },
            )
            .fetchone()
        )
        return "" if row is None else str(row[0])

    def _run_that_took(self, target: str, digests: Sequence[str]) -> str:
        """The run that has sent any of these calls last, or an empty text."""
        row = (
            self._cursor()
            .execute(
                "select run_id from replays where target = $target and status <> 'abandoned'"
                " and digest in (select unnest($digests::varchar[]))"
                " order by sent_at desc nulls last limit 1",
                {"target": target, "digests": list(digests)},
            )
            .fetchone()
        )
        return "" if row is None else str(row[0])

    def _states(self, run_id: str) -> dict[str, ReplayState]:
        """The rows of a run by what they call."""
        rows = (
            self._cursor()
            .execute(f"select {_COLUMNS} from replays where {_CURRENT}", {"run": run_id})
            .fetchall()
        )
        return {
            digest: ReplayState(
                event_id, attempt, digest, status, replay_id or "", detail or "", ms
            )
            for event_id, attempt, digest, status, replay_id, detail, ms in rows
        }

    def claim(self, run_id: str, state: ReplayState) -> ReplayState | None:
        """Claim a call before it is sent; returns the other sender's state if it is taken.

        Whoever may send it calls :meth:`release` when it is over, whatever came of it.
        """
        with _CHANGING:
            claimed = self._set(
                run_id,
                state,
                "status = 'sent', sent_at = now()",
                " and status in (select unnest($open))",
                {"open": list(_OPEN)},
            )
            if claimed:
                _UNDER_WAY.add((run_id, state.digest))
                return None
            return self._states(run_id).get(state.digest, state)

    def release(self, run_id: str, state: ReplayState) -> None:
        """A call is not under way any more."""
        with _CHANGING:
            _UNDER_WAY.discard((run_id, state.digest))

    def ended(self, run_id: str, state: ReplayState) -> None:
        """A call came to an end, or was put off."""
        values = {
            "status": state.status,
            "replay": state.replay_id,
            "detail": state.detail,
            "ms": state.duration_ms,
        }
        change = (
            "status = $status, replay_id = $replay, detail = $detail, duration_ms = $ms,"
            " ended_at = now()"
        )
        self._set(run_id, state, change, "", values)

    def _set(
        self, run_id: str, state: ReplayState, change: str, where: str, values: dict[str, Any]
    ) -> bool:
        """Change the row of a call; returns whether there was one."""
        with _CHANGING:
            rows = self._cursor().execute(
                f"update replays set {change} where {_CURRENT} and digest = $digest{where}"
                " returning true",
                {"run": run_id, "digest": state.digest, **values},
            )
            return bool(rows.fetchall())
