"""Errors for unsuccessful responses: one for each reaction a caller may have.

The words of a portal are data: they are shown without control characters, cut to what a person
reads. A page of HTML is not shown at all, since it is not the portal that speaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from mcpaudit_lab.errors import (
    BadAnswer,
    CsrfRefused,
    PortalError,
    PortalNotFound,
    PortalUnavailable,
    RateLimited,
    RecordError,
    ReplayRefused,
    Unauthorized,
)
from mcpaudit_lab.record import loads, visible

__all__ = ["failure_of", "redirect_failure", "shown_text"]

_SHOWN_CHARS: Final = 300
_MOST_WAIT_S: Final = 3600.0
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


def shown_text(text: str) -> str:
    """A text of a portal, for people: one line, nothing hidden, not long."""
    text = visible(text.strip())
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def failure_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str,
    path: str,
    asked_with: str,
    is_replay: bool = False,
) -> PortalError:
    """The error for a response that is neither a success nor a redirect.

    Args:
        status: the HTTP status.
        headers: the answer's headers, looked up in any case.
        body: the answer's body, or its beginning.
        url: the portal.
        path: the requested path.
        asked_with: ``API key``, ``bearer token`` or ``no key``.
        is_replay: whether it was a replay, which a portal refuses with 400.
    """
    text = _words(headers.get("content-type", ""), body)
    said = f": {text}" if text else ""
    if status == 401:
        hint = (
            "it wants a key: pass api_key=, or set MCPAUDIT_API_KEY"
            if asked_with == "no key"
            else f"it does not know this {asked_with}; was it revoked, or is it another portal's? "
            "Pass one that it knows, as api_key= or in MCPAUDIT_API_KEY"
        )
        return Unauthorized(f"the portal at {url} refused{said} ({hint})", status=401, text=text)
    if status == 403 and _is_csrf(headers, text):
        return CsrfRefused(
            f"the portal at {url} refused{said} (the client sends X-Requested-With; a proxy on the "
            "way takes it out, or this is no portal)",
            status=403,
            text=text,
        )
    if status == 404:
        hint = "" if text else f" (is there a portal at this URL?{_shorter(url)})"
        message = f"the portal at {url} has no {path}{said}{hint}"
        return PortalNotFound(message, status=404, text=text)
    if status == 429:
        wait_s = _retry_after_s(headers)
        message = f"the portal at {url} wants no more for now{said} (wait {wait_s:g} s)"
        return RateLimited(message, text=text, retry_after_s=wait_s)
    kind: Callable[..., PortalError] = PortalError
    if is_replay and status == 400:
        kind = ReplayRefused
    elif status >= 500:
        kind = PortalUnavailable
    message = f"the portal at {url} answered {status} to {path}{said}"
    if status in (400, 405) and not is_replay and (shorter := _shorter(url)):
        message += f" (is it a portal?{shorter})"
    return kind(message, status=status, text=text)


def redirect_failure(status: int, headers: Mapping[str, str], *, url: str) -> BadAnswer:
    """The error for a redirect, which is not followed: the key is for one portal alone."""
    target = shown_text(headers.get("location", "")) or "nowhere"
    return BadAnswer(
        f"{url} redirects ({status}) to {target}; redirects are not followed, since the key is not "
        "for others: if that is where the portal is, give its URL",
        status=status,
    )


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds of a ``Retry-After`` header: at least 1, also without the header.

    A date in it is not read: portals send seconds.
    """
    text = headers.get("retry-after", "").strip()
    return min(max(1.0, float(text)), _MOST_WAIT_S) if _SECONDS.fullmatch(text) else 1.0


def _shorter(url: str) -> str:
    """A guess for a URL that leads into a portal, such as that of its MCP endpoint."""
    ours = re.match(r"(.+?)/(?:mcp|api|portal)(?:/|$)", url)
    return f" Its URL has nothing behind it: {ours[1]}" if ours else ""


def _is_csrf(headers: Mapping[str, str], text: str) -> bool:
    plain = headers.get("content-type", "").startswith("text/plain")
    return plain or "x-requested-with" in text.lower()


def _words(content_type: str, body: bytes) -> str:
    """What a portal says: ``error`` of its JSON, or plain text."""
    if "html" in content_type:
        return ""
    text = body.decode("utf-8", "replace")
    try:
        value: Any = loads(body)
    except RecordError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        text = value["error"]
    return "" if text.lstrip().startswith("<") else shown_text(text)
