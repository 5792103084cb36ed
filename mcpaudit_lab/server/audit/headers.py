"""The headers of an HTTP request, as an audit event has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mcpaudit_lab.record import canonical_header

__all__ = ["first_hop", "first_value", "read_headers"]


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Name to values, names canonical, both in the order they came in.

    ``Host`` is left out: it names this server, and the record never had it. A value is decoded as
    UTF-8 if it is valid UTF-8, else as Latin-1 (RFC 9110 section 5.5 allows both), so that every
    value can be stored.

    Args:
        raw: the pairs of an ASGI scope.
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
    """The first value of a header, by its canonical name; ``""`` if it is absent."""
    values = headers.get(name)
    return values[0] if values else ""


def first_hop(headers: Mapping[str, Sequence[str]]) -> str:
    """The client as ``X-Forwarded-For`` names it; ``""`` without that header.

    Anyone can send the header: it is a claim unless a proxy in front of the server sets it.
    """
    return first_value(headers, "X-Forwarded-For").split(",")[0].strip()
