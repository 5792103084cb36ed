"""Routes that mint, list and revoke API keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from mcpaudit_lab.errors import KeyNameTaken, RecordError
from mcpaudit_lab.record import loads, parse_time
from mcpaudit_lab.server.http.portal import HttpError, read_body
from mcpaudit_lab.server.http.responses import go_quote, json_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = ["list_keys", "mint_key", "revoke_key"]

_MAX_NAME: Final = 100
_MAX_DESCRIPTION: Final = 1000
_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
# The elements of an RFC 3339 time: name in Go's layout, pattern.
_ELEMENTS: Final = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
    ("15", r"\d\d"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d(?:[.,]\d+)?"),
    ("Z07:00", r"Z|[+-]\d\d:\d\d"),
)  # fmt: skip  # reads better as a list than as a column


@dataclass(frozen=True, slots=True)
class _MintRequest:
    name: str
    description: str
    expires_at: datetime | None


async def mint_key(portal: Portal, request: Request, access: Access) -> Response:
    """``POST /admin/keys``: 201 with the key, which is shown only this once."""
    _check_rights(portal, access)
    parsed = _read(await read_body(portal, request), portal.now())
    try:
        key, text = await portal.auth.mint(
            parsed.name, parsed.description, access.identity.subject, parsed.expires_at
        )
    except KeyNameTaken as error:
        raise HttpError(409, str(error)) from None
    return json_response(
        {"key": key.to_wire(), "plaintext": text}, 201, {"cache-control": "no-store"}
    )


def _read(body: bytes, now: datetime) -> _MintRequest:
    if not body.strip():
        raise HttpError(400, "EOF")
    try:
        parsed: Any = loads(body)
    except RecordError as error:
        raise HttpError(400, f"the body is not JSON: {error.detail}") from None
    members = parsed if isinstance(parsed, dict) else {}
    values = [members.get(name) or "" for name in ("name", "description", "expires_at")]
    if not isinstance(parsed, dict) or not all(isinstance(value, str) for value in values):
        raise HttpError(
            400, "the body must be an object; name, description and expires_at must be strings"
        )
    name, description, expires = values
    if not name.strip():
        raise HttpError(400, "name is required")
    if len(name) > _MAX_NAME or len(description) > _MAX_DESCRIPTION or not name.isprintable():
        raise HttpError(
            400,
            f"name may have at most {_MAX_NAME} characters, all printable; description at most "
            f"{_MAX_DESCRIPTION}",
        )
    return _MintRequest(name, description, _read_end(expires, now) if expires else None)


def _read_end(text: str, now: datetime) -> datetime:
    try:
        expires_at = parse_time(text)
    except RecordError:
        raise HttpError(400, _time_error(text)) from None
    if expires_at <= now:
        raise HttpError(400, "expires_at must be in the future")
    return expires_at


async def list_keys(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /admin/keys``: newest first, without plaintext."""
    del request
    _check_stored(portal)
    return json_response({"keys": [key.to_wire() for key in await portal.auth.list_minted()]})


async def revoke_key(portal: Portal, request: Request, access: Access) -> Response:
    """``DELETE /admin/keys/{name}``: 204; streams opened with the key end."""
    _check_rights(portal, access)
    name = request.path_params["name"]
    if not await portal.auth.revoke(name):
        raise HttpError(404, "api key not found")
    return Response(status_code=204)


def _check_stored(portal: Portal) -> None:
    if portal.auth.store is None:
        raise HttpError(503, "this portal has no key store")


def _check_rights(portal: Portal, access: Access) -> None:
    _check_stored(portal)
    if not access.may_mint:
        # Otherwise a leaked key could mint others, which would survive its revocation.
        raise HttpError(403, "this credential may not mint or revoke keys")


def _time_error(text: str) -> str:
    """Why a time is invalid, in the words of the reference server."""
    quoted = go_quote(text)
    rest = text
    for element, pattern in _ELEMENTS:
        found = re.match(pattern, rest, re.ASCII)
        if found is None:
            return (
                f"parsing time {quoted} as {go_quote(_LAYOUT)}: "
                f"cannot parse {go_quote(rest)} as {go_quote(element)}"
            )
        rest = rest[found.end() :]
    if rest:
        return f"parsing time {quoted}: extra text: {go_quote(rest)}"
    return f"parsing time {quoted}: out of range"
