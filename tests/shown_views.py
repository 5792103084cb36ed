"""Every object that has a look of its own, and a page as plain as a notebook's output."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from mcpaudit_lab import Event, Lab, Payload
from mcpaudit_lab.record.redaction import redacted_paths
from mcpaudit_lab.server import demo_server

__all__ = ["PROGRESS", "objects", "page_of"]

PROGRESS = ("9be46480-fa19-4c60-9b50-8878b96f2759", "8018d3b4-cd22-45b1-9d01-22395b791694")


def objects(lab: Lab) -> Iterator[tuple[str, Any]]:
    """Every object that has a look of its own, by name."""
    yield "event", lab.event(PROGRESS[0])
    failed = lab.events(tool="error", success=False, has="response_result")
    yield "event-failed", next(iter(failed))
    whole = [event for event in lab.events(has="request_params") if event.payload]
    yield (
        "event-redacted",
        next(e for e in whole if e.payload and redacted_paths(e.payload.request_params)),
    )
    yield "event-summary", next(event for event in lab.events() if event.payload is None)
    yield (
        "event-truncated",
        next(e for e in lab.events() if e.payload and e.payload.response_truncated),
    )
    yield "event-media", _with_media(whole[0])
    yield "comparison", lab.compare(*PROGRESS)
    yield "replays", lab.compare_replays()
    yield "event-set", lab.events(success=False)
    yield "overview", lab.overview()
    yield "timeline", lab.session("SEG32MMGZTLK52X3SCHHXCFF7K")
    # A server of our own, inside this process, is called again for the sample's calls.
    server = demo_server()
    plan = lab.plan_replay(lab.events(limit=40), target=server, allow={"echo", "progress", "error"})
    yield "plan", plan
    yield "run", plan.run(progress=False)


def _with_media(event: Event) -> Event:
    """The event with a picture and a sound in its result, which the sample has none of."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(160) for v in (x, y * 2, 200 - x)) for y in range(90)
    )
    size = struct.pack(">IIBBBBB", 160, 90, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    sound = bytes(128 + round(60 * math.sin(n / 6)) for n in range(8000))
    head = b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data"
    wav = head + struct.pack("<I", len(sound)) + sound
    content = [
        {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": mime_type}
        for kind, data, mime_type in (
            ("image", png, "image/png"),
            ("audio", wav, "audio/wav"),
            ("image", b"<svg/>", "image/svg+xml"),
        )
    ]
    return event.with_payload(Payload.build(response_result={"content": content}))


def page_of(shown: str, *, dark: bool) -> str:
    """A page as plain as a notebook's output area."""
    background = "#111111" if dark else "#ffffff"
    return (
        "<!doctype html><meta charset='utf-8'>"
        f"<body data-jp-theme-light='{'false' if dark else 'true'}'"
        f" style='margin:12px;background:{background}'>{shown}</body>"
    )
