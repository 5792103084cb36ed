"""Commands about proof: ``bundle``, ``verify``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcpaudit_lab.cli.options import filter_options, lab_option
from mcpaudit_lab.cli.output import say
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab, Verification

__all__ = ["bundle", "verify"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@lab_option
@filter_options
@click.option("--title", default="", help="The case's name.")
@click.option("--note", "notes", multiple=True, metavar="TEXT", help="A finding; may be repeated.")
@click.option(
    "--sign",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEY",
    help="Sign with this private key's file, made if it does not exist.",
)
@click.option(
    "--redact",
    multiple=True,
    metavar="PATH",
    help="Take values out, such as '**.token'; needs --sign. May be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def bundle(
    *,
    file: Path,
    lab: Lab,
    filters: tuple[EventFilter, ...],
    title: str,
    notes: tuple[str, ...],
    sign: Path | None,
    redact: tuple[str, ...],
    overwrite: bool,
) -> int:
    """Write a case into one zip file that anybody can check.

    FILE gets the events with their payloads, the lines that they came from, the ledger, proofs that
    portals' logs have them, a report for a browser, and verify.py: `python verify.py FILE` needs
    Python alone.

    Exit status: 1 if no event matches; nothing is written then.
    """
    from mcpaudit_lab.errors import TamperError

    chosen = lab.events(*filters)
    if not chosen.count():
        say(f"No event matches: {chosen.describe()}.")
        return LOOK
    try:
        report = lab.bundle(
            file,
            chosen,
            notes=notes,
            title=title,
            sign=sign,
            redact=redact,
            overwrite=overwrite,
        )
    except TamperError as error:
        raise Trouble("\n".join((str(error), *error.faults))) from None
    except ValueError as error:
        raise Trouble(str(error)) from None
    for line in str(report).splitlines():
        say(line)
    return FOUND


@click.command()
@click.argument("what")
@click.option("--key", metavar="KEY", help="The key that must have signed the bundle.")
@click.option(
    "--log-key",
    "log_keys",
    multiple=True,
    metavar="KEY",
    help="The key that must have signed the log, as `serve` prints it; again for an earlier one.",
)
def verify(*, what: str, key: str | None, log_keys: tuple[str, ...]) -> int:
    """Verify a portal, a database, an export, a lab or a bundle.

    WHAT is a portal's URL (its key in MCPAUDIT_API_KEY), a database's URL or SQLite file, an export
    that was asked for with proofs=true, a lab, or a bundle's zip file. For a database without
    --log-key, the private key's file beside it is used.

    Exit status: 0 if everything was checked and holds; 1 if something does not hold, one line each;
    2 if something could not be checked.
    """
    from mcpaudit_lab.errors import TamperError

    if what.endswith(".zip") or zipfile.is_zipfile(what):
        return _verify_bundle(what, key, log_keys)
    try:
        found = _verify(what, log_keys)
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


def _verify_bundle(path: str, key: str | None, log_keys: tuple[str, ...]) -> int:
    from mcpaudit_lab.bundle import Check

    found = Check(path, key, log_keys)
    for line in found.report():
        say(line)
    if found.unchecked and not found.faults:
        raise Trouble("not everything could be checked")
    return LOOK if found.faults else FOUND


def _verify(what: str, log_keys: tuple[str, ...]) -> Verification:
    from mcpaudit_lab.lab import Lab, Verification, verify_database, verify_export
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.proof import LogKey, LogSigner

    log_key = log_keys[0] if log_keys else None
    if what.startswith(("http://", "https://")):
        with PortalClient(what) as portal, Lab() as lab:
            report = lab.pull(portal, log_key=log_key, progress=False)
            return Verification(report.verified or 0, report.unverified)
    path = Path(what)
    head = _head(path) if path.is_file() else b""
    if head == b"SQLite format 3\0":
        what = f"sqlite:///{path}"
    if "://" in what:
        key_file = Path(f"{what.partition(':///')[2]}.log-key")
        if not log_keys and not key_file.is_file():
            raise Trouble("give the log's key with --log-key")
        keys = [LogKey.parse(text) for text in log_keys] or [LogSigner.from_file(key_file).key]
        with Lab() as lab:
            return verify_database(lab, what, *keys)
    # DuckDB writes its mark behind a checksum, which may begin like anything.
    if head[8:12] != b"DUCK" and head.startswith((b"{", b"\x1f\x8b")):
        return verify_export(path, log_key)
    with Lab(path, read_only=True) as lab:
        return lab.verify()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)
