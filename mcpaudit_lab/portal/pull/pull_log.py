"""What a portal has shown so far, so that a pull goes on where the last one stopped.

``pulls`` has one row for each question put to a portal, ``pulled`` one for each event that it
listed as an answer, whether the lab kept it or not. Both are made by the first pull.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.storage import read_value

if TYPE_CHECKING:
    from mcpaudit_lab.storage import LabFile

__all__ = ["Listed", "PullLog"]

_TABLES = (
    (
        "create table if not exists pulls (id integer, portal varchar, question varchar,"
        " begun_at timestamptz, complete_at timestamptz)"
    ),
    (
        "create table if not exists pulled (pull_id integer, event_id uuid, ts_us bigint,"
        " asked boolean)"
    ),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGINNING_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_FOREVER_US = 2**62
_WINDOW = "pull_id = $pull and ts_us between $first and $last"

Window = tuple[datetime | None, datetime | None]


@dataclass(frozen=True, slots=True)
class Listed:
    """What the portal has listed in a window of time.

    Attributes:
        count: how many events.
        first: start of the earliest call, or None if there is none.
        last: start of the latest.
    """

    count: int
    first: datetime | None
    last: datetime | None


class PullLog:
    """The log of one question to one portal.

    Args:
        lab: the lab that keeps it.
        portal: the portal's URL.
        question: the question, as text.
    """

    def __init__(
        self,
        lab: LabFile,
        portal: str,
        question: str,
    ) -> None:
        self._lab = lab
        with lab.writing() as connection:
            for statement in _TABLES:
                connection.execute(statement)
            values = {"portal": portal, "question": question}
            found = read_value(
                connection,
                "select id from pulls where portal = $portal and question = $question",
                values,
            )
            if found is None:
                found = read_value(connection, "select coalesce(max(id), 0) + 1 from pulls")
                connection.execute(
                    "insert into pulls values ($pull, $portal, $question, now(), null)",
                    {"pull": found, **values},
                )
        self._pull = int(found)

    def seen(self, window: Window) -> Listed:
        """What was listed so far in a window, both ends inclusive, None for no end."""
        count, first, last = self._row(
            f"select count(*), min(ts_us), max(ts_us) from pulled where {_WINDOW}",
            self._bounds(window),
        )
        return Listed(count, _moment(first), _moment(last))

    def cut(self, window: Window) -> datetime:
        """Where to split a window in which something was listed.

        At the end of the listed events, before their beginning, or in their middle; the lower part
        includes this moment.
        """
        bounds = self._bounds(window)
        first, last, middle = self._row(
            f"select min(ts_us), max(ts_us), quantile_disc(ts_us, 0.5) from pulled where {_WINDOW}",
            bounds,
        )
        cut: int = min(middle, bounds["last"] - 1)
        if last < bounds["last"]:
            cut = last
        elif first > bounds["first"]:
            cut = max(first - 1, _BEGINNING_US)
        return _EPOCH + cut * _MICROSECOND

    def longest_ms(self) -> int:
        """How long the longest call took that was listed and kept, in milliseconds."""
        (longest,) = self._row(
            "select max(duration_ms) from audit_events where id in"
            " (select event_id from pulled where pull_id = $pull)",
            {"pull": self._pull},
        )
        return int(longest or 0)

    def stored(self, ids: Sequence[str]) -> dict[str, bool]:
        """Those of the ids that the lab has: whether with payload."""
        rows = self._lab.connection.cursor().execute(
            "select id::varchar, id in (select event_id from audit_payloads) from audit_events"
            " where id in (select unnest($ids)::uuid)",
            {"ids": list(ids)},
        )
        return dict(rows.fetchall())

    def asked(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids whose payload was asked for, whether there was one or not."""
        rows = self._lab.connection.cursor().execute(
            "select event_id::varchar from pulled where pull_id = $pull and asked"
            " and event_id in (select unnest($ids)::uuid)",
            {"pull": self._pull, "ids": list(ids)},
        )
        return {event_id for (event_id,) in rows.fetchall()}

    def unlisted(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that the portal has not listed before."""
        rows = self._lab.connection.cursor().execute(
            "select id::varchar from (select unnest($ids)::uuid id) where id not in"
            " (select event_id from pulled where pull_id = $pull)",
            {"pull": self._pull, "ids": list(ids)},
        )
        return {event_id for (event_id,) in rows.fetchall()}

    def without_payload(self, window: Window) -> list[tuple[str, datetime]]:
        """The events listed in a window whose payload the lab lacks and never asked for.

        Newest first: id and start of the call.
        """
        rows = self._lab.connection.cursor().execute(
            f"select event_id::varchar, ts_us from pulled where {_WINDOW} and not asked"
            " and event_id in (select id from audit_events)"
            " and event_id not in (select event_id from audit_payloads)"
            " order by ts_us desc, event_id",
            self._bounds(window),
        )
        return [(event_id, _EPOCH + ts_us * _MICROSECOND) for event_id, ts_us in rows.fetchall()]

    def add(self, events: Sequence[tuple[str, datetime]], *, asked: Iterable[str] = ()) -> None:
        """Note that the portal has listed these events.

        Args:
            events: id and start of the call of each.
            asked: the ids of those whose payload was asked for.
        """
        if not events:
            return
        times = [(timestamp - _EPOCH) // _MICROSECOND for _, timestamp in events]
        ids = [event_id for event_id, _ in events]
        rows = {"pull": self._pull, "ids": ids, "times": times}
        with self._lab.writing() as connection:
            connection.execute(
                "insert into pulled select distinct on (event_id) $pull, event_id, ts_us, false"
                " from (select unnest($ids)::uuid event_id, unnest($times)::bigint ts_us)"
                " where event_id not in (select event_id from pulled where pull_id = $pull"
                "   and event_id in (select unnest($ids)::uuid))",
                rows,
            )
            connection.execute(
                "update pulled set asked = true where pull_id = $pull and not asked"
                " and event_id in (select unnest($asked)::uuid)",
                {"pull": self._pull, "asked": list(asked)},
            )

    def keep_only(self, window: Window, ids: Iterable[str]) -> int:
        """Forget events that were listed in a window but no longer are; returns how many.

        The events themselves stay in the lab.
        """
        with self._lab.writing() as connection:
            gone = read_value(
                connection,
                f"delete from pulled where {_WINDOW}"
                " and event_id not in (select unnest($ids::varchar[])::uuid)",
                {**self._bounds(window), "ids": list(ids)},
            )
        return int(gone or 0)

    @property
    def complete(self) -> bool:
        """Whether a pull has come to its end."""
        return bool(
            self._row(
                "select complete_at is not null from pulls where id = $pull", {"pull": self._pull}
            )[0]
        )

    def mark(self, *, complete: bool) -> None:
        """Record the start or the end of a pull."""
        with self._lab.writing() as connection:
            connection.execute(
                "update pulls set complete_at = case when $complete then now() end"
                " where id = $pull",
                {"pull": self._pull, "complete": complete},
            )

    def _bounds(self, window: Window) -> dict[str, Any]:
        first, last = window
        return {
            "pull": self._pull,
            "first": -_FOREVER_US if first is None else (first - _EPOCH) // _MICROSECOND,
            "last": _FOREVER_US if last is None else (last - _EPOCH) // _MICROSECOND,
        }

    def _row(self, statement: str, params: dict[str, Any]) -> tuple[Any, ...]:
        rows: list[tuple[Any, ...]] = (
            self._lab.connection.cursor().execute(statement, params).fetchall()
        )
        return rows[0]


def _moment(ts_us: int | None) -> datetime | None:
    return None if ts_us is None else _EPOCH + ts_us * _MICROSECOND
