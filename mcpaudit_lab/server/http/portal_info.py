"""Routes about the portal itself: the caller, tools, settings, discovery, health."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import VERSION
from mcpaudit_lab.server.http.responses import error_response, go_quote, json_response

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

# How long /readyz waits for the database, in seconds.
_READINESS_S: Final = 1.0
_MASK: Final = "[redacted]"
_PAGE: Final = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mcpaudit-lab portal</title></head>
<body style="font-family:system-ui;padding:2rem">
<h1>mcpaudit-lab portal</h1>
<p>This portal has no web pages. Open its events in a notebook, or query its API with a key:</p>
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
    return json_response({name: v for name, v in members.items() if v or name in always})


async def read_tools(portal: Portal) -> list[dict[str, Any]]:
    """The tools as the portal lists them: first those with a summary, in the summaries' order."""
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
    # Not in the recordings, but clients need it for forms and to plan a replay.
    extra = ("title", "inputSchema", "outputSchema", "annotations")
    return shown | {key: tool[key] for key in extra if tool.get(key)}


async def list_tools(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/tools``."""
    del request
    return json_response({"tools": await read_tools(portal)})


async def show_tool(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/tools/{name}``."""
    name = request.path_params["name"]
    for tool in await read_tools(portal):
        if tool["name"] == name:
            return json_response(tool)
    return error_response(404, f"tool {go_quote(name)} not found")


async def show_instructions(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/instructions``."""
    del request
    return json_response({"instructions": portal.instructions})


async def show_server(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/server``: version and settings, with secrets masked."""
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
    return json_response(
        {"config": config, "version": VERSION, "server_version": portal.server_version}
    )


async def show_wellknown(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/wellknown``: URLs for OAuth discovery."""
    base, oidc = portal.base_url(request), portal.auth.oidc
    return json_response(
        {
            "audience": oidc.config.audience if oidc else "",
            "authorization_server": oidc.config.issuer if oidc else "",
            "mcp_endpoint": f"{base}/",
            "oidc_enabled": oidc is not None,
            "protected_resource_url": f"{base}/.well-known/oauth-protected-resource",
        }
    )


async def _count_unreadable(portal: Portal) -> int:
    """The number of unreadable rows; 0 if the database does not respond in time."""
    with suppress(StoreUnavailable, TimeoutError):
        counted = await asyncio.wait_for(portal.logger.unreadable(), _READINESS_S)
        return counted.count
    return 0


def public_routes(portal: Portal) -> dict[str, Any]:
    """Path to endpoint, for the routes that need no key."""

    async def show_health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def show_readiness(_: Request) -> Response:
        if portal.drain.is_draining:
            return PlainTextResponse("draining", 503)
        status = portal.logger.status()
        if not status.ready:
            return PlainTextResponse("the audit store is unavailable", 503)
        lost = {"dropped": status.dropped, "rejected": status.rejected}
        notes = [f"{count} events {what}" for what, count in lost.items() if count]
        if unreadable := await _count_unreadable(portal):
            notes.append(f"{unreadable} rows unreadable")
        return PlainTextResponse(", ".join(["ready", *notes]))

    async def show_resource(request: Request) -> Response:
        # RFC 9728, protected resource metadata.
        oidc = portal.auth.oidc
        return json_response(
            {
                "authorization_servers": [oidc.config.issuer] if oidc else [],
                "bearer_methods_supported": ["header"],
                "resource": f"{portal.base_url(request)}/",
                "scopes_supported": [],
            }
        )

    async def show_issuer(_: Request) -> Response:
        issuer = portal.auth.oidc.config.issuer if portal.auth.oidc else ""
        return json_response(
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
