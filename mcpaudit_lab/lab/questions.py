"""What a whole lab is asked about its sessions, its values, and any text in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.errors import EventNotFound
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.session import Session
from mcpaudit_lab.storage.load import LabStore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Questions"]


class Questions(LabStore):
    """A lab's questions over all its events; each is also one of :class:`EventSet`."""

    def search(self, text: str, *, limit: int = 100) -> pd.DataFrame:
        """Find a text in arguments, results, errors and notifications, in any case.

        Args:
            text: the text; with its spaces, as it stands there.
            limit: maximum number of places; ``attrs["truncated"]`` says whether there are more.

        Returns:
            One row for each place, newest event first. Columns ``id``, ``ts`` (UTC), ``tool_name``,
            ``path`` (``response.content[0].text``, ``error_message``, or a member's name),
            ``before``, ``found``, ``after`` (the text there, and up to 40 characters around). Of
            one value, the first place.

        Raises:
            FilterError: the text is empty.
        """
        return EventSet(self).search(text, limit=limit)

    def sessions(self) -> pd.DataFrame:
        """One row for each session; columns as :meth:`EventSet.sessions` has them."""
        return EventSet(self).sessions()

    def session(self, session_id: str) -> Session:
        """One session, which shows itself as a timeline.

        Raises:
            EventNotFound: no event in this lab is of this session.
        """
        events = EventSet(self).where(session=session_id)
        if not events.count():
            raise EventNotFound(f"no event in this lab is of the session {session_id!r}")
        return Session(session_id, events)

    def first_seen(self, name: str) -> pd.DataFrame:
        """When each value came up first; as :meth:`EventSet.first_seen`."""
        return EventSet(self).first_seen(name)

    def rare(self, name: str, by: str = "user_subject") -> pd.DataFrame:
        """What one did and nobody else; as :meth:`EventSet.rare`."""
        return EventSet(self).rare(name, by)
