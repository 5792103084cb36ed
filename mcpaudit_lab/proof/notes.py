"""Signed checkpoints: the C2SP formats ``signed-note`` and ``tlog-checkpoint``, with Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mcpaudit_lab.errors import TamperError

__all__ = ["Checkpoint", "LogKey", "LogSigner", "open_checkpoint"]

_ED25519: Final = b"\x01"
_NAME: Final = re.compile(r"[^\s+]+")
_SIZE: Final = re.compile(r"0|[1-9]\d{0,17}")
_DASH: Final = "\u2014"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log that its key holder has signed.

    Attributes:
        origin: the log's name.
        size: the number of leaves.
        root: the root hash over them.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key that verifies checkpoints.

    Attributes:
        name: the log's name.
        public: the raw Ed25519 key, 32 bytes.
    """

    name: str
    public: bytes

    @property
    def digest(self) -> bytes:
        """The four bytes that name the key in a signature."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        key = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.digest.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a verifier key in the form of ``str()``.

        Raises:
            TamperError: it is malformed, or its hash does not match.
        """
        name, _, rest = text.strip().partition("+")
        digest, _, encoded = rest.partition("+")
        with suppress(binascii.Error, ValueError):
            raw = base64.b64decode(encoded, validate=True)
            key = cls(name, raw[1:])
            if raw[:1] == _ED25519 and len(raw) == 33 and key.digest.hex() == digest:
                return key
        raise TamperError("malformed log key")

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether the key's holder has signed a text."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class LogSigner:
    """The private key of a log, from a file that only its owner can read.

    Args:
        name: the log's name.
        seed: the Ed25519 seed, 32 bytes. Not shown by ``repr``.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.key = LogKey(name, self._private.public_key().public_bytes_raw())

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the key's file, or make it with mode 0600 if it does not exist.

        The file has one line in the form of the signed-note format's private keys.

        Raises:
            ValueError: the file is not such a key. The message contains nothing of it.
            OSError: it cannot be read or made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            made = cls(f"mcpaudit.{secrets.token_hex(8)}", seed := secrets.token_bytes(32))
            # Written whole under another name first, so that nobody ever reads half a key.
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "w") as file:
                    encoded = base64.b64encode(_ED25519 + seed).decode()
                    digest = made.key.digest.hex()
                    file.write(f"PRIVATE+KEY+{made.key.name}+{digest}+{encoded}\n")
                path.hardlink_to(fresh)
            finally:
                fresh.unlink()
        found = re.fullmatch(
            r"PRIVATE\+KEY\+([^\s+]+)\+([0-9a-f]{8})\+(\S+)\s*", path.read_text(encoding="utf-8")
        )
        if found:
            with suppress(binascii.Error, ValueError):
                raw = base64.b64decode(found[3], validate=True)
                if raw[:1] == _ED25519 and len(raw) == 33:
                    signer = cls(found[1], raw[1:])
                    if signer.key.digest.hex() == found[2]:
                        return signer
        raise ValueError(f"{path.name} is not a private log key")

    def sign(self, size: int, root: bytes) -> str:
        """A signed checkpoint over the first leaves."""
        return self.sign_text(Checkpoint(self.key.name, size, root).text())

    def sign_text(self, text: str) -> str:
        """A signed note of a text, which ends in LF."""
        signature = base64.b64encode(self.key.digest + self._private.sign(text.encode())).decode()
        return f"{text}\n{_DASH} {self.key.name} {signature}\n"

    def derive(self, label: str) -> bytes:
        """A secret of 32 bytes that only this key gives for a label."""
        return hmac.digest(self._seed, label.encode("utf-8", "surrogatepass"), "sha256")

    def __repr__(self) -> str:
        return f"LogSigner({str(self.key)!r})"


def open_checkpoint(note: str, key: LogKey) -> Checkpoint:
    """Verify a signed checkpoint and read it. Signatures of other keys are ignored.

    Raises:
        TamperError: it is malformed, or the key has not signed it.
    """
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines() if separator else ():
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != _DASH or name != key.name:
            continue
        with suppress(binascii.Error, ValueError):
            raw = base64.b64decode(encoded, validate=True)
            if raw[:4] == key.digest and key.verifies(text, raw[4:]):
                return _read(text)
    raise TamperError("the checkpoint is not signed by the known key")


def _read(text: str) -> Checkpoint:
    lines = text.split("\n")
    with suppress(binascii.Error, ValueError):
        root = base64.b64decode(lines[2], validate=True) if len(lines) > 3 else b""
        if _NAME.fullmatch(lines[0]) and _SIZE.fullmatch(lines[1]) and len(root) == 32:
            return Checkpoint(lines[0], int(lines[1]), root)
    raise TamperError("the checkpoint is malformed")
