"""The routes that mint, list and revoke API keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from mcpaudit_lab.errors import KeyNameTaken, RecordError
from mcpaudit_lab.record import loads, parse_time
from mcpaudit_lab.server.http.answers import answer_json, go_quote
from mcpaudit_lab.server.http.portal import Refused, read_body

if TYPE_CHECKING:
    from starlette.requests import Request

    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = ["list_keys", "mint_key", "revoke_key"]

_MAX_NAME: Final = 100
_MAX_DESCRIPTION: Final = 1000
_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
# What RFC 3339 wants next, as Go's layout names it.
_ELEMENTS: Final = (
    ("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T"),
    ("15", r"\d\d"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d(?:[.,]\d+)?"),
    ("Z07:00", r"Z|[+-]\d\d:\d\d"),
)  # fmt: skip  # reads better as a list than as a column


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    description: str
    expires_at: datetime | None


async def mint_key(portal: Portal, request: Request, access: Access) -> Response:
    """``POST /admin/keys``: 201, and the key, this once."""
    _check_rights(portal, access)
    asked = _read(await read_body(portal, request), portal.now())
    try:
        key, text = await portal.auth.mint(
            asked.name, asked.description, access.identity.subject, asked.expires_at
        )
    except KeyNameTaken as error:
        raise Refused(409, str(error)) from None
    return answer_json(
        {"key": key.to_wire(), "plaintext": text}, 201, {"cache-control": "no-store"}
    )


def _read(body: bytes, now: datetime) -> _Asked:
    if not body.strip():
        raise Refused(400, "EOF")
    try:
        asked: Any = loads(body)
    except RecordError as error:
        raise Refused(400, f"the body is not JSON: {error.detail}") from None
    members = asked if isinstance(asked, dict) else {}
    values = [members.get(name) or "" for name in ("name", "description", "expires_at")]
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in values):
        raise Refused(400, "the body is an object; name, description, expires_at are strings")
    name, description, expires = values
    if not name.strip():
        raise Refused(400, "name is required")
    if len(name) > _MAX_NAME or len(description) > _MAX_DESCRIPTION or not name.isprintable():
        raise Refused(
            400,
            f"a name has at most {_MAX_NAME} characters, all printable, a description "
            f"{_MAX_DESCRIPTION}",
        )
    return _Asked(name, description, _read_end(expires, now) if expires else None)


def _read_end(text: str, now: datetime) -> datetime:
    try:
        expires_at = parse_time(text)
    except RecordError:
        raise Refused(400, _time_error(text)) from None
    if expires_at <= now:
        raise Refused(400, "expires_at is not in the future")
    return expires_at


async def list_keys(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /admin/keys``: the newest first, none with its text."""
    del request
    _check_stored(portal)
    return answer_json({"keys": [key.to_wire() for key in await portal.auth.list_minted()]})


async def revoke_key(portal: Portal, request: Request, access: Access) -> Response:
    """``DELETE /admin/keys/{name}``: 204; everything open under the key ends."""
    _check_rights(portal, access)
    name = request.path_params["name"]
    if not await portal.auth.revoke(name):
        raise Refused(404, "api key not found")
    return Response(status_code=204)


def _check_stored(portal: Portal) -> None:
    if portal.auth.store is None:
        raise Refused(503, "keys are not stored here")


def _check_rights(portal: Portal, access: Access) -> None:
    _check_stored(portal)
    if not access.may_mint:
        # Or one leaked key would be as many as its finder likes, and outlive its revocation.
        raise Refused(403, "this credential may not mint or revoke keys")


def _time_error(text: str) -> str:
    """Why a time is invalid, in the reference server's words."""
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
