"""Pictures and sounds of a result, shown from their data.

Only raster pictures and sounds of the types listed here, in strict base64, whose bytes begin as
their type does, within bounds of bytes and pixels. What does not pass is named, with the reason.
SVG is never shown as a picture: in an ``<img>`` it could run no script and fetch nothing, but a few
lines of it can keep a browser busy for hours, and its text says more to who looks into a log.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

from mcpaudit_lab.display.html import attribute, text_html
from mcpaudit_lab.record import counted

__all__ = ["media_html"]

_ITEMS_MAX: Final = 12
_BYTES_MAX: Final = 4 << 20
_PIXELS_MAX: Final = 50_000_000
_BLANK = re.compile(r"[ \t\r\n]+")

# How the bytes of each type begin. Four of any kind are "....".
_SIGNATURES: Final[dict[str, tuple[bytes, ...]]] = {
    "image/png": (rb"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (rb"\xff\xd8\xff",),
    "image/gif": (rb"GIF8[79]a",),
    "image/webp": (rb"RIFF....WEBP",),
    "audio/wav": (rb"RIFF....WAVE",),
    "audio/mpeg": (rb"ID3", rb"\xff[\xe2-\xff]"),
    "audio/ogg": (rb"OggS",),
    "audio/flac": (rb"fLaC",),
    "audio/mp4": (rb"....ftyp",),
    "audio/webm": (rb"\x1aE\xdf\xa3",),
}
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
}
# JPEG frame headers, which contain the size: SOF0 to SOF15 without DHT, JPG and DAC.
_JPEG_SIZE = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..", re.DOTALL)


class _NotShownError(Exception):
    """Why something is not shown, in words that follow "not shown,"."""


def media_html(result: Any) -> str:
    """The pictures and sounds in the content of a CallToolResult; empty without any.

    Args:
        result: any JSON value.
    """
    figures: list[str] = []
    for mime_type, data in _blocks(result):
        if len(figures) == _ITEMS_MAX:
            figures.append("<p>… more are not shown</p>")
            break
        figures.append(_figure(mime_type, data))
    return f'<div class="mal-media">{"".join(figures)}</div>' if figures else ""


def _blocks(result: Any) -> Iterator[tuple[Any, Any]]:
    """Type and data of each picture or sound block (MCP 2025-11-25, content types)."""
    content = result.get("content") if isinstance(result, dict) else None
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        kind, resource = block.get("type"), block.get("resource")
        if kind in ("image", "audio"):
            yield block.get("mimeType"), block.get("data")
        elif kind == "resource" and isinstance(resource, dict) and "blob" in resource:
            mime_type = resource.get("mimeType")
            if isinstance(mime_type, str) and mime_type.lower().startswith(("image/", "audio/")):
                yield mime_type, resource["blob"]


def _figure(mime_type: Any, data: Any) -> str:
    said = mime_type if isinstance(mime_type, str) else "no media type"
    try:
        kind, checked, size = _check(mime_type, data)
    except _NotShownError as refused:
        return (
            f"<figure><figcaption>{text_html(said, limit=80)}: not shown, {refused}"
            "</figcaption></figure>"
        )
    source = f"data:{kind};base64,{checked}"
    note = f"{kind}, {counted(size, 'byte')}"
    label = attribute(f"from the result: {note}")
    if kind.startswith("image/"):
        shown = f'<img src="{source}" alt="{label}" decoding="async">'
    else:
        shown = f'<audio controls preload="none" src="{source}" aria-label="{label}"></audio>'
    return f"<figure>{shown}<figcaption>{note}</figcaption></figure>"


def _check(mime_type: Any, data: Any) -> tuple[str, str, int]:
    """The type, its base64 written anew, and the number of bytes.

    Raises:
        _NotShownError: it is not to be shown.
    """
    kind = mime_type.partition(";")[0].strip().lower() if isinstance(mime_type, str) else ""
    kind = _ALIASES.get(kind, kind)
    if kind not in _SIGNATURES:
        raise _NotShownError("as is everything of this type")
    if not isinstance(data, str):
        raise _NotShownError("its data is not text")
    if len(data) > _BYTES_MAX * 4 // 3 + 4:
        raise _NotShownError(f"larger than {_BYTES_MAX >> 20} MiB")
    try:
        raw = base64.b64decode(_BLANK.sub("", data), validate=True)
    except (binascii.Error, ValueError):
        raise _NotShownError("its data is not base64") from None
    if not any(re.match(signature, raw, re.DOTALL) for signature in _SIGNATURES[kind]):
        raise _NotShownError("its data is of another type")
    if kind.startswith("image/") and _pixels(kind, raw) > _PIXELS_MAX:
        raise _NotShownError(f"more than {_PIXELS_MAX // 1_000_000} megapixels")
    return kind, base64.b64encode(raw).decode("ascii"), len(raw)


def _pixels(kind: str, raw: bytes) -> int:
    """The size of a picture from its header; 0 if it is damaged, and then nothing is shown."""
    if kind == "image/png":
        return int.from_bytes(raw[16:20]) * int.from_bytes(raw[20:24])
    if kind == "image/gif":
        return int.from_bytes(raw[6:8], "little") * int.from_bytes(raw[8:10], "little")
    if kind == "image/jpeg":
        # Take the largest candidate: smaller ones may belong to a thumbnail.
        starts = [found.end() + 1 for found in _JPEG_SIZE.finditer(raw)]
        sizes = (
            int.from_bytes(raw[n : n + 2]) * int.from_bytes(raw[n + 2 : n + 4]) for n in starts
        )
        return max(sizes, default=0)
    # WebP: its format ends at 16,383 pixels a side, but for the canvas of the extended one.
    if raw[12:16] == b"VP8X":
        return (int.from_bytes(raw[24:27], "little") + 1) * (
            int.from_bytes(raw[27:30], "little") + 1
        )
    return 0
