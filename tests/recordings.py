"""What the reference server answered, and portals seeded with its rows."""

from __future__ import annotations

import csv
import http.client
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import create_engine

UPSTREAM = Path(__file__).parent / "data" / "upstream"
MINTED = "mt_EXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEE"
KEYS = {"dev": "upstream-dev-key", "minted": MINTED, "bad": "wrong"}
# What says something about the answer; the others are the transport's.
HEADERS = (
    "content-type",
    "www-authenticate",
    "retry-after",
    "cache-control",
    "content-disposition",
    "x-content-type-options",
    "x-accel-buffering",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP: the headers that matter, in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of the index, with the answer."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answer: Answer

    def ask(self, url: str) -> Answer:
        """Ask a portal the same, byte for byte: no client library rewrites the path."""
        at = urlsplit(url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        try:
            connection.putrequest(self.method, self.path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            if self.body:
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(self.body)))
            connection.endheaders(self.body or None)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return _answer(response.status, found, response.read())
        finally:
            connection.close()


def _answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    return Answer(status, {name: headers[name] for name in HEADERS if name in headers}, body)


def _parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().splitlines()
    pairs = (line.partition(": ") for line in lines)
    return _answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


def recordings() -> list[Recording]:
    """All that is in the index."""
    found = []
    with (UPSTREAM / "INDEX.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            key = KEYS.get(row["key used"].removeprefix("key="))
            headers = {"X-API-Key": key} if key else {}
            name, _, value = (row["extra headers"] or "").partition(": ")
            if name:
                headers[name] = value
            raw = (UPSTREAM / row["file"]).read_bytes()
            found.append(
                Recording(
                    row["file"].removesuffix(".http"),
                    row["method"],
                    row["path"],
                    headers,
                    (row["body"] or "").encode(),
                    _parse(raw),
                )
            )
    return found


def seed_postgres(url: str) -> None:
    """Insert the recorded rows, as another program does that knows nothing of this portal."""
    engine = create_engine(url)
    raw = engine.raw_connection()
    try:
        for table in ("audit_events", "audit_payloads"):
            raw.cursor().execute((UPSTREAM / "pg" / f"{table}.sql").read_text(encoding="utf-8"))
        raw.commit()
    finally:
        raw.close()
        engine.dispose()
