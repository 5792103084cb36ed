"""Who did what, in which order, and again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.lab.columns import column_list, decode_columns
from mcpaudit_lab.storage import read_table, to_frame

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["Behaviour"]

_LONGEST_SEQUENCE = 10
# One row for each session. A tool called several times in a row stands once.
_SESSIONS = """
    with calls as (
        select e.*, tool_name is distinct from lag(tool_name) over (
            partition by session_id order by ts, id) as begins
        from {rows} where coalesce(session_id, '') <> ''
    )
    select session_id,
        coalesce(arg_max(user_subject, ts) filter (coalesce(user_subject, '') <> ''), '')
            as user_subject,
        coalesce(arg_max(user_agent, ts) filter (coalesce(user_agent, '') <> ''), '') as client,
        min(ts) as first, max(ts) as last,
        count(*) as calls, count(*) filter (not success) as failures,
        least(sum(duration_ms), 9223372036854775807)::bigint as busy_ms,
        list(tool_name order by ts, id) filter (begins) as tools
    from calls group by session_id order by first desc, session_id
"""
_SEQUENCES = """
    with steps as (
        select session_id, ts, success,
            {steps} as sequence,
            lead(ts, $ahead) over w as end_ts,
            lead(success, $ahead) over w as end_success
        from {rows} where coalesce(session_id, '') <> ''
        window w as (partition by session_id order by ts, id)
    )
    select sequence, count(*) as count, count(distinct session_id) as sessions,
        count(*) filter (not end_success) as last_failed,
        median(date_diff('millisecond', ts, end_ts)) as median_ms
    from steps where end_ts is not null group by sequence
    order by count desc, sequence
"""
_REPEATS = """
    select session_id, user_subject, tool_name, count(*) as count,
        count(*) filter (not success) as failures,
        case when count(*) filter (not success) = 0 then 'loop'
            when arg_max(success, (ts, id)) then 'retry, then ok' else 'retry' end as kind,
        min(ts) as first, max(ts) as last,
        median(gap_ms) as median_gap_ms, list(id order by ts, id) as ids
    from (
        select e.id::varchar as id, coalesce(e.session_id, '') as session_id,
            coalesce(e.user_subject, '') as user_subject, e.tool_name, e.success, e.ts,
            coalesce(p.request_params::varchar, e.parameters::varchar, '') as asked,
            date_diff('millisecond', lag(e.ts) over (
                partition by coalesce(e.session_id, ''), coalesce(e.user_subject, ''), e.tool_name,
                    coalesce(p.request_params::varchar, e.parameters::varchar, '')
                order by e.ts, e.id), e.ts) as gap_ms
        from {rows} left join audit_payloads p on p.event_id = e.id
    )
    group by session_id, user_subject, tool_name, asked having count(*) >= $least
    order by count desc, first, tool_name
"""


class Behaviour:
    """Questions about a set of events that look at several of them at once."""

    __slots__ = ()

    def rows(self) -> tuple[str, dict[str, Any]]:
        """The set as a table ``e`` in SQL, and the values bound in it."""
        raise NotImplementedError

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of the lab's connection."""
        raise NotImplementedError

    def search(self, text: str, *, limit: int = 100) -> pd.DataFrame:
        """Find a text in arguments, results, errors and notifications; as :meth:`Lab.search`."""
        from mcpaudit_lab.lab.searching import search_events

        return search_events(self.cursor(), self.rows(), text, limit)

    def sessions(self) -> pd.DataFrame:
        """One row for each session with a call in this set, the newest first.

        Returns:
            Columns ``session_id``, ``user_subject`` and ``client`` (the user agent) of its newest
            call that has one, ``first`` and ``last`` (starts of calls, UTC), ``calls``,
            ``failures``, ``busy_ms`` (sum of durations, at most 2^63 - 1), ``tools`` (a list in
            order; a tool that was called several times in a row stands once). Calls without a
            session are left out.
        """
        rows, params = self.rows()
        return self._frame(_SESSIONS.format(rows=rows), params)

    def sequences(self, length: int = 3) -> pd.DataFrame:
        """What follows what: the tools of calls one after another in a session.

        Args:
            length: number of calls, 2 to 10.

        Returns:
            Columns ``sequence`` (a list of tools), ``count``, ``sessions``, ``last_failed`` (how
            often its last call failed), ``median_ms`` (from the first start to the last); most
            frequent first.

        Raises:
            FilterError: another length.
        """
        if not 2 <= length <= _LONGEST_SEQUENCE:
            raise FilterError(f"a sequence has 2 to {_LONGEST_SEQUENCE} calls")
        rows, params = self.rows()
        steps = ", ".join(f"lead(tool_name, {n}) over w" for n in range(length))
        sql = _SEQUENCES.format(rows=rows, steps=f"list_value({steps})")
        return self._frame(sql, {**params, "ahead": length - 1})

    def repeats(self, at_least: int = 3) -> pd.DataFrame:
        """The same call again and again in one session: retries and loops.

        Two calls are the same if user, tool and arguments are, byte for byte. Calls without a
        session count as one session of their user.

        Args:
            at_least: how often.

        Returns:
            Columns ``session_id``, ``user_subject``, ``tool_name``, ``count``, ``failures``,
            ``kind`` (``retry``: some failed and the last one too; ``retry, then ok``; ``loop``:
            none failed), ``first``, ``last`` (UTC), ``median_gap_ms`` (between starts), ``ids``
            (a list, oldest first); most frequent first.
        """
        rows, params = self.rows()
        return self._frame(_REPEATS.format(rows=rows), {**params, "least": at_least})

    def first_seen(self, name: str) -> pd.DataFrame:
        """When each value of a column or path came up first, and in which call.

        Args:
            name: a column, or a path such as ``param.path``, as :meth:`EventSet.df` takes them.

        Returns:
            Columns ``value``, ``first`` and ``last`` (UTC), ``count``, ``id`` (of the first call),
            ``tool_name`` and ``user_subject`` of that call; the newest value first. Events without
            the path are left out.

        Raises:
            FilterError: an unknown column.
        """
        return self._by_value(
            name,
            "select value, min(ts) as first, max(ts) as last, count(*) as count,"
            " arg_min(id, (ts, id))::varchar as id, arg_min(tool_name, (ts, id)) as tool_name,"
            " arg_min(user_subject, (ts, id)) as user_subject"
            " from found where value is not null group by value order by first desc, value",
        )

    def rare(self, name: str, by: str = "user_subject") -> pd.DataFrame:
        """What one did and nobody else: values that only one of ``by`` has.

        Args:
            name: a column or a path, such as ``tool_name`` or ``param.path``.
            by: a column of ``audit_events``.

        Returns:
            Columns ``value``, ``by``, ``count``, ``first``, ``last`` (UTC), ``id`` (of the first
            call), ``others`` (how many others there are); the rarest first. Empty if there is only
            one of ``by``.

        Raises:
            FilterError: an unknown column.
        """
        column_list([by], payloads=False)
        if "." in by:
            raise FilterError(f"by is a column of audit_events, not {by!r}")
        return self._by_value(
            name,
            f"""
            select value, any_value("{by}") as by, count(*) as count, min(ts) as first,
                max(ts) as last, arg_min(id, (ts, id))::varchar as id,
                (select count(distinct coalesce("{by}"::varchar, '')) - 1 from found) as others
            from found where value is not null group by value
            having count(distinct coalesce("{by}"::varchar, '')) = 1
                and (select count(distinct coalesce("{by}"::varchar, '')) from found) > 1
            order by count, first desc, value
            """,
        )

    def _by_value(self, name: str, select: str) -> pd.DataFrame:
        chosen = column_list([name], payloads=False)
        rows, params = self.rows()
        expression = chosen.sql.rpartition(" as ")[0]
        found = f"select e.*, {expression} as value from {rows} {chosen.join}"
        frame = self._frame(f"with found as ({found}) {select}", {**params, **chosen.params})
        if chosen.paths:
            frame = frame.rename(columns={"value": name})
            frame = decode_columns(frame, chosen).rename(columns={name: "value"})
        return frame

    def _frame(self, sql: str, params: dict[str, Any]) -> pd.DataFrame:
        return to_frame(read_table(self.cursor(), sql, params))
