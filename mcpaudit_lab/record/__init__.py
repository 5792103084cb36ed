"""The audit event: fields, JSON text, times, redaction, sanitizing, and the hook for display.

Input: lines of JSON, messages of a call, or columns. Output: :class:`Event` and its payload, and
back again without changing a digit. The standard library alone, and no import of another room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.record.canonical import canonical_json, canonical_sha256
    from mcpaudit_lab.record.captured import VERBATIM, CapturedCall, CapturePolicy, outcome_of
    from mcpaudit_lab.record.events import Event, Notification, Payload
    from mcpaudit_lab.record.fields import (
        EVENT_COLUMNS,
        EVENT_FIELDS,
        PAYLOAD_COLUMNS,
        PAYLOAD_FIELDS,
        Field,
        format_time,
        parse_id,
        parse_time,
        parse_time_ns,
        respell_time,
    )
    from mcpaudit_lab.record.json_rows import escape_json, json_row, json_value
    from mcpaudit_lab.record.jsontext import (
        Json,
        JsonDecimal,
        dumps,
        has_duplicate_keys,
        loads,
        replace_surrogates,
        same,
        scan,
        skip_space,
    )
    from mcpaudit_lab.record.notes import Note
    from mcpaudit_lab.record.printable import counted, visible
    from mcpaudit_lab.record.redaction import (
        DEFAULT_DIALECTS,
        Dialect,
        Marks,
        is_redacted,
        marked_texts,
        marks_of,
        redacted_paths,
    )
    from mcpaudit_lab.record.sanitize import (
        DEFAULT_REDACT_KEYS,
        REDACTED,
        Sanitizer,
        canonical_header,
        copy_json,
    )
    from mcpaudit_lab.record.tool_definitions import (
        ToolDefinition,
        ToolList,
        ToolListPages,
        hidden_text,
        shown_text,
    )
    from mcpaudit_lab.record.trace import parse_traceparent
    from mcpaudit_lab.record.version import VERSION
    from mcpaudit_lab.record.views import render, render_html
    from mcpaudit_lab.record.wiretext import wire_text

__all__ = [
    "DEFAULT_DIALECTS",
    "DEFAULT_REDACT_KEYS",
    "EVENT_COLUMNS",
    "EVENT_FIELDS",
    "PAYLOAD_COLUMNS",
    "PAYLOAD_FIELDS",
    "REDACTED",
    "VERBATIM",
    "VERSION",
    "CapturePolicy",
    "CapturedCall",
    "Dialect",
    "Event",
    "Field",
    "Json",
    "JsonDecimal",
    "Marks",
    "Note",
    "Notification",
    "Payload",
    "Sanitizer",
    "ToolDefinition",
    "ToolList",
    "ToolListPages",
    "canonical_header",
    "canonical_json",
    "canonical_sha256",
    "copy_json",
    "counted",
    "dumps",
    "escape_json",
    "format_time",
    "has_duplicate_keys",
    "hidden_text",
    "is_redacted",
    "json_row",
    "json_value",
    "loads",
    "marked_texts",
    "marks_of",
    "outcome_of",
    "parse_id",
    "parse_time",
    "parse_time_ns",
    "parse_traceparent",
    "redacted_paths",
    "render",
    "render_html",
    "replace_surrogates",
    "respell_time",
    "same",
    "scan",
    "shown_text",
    "skip_space",
    "visible",
    "wire_text",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "trace": ("parse_traceparent",),
        "canonical": ("canonical_json", "canonical_sha256"),
        "tool_definitions": (
            "ToolDefinition",
            "ToolList",
            "ToolListPages",
            "hidden_text",
            "shown_text",
        ),
        "captured": ("CapturePolicy", "CapturedCall", "VERBATIM", "outcome_of"),
        "events": ("Event", "Notification", "Payload"),
        "fields": (
            "EVENT_COLUMNS",
            "PAYLOAD_COLUMNS",
            "EVENT_FIELDS",
            "Field",
            "PAYLOAD_FIELDS",
            "format_time",
            "parse_id",
            "parse_time",
            "parse_time_ns",
            "respell_time",
        ),
        "json_rows": ("escape_json", "json_row", "json_value"),
        "jsontext": (
            "Json",
            "JsonDecimal",
            "dumps",
            "has_duplicate_keys",
            "loads",
            "replace_surrogates",
            "same",
            "scan",
            "skip_space",
        ),
        "notes": ("Note",),
        "printable": ("counted", "visible"),
        "redaction": (
            "DEFAULT_DIALECTS",
            "Dialect",
            "Marks",
            "is_redacted",
            "marked_texts",
            "marks_of",
            "redacted_paths",
        ),
        "sanitize": (
            "DEFAULT_REDACT_KEYS",
            "REDACTED",
            "Sanitizer",
            "canonical_header",
            "copy_json",
        ),
        "version": ("VERSION",),
        "views": ("render", "render_html"),
        "wiretext": ("wire_text",),
    },
)
