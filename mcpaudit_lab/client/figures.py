"""What a portal counted, as frames with the columns and types that a lab's have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import BadAnswer, FilterError, RecordError
from mcpaudit_lab.events import parse_time
from mcpaudit_lab.jsontext import replace_surrogates
from mcpaudit_lab.lab.aggregates import bucket_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["duration_text", "series_frame", "shares_frame"]


def duration_text(bucket: str | timedelta) -> str:
    """A bucket's width as a portal takes it.

    Raises:
        FilterError: it is none, or shorter than a millisecond.
    """
    width_ms, rest = divmod(bucket_of(bucket), 1000)
    if rest:
        raise FilterError("a portal's bucket is whole milliseconds")
    return f"{width_ms}ms" if width_ms % 1000 else f"{width_ms // 1000}s"


def series_frame(value: dict[str, Any]) -> pd.DataFrame:
    """``{points: …}`` as a frame.

    Raises:
        BadAnswer: it is none.
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
        BadAnswer: it is none.
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
