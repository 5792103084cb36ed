"""Load, query, compare and replay the audit events of MCP servers.

Importing this package has no side effects and imports nothing heavy: DuckDB, pandas and the rest
are imported by the functions that use them.

    >>> from mcpaudit_lab import Lab
    >>> lab = Lab()
    >>> lab.events().count()
    0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names
from mcpaudit_lab.record.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from mcpaudit_lab.calls import RefusalReason, ReplayStatus
    from mcpaudit_lab.comparison import Change, ChangeKind, Comparison, Verdict, compare, diff
    from mcpaudit_lab.errors import (
        BadAnswer,
        CsrfRefused,
        EventNotFound,
        FilterError,
        LabError,
        LabInUse,
        LabReadOnly,
        LabVersionError,
        McpAuditError,
        MissingExtra,
        NothingToLoad,
        PortalError,
        PortalNotFound,
        PortalUnavailable,
        RateLimited,
        RecordError,
        RejectReason,
        ReplayError,
        ReplayRefused,
        SandboxError,
        SourceChanged,
        SourceError,
        Unauthorized,
    )
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import EventSet, Lab
    from mcpaudit_lab.portal import PortalClient, ReplayAnswer, ToolAnswer
    from mcpaudit_lab.portal.pull import PullReport
    from mcpaudit_lab.portal.stream import EventStream, Gap, StreamCounters, StreamRecorder
    from mcpaudit_lab.record import Event, Notification, Payload
    from mcpaudit_lab.replay import McpTarget, Noise, ReplayPlan, ReplayRun
    from mcpaudit_lab.storage.load import LoadReport, Provenance

__all__ = [
    "BadAnswer",
    "Change",
    "ChangeKind",
    "Comparison",
    "CsrfRefused",
    "Event",
    "EventFilter",
    "EventNotFound",
    "EventSet",
    "EventStream",
    "FilterError",
    "Gap",
    "Lab",
    "LabError",
    "LabInUse",
    "LabReadOnly",
    "LabVersionError",
    "LoadReport",
    "McpAuditError",
    "McpTarget",
    "MissingExtra",
    "Noise",
    "NothingToLoad",
    "Notification",
    "Payload",
    "PortalClient",
    "PortalError",
    "PortalNotFound",
    "PortalUnavailable",
    "Provenance",
    "PullReport",
    "RateLimited",
    "RecordError",
    "RefusalReason",
    "RejectReason",
    "ReplayAnswer",
    "ReplayError",
    "ReplayPlan",
    "ReplayRefused",
    "ReplayRun",
    "ReplayStatus",
    "SandboxError",
    "SourceChanged",
    "SourceError",
    "StreamCounters",
    "StreamRecorder",
    "ToolAnswer",
    "Unauthorized",
    "Verdict",
    "compare",
    "diff",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "calls": ("RefusalReason", "ReplayStatus"),
        "comparison": ("Change", "ChangeKind", "Comparison", "Verdict", "compare", "diff"),
        "errors": (
            "BadAnswer",
            "CsrfRefused",
            "EventNotFound",
            "FilterError",
            "LabError",
            "LabInUse",
            "LabReadOnly",
            "LabVersionError",
            "McpAuditError",
            "MissingExtra",
            "NothingToLoad",
            "PortalError",
            "PortalNotFound",
            "PortalUnavailable",
            "RateLimited",
            "RecordError",
            "RejectReason",
            "ReplayError",
            "ReplayRefused",
            "SandboxError",
            "SourceChanged",
            "SourceError",
            "Unauthorized",
        ),
        "filters": ("EventFilter",),
        "lab": ("EventSet", "Lab"),
        "portal": ("PortalClient", "ReplayAnswer", "ToolAnswer"),
        "portal.pull": ("PullReport",),
        "portal.stream": ("EventStream", "Gap", "StreamCounters", "StreamRecorder"),
        "record": ("Event", "Notification", "Payload"),
        "replay": ("McpTarget", "Noise", "ReplayPlan", "ReplayRun"),
        "storage.load": ("LoadReport", "Provenance"),
    },
)
