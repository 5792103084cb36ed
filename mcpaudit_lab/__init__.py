"""Load, query, compare and replay the audit events of MCP servers.

Importing this package has no side effects and imports nothing heavy: DuckDB, pandas and the rest
are imported by the functions that use them.

    >>> from mcpaudit_lab import Lab
    >>> lab = Lab()
    >>> lab.events().count()
    0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcpaudit_lab.client import (
        EventStream,
        Gap,
        PortalClient,
        PullReport,
        ReplayAnswer,
        StreamCounters,
        StreamRecorder,
        ToolAnswer,
    )
    from mcpaudit_lab.comparison import Comparison, Verdict, compare
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
    from mcpaudit_lab.events import Event, Notification, Payload
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.jsondiff import Change, ChangeKind, diff
    from mcpaudit_lab.lab import EventSet, Lab, LoadReport, Provenance
    from mcpaudit_lab.replay import (
        McpTarget,
        Noise,
        RefusalReason,
        ReplayPlan,
        ReplayRun,
        ReplayStatus,
    )

__version__ = "0.1.0"

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

# Where each public name lives, for __getattr__; the imports above are for type checkers.
_ROOMS = {
    "client": (
        "EventStream",
        "Gap",
        "PortalClient",
        "PullReport",
        "ReplayAnswer",
        "StreamCounters",
        "StreamRecorder",
        "ToolAnswer",
    ),
    "comparison": ("Comparison", "Verdict", "compare"),
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
    "events": ("Event", "Notification", "Payload"),
    "filters": ("EventFilter",),
    "jsondiff": ("Change", "ChangeKind", "diff"),
    "lab": ("EventSet", "Lab", "LoadReport", "Provenance"),
    "replay": (
        "McpTarget",
        "Noise",
        "RefusalReason",
        "ReplayPlan",
        "ReplayRun",
        "ReplayStatus",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
