"""The live tail in a real JupyterLab: how late a call is shown, frames a second, the kernel's work.

The kernel makes the events itself, so many a second, each with the time at which it was made; the
page notes when its row is drawn. Memory is measured in a kernel that is given 200,000 events as
fast as it takes them.

python benchmarks/tail.py --seconds 20 --events 200000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from browser import launched  # noqa: E402 - the tests' helpers are in another folder
from jupyter_pages import JupyterServer, NotebookPage, jupyter_server, open_notebook  # noqa: E402 - as above

if TYPE_CHECKING:
    from playwright.sync_api import Browser

START = f"""
import json, os, sys, time, threading, psutil
sys.path.insert(0, {str(ROOT / "tests")!r})
from tail_sources import SteadySource
from mcpaudit_lab.portal.tail.tail import Tail
me = psutil.Process()
"""
# Notes for each row when it was first drawn, and each frame.
WATCH = """() => {
    window.seen = []; window.frames = 0; window.on = true;
    const frame = () => { window.frames += 1; if (window.on) requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    const body = document.querySelector(".mcpaudit-tail tbody");
    new MutationObserver((changes) => requestAnimationFrame(() => {
        const now = Date.now();
        for (const change of changes) for (const row of change.addedNodes) {
            const made = row.querySelector("td.time").title;
            window.seen.push(now - new Date(made).getTime());
        }
    })).observe(body, {childList: true});
}"""
READ = """() => {
    window.on = false;
    return [window.seen, window.frames];
}"""


def measure_rate(browser: Browser, server: JupyterServer, rate: int, seconds: float) -> None:
    """Print delay, frames and the kernel's CPU at one rate; 0 for a tail that nothing reaches."""
    cell = f"tail = Tail(SteadySource(per_second={rate}))\ntail"
    with open_notebook(browser, server, f"rate-{rate}.ipynb", START, cell) as shown:
        shown.run(0)
        shown.run(1)
        shown.page.wait_for_selector(".mcpaudit-tail")
        shown.page.evaluate(WATCH)
        before = shown.ask("t0 = time.time(); print(json.dumps(sum(me.cpu_times()[:2])))")
        shown.page.wait_for_timeout(seconds * 1000)
        after, took_s, counts = shown.ask(
            "print(json.dumps([sum(me.cpu_times()[:2]), time.time() - t0,"
            " [tail.status.counts.received, tail.status.counts.unseen]]))"
        )
        delays, frames = shown.page.evaluate(READ)
        print(
            f"{rate:6,}/s  {_delays(delays)}  {frames / took_s:5.1f} frames/s  "
            f"kernel {100 * (after - before) / took_s:5.1f} %  "
            f"{counts[0]:,} received, {counts[1]:,} never shown",
            flush=True,
        )


def _delays(delays: list[float]) -> str:
    if len(delays) < 2:
        return "no rows"
    cuts = statistics.quantiles(delays, n=100)
    return f"shown after p50 {cuts[49]:5.0f} ms, p99 {cuts[98]:5.0f} ms, max {max(delays):5.0f} ms"


def measure_memory(browser: Browser, server: JupyterServer, events: int) -> None:
    """Print the kernel's and the page's memory while so many events come."""
    cell = "tail = Tail(SteadySource(per_second=1_000_000))\ntail"
    with open_notebook(browser, server, "memory.ipynb", START, cell) as shown:
        shown.run(0)
        shown.run(1)
        for part in range(1, 11):
            wanted = events * part // 10
            while (count := _received(shown)) < wanted:
                shown.page.wait_for_timeout(200)
            kernel_mb = shown.ask("print(json.dumps(me.memory_info().rss / 1e6))")
            page_mb: float = shown.page.evaluate("performance.memory.usedJSHeapSize / 1e6")
            print(
                f"{count:9,} events  kernel {kernel_mb:6.0f} MB  page {page_mb:5.0f} MB", flush=True
            )


def _received(shown: NotebookPage) -> int:
    count: int = shown.ask("print(json.dumps(tail.status.counts.received))")
    return count


def main() -> None:
    """Run what was asked for, in one JupyterLab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rates", type=int, nargs="*", default=[0, 10, 100, 1000])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        launched() as browser,
        jupyter_server(Path(folder)) as server,
    ):
        for rate in options.rates:
            measure_rate(browser, server, rate, options.seconds)
        if options.events:
            measure_memory(browser, server, options.events)


if __name__ == "__main__":
    main()
