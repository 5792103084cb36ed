"""Backfill a lab: inputs, blocks of lines, staging, merging; the ledger; writing out.

Input: files of any known format, a portal's database, or events. Output: rows of a lab, each with
its place in the ledger, rejects for the rest, and a report whose counts add up.
"""

from mcpaudit_lab.storage.load.database_log import DatabaseLog
from mcpaudit_lab.storage.load.inputs import find_inputs
from mcpaudit_lab.storage.load.lab_store import LabStore
from mcpaudit_lab.storage.load.ledger import (
    Provenance,
    places_of,
    read_raws,
    request_text,
    sources_of,
)
from mcpaudit_lab.storage.load.ledger_chain import chained_rows, read_chain
from mcpaudit_lab.storage.load.loaded_files import (
    changed_summaries,
    check_files,
    compare_with_files,
)
from mcpaudit_lab.storage.load.report import FileReport, LoadReport
from mcpaudit_lab.storage.load.writing import write_events

__all__ = [
    "DatabaseLog",
    "FileReport",
    "LabStore",
    "LoadReport",
    "Provenance",
    "chained_rows",
    "changed_summaries",
    "check_files",
    "compare_with_files",
    "find_inputs",
    "places_of",
    "read_chain",
    "read_raws",
    "request_text",
    "sources_of",
    "write_events",
]
