"""A lab's DuckDB file: opening it, rows in and out, frames, SQL, aggregates.

Input: events as rows. Output: events, Arrow tables and frames, in the contract's order. Backfill a
lab from files and databases is in :mod:`.load`.
"""

from mcpaudit_lab.storage.aggregates import (
    BREAKDOWN_COLUMNS,
    breakdown_sql,
    bucket_of,
    stats_sql,
    timeseries_sql,
)
from mcpaudit_lab.storage.frames import ArrowViews, json_values, records, to_frame
from mcpaudit_lab.storage.lab_file import LabFile
from mcpaudit_lab.storage.notes import (
    TAGGED,
    add_note,
    event_ids_of_note,
    has_notes,
    read_notes,
    restore_notes,
)
from mcpaudit_lab.storage.plain_lines import STAGED_COLUMNS, plain_parameters, plain_select
from mcpaudit_lab.storage.portal_logs import KnownLog, PortalLogs
from mcpaudit_lab.storage.progress import progress_bar
from mcpaudit_lab.storage.queries import (
    CONTRACT_ORDER,
    line_select,
    read_batches,
    read_events,
    read_table,
    read_value,
    registered,
    row_select,
)
from mcpaudit_lab.storage.results import SqlResult, run_sql
from mcpaudit_lab.storage.rows import PAYLOAD_PREFIX, event_of, row_of, same_event, same_payload
from mcpaudit_lab.storage.schema import LEDGER_TABLES, PLACE_COLUMNS, duckdb_tables
from mcpaudit_lab.storage.tool_lists import (
    DEFINITIONS_IN_FORCE,
    add_tool_list,
    definitions_in_force,
    has_tool_lists,
    lab_tool_lists,
)
from mcpaudit_lab.storage.whole_files import appearing

__all__ = [
    "BREAKDOWN_COLUMNS",
    "CONTRACT_ORDER",
    "DEFINITIONS_IN_FORCE",
    "LEDGER_TABLES",
    "PAYLOAD_PREFIX",
    "PLACE_COLUMNS",
    "STAGED_COLUMNS",
    "TAGGED",
    "ArrowViews",
    "KnownLog",
    "LabFile",
    "PortalLogs",
    "SqlResult",
    "add_note",
    "add_tool_list",
    "appearing",
    "breakdown_sql",
    "bucket_of",
    "definitions_in_force",
    "duckdb_tables",
    "event_ids_of_note",
    "event_of",
    "has_notes",
    "has_tool_lists",
    "json_values",
    "lab_tool_lists",
    "line_select",
    "plain_parameters",
    "plain_select",
    "progress_bar",
    "read_batches",
    "read_events",
    "read_notes",
    "read_table",
    "read_value",
    "records",
    "registered",
    "restore_notes",
    "row_of",
    "row_select",
    "run_sql",
    "same_event",
    "same_payload",
    "stats_sql",
    "timeseries_sql",
    "to_frame",
]
