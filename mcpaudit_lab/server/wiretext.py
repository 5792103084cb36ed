"""JSON as the reference server writes it: see :mod:`mcpaudit_lab.wiretext`, which has moved up."""

from __future__ import annotations

from mcpaudit_lab.wiretext import wire_size, wire_text

__all__ = ["wire_size", "wire_text"]
