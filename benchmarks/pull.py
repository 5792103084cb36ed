"""How fast a pull is, against bare concurrent GETs of the same details.

Run it as ``python benchmarks/pull.py [events]``. The portal runs in a process of its own over
SQLite; client and portal share the machine, and what is compared is compared within one run, turn
by turn. Three ways are measured: eight threads that GET details and throw them away, a pull that
asks for each payload by itself as it must from the reference server, and a pull by the export with
payloads.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from uuid import UUID

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import SqlLogger, background_portal

KEY = "bench-key"
ROWS = 20_000
# Details take long: as many as this are asked for in one turn, and the rate is compared.
DETAILS = 2_000
WORKERS = 8
TURNS = 3
START = datetime(2026, 11, 1, tzinfo=UTC)


def fill(url: str, rows: int) -> list[str]:
    """Store recorded events again and again, with ids and times of their own."""
    with Lab() as lab:
        lab.load(sample_files())
        samples = [event for event in lab.events() if event.payload and event.id]
    samples = [event for event in samples if len(event.to_json()) < 8000]
    ids = []
    with SqlLogger(url) as store:
        for first in range(0, rows, 1000):
            batch = []
            for number in range(first, min(first + 1000, rows)):
                at = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
                wire = samples[number % len(samples)].wire
                batch.append(Event({**wire, "id": str(UUID(int=number + 1)), "timestamp": at}))
            store.log(batch)
            ids += [event.id for event in batch]
    return ids


@contextmanager
def portal_process(url: str) -> Iterator[str]:
    """A portal in a process of its own; yields its URL."""
    command = [sys.executable, __file__, "serve", url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def serve(url: str) -> None:
    """Serve until standard input ends."""
    with background_portal(database=url, keys={"bench": KEY}) as portal:
        print(portal.url, flush=True)
        sys.stdin.read()


class AsReference(PortalClient):
    """A client that knows of no more than the reference server has."""

    @property
    def is_reference(self) -> bool:
        """Always."""
        return True


def bare(portal: PortalClient, ids: list[str]) -> float:
    """Details a second, with nothing done to them."""
    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        paths = (f"/api/v1/portal/audit/events/{event_id}" for event_id in ids)
        sizes = list(pool.map(lambda path: len(portal.http.get(path).content), paths))
    assert min(sizes) > 100
    return len(ids) / (time.perf_counter() - started)


def pulled(portal: PortalClient, rows: int) -> float:
    """Events a second, in the lab; the newest so many."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "lab.duckdb") as lab:
        since = START + timedelta(seconds=ROWS - rows)
        report = lab.pull(portal, since=since, progress=False)
        assert report.complete, report
        assert report.new == report.payloads == rows, report
        return rows / report.seconds


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/audit.db"
        ids = fill(url, rows)
        figures: dict[str, list[float]] = {"bare GETs": [], "one by one": [], "by export": []}
        details = min(DETAILS, rows)
        with (
            portal_process(url) as at,
            PortalClient(at, KEY) as portal,
            AsReference(at, KEY) as reference,
        ):
            for _ in range(TURNS):
                figures["bare GETs"].append(bare(portal, ids[-details:]))
                figures["one by one"].append(pulled(reference, details))
                figures["by export"].append(pulled(portal, rows))
        base = median(figures["bare GETs"])
        for name, rates in figures.items():
            rate = median(rates)
            shown = ", ".join(f"{figure:,.0f}" for figure in rates)
            print(f"{name:11} {rate:8,.0f} events/s ({rate / base:5.2f} of bare; {shown})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        ROWS = int(sys.argv[1]) if sys.argv[1:] else ROWS
        main(ROWS)
