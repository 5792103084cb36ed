"""Which cases of a long list the short run leaves to .ci/run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

__all__ = ["EDITS", "each_third"]

# How many random edits a soak makes. More are made by hand: MCPAUDIT_EDITS=1000 pytest -m soak.
EDITS: Final = int(os.environ.get("MCPAUDIT_EDITS", "300"))


def each_third(cases: Iterable[Any]) -> list[ParameterSet]:
    """The cases as parameters; the short run has the first and each third after it."""
    return [
        pytest.param(case, marks=[pytest.mark.soak] if number % 3 else [])
        for number, case in enumerate(cases)
    ]
