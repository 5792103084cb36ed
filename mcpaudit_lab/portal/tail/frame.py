"""Events in memory as a frame, with the columns and types of a lab's frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.record import EVENT_FIELDS, Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["events_frame"]


def events_frame(events: Sequence[Event]) -> pd.DataFrame:
    """One row for each event, in order, as :meth:`EventSet.df` would give them.

    An event whose stream frame has no id has none here.
    """
    import pandas as pd

    from mcpaudit_lab.storage import row_of

    text = pd.StringDtype("pyarrow", na_value=float("nan"))
    kinds: dict[str, Any] = {"int": pd.Int64Dtype(), "bool": pd.BooleanDtype()}
    kinds["time"] = "datetime64[us, UTC]"
    rows = [row_of(event) for event in events]
    columns = {
        field.column: pd.Series(
            [row[field.column] for row in rows], dtype=kinds.get(field.kind, text)
        )
        for field in EVENT_FIELDS
    }
    return pd.DataFrame(columns)
