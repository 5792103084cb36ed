"""Notebooks are committed as they are written: no outputs, nothing of the machine they ran on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path: Path, kind: str) -> list[str]:
    return ["".join(c["source"]) for c in read(path)["cells"] if c["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    assert "tour" in [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs(path: Path) -> None:
    notebook = read(path)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}


# Notebooks that show: what they assert stands in cells that neither a reader nor the site sees.
TELLING = ("incident", "sql", "tour")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asserts_and_tells(path: Path) -> None:
    code, told = sources(path, "code"), sources(path, "markdown")
    asserting = sum("assert " in source for source in code)
    assert asserting * (3 if path.stem in TELLING else 2) >= len(code)
    assert len(told) >= 5
    assert not re.search(r"/home/|/root/|/tmp/|C:\\", "".join(code + told))


@pytest.mark.parametrize("name", TELLING)
def test_what_a_telling_notebook_asserts_is_hidden(name: str) -> None:
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    for cell in read(path)["cells"]:
        is_hidden = "remove-cell" in cell["metadata"].get("tags", ())
        if cell["cell_type"] == "code":
            assert is_hidden == ("assert " in "".join(cell["source"])), cell["id"]
            assert is_hidden == cell["metadata"].get("jupyter", {}).get("source_hidden", False)
