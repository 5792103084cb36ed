"""Writes a bundle: its parts in a folder, the manifest over them, the signature, the zip file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from mcpaudit_lab.bundle import verify
from mcpaudit_lab.record import canonical_json, dumps
from mcpaudit_lab.storage import appearing

if TYPE_CHECKING:
    from mcpaudit_lab.proof import LogSigner

__all__ = ["BundleParts", "write_zip"]

_README: Final = """This is a bundle of audit events of MCP servers.

    python verify.py {name}

says whether it holds: exit status 0 if everything was checked and holds, 1 if something does not
hold, 2 if something could not be checked. It needs Python 3.9 or newer and nothing else. Take
verify.py from elsewhere if you do not trust who sent this.

report.html        the case for people: open it in a browser, offline
events.jsonl       the events with their payloads, newest first
raw.jsonl          the lines that they came from, as they were read
ledger.jsonl       what was loaded, each row with the hash of the one before
checkpoints.jsonl  the signed state of each portal's log
proofs.jsonl       for each event of a log: its place, and the path to the signed root
tools.jsonl        the tool definitions in force when the events were called
comparisons.jsonl  pairs of events, and what differs
findings.jsonl     notes, oldest first
redactions.jsonl   values that were taken out for this bundle: where, and a commitment to each
manifest.json      the SHA-256 of every file; manifest.sig signs it, if there is one
"""


class BundleParts:
    """The parts of a bundle, written into a folder.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a part belongs, for a writer of its own."""
        return self.folder / name

    def write_text(self, name: str, text: str) -> None:
        """Write a part that is text. A lone surrogate is written as its escape."""
        self.path(name).write_bytes(text.encode("utf-8", "backslashreplace"))

    def write_rows(self, name: str, rows: Iterable[dict[str, Any]]) -> int:
        """Write JSON Lines; returns how many. Without rows there is no such part."""
        count = self.write_lines(name, map(dumps, rows))
        if not count:
            self.path(name).unlink()
        return count

    def write_lines(self, name: str, lines: Iterable[str]) -> int:
        """Write lines of JSON; returns how many."""
        count = 0
        with self.path(name).open("wb") as file:
            for line in lines:
                file.write(f"{line}\n".encode())
                count += 1
        return count


def write_zip(
    path: Path,
    parts: BundleParts,
    *,
    events: int,
    title: str,
    redacted: Iterable[str] = (),
    redacted_paths: Iterable[str] = (),
    signer: LogSigner | None = None,
) -> str:
    """Write the bundle whole, or not at all; returns the SHA-256 of its manifest, in hex.

    Args:
        path: the zip file; an existing one is replaced.
        parts: the parts.
        events: the number of events in ``events.jsonl``.
        title: the case's name.
        redacted: ids of events that values were taken out of.
        redacted_paths: what was asked to be taken out.
        signer: who signs the manifest; None for no signature.
    """
    shutil.copyfile(verify.__file__, parts.path("verify.py"))
    parts.write_text("README.txt", _README.format(name=path.name))
    files = {item.name: _sha256(item) for item in sorted(parts.folder.iterdir())}
    manifest = {
        "format": verify.FORMAT,
        "title": title,
        "events": events,
        "files": files,
        "redacted": sorted(redacted),
        "redacted_paths": sorted(redacted_paths),
        "signer": None if signer is None else str(signer.key),
    }
    parts.write_text("manifest.json", f"{canonical_json(manifest)}\n")
    digest = _sha256(parts.path("manifest.json"))
    if signer is not None:
        parts.write_text("manifest.sig", signer.sign_text(f"{verify.FORMAT}\n{digest}\n"))
    _pack(path, parts.folder)
    return digest


def _pack(path: Path, folder: Path) -> None:
    names = sorted(item.name for item in folder.iterdir())
    # What a person looks for comes first.
    names.sort(key=lambda name: name not in ("README.txt", "report.html", "verify.py"))
    sizes = {name: (folder / name).stat().st_size for name in names}

    def copy(name: str, out: IO[bytes]) -> None:
        with (folder / name).open("rb") as file:
            shutil.copyfileobj(file, out)

    with appearing(path) as unfinished, unfinished.open("w+b") as out:
        verify.pack(out, sizes, copy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return verify.sha256_of(file)
