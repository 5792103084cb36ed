"""What a pull did."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mcpaudit_lab.terminal import visible

__all__ = ["PullReport"]


@dataclass(frozen=True, slots=True, repr=False)
class PullReport:
    """What :meth:`Lab.pull` did. Prints as a few lines.

    Attributes:
        portal: the portal's URL.
        question: which events were asked for, in words.
        listed: events that the portal listed this time.
        new: those that are new to the lab.
        payloads: payloads that are new to the lab.
        duplicates: events that were there already, equal.
        conflicts: events that contradict what the lab has; they are in its ``rejects``.
        left_out: events that the portal listed because it cannot filter as was asked.
        unreadable: lines that are no events; they are in the lab's ``rejects``.
        unreadable_there: rows that the portal itself cannot read, whatever was asked. It lists none
            of them; its log names them.
        expected: how many events the portal says it has for the question.
        missing: how many of them it has not listed, in this pull or an earlier one.
        gone: events that it listed once and has no more; the lab keeps them.
        windows: how many windows of time were read.
        resumed: whether an earlier pull of the same question had been stopped before its end.
        stopped: why this one stopped before its end, or an empty text.
        seconds: how long it took.
    """

    portal: str
    question: str
    listed: int = 0
    new: int = 0
    payloads: int = 0
    duplicates: int = 0
    conflicts: int = 0
    left_out: int = 0
    unreadable: int = 0
    unreadable_there: int = 0
    expected: int = 0
    missing: int = 0
    gone: int = 0
    windows: int = 0
    resumed: bool = False
    stopped: str = ""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether the lab has seen everything that the portal can read."""
        return not (self.missing or self.unreadable or self.stopped)

    def to_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {**asdict(self), "complete": self.complete, "seconds": round(self.seconds, 3)}

    def __str__(self) -> str:
        counts = (
            f"{self.new:,} new events, {self.payloads:,} new payloads, "
            f"{self.duplicates:,} duplicates"
        )
        lines = [
            f"{self.portal}: {self.question}",
            f"  {counts}",
            f"  the portal has {self.expected:,}; {self.missing:,} of them are missing here",
        ]
        extra = {
            "contradict what the lab has, see rejects": self.conflicts,
            "lines are no events, see rejects": self.unreadable,
            "rows cannot be read by the portal itself, see its log": self.unreadable_there,
            "were listed but not asked for, and left out": self.left_out,
            "are gone from the portal; the lab keeps them": self.gone,
        }
        lines += [f"  {count:,} {what}" for what, count in extra.items() if count]
        if self.resumed:
            lines.append("  went on where an earlier pull was stopped")
        if self.stopped:
            lines.append(f"  stopped: {self.stopped}")
            lines.append("  what came is kept; pull again to go on")
        elif self.missing:
            lines.append("  pull again: events that arrive late are looked for each time")
        return "\n".join(map(visible, lines))

    def __repr__(self) -> str:
        state = "complete" if self.complete else "stopped" if self.stopped else "not complete"
        return (
            f"PullReport({state}: {self.new:,} new events, {self.payloads:,} payloads, "
            f"{self.duplicates:,} duplicates; {self.missing:,} of {self.expected:,} missing)"
        )
