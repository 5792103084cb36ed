"""The command that runs a portal: ``serve``."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble
from mcpaudit_lab.errors import StoreUnavailable

if TYPE_CHECKING:
    from mcpaudit_lab.server.auth import ApiKeys, OidcConfig

__all__ = ["serve"]

_PORT: Final = 8080
_NEXT: Final = {
    errno.EADDRINUSE: "Another program listens there: give --port another number, or 0 for any.",
    errno.EADDRNOTAVAIL: "--host takes a name or address of this machine, such as 127.0.0.1.",
    errno.EACCES: "Ports below 1024 need rights: give --port another number, or 0 for any.",
}


@click.command()
@click.option(
    "--database",
    required=True,
    envvar="MCPAUDIT_DATABASE_URL",
    show_envvar=True,
    metavar="URL",
    help="sqlite:///audit.db or postgresql+psycopg://user@host/database; tables are made.",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Lines NAME=KEY; # starts a comment. MCPAUDIT_API_KEYS in the environment works too.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    metavar="NAME=KEY",
    help="A key, to try things out: other users of this machine can see it in the process list.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="0: a free one.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that requests may use besides the address and the loopback names; * for any.",
)
@click.option("--base-url", default="", metavar="URL", help="Where it is reached from outside.")
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web pages of this origin may use the portal; * for any.",
)
@click.option("--anonymous-mcp", is_flag=True, help="Serve MCP without a credential as well.")
@click.option("--oidc-issuer", metavar="URL", help="Take bearer tokens of this issuer.")
@click.option("--oidc-audience", metavar="TEXT", help="That were made for this audience.")
@click.option(
    "--oidc-admin",
    "oidc_admins",
    multiple=True,
    metavar="SUBJECT",
    help="A subject that may mint and revoke API keys.",
)
@click.option(
    "--export-max-rows",
    default=100_000,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Maximum number of lines in an export.",
)
@click.option("--log/--no-log", "log", default=True, help="Keep a signed log of the events.")
@click.option(
    "--log-key-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The log's private key, made if missing; by default beside a SQLite database.",
)
@click.option(
    "--replay-burst",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Replays at once, for each caller.",
)
@click.option(
    "--replay-refill-s",
    default=12.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Until one more.",
)
def serve(
    *,
    database: str,
    api_key_file: Path | None,
    api_keys: tuple[str, ...],
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    base_url: str,
    cors_origins: tuple[str, ...],
    anonymous_mcp: bool,
    oidc_issuer: str | None,
    oidc_audience: str | None,
    oidc_admins: tuple[str, ...],
    export_max_rows: int,
    log: bool,
    log_key_file: Path | None,
    replay_burst: int,
    replay_refill_s: float,
) -> int:
    """Run an audited portal with the twelve test tools.

    Runs until it receives SIGTERM or Ctrl-C.

    MCP is at /mcp, the events are under /api/v1/portal. On SIGTERM, open streams end, running calls
    have three seconds to finish, and the queue is stored.

    Exit status: 0 where SIGTERM or Ctrl-C ended it and every call is stored; 1 where events were
    lost, which the log names.
    """
    from mcpaudit_lab.server import allowed_hosts_for
    from mcpaudit_lab.server import serve as run
    from mcpaudit_lab.server.auth import OidcConfig
    from mcpaudit_lab.server.http import PortalOptions

    oidc: OidcConfig | None = None
    if oidc_issuer and oidc_audience:
        oidc = OidcConfig(oidc_issuer, oidc_audience, admins=frozenset(oidc_admins))
    elif oidc_issuer or oidc_audience or oidc_admins:
        raise Trouble("bearer tokens need --oidc-issuer and --oidc-audience")
    keys = _collect(api_keys, api_key_file)
    if not len(keys) and oidc is None:
        raise Trouble(
            "nobody could ask anything of this portal\n"
            "Give keys: --api-key-file FILE, or MCPAUDIT_API_KEYS='NAME=KEY'."
        )
    options = PortalOptions(
        allowed_hosts=allowed_hosts_for(host, allowed_hosts),
        cors_origins=cors_origins,
        base_url=base_url,
        anonymous_mcp=anonymous_mcp,
        export_max_rows=export_max_rows,
        log=log,
        log_key=log_key_file,
    )
    try:
        status = run(
            database,
            keys,
            host,
            port,
            options=options,
            oidc=oidc,
            burst=replay_burst,
            refill_s=replay_refill_s,
            on_start=_say_where,
        )
    except ValueError as error:
        raise Trouble(str(error)) from None
    except StoreUnavailable as error:
        raise Trouble(f"the database: {error}\n{_check_of(database)}") from None
    except OSError as error:
        # getaddrinfo's numbers, of names that are not known, are negative.
        number = error.errno or 0
        why = _NEXT.get(errno.EADDRNOTAVAIL if number < 0 else number)
        if why is None:
            raise
        raise Trouble(f"cannot listen on {host}, port {port}: {error.strerror}\n{why}") from None
    return LOOK if status.rejected or status.dropped else FOUND


def _check_of(database: str) -> str:
    """What to look at where a database does not open."""
    if database.startswith("sqlite"):
        return "Is its folder there, and may you write to it? The file itself is made."
    return "Does it run, are host and password right, and may this user make tables?"


def _collect(api_keys: tuple[str, ...], file: Path | None) -> ApiKeys:
    from mcpaudit_lab.server.auth import ApiKeys, parse_keys

    try:
        return ApiKeys.collect(parse_keys(api_keys, "--api-key"), file=file)
    except ValueError as error:
        raise Trouble(str(error)) from None


def _say_where(url: str, log_key: str | None) -> None:
    click.echo(f"Portal at {url}, MCP at {url}/mcp. Press Ctrl-C to end it.", err=True)
    if log_key is not None:
        click.echo(f"Its log is signed with {log_key}", err=True)
