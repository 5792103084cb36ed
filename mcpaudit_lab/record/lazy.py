"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, files: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose parts are heavy to import.

    Args:
        package: the package's name, ``__name__``.
        files: the names that each of its modules has.
    """
    file_of = {name: file for file, names in files.items() for name in names}

    def get(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in file_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{file_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        """The package's names, imported or not."""
        return sorted({*vars(sys.modules[package]), *file_of})

    return get, names
