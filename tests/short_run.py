"""Which cases of a long list the short run leaves to .ci/run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

__all__ = ["alternate"]


def alternate(cases: Iterable[Any]) -> list[ParameterSet]:
    """The cases as parameters; every second one is a soak."""
    return [
        pytest.param(case, marks=[pytest.mark.soak] if number % 2 else [])
        for number, case in enumerate(cases)
    ]
