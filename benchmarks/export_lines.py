"""Makes big exports out of the recorded one: its lines, with ids and times of their own."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcpaudit_lab.record import Event, format_time

RECORDED = Path(__file__).parent.parent / "tests" / "data" / "upstream" / "export.jsonl"
# A few recorded events carry 70 KB each and would be nearly all of the file.
LONGEST = 3000


def export_lines(rows: int) -> Iterator[str]:
    """Lines of an export, newest last; the same every time."""
    chosen = [
        line
        for line in RECORDED.read_text().split("\n")
        # pandas reads no file with an integer over 64 bits, so that one is left out.
        if 0 < len(line) < LONGEST and "18446744073709552000" not in line
    ]
    events = [Event.from_json(line) for line in chosen]
    parts = [
        line.replace(event.wire["timestamp"], "\0time", 1)
        .replace(event.id, "\0id", 1)
        .replace(event.request_id, "\0request", 1)
        for line, event in zip(chosen, events, strict=True)
    ]
    numbers = random.Random(1)
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    for row in range(rows):
        moment += timedelta(microseconds=numbers.randrange(1, 400_000))
        yield (
            parts[row % len(parts)]
            .replace("\0time", format_time(moment), 1)
            .replace("\0id", str(uuid.UUID(int=numbers.getrandbits(128), version=4)), 1)
            .replace("\0request", str(uuid.UUID(int=numbers.getrandbits(128), version=4)), 1)
        )


def write_export(path: Path, rows: int) -> int:
    """Write such an export; gives its size in bytes. One that is there already is kept."""
    if not path.exists():
        with path.open("w") as file:
            file.writelines(f"{line}\n" for line in export_lines(rows))
    return path.stat().st_size
