"""Neither the package nor the command line loads what only some of their users need."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each of them takes a tenth of a second or more; asyncio and ssl come with several.
HEAVY = (
    *("anyio", "anywidget", "asyncio", "duckdb", "httpx2", "IPython", "ipywidgets", "jsonschema"),
    *("matplotlib", "mcp", "numpy", "pandas", "pyarrow", "pydantic", "rich", "sqlalchemy", "ssl"),
    *("sseclient", "stamina", "starlette", "tqdm", "uvicorn"),
)


@pytest.mark.parametrize(
    "code",
    [
        "import mcpaudit_lab",
        "from mcpaudit_lab.cli import commands; commands(['--help'], standalone_mode=False)",
        "from mcpaudit_lab.cli import commands; commands(['replay', '-h'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    code = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(done.stderr.split())
    assert "mcpaudit_lab" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))
