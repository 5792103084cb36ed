"""Decodes HTTP request headers for audit events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mcpaudit_lab.record import canonical_header

__all__ = ["first_hop", "first_value", "read_headers"]


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Decode headers into canonical name to values, in the order received.

    ``Host`` is omitted: it names this server, and the recorded events never had it. Values are
    decoded as UTF-8 if valid, else as Latin-1, so that any value can be stored (RFC 9110 section
    5.5 leaves the encoding open).

    Args:
        raw: the header pairs of an ASGI scope.
    """
    headers: dict[str, list[str]] = {}
    for name, value in raw:
        canonical = canonical_header(name.decode("latin-1"))
        if canonical != "Host":
            headers.setdefault(canonical, []).append(_text(value))
    return headers


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def first_value(headers: Mapping[str, Sequence[str]], name: str) -> str:
    """The first value of a header, by its canonical name; ``""`` if missing."""
    values = headers.get(name)
    return values[0] if values else ""


def first_hop(headers: Mapping[str, Sequence[str]]) -> str:
    """The client address from ``X-Forwarded-For``; ``""`` without that header.

    Any client can send the header, so it is reliable only if a proxy in front of the server sets
    it.
    """
    return first_value(headers, "X-Forwarded-For").split(",")[0].strip()
