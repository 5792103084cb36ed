"""What a set of events can be shown as: plots, and a table to work in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from mcpaudit_lab.record import render

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mcpaudit_lab.lab.event_table import EventTable

__all__ = ["Plots"]


class Plots:
    """What a set of events can draw."""

    __slots__ = ()

    def show(self, columns: Sequence[str] | None = None) -> EventTable:
        """Make a table to sort, filter and select in; a notebook shows it as a widget.

        Its ``selection`` is an event set, its ``shown`` the events that its filters leave. It needs
        no more memory for a million events than for a hundred.

        Args:
            columns: names of columns and dotted paths, such as ``param.user.id``; None for the
                usual ones. More can be chosen in the table.

        Raises:
            FilterError: an unknown column.
        """
        from mcpaudit_lab.lab.event_table import EventTable

        return EventTable(self, columns)

    def plot_timeseries(
        self, bucket: str | timedelta | None = None, *, ax: Axes | None = None
    ) -> Axes:
        """Plot calls over time as bars, the failed ones red at the foot of each.

        Args:
            bucket: width of a bar, as :meth:`timeseries` takes it; None for a round one.
            ax: where to draw; None for a new figure.

        Raises:
            FilterError: an invalid bucket.
        """
        axes: Axes = render("plot_timeseries", self, bucket, ax)
        return axes

    def plot_durations(self, by: str = "tool", *, ax: Axes | None = None) -> Axes:
        """Plot how long calls took, a distribution for each tool, on a logarithmic scale.

        The box contains the middle half of the calls, its line is the median; the whiskers reach
        from the 5th to the 95th percentile, dots are calls beyond. 0 ms is drawn as 0.5. Shows the
        fifteen most frequent tools and at most the newest 200,000 calls.

        Args:
            by: a choice of :meth:`breakdown`.
            ax: where to draw; None for a new figure.

        Raises:
            FilterError: an unknown ``by``.
        """
        axes: Axes = render("plot_durations", self, by, ax)
        return axes

    def plot_session(self, session_id: str | None = None, *, ax: Axes | None = None) -> Axes:
        """Plot a session's calls on a line of time, a lane for each tool, failed ones red.

        A call is a bar from its start to its end, and a stroke, so that short ones are seen. The
        first 500 calls and the first 25 tools are shown.

        Args:
            session_id: which session; None for the one with most calls in this set.
            ax: where to draw; None for a new figure.
        """
        axes: Axes = render("plot_session", self, session_id, ax)
        return axes

    def plot_hours(self, by: str = "tool", *, ax: Axes | None = None) -> Axes:
        """Plot calls by tool and hour of the day (UTC) as a heat map.

        The fifteen most frequent tools are shown.

        Args:
            by: a choice of :meth:`breakdown`.
            ax: where to draw; None for a new figure.

        Raises:
            FilterError: an unknown ``by``.
        """
        axes: Axes = render("plot_hours", self, by, ax)
        return axes
