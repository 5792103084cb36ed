"""The command that verifies evidence: ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcpaudit_lab.cli.output import say
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Verification

__all__ = ["verify"]


@click.command()
@click.argument("what")
@click.option(
    "--log-key",
    metavar="KEY",
    help="The key that must have signed the log, as `serve` prints it: NAME+HASH+KEY.",
)
def verify(*, what: str, log_key: str | None) -> int:
    """Verify a portal, its database, or a lab.

    WHAT is a portal's URL (its key in MCPAUDIT_API_KEY), a database's URL or SQLite file, or a lab.
    For a database without --log-key, the private key's file beside it is used.

    Exit status: 0 if everything was checked and holds; 1 if something does not hold, one line each;
    2 if something could not be checked.
    """
    from mcpaudit_lab.errors import TamperError

    try:
        found = _verify(what, log_key)
    except TamperError as error:
        say("does not hold:")
        for fault in error.faults:
            say(f"  {fault}")
        return LOOK
    for line in str(found).splitlines():
        say(line)
    if found.faults:
        return LOOK
    if not found.holds:
        raise Trouble("not everything could be checked")
    return FOUND


def _verify(what: str, log_key: str | None) -> Verification:
    from mcpaudit_lab.lab import Lab, Verification, verify_database
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.proof import LogKey, LogSigner

    if what.startswith(("http://", "https://")):
        with PortalClient(what) as portal, Lab() as lab:
            report = lab.pull(portal, log_key=log_key, progress=False)
            return Verification(report.verified or 0, report.unverified)
    path = Path(what)
    if path.is_file() and _is_sqlite(path):
        what = f"sqlite:///{path}"
    if "://" in what:
        key_file = Path(f"{what.partition(':///')[2]}.log-key")
        if log_key is None and not key_file.is_file():
            raise Trouble("give the log's key with --log-key")
        key = LogKey.parse(log_key) if log_key else LogSigner.from_file(key_file).key
        with Lab() as lab:
            return verify_database(lab, what, key)
    with Lab(path, read_only=True) as lab:
        return lab.verify()


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"
