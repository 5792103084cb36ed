"""Pictures of every object as a notebook shows it: light and dark, 600, 1000 and 1600 pixels wide.

    python docs/pictures.py [FOLDER]
    python docs/pictures.py --readme

They go to ``build/pictures`` unless told otherwise, which git ignores: look at them after a change
of how something looks. What they show is the sample that comes with the package. The second form
makes those that the README and the pages show, in ``docs/pictures``: the tail in JupyterLab at a
portal that is called meanwhile, a table of events, a comparison, and all replays compared.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import chain
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from browser import launched, watched_page
from jupyter_pages import jupyter_server, open_notebook
from shown_views import PROGRESS, objects, page_of

from mcpaudit_lab import Lab, PortalClient
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import background_portal

WIDTHS = (600, 1000, 1600)


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
                ("comparison", lab.compare(*PROGRESS)),
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
