"""The caller of a tool call and the call's origin.

The MCP SDK passes calls to the middleware without the caller. The code that knows the caller, for
instance the HTTP application, wraps its await in :func:`use_origin`. A context variable carries the
origin through the SDK's tasks for each call: over HTTP in both protocol eras, in process and on
stdio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANONYMOUS",
    "AuthFailure",
    "Identity",
    "Origin",
    "current_identity",
    "current_origin",
    "resolve_identity",
    "use_identity",
    "use_origin",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller. It never contains the key or token.

    Attributes:
        subject: an OIDC subject, or ``apikey:<name>``.
        auth_type: ``oidc``, ``apikey`` or ``anonymous``.
        email: from the token; ``""`` if missing.
        name: display name; for an API key, the key's name.
        api_key_name: name of the API key; ``""`` for other callers.
        claims: the token's claims. Not shown by ``repr``.
    """

    subject: str
    auth_type: str
    email: str = ""
    name: str = ""
    api_key_name: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def from_key(cls, name: str) -> Identity:
        """The holder of the API key with this name."""
        return cls(f"apikey:{name}", "apikey", name=name, api_key_name=name)

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any], *, subject: str = "") -> Identity:
        """The subject of a verified OIDC token.

        Args:
            claims: the token's claims; ``sub``, ``email`` and ``name`` are used.
            subject: fallback if ``sub`` is missing.
        """

        def text(name: str) -> str:
            value = claims.get(name)
            return value if isinstance(value, str) else ""

        return cls(
            text("sub") or subject, "oidc", email=text("email"), name=text("name"), claims=claims
        )


ANONYMOUS = Identity("anonymous", "anonymous")
"""The caller where no credentials are required."""


@dataclass(frozen=True, slots=True)
class AuthFailure:
    """Invalid credentials. The call is recorded (category ``auth``) and does not run.

    Attributes:
        message: the error message for the caller and the row.
    """

    message: str = "not authenticated"


@dataclass(frozen=True, slots=True)
class Origin:
    """What an MCP request does not say about itself. All fields are optional.

    Attributes:
        identity: the caller; None if unknown.
        source: ``mcp``, ``portal-tryit`` or ``portal-replay``. The portal's own calls are recorded
            without headers, sizes and session, and without a size limit, as the contract says.
        transport: ``http`` or ``stdio``; ``""`` to derive it from the request.
        remote_addr: address of the client; None to derive it from the request.
        user_agent: the client's user agent; None to derive it from the request.
        replayed_from: id of the replayed event.
        event_id: id (UUID) of the event to write, for code that must know it beforehand. Such an
            origin is valid for one call only. ``""`` generates an id.
    """

    identity: Identity | AuthFailure | None = None
    source: str = "mcp"
    transport: str = ""
    remote_addr: str | None = None
    user_agent: str | None = None
    replayed_from: str = ""
    event_id: str = ""


_UNKNOWN = Origin()
_origin: ContextVar[Origin] = ContextVar("mcpaudit_origin", default=_UNKNOWN)
_caller: ContextVar[Identity] = ContextVar("mcpaudit_caller", default=ANONYMOUS)


def current_origin() -> Origin:
    """The origin of the current call; an empty :class:`Origin` if none was set."""
    return _origin.get()


@contextmanager
def use_origin(origin: Origin) -> Iterator[None]:
    """Set the origin of calls made inside the block."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def current_identity() -> Identity:
    """The caller of the current audited call, for use in tools.

    Outside an audited call it is :data:`ANONYMOUS`.
    """
    return _caller.get()


@contextmanager
def use_identity(identity: Identity) -> Iterator[None]:
    """Set the result of :func:`current_identity` inside the block."""
    token = _caller.set(identity)
    try:
        yield
    finally:
        _caller.reset(token)


def resolve_identity(origin: Origin, request: Any, default: Identity) -> Identity | AuthFailure:
    """The caller: from the origin, else from the SDK's own authentication, else ``default``.

    Args:
        origin: the call's origin.
        request: the Starlette request of the call; None outside HTTP.
        default: the caller if both are silent.
    """
    if origin.identity is not None:
        return origin.identity
    scope = getattr(request, "scope", None)
    token = getattr(scope.get("user"), "access_token", None) if scope else None
    if token is None:
        return default
    return Identity.from_claims(token.claims or {}, subject=token.subject or token.client_id)
