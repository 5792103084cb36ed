"""The workbench: what people call. It joins the rooms above, and does little itself."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.comparison import Comparison, compare
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.formats import WriteReport
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.evidence import Evidence
from mcpaudit_lab.lab.noting import notes_in_force
from mcpaudit_lab.lab.questions import Questions
from mcpaudit_lab.lab.tool_history import changes_frame, definitions_frame
from mcpaudit_lab.record import Event
from mcpaudit_lab.storage import definitions_in_force, lab_tool_lists, progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.calls import Edit, Secrets
    from mcpaudit_lab.filters import Moment
    from mcpaudit_lab.lab.overview import Overview
    from mcpaudit_lab.lab.replay_comparisons import ReplayComparisons
    from mcpaudit_lab.lab.replay_pairs import ReplayPair
    from mcpaudit_lab.lab.sandbox import Sandbox
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.portal.pull import PullReport
    from mcpaudit_lab.record import Dialect
    from mcpaudit_lab.replay import AllowLike, EventsLike, ReplayPlan, TargetLike

__all__ = ["Lab"]


class Lab(Evidence, Questions):
    """A case: events from wherever they were kept, in one DuckDB database.

    Args:
        path: the lab's file, made if it does not exist, readable by its owner only; None for a lab
            in memory.
        read_only: open an existing lab without writing a byte into its file or folder: on a
            read-only disk, or in several processes at once. Changes raise :class:`LabReadOnly`;
            every question, comparison and export works.

    Raises:
        LabInUse: another process has the file open; it carries that process's id.
        LabVersionError: another version wrote it, or it is not a lab.
        LabError: it cannot be opened or made.

    A lab may be used from several threads. Use it in a ``with`` statement, or call :meth:`close`.
    """

    # Asking

    def events(self, *filters: EventFilter | str, **keywords: Any) -> EventSet:
        """The events that a filter selects. No work is done before something is asked of the set.

        Args:
            *filters: filters; all of them must hold.
            **keywords: a filter as keywords, as :class:`EventFilter` takes them, and
                ``definition_changed`` and ``tag``, see :meth:`EventSet.where`.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        return EventSet(self).where(*filters, **keywords)

    def event(self, event_id: str) -> Event:
        """One event with its payload, its tool's definition at the call, and the notes about it.

        Args:
            event_id: its id, in any spelling a portal takes.

        Raises:
            RecordError: the id is not a UUID.
            EventNotFound: no event in this lab has it.
        """
        event = super().event(event_id)
        cursor = self.connection.cursor()
        known = definitions_in_force(cursor, [event.id])
        return event.with_context(known.get(event.id), notes_in_force(cursor, event.id))

    def tool_definitions(self) -> pd.DataFrame:
        """What the servers offered: one row for each period in which a tool had one definition.

        Returns:
            Columns ``server``, ``name``, ``title``, ``description``, ``sha256`` (over the canonical
            JSON of the definition), ``first_seen``, ``last_seen``, ``gone_at`` (UTC; when a list
            first lacked the tool or had it changed, missing where it is still offered),
            ``input_schema``, ``output_schema``, ``annotations``, ``meta`` (JSON text), ``hidden``
            (a list of the hidden text found), ``definition`` (the whole as JSON text). By server
            and time.
        """
        return definitions_frame(lab_tool_lists(self.connection.cursor()))

    def tool_changes(self) -> pd.DataFrame:
        """What the servers changed about their tools, in order of server and time.

        Returns:
            Columns ``at`` (UTC, when the change was first seen), ``server``, ``name``, ``change``
            (``added``, ``removed``, ``changed``), ``members`` (the members that differ),
            ``before_sha256``, ``after_sha256``, ``hidden`` (hidden text in the new definition),
            ``diff`` (the lines that differ). The first list of a server is no change.
        """
        return changes_frame(lab_tool_lists(self.connection.cursor()))

    def sandbox(
        self,
        events: EventSet | None = None,
        *,
        timeout_s: float = 10.0,
        memory_bytes: int = 512 << 20,
        max_rows: int = 100_000,
    ) -> Sandbox:
        """A place for SQL you do not trust: ``with lab.sandbox() as box: box.sql(…)``.

        Statements run in a process of their own over a copy of the events, without access to
        files, network or this lab, within bounds of time, memory and rows.

        Args:
            events: which events the statements may see; None for all.
            timeout_s: how long one statement may take, in seconds.
            memory_bytes: how much memory it may use.
            max_rows: maximum number of rows returned; the result's ``truncated`` says whether there
                were more.
        """
        from mcpaudit_lab.lab.sandbox import Sandbox

        return Sandbox(
            self, events, timeout_s=timeout_s, memory_bytes=memory_bytes, max_rows=max_rows
        )

    def overview(self) -> Overview:
        """One look at the case: span, counts, tools, users, failures, sources, rejected lines.

        Raises:
            LabError: the lab is closed.
        """
        from mcpaudit_lab.lab.overview import make_overview

        return make_overview(self)

    # Comparing

    def compare(
        self, left: str | Event, right: str | Event, *, ignore: Iterable[str] = ()
    ) -> Comparison:
        """Compare two events.

        Args:
            left: an id, or an event.
            right: the other.
            ignore: paths to ignore, with ``*`` for one segment and ``**`` for any number:
                ``["response.structuredContent.ms", "**.trace_id"]``.

        Raises:
            EventNotFound: an id that the lab does not have.
            FilterError: a path that cannot be read.
        """
        events = (e if isinstance(e, Event) else self.event(e) for e in (left, right))
        return compare(*events, ignore=ignore)

    def compare_replays(
        self,
        events: EventSet | None = None,
        *,
        ignore: Iterable[str] = (),
        noise: Mapping[str, Iterable[str]] | None = None,
        progress: bool | None = None,
    ) -> ReplayComparisons:
        """Compare each original with each of its replays.

        Args:
            events: only replays that are in this set, or whose original is; None for all.
            ignore: paths to ignore, as in :meth:`compare`.
            noise: more of them for each tool, such as what a run has learned (``run.noise``).
            progress: show a progress bar; None shows it in a terminal or notebook.

        Returns:
            A result that shows what changed by tool and by path; ``.df()`` has a row for each
            replay. Where the lab does not have the original, the verdict is ``unknown``.

        Raises:
            FilterError: a path in ``ignore`` that cannot be read.
        """
        from mcpaudit_lab.lab.replay_comparisons import ReplayComparisons
        from mcpaudit_lab.lab.replay_pairs import compare_pairs, find_pairs

        pairs = find_pairs(self, events)
        with progress_bar(progress, total=len(pairs), unit="replays", label="compare") as advance:

            def counted() -> Iterator[ReplayPair]:
                for item in compare_pairs(self, pairs, ignore, noise):
                    yield item
                    advance(1)

            return ReplayComparisons(counted())

    def reconcile(
        self, left: EventSet | EventFilter | str, right: EventSet | EventFilter | str
    ) -> pd.DataFrame:
        """Pair two records of the same calls: a client's or gateway's, and the server's own.

        Events are paired by the request's id within its session, by the trace and span, else by
        tool, arguments and time under an estimated clock offset. Each event is in one row.

        Args:
            left: one record: a set, a filter, or a ``source``, such as ``"recorder"``.
            right: the other.

        Returns:
            One row for each pair or lone event, in order of the left clock. Columns: ``verdict``
            (``both``, ``left only``, ``right only``, ``ambiguous``), ``how`` (``request id``,
            ``trace id``, ``arguments and time``, or ``time`` where arguments are redacted),
            ``left``, ``right`` (ids), ``tool_name``, ``left_ts``, ``right_ts`` (UTC),
            ``difference_ms`` (right minus left, after the offset), ``candidates`` (ids on the other
            side of an ambiguous one), and for pairs ``summary``, ``param``, ``response``,
            ``error``, ``notifications``: ``equal``, ``changed`` or ``unknown``. ``attrs`` has
            ``clock_offset_ms`` (how far the right clock is ahead) and ``tolerance_ms``.

        Raises:
            LabError: an event is in both sets.
        """
        from mcpaudit_lab.lab.reconciliation import reconcile

        return reconcile(self._side(left), self._side(right))

    def _side(self, side: EventSet | EventFilter | str) -> EventSet:
        if isinstance(side, EventSet):
            return side
        return self.events(source=side) if isinstance(side, str) else self.events(side)

    # A portal, replays, files

    def pull(
        self,
        portal: PortalClient,
        *filters: EventFilter,
        since: Moment = None,
        payloads: bool = True,
        check_ids: bool | None = None,
        log_key: str | None = None,
        progress: bool | None = None,
        **keywords: Any,
    ) -> PullReport:
        """Fetch from a portal what the lab does not have yet, ours or the reference server.

        If it is interrupted or the portal goes away, everything fetched so far is kept, batch by
        batch, and the next pull of the same question continues there. A repeated pull fetches new
        and late events. The report compares with the portal's own count.

        Args:
            portal: the portal.
            *filters: which events; all filters must hold; without a limit.
            since: not before this moment, as :class:`EventFilter` takes it: ``"24h"``,
                ``"yesterday"``, ``"2026-11-24"``, a ``date``, ``datetime`` or ``timedelta``.
            payloads: with requests and responses.
            check_ids: compare the portal's ids with those that earlier pulls have seen, at the cost
                of an export without payloads. It finds late events that an equal number of
                deletions hides from counts. None compares up to 100,000 events completely, and only
                the recent ones of more; the report's ``compared`` says which.
            log_key: the key of the portal's log; None trusts the key of the first pull from then
                on.
            progress: show a progress bar; None shows it in a terminal or notebook.
            **keywords: a filter as keywords, as :class:`EventFilter` takes them.

        Raises:
            FilterError: a keyword or value no filter has; a limit.
            TamperError: the portal does not match its own log, or the log that earlier pulls have
                seen. What was fetched is kept.
            PortalError: the portal cannot be asked, of the kind that its answer means.
            LabError: the lab cannot be written.
        """
        from mcpaudit_lab.portal.pull import pull_events

        self.check_writable("a pull adds events to it")
        wanted = (*filters, EventFilter(since=since, **keywords))
        return pull_events(
            portal,
            wanted,
            self,
            payloads=payloads,
            progress=progress,
            check_ids=check_ids,
            log_key=log_key,
        )

    def plan_replay(
        self,
        events: EventsLike,
        target: TargetLike,
        *,
        allow: AllowLike = None,
        secrets: Secrets | None = None,
        edit: Edit | None = None,
        via_tryit: bool = False,
        again: Collection[str] = (),
        dialects: Iterable[Dialect | str] | None = None,
    ) -> ReplayPlan:
        """A verdict for each event: would it be called again, and if not, why. Nothing is called.

        The target is asked what tools it has, and a portal for its copies of the events.

        Args:
            events: an :class:`EventSet`, or events, or ids. They are called oldest first.
                A replay whose original is among them is left out.
            target: a :class:`PortalClient`; the URL of an MCP endpoint; a command as a list; an
                ``MCPServer`` of this process; or an :class:`McpTarget`. Never anything from a log.
            allow: the tools that may be called: names; ``"read-only"`` for tools that the target
                declares read-only; or ``"all"`` except tools declared destructive, which must be
                named. In a collection everything is a name; :class:`Allowed` combines all three.
                None allows nothing.
            secrets: values for redacted places, by path or key; or a function that is called with
                the event and the path. Supplied values are never stored.
            edit: arguments to change, by name; or a function that is called with the event and a
                copy of the arguments and returns new ones.
            via_tryit: let a portal call the lab's copy by Try-It if it has no equal event.
            again: ids of events to send although an earlier sending is uncertain.
            dialects: what counts as redacted besides ``[redacted]``, which always does; None for
                every known dialect.

        Raises:
            ReplayError: an invalid target, an event without an id, an edit that fails.
            EventNotFound: an id that the lab does not have.
            PortalError: the portal does not answer.
        """
        from mcpaudit_lab.calls import ALL_DIALECTS
        from mcpaudit_lab.replay import make_plan

        return make_plan(
            self,
            events,
            target,
            allow=allow,
            secrets=secrets,
            edit=edit,
            via_tryit=via_tryit,
            again=again,
            dialects=ALL_DIALECTS if dialects is None else dialects,
        )

    def write(
        self,
        path: str | os.PathLike[str],
        events: EventSet | None = None,
        *,
        format: str | None = None,  # noqa: A002 - the word that people look for
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> WriteReport:
        """Write events with their payloads into a file; returns how many.

        JSON Lines and Parquet load back equal. The other formats cannot carry everything: the
        report's ``lost`` and ``skipped`` count what is missing, ``describe()`` says it in words.

        Args:
            path: ``.jsonl`` or ``.ndjson``, ``.otlp.json`` (spans of OpenTelemetry), ``.csv``, all
                of them also with ``.gz`` or ``.zst`` behind; or ``.parquet``. The file appears
                whole or not at all, readable by its owner only.
            events: which events; None for all. JSON Lines and Parquet start with the newest event,
                the other formats with the oldest.
            format: ``portal``, ``otel``, ``csv`` or ``mcpsnoop``; None decides by the path.
            overwrite: replace an existing file.
            progress: show a progress bar; None shows it in a terminal or notebook.

        Raises:
            LabError: an unknown format or file name suffix, or the file exists.
        """
        chosen = self.events() if events is None else events
        return chosen.write(path, format=format, overwrite=overwrite, progress=progress)
