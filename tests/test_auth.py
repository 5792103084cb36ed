"""Who is let in: over HTTP, with keys and with bearer tokens, on the API and on MCP."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import jwt
import pytest
from audited import MODES
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from loopback import connect
from mcp.shared.exceptions import MCPError
from portals import CSRF, DEV, DEV_KEY, run_portal, url_of
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from mcpaudit_lab.errors import IssuerUnavailable
from mcpaudit_lab.server import MemoryLogger
from mcpaudit_lab.server.auth.minted_keys import MemoryKeyStore
from mcpaudit_lab.server.auth.oidc import OidcConfig, OidcVerifier, fetch_json
from mcpaudit_lab.server.background import serve_in_thread
from mcpaudit_lab.server.http.portal import PortalOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

pytestmark = pytest.mark.anyio

ME = "/api/v1/portal/me"
KEYS_ROUTE = "/api/v1/admin/keys"
ISSUER = "https://issuer.test/realm"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A token issuer of our own: discovery, keys, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: dict[str, Any] = {"one": RSA_KEY}
        self.is_away = False

    async def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if self.is_away:
            raise IssuerUnavailable("away")
        if url == f"{ISSUER}/.well-known/openid-configuration":
            return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        assert url == f"{ISSUER}/keys"
        return {"keys": [self._jwk(name, key) for name, key in self.keys.items()]}

    def _jwk(self, name: str, key: Any) -> dict[str, Any]:
        if isinstance(key, rsa.RSAPrivateKey):
            shown = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            return {**shown, "kid": name, "use": "sig", "alg": "RS256"}
        shown = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {**shown, "kid": name, "use": "sig", "alg": "ES256"}


def token(key: Any = RSA_KEY, alg: str = "RS256", kid: str | None = "one", **changes: Any) -> bytes:
    claims = {
        "iss": ISSUER,
        "aud": "portal",
        "sub": "alice",
        "email": "alice@example.org",
        "name": "Alice",
        "exp": int(time.time()) + 60,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, alg, headers={"kid": kid} if kid else {}).encode()


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def verifier(issuer: Issuer, clock: Clock | None = None, **config: Any) -> OidcVerifier:
    settings = {"issuer": ISSUER, "audience": "portal", **config}
    return OidcVerifier(OidcConfig(**settings), issuer.fetch, clock or Clock())


# --- tokens --------------------------------------------------------------------------------------


async def test_a_valid_token_names_its_subject_and_its_end() -> None:
    found = await verifier(Issuer()).verify(token())
    assert found is not None
    identity, expires_s = found
    assert (identity.subject, identity.auth_type) == ("alice", "oidc")
    assert (identity.email, identity.name) == ("alice@example.org", "Alice")
    assert time.time() < expires_s <= time.time() + 61
    assert "alice@" not in repr(identity.claims) or "claims" not in repr(identity)


@pytest.mark.parametrize(
    "bad",
    [
        token(OTHER_KEY),
        token(iss="https://evil.test"),
        token(iss=f"{ISSUER}/"),
        token(aud="other"),
        token(aud=None),
        token(exp=1),
        token(exp=None),
        token(sub=None),
        token(sub=""),
        token(nbf=int(time.time()) + 3600),
        token(kid="nobody"),
        token("x" * 32, "HS256"),
        jwt.encode({"sub": "a"}, None, "none").encode(),  # type: ignore[arg-type]  # none has no key
        b"a.b.c",
        b"no token",
        b"." * 20_000,
        "é.é.é".encode(),
        token() + b"x",
    ],
)
async def test_whatever_is_wrong_with_a_token_it_is_refused(bad: bytes) -> None:
    assert await verifier(Issuer()).verify(bad) is None


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    secret = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=")
    signed = header + b"." + token().split(b".")[1]
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")
    assert await verifier(Issuer()).verify(signed + b"." + signature) is None


async def test_curves_and_tokens_without_a_key_name_are_taken() -> None:
    issuer = Issuer()
    issuer.keys = {"curve": EC_KEY}
    check = verifier(issuer)
    assert await check.verify(token(EC_KEY, "ES256", "curve")) is not None
    assert await check.verify(token(EC_KEY, "ES256", None)) is not None
    issuer.keys = {"curve": EC_KEY, "one": RSA_KEY}
    several = verifier(issuer)
    assert await several.verify(token(EC_KEY, "ES256", None)) is None, "which of two?"


async def test_keys_are_fetched_once_and_a_new_one_is_found() -> None:
    issuer, clock = Issuer(), Clock()
    check = verifier(issuer, clock)
    for _ in range(20):
        assert await check.verify(token()) is not None
    assert len(issuer.asked) == 2
    issuer.keys = {"two": OTHER_KEY}
    clock.now += 60
    assert await check.verify(token(OTHER_KEY, kid="two")) is not None
    assert len(issuer.asked) == 4


async def test_invented_key_names_cost_the_issuer_nothing() -> None:
    issuer, clock = Issuer(), Clock()
    check = verifier(issuer, clock, jwks_url=f"{ISSUER}/keys")
    for number in range(50):
        assert await check.verify(token(kid=f"invented-{number}")) is None
    assert len(issuer.asked) == 1
    clock.now += 30
    assert await check.verify(token(kid="again")) is None
    assert len(issuer.asked) == 2


async def test_keys_that_cannot_be_had_are_no_refusal() -> None:
    issuer = Issuer()
    issuer.is_away = True
    with pytest.raises(IssuerUnavailable):
        await verifier(issuer).verify(token())
    async with run_portal(oidc=verifier(issuer), headers=bearer(token())) as http:
        answer = await http.get(ME)
        assert (answer.status_code, answer.json()) == (503, {"error": "away"})
        assert (await http.post("/mcp", json={})).status_code == 503


@pytest.mark.parametrize("document", [[], {"keys": []}, {"keys": "x"}, None])
async def test_documents_that_are_no_keys_are_told(document: Any) -> None:
    async def fetch(_: str) -> Any:
        return document

    config = OidcConfig(ISSUER, "portal")
    for check in (
        OidcVerifier(config, fetch),
        OidcVerifier(OidcConfig(ISSUER, "portal", jwks_url="x"), fetch),
    ):
        with pytest.raises(IssuerUnavailable):
            await check.verify(token())


async def test_what_cannot_be_fetched_is_unavailable() -> None:
    with pytest.raises(IssuerUnavailable, match="ConnectError"):
        await fetch_json("http://127.0.0.1:9/keys")
    async with run_portal() as http:
        with pytest.raises(IssuerUnavailable, match="HTTPStatusError"):
            await fetch_json(url_of(http, ME))
        with pytest.raises(IssuerUnavailable, match="JSONDecodeError"):
            await fetch_json(url_of(http, "/healthz"))


def test_a_configuration_without_an_audience_is_refused() -> None:
    with pytest.raises(ValueError, match="audience"):
        OidcConfig(ISSUER, "")


def bearer(credential: bytes | str) -> dict[str, str]:
    text = credential if isinstance(credential, str) else credential.decode()
    return {"Authorization": f"Bearer {text}"}


# --- the API -------------------------------------------------------------------------------------


async def test_a_token_lets_its_holder_in_and_only_admins_mint() -> None:
    oidc = verifier(Issuer(), admins=frozenset({"root"}))
    async with run_portal(oidc=oidc, key_store=MemoryKeyStore(), headers={}) as http:
        answer = (await http.get(ME, headers=bearer(token()))).json()
        assert answer["claims"].pop("exp") > time.time()
        assert answer == {
            "subject": "alice",
            "email": "alice@example.org",
            "name": "Alice",
            "auth_type": "oidc",
            "claims": {
                "iss": ISSUER,
                "aud": "portal",
                "sub": "alice",
                "email": "alice@example.org",
                "name": "Alice",
            },
        }
        asked = {"name": "k"}
        as_alice = {**bearer(token()), **CSRF}
        as_root = {**bearer(token(sub="root")), **CSRF}
        assert (await http.post(KEYS_ROUTE, headers=as_alice, json=asked)).status_code == 403
        assert (await http.post(KEYS_ROUTE, headers=as_root, json=asked)).status_code == 201
        found = (await http.get("/.well-known/oauth-protected-resource")).json()
        assert found["authorization_servers"] == [ISSUER]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": f"{DEV_KEY}x"},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {DEV_KEY}"},
        {"Authorization": "Bearer nope"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {DEV_KEY}"},
        {"Authorization": DEV_KEY},
        {"Cookie": f"api_key={DEV_KEY}"},
    ],
)
async def test_no_valid_key_no_answer(headers: Mapping[str, str]) -> None:
    async with run_portal(headers={}) as http:
        answer = await http.get(f"{ME}?api_key={DEV_KEY}", headers=headers)
    assert answer.status_code == 401
    assert answer.content == b'{"error":"unauthorized"}'
    assert answer.headers["www-authenticate"] == 'Bearer realm="mcp-test-portal"'


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": DEV_KEY},
        {"x-api-key": DEV_KEY},
        {"Authorization": f"bearer {DEV_KEY}"},
        {"X-API-Key": DEV_KEY, "Authorization": "Bearer nope"},
    ],
)
async def test_a_valid_key_lets_in(headers: Mapping[str, str]) -> None:
    async with run_portal(headers={}) as http:
        answer = await http.get(ME, headers=headers)
    assert answer.content == (
        b'{"subject":"apikey:dev-local","name":"dev-local","auth_type":"apikey",'
        b'"api_key_id":"dev-local"}\n'
    )


async def test_changes_need_a_header_that_no_other_site_can_send() -> None:
    async with run_portal(key_store=MemoryKeyStore()) as http:
        for headers in ({}, {"X-Requested-With": ""}):
            for method, path in (("POST", KEYS_ROUTE), ("DELETE", f"{KEYS_ROUTE}/x")):
                answer = await http.request(method, path, headers=headers)
                assert (answer.status_code, answer.text) == (
                    403,
                    "missing X-Requested-With header\n",
                )
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        refused = await http.post(KEYS_ROUTE, headers={"X-API-Key": "wrong"})
        assert refused.status_code == 401, "the key comes first"


async def test_minted_keys_live_and_end_over_http() -> None:
    async with run_portal(key_store=MemoryKeyStore(), headers={**DEV, **CSRF}) as http:
        asked = {"name": "ci", "description": "d", "expires_at": "2999-01-01T00:00:00Z"}
        minted = await http.post(KEYS_ROUTE, json=asked)
        assert minted.status_code == 201
        key = minted.json()["plaintext"]
        assert minted.json()["key"]["created_by"] == "apikey:dev-local"
        as_ci = {"X-API-Key": key}
        assert (await http.get(ME, headers=as_ci)).json()["subject"] == "apikey:ci"
        listed = await http.get(KEYS_ROUTE, headers=as_ci)
        assert key not in listed.text
        assert [item["name"] for item in listed.json()["keys"]] == ["ci"]
        for method, path in (("POST", KEYS_ROUTE), ("DELETE", f"{KEYS_ROUTE}/ci")):
            answer = await http.request(method, path, headers=as_ci, json={"name": "more"})
            assert answer.status_code == 403, "a minted key mints nothing and revokes nothing"
        again = await http.post(KEYS_ROUTE, json=asked)
        assert again.status_code == 409
        assert (await http.delete(f"{KEYS_ROUTE}/ci")).status_code == 204
        assert (await http.delete(f"{KEYS_ROUTE}/ci")).status_code == 404
        assert (await http.get(ME, headers=as_ci)).status_code == 401


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "EOF"),
        (b"{}", "name is required"),
        (b'{"name":" "}', "name is required"),
        (
            b'{"name":7}',
            "the body must be an object; name, description and expires_at must be strings",
        ),
        (b"[]", "the body must be an object; name, description and expires_at must be strings"),
        (b'{"name":"x","expires_at":"2001-01-01T00:00:00Z"}', "expires_at must be in the future"),
        (
            b'{"name":"x","expires_at":"2030-13-01T00:00:00Z"}',
            'parsing time "2030-13-01T00:00:00Z": out of range',
        ),
        (
            b'{"name":"x","expires_at":"2030-01-01"}',
            'parsing time "2030-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"',
        ),
        (
            b'{"name":"x","expires_at":"2030-01-01T00:00:00Z!"}',
            'parsing time "2030-01-01T00:00:00Z!": extra text: "!"',
        ),
    ],
)
async def test_keys_that_cannot_be_minted_say_why(body: bytes, error: str) -> None:
    async with run_portal(key_store=MemoryKeyStore(), headers={**DEV, **CSRF}) as http:
        answer = await http.post(KEYS_ROUTE, content=body)
        assert (answer.status_code, answer.json()) == (400, {"error": error})
        assert (await http.post(KEYS_ROUTE, content=b"{nope")).status_code == 400
        for name in ("x" * 101, "a\nb"):
            assert (await http.post(KEYS_ROUTE, json={"name": name})).status_code == 400


async def test_without_a_store_there_are_no_minted_keys() -> None:
    async with run_portal(headers={**DEV, **CSRF}) as http:
        for method, path in (
            ("GET", KEYS_ROUTE), ("POST", KEYS_ROUTE), ("DELETE", f"{KEYS_ROUTE}/x"),
        ):  # fmt: skip  # reads better as a list than as a column
            assert (await http.request(method, path)).status_code == 503


async def test_bodies_are_bounded() -> None:
    options = PortalOptions(max_body_bytes=1000)
    async with run_portal(
        key_store=MemoryKeyStore(), options=options, headers={**DEV, **CSRF}
    ) as http:
        answer = await http.post(KEYS_ROUTE, content=b"x" * 1001)
        assert (answer.status_code, answer.json()) == (
            413,
            {"error": "the body is larger than 1000 bytes"},
        )
        large = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"%b"}}' % (b"x" * 2**23)
        headers = {"Content-Type": "application/json", "Accept": "*/*"}
        assert (await http.post("/mcp", content=large, headers=headers)).status_code == 413


async def test_another_host_is_not_served() -> None:
    async with run_portal() as http:
        for host in ("evil.test", "127.0.0.1.evil.test", "", "localhost:80:80"):
            assert (await http.get(ME, headers={"Host": host})).status_code == 421
            assert (await http.get("/healthz", headers={"Host": host})).status_code == 200
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"):
            assert (await http.get(ME, headers={"Host": host})).status_code == 200
        for origin, status in (("http://evil.test", 403), ("null", 403), ("http://localhost", 400)):
            assert (await http.post("/mcp", headers={"Origin": origin})).status_code in (
                (status,) if status == 403 else (400, 406, 415)
            )


async def test_cors_is_off_unless_asked_for() -> None:
    from_page = {"Origin": "https://ui.test", "Access-Control-Request-Method": "POST"}
    async with run_portal() as http:
        answer = await http.get(ME, headers={"Origin": "https://ui.test"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await http.options(ME, headers=from_page)).status_code != 204
    options = PortalOptions(cors_origins=("https://ui.test",))
    async with run_portal(options=options) as http:
        answer = await http.get(ME, headers={"Origin": "https://ui.test"})
        assert answer.headers["access-control-allow-origin"] == "https://ui.test"
        assert answer.headers["vary"] == "Origin"
        preflight = await http.options(ME, headers=from_page)
        assert preflight.status_code == 204
        assert "X-API-Key" in preflight.headers["access-control-allow-headers"]
        other = await http.get(ME, headers={"Origin": "https://evil.test"})
        assert "access-control-allow-origin" not in other.headers
    async with run_portal(options=PortalOptions(cors_origins=("*",))) as http:
        refused = await http.get(ME, headers={"X-API-Key": "wrong"})
        assert refused.headers["access-control-allow-origin"] == "*"
        assert refused.headers["access-control-max-age"] == "600"


async def test_no_secret_is_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryKeyStore):
        async def list_keys(self) -> Any:
            raise RuntimeError(f"a driver's message with {DEV_KEY}")

    caplog.set_level(logging.DEBUG)
    async with run_portal(key_store=Broken()) as http:
        answer = await http.get(KEYS_ROUTE)
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        shown = (await http.get("/api/v1/portal/server")).text
    assert "RuntimeError at" in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("mcpaudit")]
    assert ours
    assert DEV_KEY not in "".join(record.getMessage() for record in ours) + shown


# --- MCP -----------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("path", ["/mcp", "/"])
async def test_mcp_is_served_at_both_paths_under_the_callers_name(mode: str, path: str) -> None:
    log = MemoryLogger()
    oidc = verifier(Issuer())
    async with run_portal(log, oidc=oidc) as http:
        url = url_of(http, path)
        for headers in (DEV, bearer(token())):
            async with connect(url, headers, mode) as client:
                await client.call_tool("echo", {"message": "x"})
    assert [event.user_subject for event in log.events] == ["apikey:dev-local", "alice"]
    assert [event.user_email for event in log.events] == ["", "alice@example.org"]


@MODES
async def test_a_wrong_key_lists_tools_and_calls_none(mode: str) -> None:
    log = MemoryLogger()
    async with (
        run_portal(log) as http,
        connect(url_of(http, "/mcp"), {"X-API-Key": "wrong"}, mode) as client,
    ):
        assert len((await client.list_tools()).tools) == 12
        with pytest.raises(MCPError, match="not authenticated"):
            await client.call_tool("echo", {"message": "x"})
    (event,) = log.events
    assert (event.error_category, event.user_subject) == ("auth", "")


async def test_without_a_credential_mcp_is_refused_and_leaves_no_row() -> None:
    log = MemoryLogger()
    recorded = Path(__file__).parent / "data/upstream/mcp/00-no-credential.resp"
    head, _, body = recorded.read_bytes().partition(b"\r\n\r\n")
    challenge = next(
        line.partition(": ")[2]
        for line in head.decode().splitlines()
        if line.startswith("Www-Authenticate")
    )
    options = PortalOptions(base_url="http://127.0.0.1:18080")
    async with run_portal(log, headers={}, options=options) as http:
        for path in ("/mcp", "/", "/api/v1/nothing"):
            answer = await http.post(path, json={})
            assert (answer.status_code, answer.content) == (401, body)
            assert answer.headers["www-authenticate"] == challenge
    assert log.events == []


@MODES
async def test_anonymous_is_for_mcp_and_only_when_asked_for(mode: str) -> None:
    log = MemoryLogger()
    options = PortalOptions(anonymous_mcp=True)
    async with run_portal(log, headers={}, options=options) as http:
        async with connect(url_of(http, "/mcp"), {"X-Nothing": "1"}, mode) as client:
            await client.call_tool("whoami", {})
        assert (await http.get(ME)).status_code == 401
    (event,) = log.events
    assert (event.auth_type, event.user_subject) == ("anonymous", "anonymous")


async def test_a_session_is_bound_to_its_credential() -> None:
    store = MemoryKeyStore()
    async with run_portal(key_store=store, headers={**DEV, **CSRF}) as http:
        key = (await http.post(KEYS_ROUTE, json={"name": "ci"})).json()["plaintext"]
        hello = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        }
        accept = {"Accept": "application/json, text/event-stream"}
        opened = await http.post("/mcp", json=hello, headers=accept)
        session = {**accept, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await http.post("/mcp", json=ping, headers=session)).status_code == 200
        for other in ({"X-API-Key": key}, {"X-API-Key": "wrong"}):
            answer = await http.post("/mcp", json=ping, headers={**session, **other})
            assert answer.status_code == 404
        for headers in ({}, {"X-API-Key": "wrong"}):
            answer = await http.get("/nothing/here", headers=headers)
            assert (answer.status_code, answer.text) == (
                400,
                "Bad Request: GET requires an Mcp-Session-Id header\n",
            )


async def test_an_mcp_stream_ends_with_its_key() -> None:
    store = MemoryKeyStore()
    async with run_portal(key_store=store, headers={**DEV, **CSRF}) as http:
        key = (await http.post(KEYS_ROUTE, json={"name": "ci"})).json()["plaintext"]
        url = url_of(http, "/mcp")
        ended = anyio.Event()

        async def listen(session_id: str) -> None:
            headers = {
                "X-API-Key": key,
                "Accept": "text/event-stream",
                "Mcp-Session-Id": session_id,
                "Mcp-Protocol-Version": "2025-11-25",
            }
            async with http.stream("GET", "/mcp", headers=headers) as answer:
                opened.set()
                assert answer.status_code == 200
                async for _ in answer.aiter_raw():
                    pass
            ended.set()

        opened = anyio.Event()
        hello = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        }
        as_ci = {"X-API-Key": key, "Accept": "application/json, text/event-stream"}
        session_id = (await http.post(url, json=hello, headers=as_ci)).headers["mcp-session-id"]
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(listen, session_id)
                await opened.wait()
                await http.delete(f"{KEYS_ROUTE}/ci")
                await ended.wait()


async def test_the_issuers_keys_are_fetched_over_http() -> None:
    keys = {"keys": [Issuer()._jwk("one", RSA_KEY)]}

    async def show_keys(_: Request) -> JSONResponse:
        return JSONResponse(keys)

    async def discover(request: Request) -> JSONResponse:
        return JSONResponse({"jwks_uri": f"{request.base_url}keys"})

    issuer = Starlette(
        routes=[
            Route("/.well-known/openid-configuration", discover),
            Route("/keys", show_keys),
        ]
    )
    with serve_in_thread(issuer) as port:
        url = f"http://127.0.0.1:{port}"
        async with run_portal(oidc=OidcConfig(url, "portal"), headers={}) as http:
            found = await http.get(ME, headers=bearer(token(iss=url)))
            assert found.json()["subject"] == "alice"
            wrong = await http.get(ME, headers=bearer(token(OTHER_KEY, iss=url)))
            assert wrong.status_code == 401
