"""Every error this package raises.

::

    McpAuditError
    ├── RecordError        a text is not an audit event (also a ValueError); carries a RejectReason
    ├── FilterError        a filter says something it cannot mean (also a ValueError)
    ├── MissingExtra       an optional part is not installed (also an ImportError)
    ├── LabError           the workbench cannot do what was asked
    │   ├── SourceError        an input cannot be read to its end, or is not what it claims to be
    │   │   └── SourceChanged      it changed while it was read, or since it was loaded
    │   ├── LabInUse           the lab file is open in another process
    │   ├── LabVersionError    the lab file was written by a newer version
    │   ├── EventNotFound      no event has this id (also a KeyError)
    │   └── SandboxError       untrusted SQL failed, or hit one of its bounds
    ├── IssuerUnavailable  the issuer of bearer tokens cannot be asked for its keys
    ├── KeyNameTaken       there is an API key of this name already
    ├── AuditUnavailable   the audit log has no place for a call, so the call must not run
    └── StoreUnavailable   the events' database is away; asking again later may help

Whatever is not in this list (a full disk, an interrupt) comes through as Python raises it.
"""

from enum import StrEnum

__all__ = [
    "AuditUnavailable",
    "EventNotFound",
    "FilterError",
    "IssuerUnavailable",
    "KeyNameTaken",
    "LabError",
    "LabInUse",
    "LabVersionError",
    "McpAuditError",
    "MissingExtra",
    "RecordError",
    "RejectReason",
    "SandboxError",
    "SourceChanged",
    "SourceError",
    "StoreUnavailable",
]


class RejectReason(StrEnum):
    """Why a line is not loaded. The values are what the ``reason`` column of ``rejects`` holds."""

    NOT_JSON = "not_json"
    INVALID_UTF8 = "invalid_utf8"
    NAN_OR_INFINITY = "nan_or_infinity"
    TORN = "torn"
    NOT_AN_OBJECT = "not_an_object"
    NO_ID = "no_id"
    BAD_ID = "bad_id"
    NO_TIME = "no_time"
    BAD_TIME = "bad_time"
    BAD_FIELD = "bad_field"
    CONFLICT = "conflict"


class McpAuditError(Exception):
    """The root of every error raised on purpose by this package."""


class RecordError(McpAuditError, ValueError):
    """A text or mapping is not an audit event.

    Attributes:
        reason: what is wrong, as a :class:`RejectReason`.
        detail: the same for a person, without the offending data.
    """

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FilterError(McpAuditError, ValueError):
    """A filter is malformed. The message names the choices."""


class MissingExtra(McpAuditError, ImportError):  # noqa: N818 - reads as what happened
    """An optional dependency is not installed. The message is the command that installs it."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an extra: pip install 'mcpaudit-lab[{extra}]'")
        self.extra = extra


class LabError(McpAuditError):
    """The workbench cannot do what was asked."""


class SourceError(LabError):
    """An input cannot be read to its end, or is not what its name or content claims."""


class SourceChanged(SourceError):  # noqa: N818 - reads as what happened
    """An input changed while it was read, or is not the one that was loaded."""


class LabInUse(LabError):  # noqa: N818 - reads as what happened
    """The lab file is open in another process. DuckDB allows one at a time."""


class LabVersionError(LabError):
    """The lab file was written by a newer version of this package, or is no lab."""


class EventNotFound(LabError, KeyError):  # noqa: N818 - reads as what happened
    """No event in the lab has this id."""

    def __str__(self) -> str:
        """The message itself; a KeyError would show its repr."""
        return str(self.args[0]) if self.args else ""


class SandboxError(LabError):
    """SQL from somebody else failed, or ran into one of the bounds set for it."""


class IssuerUnavailable(McpAuditError):  # noqa: N818 - reads as what happened
    """The issuer of bearer tokens cannot be asked for its keys; asking again later may help."""


class KeyNameTaken(McpAuditError):  # noqa: N818 - reads as what happened
    """There is an API key of this name already; two would share a subject."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is an API key named {name!r} already")


class AuditUnavailable(McpAuditError):  # noqa: N818 - reads as what happened
    """The audit log has no place for a call: it is full, closed, or its store is away.

    The call is refused and the tool does not run.
    """


class StoreUnavailable(McpAuditError):  # noqa: N818 - reads as what happened
    """The database of a store cannot be reached, written or read now.

    The events are not at fault.
    """
