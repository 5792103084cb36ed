"""Follows a portal's log while a tail stores its events."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.errors import McpAuditError, TamperError
from mcpaudit_lab.portal.pull import follow_log

if TYPE_CHECKING:
    from mcpaudit_lab.portal.http import PortalReader
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["LogWatch"]

_EVERY_S: Final = 10.0


class LogWatch:
    """Checks again and again that a portal's log extends the one that the lab remembers.

    Args:
        portal: the portal.
        lab: the lab; it remembers the log, as a pull does.
        every_s: seconds from one check to the next.

    Attributes:
        checks: how often the log was found to extend the known one.
        tampered: what does not hold; None while all is well. It is the last check then.
    """

    def __init__(self, portal: PortalReader, lab: LabStore, *, every_s: float = _EVERY_S) -> None:
        self.checks = 0
        self.tampered: TamperError | None = None
        self._portal = portal
        self._lab = lab
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End it, and wait for a check that is under way: the lab may be closed next."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                if follow_log(self._lab, self._portal, None, self._portal.checkpoint()) is None:
                    return
                self.checks += 1
            except TamperError as error:
                self.tampered = error
                return
            except McpAuditError:
                # The portal is away or the lab is closed: the stream tells of the first.
                pass
            self._stopped.wait(self._every_s)
