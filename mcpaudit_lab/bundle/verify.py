"""Verify a bundle of audit events. Needs Python 3.9 or newer and nothing else.

    python verify.py CASE.zip [--key KEY] [--log-key KEY ...]

Exit status: 0 everything was checked and holds; 1 something does not hold, one line each; 2
something could not be checked. A bundle brings the keys that it was signed with. Whose they are,
only keys got by another way can tell: --key of its maker, --log-key of a portal. Whoever changes a
bundle can also change the copy of this file in it: take this file from elsewhere.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any

FORMAT = "mcpaudit-bundle/1"
Point = tuple[int, int, int, int]

# Ed25519 (RFC 8032, section 5.1)

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def read_point(data: bytes) -> Point | None:
    """A point in extended coordinates (X, Y, Z, T) from its 32 bytes, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x % 2 != sign else x
    return x, y, 1, x * y % P


def add_points(one: Point, other: Point) -> Point:
    """The sum of two points."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: Point) -> Point:
    """A point added to itself so many times."""
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add_points(total, point)
        point = add_points(point, point)
        scalar >>= 1
    return total


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature of 64 bytes is one of the key's owner over a message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r = read_point(public), read_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left = multiply(s, BASE)
    right = add_points(r, multiply(int.from_bytes(digest, "little") % ORDER, key))
    return not (
        (left[0] * right[2] - right[0] * left[2]) % P
        or (left[1] * right[2] - right[1] * left[2]) % P
    )


def open_note(note: str, key: str) -> str:
    """The text of a note (C2SP signed-note) that a key, NAME+HASH+KEY, has signed."""
    name, _, rest = key.strip().partition("+")
    digest, _, encoded = rest.partition("+")
    public = base64.b64decode(encoded, validate=True)
    key_hash = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    if public[:1] != b"\x01" or key_hash.hex() != digest:
        raise ValueError("malformed key")
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines() if separator else ():
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        if dash == "\u2014" and signer == name:
            raw = base64.b64decode(encoded, validate=True)
            if raw[:4] == key_hash and verify_ed25519(public[1:], text.encode(), raw[4:]):
                return text
    raise ValueError(f"not signed by {name}")


# Merkle tree (RFC 9162, section 2.1), as mcpaudit_lab.proof has it: this file stands alone


def is_included(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """Whether an audit path leads from a leaf to the root."""

    def node_hash(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + left + right).digest()

    if not 0 <= index < size:
        return False
    number, last, value = index, size - 1, leaf
    for item in path:
        if last == 0:
            return False
        if number % 2 or number == last:
            value = node_hash(item, value)
            while number % 2 == 0 and number:
                number, last = number // 2, last // 2
        else:
            value = node_hash(value, item)
        number, last = number // 2, last // 2
    return last == 0 and value == root


# Canonical JSON: RFC 8785, but a number that a double would round keeps all its digits


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def read_json(text: str) -> Any:
    """A JSON value with its numbers as they were written. A name that comes twice is an error."""
    return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=members)


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members by name."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def canonical(value: Any) -> str:
    """The one text of a JSON value."""
    if isinstance(value, Number):
        return canonical_number(value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return (
            "{" + ",".join(canonical(name) + ":" + canonical(value[name]) for name in names) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found.group()):04x}", text)


def canonical_number(text: str) -> str:
    """A number as ECMAScript writes it, or with all its digits where a double has fewer."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return "0" if "e-" in text.lower() else text.lower()
    if not value:
        return "0"
    sign, digits, exponent = value.as_tuple()
    written = "".join(map(str, digits))
    stripped = written.rstrip("0")
    point = len(written) + int(exponent)
    minus = "-" if sign else ""
    is_double = Decimal(repr(float(value))) == value
    if len(stripped) <= point <= (21 if is_double else 400):
        return minus + stripped + "0" * (point - len(stripped))
    if is_double and 0 < point <= 21:
        return f"{minus}{stripped[:point]}.{stripped[point:]}"
    if is_double and -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{stripped}"
    rest = "." + stripped[1:] if len(stripped) > 1 else ""
    return f"{minus}{stripped[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"


TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:\.(\d+))? ?([Zz]|UTC|[+-]\d\d(?::?\d\d)?)"
)


def canonical_time(text: str) -> str:
    """A moment in UTC, without zeros at its end."""
    found = TIME.fullmatch(text)
    if not found:
        raise ValueError("not a time")
    day, minute, second, fraction, zone = found.groups()
    moment = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}")
    if zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:] if len(zone) > 3 else 0)
        moment -= timedelta(minutes=minutes if zone[0] == "+" else -minutes)
    fraction = (fraction or "")[:9].rstrip("0")
    return moment.isoformat() + ("." + fraction if fraction else "") + "Z"


def leaf_of(event: dict[str, Any]) -> bytes:
    """The leaf's hash of an event: all of it but the time of storing."""
    event = dict(event, timestamp=canonical_time(event["timestamp"]))
    if isinstance(event.get("payload"), dict):
        event["payload"] = {k: v for k, v in event["payload"].items() if k != "captured_at"}
    return hashlib.sha256(b"\x00" + canonical(event).encode()).digest()


def sha256_of(file: IO[bytes]) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    for data in iter(lambda: file.read(1 << 20), b""):
        digest.update(data)
    return digest.hexdigest()


def pack(out: IO[bytes], sizes: dict[str, int], write: Callable[[str, IO[bytes]], object]) -> None:
    """Write a zip file of members: names with their sizes, and `write(name, file)`.

    The same members give the same bytes. They are not compressed: versions of zlib differ.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, size in sizes.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr, info.file_size = 3, 0o600 << 16, size
            with archive.open(info, "w") as file:
                write(name, file)


class Check:
    """Checks a bundle: faults, what could not be checked, and lines that sum it up."""

    def __init__(self, path: str, key: str | None = None, log_keys: Iterable[str] = ()) -> None:
        self.key, self.log_keys = key, list(log_keys)
        self.faults: list[str] = []
        self.unchecked: Counter[str] = Counter()
        self.lines: list[str] = []
        try:
            with zipfile.ZipFile(path) as self.archive, Path(path).open("rb") as file:
                self.run(file)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            self.faults.append(f"the file: {error}")

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.faults else 2 if self.unchecked else 0

    def report(self) -> list[str]:
        """The findings as lines."""
        lines = [*self.lines, *(f"DOES NOT HOLD {fault}" for fault in self.faults)]
        lines += [f"NOT CHECKED {n:,} events: {why}" for why, n in self.unchecked.items()]
        return [*lines, ("holds", "does not hold", "not everything could be checked")[self.status]]

    def run(self, file: IO[bytes]) -> None:
        """Check everything."""
        sizes = {info.filename: info.file_size for info in self.archive.infolist()}
        with tempfile.TemporaryFile() as again:
            pack(again, sizes, lambda name, out: copyfileobj(self.archive.open(name), out))
            again.seek(0)
            if sha256_of(again) != sha256_of(file):
                self.faults.append("the file: it is not byte for byte what its members make")
        try:
            manifest = json.loads(self.archive.read("manifest.json"))
            files = manifest["files"]
            for name in sorted({*sizes, *files} - {"manifest.json", "manifest.sig"}):
                if name not in files or name not in sizes:
                    where = "the bundle" if name in files else "manifest.json"
                    self.faults.append(f"{name}: missing in {where}")
                elif sha256_of(self.archive.open(name)) != files[name]:
                    self.faults.append(f"{name}: its SHA-256 differs from manifest.json")
            signed = self.check_signature(manifest, "manifest.sig" in sizes)
            self.check_hashes()
            self.check_events(manifest, signed)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self.faults.append(f"damaged: {type(error).__name__}: {error}")

    def rows(self, name: str) -> Iterator[Any]:
        """The values of a JSON Lines member; none if there is no such member."""
        if name in self.archive.namelist():
            with self.archive.open(name) as file:
                for line in file:
                    yield read_json(line.decode())

    def check_signature(self, manifest: dict[str, Any], is_there: bool) -> bool:
        """Whether the manifest is signed, and so every file."""
        key = self.key or manifest["signer"]
        if not is_there and not key:
            self.lines.append("not signed: findings, ledger and report may have been edited")
            return False
        try:
            text = open_note(self.archive.read("manifest.sig").decode(), key)
        except (KeyError, ValueError) as error:
            self.faults.append(f"manifest.sig: {error}")
            return False
        if text != f"{FORMAT}\n{sha256_of(self.archive.open('manifest.json'))}\n":
            self.faults.append("manifest.sig: signed for another manifest.json")
        self.lines.append(f"signed by {key}" + ("" if self.key else " (compare the key)"))
        return True

    def check_hashes(self) -> None:
        """Compute the ledger's chain and the hashes of raw lines and definitions again."""
        head, count = "", 0
        for row in self.rows("ledger.jsonl"):
            link = row.pop("chain")
            if hashlib.sha256((head + canonical(row)).encode()).hexdigest() != link:
                self.faults.append(f"ledger.jsonl: source {row['id']} was changed")
            head, count = link, count + 1
        self.lines.append(f"ledger: loads {count:,}, chain {head or 'none'}")
        for row in self.rows("raw.jsonl"):
            data = base64.b64decode(row["base64"]) if "base64" in row else row["text"].encode()
            if hashlib.sha256(data).hexdigest() != row["sha256"]:
                self.faults.append(f"raw.jsonl: a line of {row['event_id']} was changed")
        for row in self.rows("tools.jsonl"):
            if hashlib.sha256(canonical(row["definition"]).encode()).hexdigest() != row["sha256"]:
                self.faults.append(f"tools.jsonl: the definition of {row['name']} was changed")

    def read_logs(self) -> dict[str, tuple[int, bytes]]:
        """The size and root of each portal's log, from its signed checkpoint."""
        logs, keys = {}, set()
        for row in self.rows("checkpoints.jsonl"):
            if self.log_keys and row["key"] not in self.log_keys:
                self.faults.append(f"checkpoints.jsonl: {row['portal']} has the key {row['key']}")
            try:
                _, size, root = open_note(row["note"], row["key"]).split("\n")[:3]
                logs[row["portal"]] = int(size), base64.b64decode(root, validate=True)
                keys.add(f"log key of {row['portal']}: {row['key']}")
            except ValueError as error:
                self.faults.append(f"checkpoints.jsonl: {row['portal']}: {error}")
        self.lines += [line + ("" if self.log_keys else " (compare it)") for line in sorted(keys)]
        return logs

    def check_events(self, manifest: dict[str, Any], signed: bool) -> None:
        """Compare each event with its leaf, and the leaf with a signed checkpoint."""
        logs, proofs = self.read_logs(), {row["id"]: row for row in self.rows("proofs.jsonl")}
        cut, seen, proven, covered = set(manifest["redacted"]), set[str](), 0, 0
        for event in self.rows("events.jsonl"):
            name, proof = event["id"], proofs.get(event["id"])
            if name in seen:
                self.faults.append(f"events.jsonl: {name} comes twice")
            seen.add(name)
            if proof and name not in cut:
                size, root = logs.get(proof["portal"], (0, b""))
                path = [bytes.fromhex(item) for item in proof["path"]]
                if is_included(leaf_of(event), int(proof["index"]), size, path, root):
                    proven += 1
                else:
                    self.faults.append(f"events.jsonl: {name} is not what {proof['portal']} logged")
            elif signed:
                covered += 1
            else:
                why = "values were taken out" if name in cut else "no log has them"
                self.unchecked[f"{why}, and the bundle is not signed"] += 1
        self.faults += [f"events.jsonl: {name} is missing" for name in sorted(set(proofs) - seen)]
        if len(seen) != manifest["events"]:
            self.faults.append(f"events.jsonl: {len(seen):,} events, not {manifest['events']:,}")
        told = f"{proven:,} by a log's checkpoint, {covered:,} by the bundle's signature"
        self.lines.append(f"verified {proven + covered:,} of {len(seen):,} events: {told}")


def shown(text: str) -> str:
    """Text for a terminal: what is not printable is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def main(arguments: list[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Verify a bundle of audit events.")
    parser.add_argument("bundle")
    parser.add_argument("--key", help="the key that must have signed the bundle")
    parser.add_argument("--log-key", action="append", default=[], help="a key of a portal's log")
    given = parser.parse_args(arguments)
    found = Check(given.bundle, given.key, given.log_key)
    print("\n".join(map(shown, found.report())))  # noqa: T201 - a program of its own
    return found.status


if __name__ == "__main__":
    sys.exit(main())
