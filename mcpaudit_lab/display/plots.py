"""Plots of a set of events, by matplotlib. Each draws into axes and returns them.

They follow the current style (``matplotlib.style``), in colours that work on light and dark
backgrounds. Names come from the record and are hostile: they are never interpreted as mathematics
or TeX, invisible characters and characters missing in the font are shown as escapes, and long names
are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.lab import bucket_width_s
from mcpaudit_lab.record import visible
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from mcpaudit_lab.lab import EventSet

__all__ = ["plot_durations", "plot_hours", "plot_session", "plot_timeseries"]

_NAME_MAX: Final = 32
_TITLE_MAX: Final = 70
_GROUPS_MAX: Final = 15
_CALLS_MAX: Final = 500
_LANES_MAX: Final = 25
# With this many calls, more would not change a distribution.
_SAMPLE_MAX: Final = 200_000
_CALLS_COLOUR: Final = "#4f8fcc"
_FAILED_COLOUR: Final = "#d1453b"
_INCHES: Final = 8.0
_DAY: Final = timedelta(days=1)
_DAY_MS: Final = 86_400_000
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)
# A longer bar would leave the calendar.
_LONGEST_MS: Final = 30 * _DAY_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plot_timeseries(
    events: EventSet, bucket: str | timedelta | None = None, ax: Axes | None = None
) -> Axes:
    """Calls over time as bars, the failed ones red at the foot of each.

    Args:
        events: the set.
        bucket: width of a bar, as :meth:`EventSet.timeseries` takes it; None for a round one.
        ax: where to draw; None for a new figure.
    """
    axes = _axes(ax, 2.6)
    width = _width(events, bucket)
    rows = records(events.timeseries(width))
    for key, colour, label in (
        ("count", _CALLS_COLOUR, "calls"),
        ("errors", _FAILED_COLOUR, "failed"),
    ):
        axes.bar(
            [_days(row["time"]) for row in rows],
            [row[key] for row in rows],
            width=width / _DAY * 0.9,
            align="edge",
            color=colour,
            label=label,
        )
    if rows:
        _time_axis(axes)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2
        )
    axes.set_ylim(bottom=0)
    _whole_numbers(axes)
    axes.set_ylabel("calls")
    return _finish(axes, f"Calls by {_words(width)}", events, empty=not rows)


def plot_durations(events: EventSet, by: str = "tool", ax: Axes | None = None) -> Axes:
    """How long calls took: a distribution for each tool, on a logarithmic scale.

    The box contains the middle half of the calls, its line is the median; the whiskers reach from
    the 5th to the 95th percentile, and dots are calls beyond. A call of 0 ms counts as 0.5. Shows
    the fifteen most frequent. Of more than 200,000 calls it uses the newest.

    Args:
        events: the set.
        by: ``tool``, ``user`` or another choice of :meth:`EventSet.breakdown`.
        ax: where to draw; None for a new figure.

    Raises:
        FilterError: an unknown ``by``.
    """
    from mcpaudit_lab.storage import BREAKDOWN_COLUMNS

    keys = [row["key"] for row in records(events.breakdown(by))]
    column = BREAKDOWN_COLUMNS[by]
    frame = events.df(columns=[column, "duration_ms"]).head(_SAMPLE_MAX)
    shown = keys[:_GROUPS_MAX]
    axes = _axes(ax, 1.0 + 0.32 * len(shown))
    if shown:
        from matplotlib import rcParams

        keyed = frame[column].astype(str)
        values = [
            frame.loc[keyed == str(key), "duration_ms"].astype(float).clip(lower=0.5).to_numpy()
            for key in shown
        ]
        axes.boxplot(
            values,
            orientation="horizontal",
            whis=(5, 95),
            widths=0.6,
            patch_artist=True,
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _CALLS_COLOUR},
            medianprops={"color": rcParams["text.color"], "linewidth": 1.8},
            whiskerprops={"color": _CALLS_COLOUR},
            capprops={"color": _CALLS_COLOUR},
            boxprops={"facecolor": _CALLS_COLOUR, "edgecolor": _CALLS_COLOUR, "alpha": 0.75},
        )
        axes.set_xscale("log")
        _plain_numbers(axes)
        names = [
            f"{_name(str(key)) or '(none)'}  {len(calls):,}"
            for key, calls in zip(shown, values, strict=True)
        ]
        _label(axes, range(1, len(shown) + 1), names)
        axes.invert_yaxis()
    axes.set_xlabel("ms")
    more = f", the {_GROUPS_MAX} most frequent" if len(keys) > _GROUPS_MAX else ""
    return _finish(axes, f"Durations by {by.replace('_', ' ')}{more}", events, empty=not shown)


def plot_session(events: EventSet, session_id: str | None = None, ax: Axes | None = None) -> Axes:
    """The calls of a session on a line of time: a lane for each tool, failed ones red.

    A call is a bar from its start to its end, and a dot, so that short ones are seen. The first
    500 calls and the first 25 tools are shown.

    Args:
        events: the set.
        session_id: which session; None for the one with most calls.
        ax: where to draw; None for a new figure.
    """
    if session_id is None:
        known = [row["key"] for row in records(events.breakdown("session")) if row["key"]]
        session_id = known[0] if known else ""
    rows: list[dict[str, Any]] = []
    if session_id:
        chosen = events.where(session=session_id)
        frame = chosen.df(columns=["ts", "tool_name", "duration_ms", "success"])
        rows = records(frame.iloc[::-1].head(_CALLS_MAX))
    lanes = list(dict.fromkeys(row["tool_name"] for row in rows))[:_LANES_MAX]
    axes = _axes(ax, 1.1 + 0.32 * len(lanes))
    for row in rows:
        if row["tool_name"] not in lanes:
            continue
        lane, start = lanes.index(row["tool_name"]), _days(row["ts"])
        colour = _CALLS_COLOUR if row["success"] else _FAILED_COLOUR
        length = min(row["duration_ms"], _LONGEST_MS) / _DAY_MS
        axes.barh(lane, length, left=start, height=0.5, color=colour, alpha=0.6)
        axes.plot([start], [lane], marker="|", markersize=9, markeredgewidth=1.6, color=colour)
    if rows:
        _time_axis(axes)
        _label(axes, range(len(lanes)), [_name(lane) or "(no tool)" for lane in lanes])
        axes.set_ylim(len(lanes) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.25)
    name = _name(session_id) if session_id else "none known"
    return _finish(axes, f"Session {name}", events, empty=not rows)


def plot_hours(events: EventSet, by: str = "tool", ax: Axes | None = None) -> Axes:
    """Calls by tool and hour of the day (UTC), as a heat map.

    The fifteen most frequent are shown.

    Args:
        events: the set.
        by: ``tool``, ``user`` or another choice of :meth:`EventSet.breakdown`.
        ax: where to draw; None for a new figure.

    Raises:
        FilterError: an unknown ``by``.
    """
    import numpy as np

    from mcpaudit_lab.storage import BREAKDOWN_COLUMNS

    keys = [row["key"] for row in records(events.breakdown(by))]
    shown = keys[:_GROUPS_MAX]
    column = BREAKDOWN_COLUMNS[by]
    frame = events.df(columns=["ts", column])
    axes = _axes(ax, 1.3 + 0.32 * max(len(shown), 1))
    if shown:
        places = {str(key): number for number, key in enumerate(shown)}
        lanes = frame[column].astype(str).map(places)
        known = lanes.notna()
        counts = np.zeros((len(shown), 24))
        hours = frame["ts"].dt.hour[known].to_numpy(int)
        np.add.at(counts, (lanes[known].to_numpy(int), hours), 1)
        image = axes.imshow(
            np.ma.masked_equal(counts, 0), aspect="auto", cmap=_colour_map(), vmin=0
        )
        axes.figure.colorbar(image, ax=axes, label="calls", pad=0.02)
        _label(axes, range(len(shown)), [_name(str(key)) or "(none)" for key in shown])
        axes.set_xticks(range(0, 24, 3))
    axes.set_xlabel("hour of the day (UTC)")
    return _finish(axes, f"Calls by {by.replace('_', ' ')} and hour", events, empty=not shown)


def _colour_map() -> str:
    """A colour map from near the background for the least to a strong contrast for the most."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    return "viridis_r" if sum(to_rgb(rcParams["axes.facecolor"])) > 1.5 else "viridis"


def _axes(ax: Axes | None, height_inches: float) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    _, axes = plt.subplots(figsize=(_INCHES, height_inches), layout="constrained")
    return axes


def _width(events: EventSet, bucket: str | timedelta | None) -> timedelta:
    """The width of a bucket; a round one unless asked for."""
    from mcpaudit_lab.storage import bucket_of

    if isinstance(bucket, str):
        return timedelta(microseconds=bucket_of(bucket))
    if bucket is not None:
        return bucket
    times = events.df(columns=["ts"])["ts"]
    span_s = (times.max() - times.min()).total_seconds() if len(times) else 0.0
    return timedelta(seconds=bucket_width_s(span_s))


def _days(moment: datetime) -> float:
    """A time as matplotlib counts it: days since 1970."""
    return (moment - _EPOCH) / _DAY


def _words(width: timedelta) -> str:
    seconds = width.total_seconds()
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:,.0f} {name}"
    return f"{seconds:,g} s"


def _finish(axes: Axes, title: str, events: EventSet, *, empty: bool) -> Axes:
    """The title with the filter in words, half of the frame, and what an empty set shows."""
    words = events.describe()
    if words != "all events":
        title = f"{title}: {_drawable(words, _TITLE_MAX)}"
    _set(axes.set_title(title, loc="left", fontsize="medium", fontweight="bold"))
    axes.spines[["top", "right"]].set_visible(False)
    if empty:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", va="center")
    return axes


def _label(axes: Axes, places: Sequence[int], names: Sequence[str]) -> None:
    axes.set_yticks(list(places), labels=list(names))
    for text in axes.get_yticklabels():
        _set(text)


def _set(text: Text) -> None:
    """Take a text as it is: no mathematics between dollar signs, no TeX."""
    text.set_parse_math(False)
    text.set_usetex(False)


def _name(text: str) -> str:
    return _drawable(text, _NAME_MAX)


def _drawable(text: str, limit: int) -> str:
    """The text on one line, cut, and with escapes for what the font cannot show."""
    known = _glyphs(_font())
    shown = "".join(
        char if ord(char) in known else f"\\u{ord(char):04x}" for char in visible(text[: limit + 1])
    )
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _font() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties()))


@lru_cache(maxsize=8)
def _glyphs(path: str) -> frozenset[int]:
    """The characters that a font has."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(path).get_charmap())


def _time_axis(axes: Axes) -> None:
    from matplotlib import dates

    # Matplotlib's calendar goes from year 1 to 9999, and a margin may lead out of it.
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, _days(_FIRST)), min(high, _days(_LAST)))
    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=8, tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlabel("UTC")


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _plain_numbers(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
