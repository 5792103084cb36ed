"""Pictures of every object as a notebook shows it: light and dark, 600, 1000 and 1600 pixels wide.

    python docs/pictures.py [FOLDER]
    python docs/pictures.py --readme

They go to ``build/pictures`` unless told otherwise, which git ignores: look at them after a change
of how something looks. What they show is the sample that comes with the package. The second form
makes those that the README and the pages show, in ``docs/pictures``: the tail in JupyterLab at a
portal that is called meanwhile, a table of events, a comparison, and all replays compared.
"""

from __future__ import annotations

import base64
import math
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from browser import launched, watched_page
from jupyter_pages import jupyter_server, open_notebook

from mcpaudit_lab import Event, Lab, Payload, PortalClient
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.record.redaction import redacted_paths
from mcpaudit_lab.server import background_portal, demo_server

WIDTHS = (600, 1000, 1600)
_PROGRESS = ("9be46480-fa19-4c60-9b50-8878b96f2759", "8018d3b4-cd22-45b1-9d01-22395b791694")


def objects(lab: Lab) -> Iterator[tuple[str, Any]]:
    """Every object that has a look of its own, by name."""
    yield "event", lab.event(_PROGRESS[0])
    failed = lab.events(tool="error", success=False, has="response_result")
    yield "event-failed", next(iter(failed))
    whole = [event for event in lab.events(has="request_params") if event.payload]
    yield (
        "event-redacted",
        next(e for e in whole if e.payload and redacted_paths(e.payload.request_params)),
    )
    yield "event-summary", next(event for event in lab.events() if event.payload is None)
    yield (
        "event-truncated",
        next(e for e in lab.events() if e.payload and e.payload.response_truncated),
    )
    yield "event-media", _with_media(whole[0])
    yield "comparison", lab.compare(*_PROGRESS)
    yield "replays", lab.compare_replays()
    yield "event-set", lab.events(success=False)
    yield "overview", lab.overview()
    yield "timeline", lab.session("SEG32MMGZTLK52X3SCHHXCFF7K")
    # A server of our own, inside this process, is called again for the sample's calls.
    server = demo_server()
    plan = lab.plan_replay(lab.events(limit=40), target=server, allow={"echo", "progress", "error"})
    yield "plan", plan
    yield "run", plan.run(progress=False)


def _with_media(event: Event) -> Event:
    """The event with a picture and a sound in its result, which the sample has none of."""
    rows = b"".join(
        b"\0" + bytes(v for x in range(160) for v in (x, y * 2, 200 - x)) for y in range(90)
    )
    size = struct.pack(">IIBBBBB", 160, 90, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    sound = bytes(128 + round(60 * math.sin(n / 6)) for n in range(8000))
    head = b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data"
    wav = head + struct.pack("<I", len(sound)) + sound
    content = [
        {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": mime_type}
        for kind, data, mime_type in (
            ("image", png, "image/png"),
            ("audio", wav, "audio/wav"),
            ("image", b"<svg/>", "image/svg+xml"),
        )
    ]
    return event.with_payload(Payload.build(response_result={"content": content}))


def page_of(shown: str, *, dark: bool) -> str:
    """A page as plain as a notebook's output area."""
    background = "#111111" if dark else "#ffffff"
    return (
        "<!doctype html><meta charset='utf-8'>"
        f"<body data-jp-theme-light='{'false' if dark else 'true'}'"
        f" style='margin:12px;background:{background}'>{shown}</body>"
    )


def main(folder: Path) -> None:
    """Write the pictures, and print their names."""
    folder.mkdir(parents=True, exist_ok=True)
    with Lab() as lab, launched() as browser:
        report = lab.load(sample_files())
        write_plots(lab, folder)
        for name, shown in chain([("load-report", report)], objects(lab)):
            html = shown._repr_html_()
            for dark in (False, True):
                for width in WIDTHS:
                    path = folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"
                    with watched_page(browser, width=width) as watched:
                        watched.page.set_content(page_of(html, dark=dark))
                        watched.page.screenshot(path=path, full_page=True)
                    print(path)


def write_plots(lab: Lab, folder: Path) -> None:
    """Write the plots, in matplotlib's own style and in its dark one."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    events = lab.events()
    plots = {
        "timeseries": events.plot_timeseries,
        "durations": events.plot_durations,
        "session": events.plot_session,
        "hours": events.plot_hours,
    }
    for style, ground in (("default", "light"), ("dark_background", "dark")):
        for name, plot in plots.items():
            with plt.style.context(style):
                path = folder / f"plot-{name}-{ground}.png"
                figure = plot().figure
                figure.savefig(path, dpi=100)
                plt.close("all")
                print(path)


def write_readme_pictures(folder: Path) -> None:
    """Write the tail and the comparison as the README shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser:
        with Lab() as lab, watched_page(browser, width=860) as watched:
            lab.load(sample_files())
            for name, shown in (
                ("comparison", lab.compare(*_PROGRESS)),
                ("replays", lab.compare_replays()),
            ):
                watched.page.set_content(page_of(shown._repr_html_(), dark=False))
                watched.page.locator("body > *").last.screenshot(path=folder / f"{name}.png")
        with (
            tempfile.TemporaryDirectory() as name,
            background_portal() as served,
            PortalClient(served.url, served.api_key) as portal,
            jupyter_server(Path(name)) as jupyter,
        ):
            start = f"from mcpaudit_lab import *\nportal = PortalClient({served.url!r}, "
            cells = (f"{start}{served.api_key!r})", "portal.tail()")
            with open_notebook(browser, jupyter, "tail.ipynb", *cells, height=1400) as notebook:
                notebook.run(0)
                notebook.run(1)
                output = notebook.cell(1)
                output.get_by_text("live ·").first.wait_for()
                for tool, arguments in _CALLS:
                    portal.tryit(tool, arguments)
                rows = output.locator(".mcpaudit-tail tbody tr")
                output.get_by_text(f"{len(_CALLS)} received").first.wait_for()
                rows.filter(has_text="disk").first.locator("td.text").click()
                output.get_by_role("group", name="audit event, error, tool").wait_for()
                area = output.locator(".jp-OutputArea-output").first
                area.screenshot(path=folder / "tail.png")
            start = "from mcpaudit_lab import Lab\nfrom mcpaudit_lab.demo import sample_files\n"
            cells = (f"{start}lab = Lab()\nlab.load(sample_files())", "lab.events().show()")
            with open_notebook(browser, jupyter, "table.ipynb", *cells, height=1400) as notebook:
                notebook.run(0)
                notebook.run(1)
                output = notebook.cell(1)
                box = output.get_by_label("Filter duration ms")
                box.fill("> 0")
                box.press("Enter")
                output.get_by_role("button", name="duration_ms > 0").wait_for()
                empty = output.locator(".mcpaudit-table .chart:empty")
                empty.first.wait_for(state="detached")
                output.locator(".mcpaudit-table .row .time").get_by_text("2026").first.wait_for()
                area = output.locator(".jp-OutputArea-output").first
                area.screenshot(path=folder / "table.png")
    for picture in ("tail.png", "table.png", "comparison.png", "replays.png"):
        print(folder / picture, (folder / picture).stat().st_size)


# What the tail shows: calls with an answer, with progress, with a secret, and two that fail.
_CALLS: tuple[tuple[str, dict[str, object]], ...] = (
    ("echo", {"message": "hello", "extras": {"user": {"id": "alice"}}}),
    ("lorem", {"words": 12, "seed": "demo"}),
    ("progress", {"steps": 3, "step_ms": 20}),
    ("flaky", {"fail_rate": 1.0, "seed": "demo"}),
    ("echo", {"message": "let me in", "extras": {"password": "correct horse"}}),
    ("error", {"message": "the disk is on fire", "as_tool": True}),
)


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        write_readme_pictures(Path(__file__).with_name("pictures"))
    else:
        main(Path(sys.argv[1]) if sys.argv[1:] else Path("build") / "pictures")
