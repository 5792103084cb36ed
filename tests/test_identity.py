"""Who calls reaches the record and the tool, and nothing that proves it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from audited import DEV, MODES, says, serve
from mcp import Client
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.requests import Request

from mcpaudit_lab.server import (
    Identity,
    Origin,
    current_identity,
    use_origin,
)
from mcpaudit_lab.server.audit.identity import ANONYMOUS, resolve_identity

if TYPE_CHECKING:
    import mcp_types as types

pytestmark = pytest.mark.anyio


@MODES
async def test_the_tool_sees_who_calls(mode: str) -> None:
    async def work(_ctx: Any, _arguments: dict[str, Any]) -> types.CallToolResult:
        return says(current_identity().subject)

    server, log = serve(work)
    async with Client(server, mode=mode) as client:
        with use_origin(Origin(identity=DEV)):
            first = await client.call_tool("work")
        second = await client.call_tool("work")
    texts = [cast("types.TextContent", result.content[0]).text for result in (first, second)]
    assert texts == ["apikey:dev-local", "anonymous"]
    assert [event.user_subject for event in log.events] == texts
    assert current_identity() is ANONYMOUS


def test_the_sdk_s_own_authentication_names_the_caller() -> None:
    token = AccessToken(
        token="t0ken",
        client_id="client",
        scopes=[],
        subject="alice",
        claims={"email": "alice@example.org", "name": 5},
    )
    request = Request({"type": "http", "headers": [], "user": AuthenticatedUser(token)})
    who = resolve_identity(Origin(), request, ANONYMOUS)
    assert who == Identity("alice", "oidc", email="alice@example.org", claims=token.claims or {})
    assert "t0ken" not in repr(who)
    assert "example" in repr(who)
    assert resolve_identity(Origin(identity=DEV), request, ANONYMOUS) is DEV
    anonymous = Request({"type": "http", "headers": []})
    assert resolve_identity(Origin(), anonymous, ANONYMOUS) is ANONYMOUS
    assert resolve_identity(Origin(), None, DEV) is DEV


def test_an_identity_is_hashable_and_keeps_its_claims_to_itself() -> None:
    who = Identity.from_claims({"sub": "s", "email": "e", "name": "n", "jti": "secret"})
    assert (who.subject, who.email, who.name, who.auth_type) == ("s", "e", "n", "oidc")
    assert "secret" not in repr(who)
    assert len({who, DEV, Identity.from_key("dev-local")}) == 2
