"""The DuckDB workbench: load, ask, compare, and say where each row came from."""

from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.ledger import Provenance
from mcpaudit_lab.lab.report import FileReport, LoadReport
from mcpaudit_lab.lab.results import SqlResult
from mcpaudit_lab.lab.workbench import Lab

__all__ = ["EventSet", "FileReport", "Lab", "LoadReport", "Provenance", "SqlResult"]
