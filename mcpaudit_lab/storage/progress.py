"""Progress bars for work that takes a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress_bar"]

# Work that ends sooner shows no bar.
_DELAY_S = 0.5


@contextmanager
def progress_bar(
    show: bool | None, *, total: int | None, unit: str, label: str
) -> Iterator[Callable[[int], object]]:
    """A bar, as a function to call with how much more is done.

    Args:
        show: True or False; None shows it in a notebook and on a terminal.
        total: the amount of work, if known.
        unit: the unit of work; ``B`` is scaled to MB and GB.
        label: the name of the work.
    """
    if show is None:
        show = _in_notebook() or sys.stderr.isatty()
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    options: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1000} if unit == "B" else {}
    with tqdm(total=total, unit=unit, desc=label, delay=_DELAY_S, **options) as bar:
        yield bar.update


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config
