"""What a pull did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mcpaudit_lab.record import counted, visible

__all__ = ["PullReport"]


@dataclass(frozen=True, slots=True, repr=False)
class PullReport:
    """What :meth:`Lab.pull` did. Prints as a few lines.

    Attributes:
        portal: the portal's URL.
        question: which events were asked for, in words.
        listed: events that the portal listed this time.
        new: events that are new to the lab.
        payloads: payloads that are new to the lab.
        duplicates: events that were there already, equal.
        changed: events that the portal lists otherwise than the lab has them, from an earlier pull.
        conflicts: events that contradict what the lab has; they are in its ``rejects``.
        left_out: events that the portal listed because it cannot filter as was asked.
        unreadable: lines that are no events; they are in the lab's ``rejects``.
        unreadable_there: rows that the portal itself cannot read, whatever was asked. It lists none
            of them; its log names them.
        expected: how many events the portal says it has for the question.
        missing: how many of them it has not listed, in this pull or an earlier one.
        gone: events that it listed once and has no more; the lab keeps them.
        windows: how many windows of time were read.
        compared: how late arrivals were looked for: ``ids``, each id against the portal's; ``recent
            ids``, ids of recent calls and counts of older ones; or ``counts``.
        resumed: whether an earlier pull of the same question had been stopped before its end.
        stopped: why this one stopped before its end, or an empty text.
        verified: events that equal their leaf in the portal's log; None if it keeps no log.
        unverified: events that could not be compared with their leaf, because the lab has no
            payload of them.
        seconds: how long it took.
    """

    portal: str
    question: str
    listed: int = 0
    new: int = 0
    payloads: int = 0
    duplicates: int = 0
    conflicts: int = 0
    changed: int = 0
    left_out: int = 0
    unreadable: int = 0
    unreadable_there: int = 0
    expected: int = 0
    missing: int = 0
    gone: int = 0
    windows: int = 0
    compared: str = "counts"
    resumed: bool = False
    stopped: str = ""
    verified: int | None = None
    unverified: int = 0
    seconds: float = 0.0

    def with_verified(self, matched: int, unchecked: int) -> PullReport:
        """The report with the result of the verification."""
        return replace(self, verified=matched, unverified=unchecked)

    @property
    def complete(self) -> bool:
        """Whether the lab has seen everything that the portal can read."""
        return not (self.missing or self.unreadable or self.stopped)

    def to_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {**asdict(self), "complete": self.complete, "seconds": round(self.seconds, 3)}

    def __str__(self) -> str:
        counts = ", ".join(
            (
                counted(self.new, "new event"),
                counted(self.payloads, "new payload"),
                counted(self.duplicates, "duplicate"),
            )
        )
        missing = f"{self.missing:,} of them {_is(self.missing)}"
        lines = [
            f"{self.portal}: {self.question}",
            f"  {counts}",
            f"  the portal has {self.expected:,}; {missing} missing here",
        ]
        extra = (
            (self.conflicts, "in conflict with what the lab has, see rejects", "event"),
            (self.changed, "changed at the portal since an earlier pull", "event"),
            (self.unreadable, "not readable as an event, see rejects", "line"),
            (self.unreadable_there, "not readable by the portal itself, see its log", "row"),
            (self.left_out, "listed but not asked for, and left out", "event"),
            (self.gone, "gone from the portal and kept in the lab", "event"),
        )
        lines += [f"  {counted(n, noun)} {_is(n)} {what}" for n, what, noun in extra if n]
        if self.verified is not None:
            total = self.verified + self.unverified
            lines.append(f"  verified {self.verified:,} of {total:,} in the portal's log")
        if self.resumed:
            lines.append("  continued where an earlier pull was stopped")
        if self.stopped:
            lines.append(f"  stopped: {self.stopped}")
            lines.append("  everything received is kept; pull again to continue")
        elif self.missing:
            lines.append("  pull again: events that arrive late are looked for each time")
        return "\n".join(map(visible, lines))

    def __repr__(self) -> str:
        state = "complete" if self.complete else "stopped" if self.stopped else "not complete"
        return (
            f"PullReport({state}: {counted(self.new, 'new event')}, "
            f"{counted(self.payloads, 'payload')}, {counted(self.duplicates, 'duplicate')}; "
            f"{self.missing:,} of {self.expected:,} missing)"
        )


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
