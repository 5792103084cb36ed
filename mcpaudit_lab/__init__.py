"""Load, query, compare and replay the audit events of MCP servers.

Importing this package has no side effects and imports nothing heavy: DuckDB, pandas and the rest
are imported by the functions that use them.
"""

__version__ = "0.1.0"
