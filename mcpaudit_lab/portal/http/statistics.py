"""Figures that a portal counts itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import BadAnswer, FilterError, RecordError
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.http.reading import AUDIT_PATH, PortalReader
from mcpaudit_lab.record import parse_time, replace_surrogates
from mcpaudit_lab.storage import bucket_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PortalCounter", "duration_text", "series_frame", "shares_frame"]


def duration_text(bucket: str | timedelta) -> str:
    """A bucket's width as a portal takes it.

    Raises:
        FilterError: not a width, or shorter than a millisecond.
    """
    width_ms, rest = divmod(bucket_of(bucket), 1000)
    if rest:
        raise FilterError("a portal's bucket is whole milliseconds")
    return f"{width_ms}ms" if width_ms % 1000 else f"{width_ms // 1000}s"


def series_frame(value: dict[str, Any]) -> pd.DataFrame:
    """``{points: …}`` as a frame.

    Raises:
        BadAnswer: the response is malformed.
    """
    import pandas as pd

    rows = _rows(value.get("points"), _point)
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return pd.DataFrame(
        {
            "time": pd.Series(columns[0], dtype="datetime64[us, UTC]"),
            "count": pd.Series(columns[1], dtype="Int64"),
            "errors": pd.Series(columns[2], dtype="Int64"),
            "avg_duration_ms": pd.Series(columns[3], dtype="float64"),
        }
    )


def shares_frame(value: dict[str, Any]) -> pd.DataFrame:
    """``{breakdown: …}`` as a frame.

    Raises:
        BadAnswer: the response is malformed.
    """
    import pandas as pd

    rows = _rows(value.get("breakdown"), _share)
    # Ties come in any order from the reference server.
    rows.sort(key=lambda row: (-row[1], row[0]))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    return pd.DataFrame(
        {
            "key": pd.Series(columns[0], dtype=pd.StringDtype("pyarrow", na_value=float("nan"))),
            "count": pd.Series(columns[1], dtype="Int64"),
            "errors": pd.Series(columns[2], dtype="Int64"),
        }
    )


def _point(row: dict[str, Any]) -> tuple[Any, ...]:
    time = parse_time(row["time"])
    return time, _count(row, "count"), _count(row, "errors"), float(row["avg_duration_ms"])


def _share(row: dict[str, Any]) -> tuple[Any, ...]:
    return replace_surrogates(str(row["key"])), _count(row, "count"), _count(row, "errors")


def _count(row: dict[str, Any], name: str) -> int:
    count = int(row[name])
    if not 0 <= count < 2**63:
        raise ValueError(count)
    return count


def _rows(
    rows: Iterable[Any] | None, read: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    try:
        return [read(row) for row in rows or ()]
    except (KeyError, TypeError, ValueError, OverflowError, RecordError):
        pass
    raise BadAnswer("the portal's figures are not what a portal says", status=200)


_BREAKDOWNS: Final = ("tool", "user", "success", "auth_type")


class PortalCounter(PortalReader):
    """What a portal counts, as frames."""

    def timeseries(
        self, bucket: str | timedelta = "1m", *filters: EventFilter, **keywords: Any
    ) -> pd.DataFrame:
        """Calls over time, as the portal counts them.

        Args:
            bucket: width of a bucket, ``5m``, ``90s``, ``1h30m``, or a ``timedelta``.
            *filters: filters; all of them must hold. The reference server supports ``from`` and
                ``to`` here.
            **keywords: a filter as keywords.

        Returns:
            Columns ``time`` (start of the bucket, UTC), ``count``, ``errors``,
            ``avg_duration_ms``, in order of time, as :meth:`EventSet.timeseries` has them. Buckets
            without an event are left out.

        Raises:
            FilterError: the portal would count more than was asked for; or no duration.
            PortalError: the window is too long, or has too many buckets.
        """
        query = f"bucket={duration_text(bucket)}"
        return series_frame(self._statistics("timeseries", query, filters, keywords))

    def breakdown(self, by: str = "tool", *filters: EventFilter, **keywords: Any) -> pd.DataFrame:
        """Number of events and failures for each value, as counted by the portal.

        Args:
            by: ``tool``, ``user``, ``success`` or ``auth_type``.
            *filters: as in :meth:`timeseries`.
            **keywords: a filter as keywords.

        Returns:
            Columns ``key``, ``count``, ``errors``, most frequent first; 50 rows at most.

        Raises:
            FilterError: an unknown ``by``; the portal would count more than was requested.
        """
        if by not in _BREAKDOWNS:
            raise FilterError(f"by={by!r}: choose from {', '.join(_BREAKDOWNS)}")
        return shares_frame(self._statistics("breakdown", f"by={by}", filters, keywords))

    def _statistics(
        self, what: str, query: str, filters: tuple[EventFilter, ...], keywords: dict[str, Any]
    ) -> dict[str, Any]:
        request = self.request(*filters, **keywords)
        sent = request.sent
        if self.is_reference and sent != EventFilter(from_=sent.from_, to=sent.to):
            raise FilterError(
                f"this portal's {what} knows no filter but from and to; pull the events into a "
                f"lab and ask lab.events(…).{what}()"
            )
        if not request.whole or request.limit is not None or request.offset:
            raise FilterError(
                f"a portal's {what} cannot count that; pull the events into a lab and ask "
                f"lab.events(…).{what}()"
            )
        return self._object(
            f"{AUDIT_PATH}/{what}", "&".join(filter(None, (query, request.query())))
        )
