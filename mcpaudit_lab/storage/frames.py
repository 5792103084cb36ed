"""Rows to pandas, through Arrow, without losing a digit.

The dtypes: text is pandas' ``str``, integers ``Int64`` and booleans ``boolean`` (both know missing
values, so that no integer turns into a float), times ``datetime64[us, UTC]``, floats ``float64``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import MissingExtra
from mcpaudit_lab.record import loads

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["ArrowViews", "json_values", "records", "to_frame"]


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Make a frame of an Arrow table; the columns keep their names and order."""
    import pandas as pd
    import pyarrow as pa

    text = pd.StringDtype("pyarrow", na_value=float("nan"))
    kinds: dict[Any, Any] = {
        pa.string(): text,
        pa.large_string(): text,
        pa.bool_(): pd.BooleanDtype(),
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get)
    return frame


class ArrowViews:
    """A table for other libraries: pandas, polars, and whatever reads Arrow."""

    __slots__ = ()

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        raise NotImplementedError

    def df(self) -> pd.DataFrame:
        """The rows as a frame."""
        return to_frame(self.arrow())

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a frame, as :meth:`df` makes it."""
        return self.df()

    def pl(self) -> pl.DataFrame:
        """The rows as a polars frame.

        Raises:
            MissingExtra: polars is not installed.
        """
        try:
            import polars as pl
        except ImportError:
            raise MissingExtra("polars", "A polars frame") from None
        return pl.DataFrame(self.arrow())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as an Arrow stream, which polars, DuckDB and others read directly."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __dataframe__(self, **options: Any) -> object:
        """The rows by the interchange protocol of frames."""
        return self.arrow().__dataframe__(**options)


def json_values(texts: pd.Series[Any], *, join_lists: bool = False) -> pd.Series[Any]:
    """Decode a column of JSON texts.

    ``str``, ``boolean``, ``Int64`` or ``float64`` if all present values have that type and fit it
    (integers among floats count if a float represents them), else Python objects. JSON null is
    missing, like an absent value.

    Args:
        texts: JSON texts, or missing.
        join_lists: a list of texts becomes one text, joined by ``", "``.
    """
    import pandas as pd

    values = [None if text is None or text != text else loads(text) for text in texts]  # noqa: PLR0124 - NaN is the missing text
    if join_lists:
        values = [", ".join(map(str, v)) if isinstance(v, list) else v for v in values]
    kinds = {type(value) for value in values if value is not None}
    dtype: Any = object
    if kinds == {str}:
        dtype = "str"
    elif kinds == {bool}:
        dtype = "boolean"
    elif kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):  # type: ignore[operator]  # all are int
        dtype = "Int64"
    elif kinds <= {int, float} and float in kinds:
        exact = all(not isinstance(v, int) or abs(v) <= 2**53 for v in values)
        dtype = "float64" if exact else object
    return pd.Series(values, index=texts.index, name=texts.name, dtype=dtype)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as Python values; None for missing values."""
    rows: list[dict[Any, Any]] = (
        frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    )
    return rows
