"""Figures that a portal counts itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.client.reading import AUDIT_PATH, PortalReader
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import EventFilter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PortalCounter"]

_BREAKDOWNS: Final = ("tool", "user", "success", "auth_type")


class PortalCounter(PortalReader):
    """What a portal counts, as frames."""

    def timeseries(
        self, bucket: str | timedelta = "1m", *filters: EventFilter, **keywords: Any
    ) -> pd.DataFrame:
        """Calls over time, as the portal counts them.

        Args:
            bucket: width of a bucket, ``5m``, ``90s``, ``1h30m``, or a ``timedelta``.
            *filters: filters, all of which must hold. The reference server knows ``from`` and
                ``to`` here.
            **keywords: a filter by its keywords.

        Returns:
            Columns ``time`` (start of the bucket, UTC), ``count``, ``errors``,
            ``avg_duration_ms``, in order of time, as :meth:`EventSet.timeseries` has them. Buckets
            without an event are left out.

        Raises:
            FilterError: the portal would count more than was asked for; or no duration.
            PortalError: the window is too long, or has too many buckets.
        """
        from mcpaudit_lab.client.figures import duration_text, series_frame

        query = f"bucket={duration_text(bucket)}"
        return series_frame(self._figures("timeseries", query, filters, keywords))

    def breakdown(self, by: str = "tool", *filters: EventFilter, **keywords: Any) -> pd.DataFrame:
        """How many events and failures there are for each value, as the portal counts them.

        Args:
            by: ``tool``, ``user``, ``success`` or ``auth_type``.
            *filters: as in :meth:`timeseries`.
            **keywords: a filter by its keywords.

        Returns:
            Columns ``key``, ``count``, ``errors``, most frequent first; 50 rows at most.

        Raises:
            FilterError: ``by`` is no choice; the portal would count more than was asked for.
        """
        from mcpaudit_lab.client.figures import shares_frame

        if by not in _BREAKDOWNS:
            raise FilterError(f"by={by!r}: choose from {', '.join(_BREAKDOWNS)}")
        return shares_frame(self._figures("breakdown", f"by={by}", filters, keywords))

    def _figures(
        self, what: str, query: str, filters: tuple[EventFilter, ...], keywords: dict[str, Any]
    ) -> dict[str, Any]:
        question = self.question(*filters, **keywords)
        sent = question.sent
        if self.is_reference and sent != EventFilter(from_=sent.from_, to=sent.to):
            raise FilterError(
                f"this portal's {what} knows no filter but from and to; pull the events into a "
                f"lab and ask lab.events(…).{what}()"
            )
        if not question.whole or question.limit is not None or question.offset:
            raise FilterError(
                f"a portal's {what} cannot count that; pull the events into a lab and ask "
                f"lab.events(…).{what}()"
            )
        return self._object(
            f"{AUDIT_PATH}/{what}", "&".join(filter(None, (query, question.query())))
        )
