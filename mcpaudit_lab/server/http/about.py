"""The routes that tell about the portal itself: who asks, which tools, discovery, health."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import VERSION
from mcpaudit_lab.server.http.answers import answer_error, answer_json, go_quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = [
    "list_tools",
    "public_routes",
    "show_instructions",
    "show_me",
    "show_server",
    "show_tool",
    "show_wellknown",
]

# Whoever asks whether the portal is ready does not wait for its database.
_READINESS_S: Final = 1.0
_MASK: Final = "[redacted]"
_PAGE: Final = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mcpaudit-lab portal</title></head>
<body style="font-family:system-ui;padding:2rem">
<h1>mcpaudit-lab portal</h1>
<p>This portal has no pages; open its events in a notebook, or ask its API with a key:</p>
<ul><li>/api/v1/portal/me</li><li>/api/v1/portal/tools</li><li>/api/v1/portal/dashboard</li>
<li>/api/v1/portal/audit/events</li></ul>
</body></html>
"""


async def show_me(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /portal/me``."""
    del portal, request
    identity = access.identity
    members: dict[str, Any] = {
        "subject": identity.subject,
        "email": identity.email,
        "name": identity.name,
        "auth_type": identity.auth_type,
        "claims": dict(identity.claims),
        "api_key_id": identity.api_key_name,
    }
    always = ("subject", "auth_type")
    return answer_json({name: v for name, v in members.items() if v or name in always})


async def read_tools(portal: Portal) -> list[dict[str, Any]]:
    """The tools as the portal lists them: those it has a line about first, in its order."""
    if portal.caller is None:
        return []
    known = portal.options.tool_summaries
    order = {name: place for place, name in enumerate(known)}
    listed = await portal.caller.list_tools()
    listed.sort(key=lambda tool: order.get(tool["name"], len(order)))
    return [_tool(tool, portal.tool_groups, known) for tool in listed]


def _tool(
    tool: Mapping[str, Any], groups: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, Any]:
    name = tool["name"]
    shown = {
        "name": name,
        "group": groups.get(name, ""),
        "description": known.get(name) or tool.get("description") or "",
    }
    # Beyond the recorded response: what a client needs to show a form and to plan a replay.
    extra = ("title", "inputSchema", "outputSchema", "annotations")
    return shown | {key: tool[key] for key in extra if tool.get(key)}


async def list_tools(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/tools``."""
    del request
    return answer_json({"tools": await read_tools(portal)})


async def show_tool(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/tools/{name}``."""
    name = request.path_params["name"]
    for tool in await read_tools(portal):
        if tool["name"] == name:
            return answer_json(tool)
    return answer_error(404, f"tool {go_quote(name)} not found")


async def show_instructions(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/instructions``."""
    del request
    return answer_json({"instructions": portal.instructions})


async def show_server(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/server``: version and settings; secrets are masked."""
    options, oidc = portal.options, portal.auth.oidc
    keys = [{"Name": name, "Key": _MASK} for name in portal.auth.keys.names]
    config = {
        "Server": {
            "Name": portal.server_name,
            "BaseURL": portal.base_url(request),
            "Instructions": portal.instructions,
            "AllowedHosts": list(options.allowed_hosts),
        },
        "OIDC": {
            "Enabled": oidc is not None,
            "Issuer": oidc.config.issuer if oidc else "",
            "Audience": oidc.config.audience if oidc else "",
        },
        "APIKeys": {"File": keys, "DB": {"Enabled": portal.auth.store is not None}},
        "Auth": {
            "AllowAnonymous": options.anonymous_mcp,
            "RequireForMCP": not options.anonymous_mcp,
            "RequireForPortal": True,
        },
        "Database": {"URL": _MASK},
        "Portal": {
            "Enabled": True,
            "CORSOrigins": list(options.cors_origins),
            "ExportMaxRows": options.export_max_rows,
        },
    }
    return answer_json(
        {"config": config, "version": VERSION, "server_version": portal.server_version}
    )


async def show_wellknown(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/wellknown``: where to find what discovery tells."""
    base, oidc = portal.base_url(request), portal.auth.oidc
    return answer_json(
        {
            "audience": oidc.config.audience if oidc else "",
            "authorization_server": oidc.config.issuer if oidc else "",
            "mcp_endpoint": f"{base}/",
            "oidc_enabled": oidc is not None,
            "protected_resource_url": f"{base}/.well-known/oauth-protected-resource",
        }
    )


async def _unreadable(portal: Portal) -> int:
    """How many rows cannot be read; 0 where the database does not say so at once."""
    with suppress(StoreUnavailable, TimeoutError):
        counted = await asyncio.wait_for(portal.logger.unreadable(), _READINESS_S)
        return counted.count
    return 0


def public_routes(portal: Portal) -> dict[str, Any]:
    """Path to endpoint, for what needs no key."""

    async def show_health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def show_readiness(_: Request) -> Response:
        if portal.drain.is_draining:
            return PlainTextResponse("draining", 503)
        status = portal.logger.status()
        if not status.ready:
            return PlainTextResponse("the audit store is away", 503)
        lost = {"dropped": status.dropped, "rejected": status.rejected}
        told = [f"{count} events {what}" for what, count in lost.items() if count]
        if unreadable := await _unreadable(portal):
            told.append(f"{unreadable} rows unreadable")
        return PlainTextResponse(", ".join(["ready", *told]))

    async def show_resource(request: Request) -> Response:
        # RFC 9728: what protects this resource.
        oidc = portal.auth.oidc
        return answer_json(
            {
                "authorization_servers": [oidc.config.issuer] if oidc else [],
                "bearer_methods_supported": ["header"],
                "resource": f"{portal.base_url(request)}/",
                "scopes_supported": [],
            }
        )

    async def show_issuer(_: Request) -> Response:
        issuer = portal.auth.oidc.config.issuer if portal.auth.oidc else ""
        return answer_json(
            {
                "issuer": issuer,
                "note": "mcp-test delegates auth to the issuer above; fetch the "
                "openid_configuration_url for the real authorization server metadata",
                "openid_configuration_url": f"{issuer.rstrip('/')}/.well-known/"
                "openid-configuration",
            }
        )

    async def show_page(_: Request) -> Response:
        return HTMLResponse(
            _PAGE,
            headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    return {
        "/healthz": show_health,
        "/readyz": show_readiness,
        "/.well-known/oauth-protected-resource": show_resource,
        "/.well-known/oauth-authorization-server": show_issuer,
        "/portal/": show_page,
    }
