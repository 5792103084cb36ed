"""One filter over events: keywords or a query string, its meaning in Python, and its SQL.

Input: values as people write them. Output: :class:`EventFilter`, the query string of a portal,
and SQL for DuckDB, SQLite and PostgreSQL with its values bound. The standard library alone, but for
lark, which reads conditions.
"""

from mcpaudit_lab.filters.combined import contract_order, filters_of, with_values
from mcpaudit_lab.filters.conditions import All, Condition, implied, joined, written
from mcpaudit_lab.filters.dialects import sqlite_moment
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.filters.query_string import HAS_COLUMNS, TEXT_FIELDS
from mcpaudit_lab.filters.sql import Compiled, compile_filter, text_condition
from mcpaudit_lab.filters.sql_functions import DUCKDB_FUNCTIONS, register_functions
from mcpaudit_lab.filters.times import (
    Moment,
    format_duration,
    is_assumed_utc,
    parse_duration_ns,
    parse_moment,
)
from mcpaudit_lab.filters.values import PathTest, fold, split_path

__all__ = [
    "DUCKDB_FUNCTIONS",
    "HAS_COLUMNS",
    "TEXT_FIELDS",
    "All",
    "Compiled",
    "Condition",
    "EventFilter",
    "Moment",
    "PathTest",
    "compile_filter",
    "contract_order",
    "filters_of",
    "fold",
    "format_duration",
    "implied",
    "is_assumed_utc",
    "joined",
    "parse_duration_ns",
    "parse_moment",
    "register_functions",
    "split_path",
    "sqlite_moment",
    "text_condition",
    "with_values",
    "written",
]
