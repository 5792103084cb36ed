"""Every error this package raises.

::

    McpAuditError
    ├── RecordError        a text is not an audit event (also a ValueError); carries a RejectReason
    ├── FilterError        a filter says something it cannot mean (also a ValueError)
    ├── MissingExtra       an optional part is not installed (also an ImportError)
    ├── LabError           the workbench cannot do what was asked
    │   ├── SourceError        an input cannot be read to its end, or is not what it claims to be
    │   │   ├── SourceChanged      it changed while it was read, or since it was loaded
    │   │   ├── NothingToLoad      a pattern or folder gives no file
    │   │   └── UnknownFormat      it is of none of the formats that can be read
    │   ├── LabInUse           the lab file is open in another process
    │   ├── LabReadOnly        the lab is open read-only and cannot be changed
    │   ├── LabVersionError    the lab file was written by another version, or is no lab
    │   ├── EventNotFound      no event has this id (also a KeyError)
    │   └── SandboxError       untrusted SQL failed, or hit one of its bounds
    ├── PortalError        a portal did not do what it was asked; carries its status and text
    │   ├── Unauthorized       no key, or none it knows
    │   ├── CsrfRefused        it wants a header that says the call is meant (X-Requested-With)
    │   ├── PortalNotFound     it has no such event, tool or route
    │   ├── ReplayRefused      it will not replay this event, and says why
    │   ├── RateLimited        too many replays; carries how long to wait
    │   ├── PortalUnavailable  it cannot be reached, or cannot answer now
    │   └── BadAnswer          what came is not what a portal says: cut off, HTML, not JSON
    ├── ReplayError        a replay cannot be planned or run as asked
    ├── TamperError        evidence was changed since it was signed or loaded; carries the faults
    ├── IssuerUnavailable  the issuer of bearer tokens cannot be asked for its keys
    ├── KeyNameTaken       there is an API key of this name already
    ├── AuditUnavailable   the audit log has no place for a call, so the call must not run
    ├── StoreUnavailable   the events' database is away; asking again later may help
    └── UnreadableRow      a row of a store's tables is no event; carries its raw columns

Whatever is not in this list (a full disk, an interrupt) comes through as Python raises it.
"""

from collections.abc import Sequence
from enum import StrEnum

__all__ = [
    "AuditUnavailable",
    "BadAnswer",
    "CsrfRefused",
    "EventNotFound",
    "FilterError",
    "IssuerUnavailable",
    "KeyNameTaken",
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
    "StoreUnavailable",
    "TamperError",
    "Unauthorized",
    "UnknownFormat",
    "UnreadableRow",
]


class RejectReason(StrEnum):
    """Why a line is not loaded; the values of the column ``reason`` of ``rejects``."""

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
        reason: the kind of fault, a :class:`RejectReason`.
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
    """The workbench cannot do what it was asked to do."""


class SourceError(LabError):
    """An input cannot be read to its end, or is not what its name or content claims."""


class SourceChanged(SourceError):  # noqa: N818 - reads as what happened
    """An input changed while it was read, or is not the one that was loaded."""


class NothingToLoad(SourceError):  # noqa: N818 - reads as what happened
    """A pattern or a folder matches no file, so there is nothing to load."""


class UnknownFormat(SourceError):  # noqa: N818 - reads as what happened
    """A file is of none of the formats that can be read. The message lists them."""


class LabInUse(LabError):  # noqa: N818 - reads as what happened
    """The lab file is open already. DuckDB allows one process that writes, or any that read.

    Attributes:
        pid: the id of the process that has it open; None where the system does not tell.
        read_only_works: whether opening it with ``read_only=True`` works now: the other process
            only reads.
    """

    def __init__(
        self, message: str, *, pid: int | None = None, read_only_works: bool = False
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.read_only_works = read_only_works


class LabReadOnly(LabError):  # noqa: N818 - reads as what happened
    """The lab was opened read-only, so it cannot be changed. Nothing was."""


class LabVersionError(LabError):
    """The lab file was written by another version of this package, or is not a lab."""


class EventNotFound(LabError, KeyError):  # noqa: N818 - reads as what happened
    """No event in the lab has this id."""

    def __str__(self) -> str:
        """The message itself; a KeyError would show its repr."""
        return str(self.args[0]) if self.args else ""


class SandboxError(LabError):
    """Untrusted SQL failed, or exceeded one of its limits."""


class PortalError(McpAuditError):
    """A portal refused a request or failed to answer it.

    Attributes:
        status: the HTTP status of its response; 0 if there was none.
        text: its message, without control characters and cut to a readable length.
        sent: False where the request cannot have reached it, so that nothing happened there.
    """

    def __init__(self, message: str, *, status: int = 0, text: str = "", sent: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.text = text
        self.sent = sent


class Unauthorized(PortalError):  # noqa: N818 - reads as what happened
    """The portal was given no key, or none that it knows."""


class CsrfRefused(PortalError):  # noqa: N818 - reads as what happened
    """The portal wants ``X-Requested-With`` on a call that changes something, and did not see it.

    The client always sends it: something between the two takes it away.
    """


class PortalNotFound(PortalError):  # noqa: N818 - reads as what happened
    """The portal has no such event, tool or route."""


class ReplayRefused(PortalError):  # noqa: N818 - reads as what happened
    """The portal will not replay an event, and says why. No tool ran."""


class RateLimited(PortalError):  # noqa: N818 - reads as what happened
    """The portal's budget of replays is spent. No tool ran.

    Attributes:
        retry_after_s: how long to wait, in seconds, 1 or more.
    """

    def __init__(
        self, message: str, *, status: int = 429, text: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, status=status, text=text)
        self.retry_after_s = retry_after_s


class PortalUnavailable(PortalError):  # noqa: N818 - reads as what happened
    """The portal cannot be reached, or cannot answer now; asking again later may help."""


class BadAnswer(PortalError):  # noqa: N818 - reads as what happened
    """The response is not a portal's: cut off, not JSON, too long, or from another server."""


class ReplayError(McpAuditError):
    """A replay cannot be planned or run as it was asked for."""


class TamperError(McpAuditError):
    """Evidence is not what was signed or loaded: changed, dropped, cut off, or replaced.

    Attributes:
        faults: one line for each thing that does not hold, with the event's id where it is known.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {fault}" for fault in faults[:20])]))
        self.faults = tuple(faults) or (message,)


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


class UnreadableRow(McpAuditError):  # noqa: N818 - reads as what happened
    """A row in a store's tables is not an event or payload: damaged, or written by another program.

    Attributes:
        event_id: the row's id, as stored.
        reason: the column and the fault, without any data.
        columns: table to column to value, as stored. Values outside JSON are text: bytes as in SQL,
            ``X'ff'``.
    """

    def __init__(self, event_id: str, reason: str, columns: dict[str, dict[str, object]]) -> None:
        super().__init__(f"the row of event {event_id!r} cannot be read: {reason}")
        self.event_id = event_id
        self.reason = reason
        self.columns = columns
