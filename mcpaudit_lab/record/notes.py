"""A note: what somebody found out about events, when, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcpaudit_lab.record.fields import format_time
from mcpaudit_lab.record.printable import counted, visible

__all__ = ["Note"]


@dataclass(frozen=True, slots=True)
class Note:
    """A note in a lab. It is never changed, only superseded by a newer one.

    Attributes:
        id: its number in the lab, from 1.
        at: when it was written, UTC.
        by: who wrote it.
        text: the text, as it was given.
        tags: its tags, in the order given.
        target: ``lab``, ``event``, ``events`` or ``comparison``.
        about: the target in words: an id, a set's filters, or the verdict of a comparison.
        count: number of events it is about.
        supersedes: the number of the note that it replaces, or None.
        superseded_by: the number of the note that replaces it, or None.
    """

    id: int
    at: datetime
    by: str
    text: str
    tags: tuple[str, ...]
    target: str
    about: str
    count: int
    supersedes: int | None = None
    superseded_by: int | None = None

    @property
    def is_retraction(self) -> bool:
        """Whether it only takes an earlier note back."""
        return self.supersedes is not None and not self.text and not self.tags

    def to_dict(self) -> dict[str, Any]:
        """The note as JSON values."""
        return {
            "id": self.id,
            "at": format_time(self.at),
            "by": self.by,
            "text": self.text,
            "tags": list(self.tags),
            "target": self.target,
            "about": self.about,
            "count": self.count,
            "supersedes": self.supersedes,
            "superseded_by": self.superseded_by,
        }

    def __str__(self) -> str:
        tags = "".join(f" #{tag}" for tag in self.tags)
        head = f"{format_time(self.at)} {self.by}{tags}, about {counted(self.count, 'event')}"
        return visible(f"{head}: {self.text}")
