"""The house rules that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mcpaudit_lab

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcpaudit_lab"

# A room imports only rooms above it. One line is one room.
ROOMS = [
    "errors",
    "jsontext",
    "terminal",
    "fields",
    "events",
    "redaction",
    "sanitize",
    "wiretext",
    "captured",
    "filter_times",
    "filter_values",
    "filter_query",
    "filters",
    "jsonpaths",
    "jsonequal",
    "jsondigest",
    "jsonalign",
    "textdiff",
    "jsonchange",
    "jsondiff",
    "sections",
    "comparison",
    "ratelimit",
    "sql",
    "frames",
    "formats",
    "lab",
    "client",
    "replay",
    "tables",
    "cards",
    "widgets",
    "server",
    "recorder",
    "demo",
    "cli",
]
# The record: the standard library and nothing else.
RECORD = ROOMS[: ROOMS.index("sql")]
# Doors to a lower room, which a function may open: (module, imported room).
DOORS: set[tuple[str, str]] = {
    ("events.py", "widgets"),  # Event._repr_html_
    ("comparison.py", "widgets"),  # Comparison._repr_html_
    ("lab/report.py", "widgets"),  # LoadReport._repr_html_
    ("lab/event_set.py", "widgets"),  # EventSet._repr_html_ and its plots
    ("lab/workbench.py", "client"),  # Lab.pull
    ("lab/workbench.py", "replay"),  # Lab.plan_replay
    ("lab/workbench.py", "widgets"),  # Lab.overview
    ("client/portal.py", "replay"),  # PortalClient.replay
    ("client/portal.py", "widgets"),  # PortalClient.tail
    ("replay/plan.py", "widgets"),  # ReplayPlan._repr_html_
    ("replay/run.py", "widgets"),  # ReplayRun._repr_html_
}
# Heavy libraries and the rooms that may import them.
LIBRARIES = {
    "duckdb": {"sql", "lab"},
    "pandas": {"frames", "lab", "client", "replay", "widgets"},
    "sqlalchemy": {"sql", "lab", "server"},
    "platformdirs": {"cli"},
    "pyarrow": {"frames", "lab"},
    "rich": {"tables", "cards", "demo", "cli"},
    "click": {"cli"},
    "anyio": {"client", "replay", "server", "recorder"},
    "anywidget": {"widgets"},
    "httpx2": {"client", "replay", "server", "recorder", "demo"},
    "ipywidgets": {"widgets"},
    "IPython": {"widgets", "client"},
    "jsonschema": {"replay"},
    "jwt": {"server"},
    "matplotlib": {"widgets"},
    "mcp": {"replay", "server", "demo"},
    "mcp_types": {"replay", "server"},
    "sseclient": {"client"},
    "stamina": {"client"},
    "traitlets": {"widgets"},
    "starlette": {"server", "recorder"},
    "uvicorn": {"server", "recorder"},
}
# Imported at the top of a module: only what costs next to nothing.
LIGHT = {"click"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, bool, bool]]:
    """What a module imports: (name, at the top, for type checkers only)."""
    found: list[tuple[str, bool, bool]] = []

    def walk(node: ast.AST, top: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path} has a relative import"
                if child.module == "mcpaudit_lab":
                    found.extend((f"mcpaudit_lab.{a.name}", top, typing) for a in child.names)
                else:
                    found.append((child.module or "", top, typing))
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            walk(child, top and not inside, typing or checking)

    walk(ast.parse(path.read_text()), top=True, typing=False)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"{room} is not in the list of rooms"
    for name, top, typing in imports(path):
        if not name.startswith("mcpaudit_lab.") or typing:
            continue
        imported = name.split(".")[1]
        if imported == room or imported.startswith("__"):
            continue
        assert imported in ROOMS, f"{path.name} imports {name}"
        door = (path.relative_to(PACKAGE).as_posix(), imported) in DOORS
        if not door or top:
            assert ROOMS.index(imported) < ROOMS.index(room), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_rooms_and_load_when_used(path: Path) -> None:
    room = room_of(path)
    for name, top, typing in imports(path):
        library = name.split(".")[0]
        if (
            typing
            or library in sys.stdlib_module_names
            or library in ("mcpaudit_lab", "__future__")
        ):
            continue
        assert room not in RECORD, f"{path.name} is of the record and imports {name}"
        if library in LIBRARIES:
            assert room in LIBRARIES[library], f"{library} in {path}"
        # Some modules are imported by nobody but those who need the library.
        alone = path.name in ("portal_tables.py", "sandbox_process.py", "tables.py", "cards.py")
        # A widget's class can only be made with its library.
        alone = alone or path.name in ("tail_panel.py", "tail_table.py", "tail_view.py")
        # These two stand behind McpTarget, which imports them when it is opened.
        alone = alone or path.name in ("mcp_calls.py", "mcp_wire.py")
        # The server's rooms are imported when one of its names is used.
        alone = alone or room == "server"
        # The recorder's two for HTTP are imported by its command when it is given a URL.
        alone = alone or path.parts[-2:] in (("recorder", "http.py"), ("recorder", "serving.py"))
        assert not top or library in LIGHT or alone, f"{path} imports {name} when it is imported"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_public_names_are_sorted_and_are_there() -> None:
    names = mcpaudit_lab.__all__
    assert names == sorted(names)
    assert set(names) == set(mcpaudit_lab._ROOM_OF)
    for name in names:
        assert getattr(mcpaudit_lab, name) is not None
        assert name in dir(mcpaudit_lab)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mcpaudit_lab.nonsense


def test_a_public_name_is_not_that_of_a_module() -> None:
    assert not set(mcpaudit_lab.__all__) & {path.stem for path in PACKAGE.iterdir()}
    code = (
        "import mcpaudit_lab.comparison; from mcpaudit_lab import compare; assert callable(compare)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_is_cheap_and_does_nothing() -> None:
    code = (
        "import sys, logging, warnings; before = set(sys.modules);"
        "handlers = logging.root.handlers[:];"
        "filters = warnings.filters[:]; import mcpaudit_lab;"
        "assert logging.root.handlers == handlers and warnings.filters == filters;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert loaded <= {"mcpaudit_lab"} | set(sys.stdlib_module_names), loaded


def test_the_record_imports_nothing_heavy() -> None:
    rooms = ", ".join(
        f"mcpaudit_lab.{room}" for room in RECORD if (PACKAGE / f"{room}.py").exists()
    )
    code = f"import sys; import {rooms}; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"duckdb", "pandas", "numpy", "pyarrow", "sqlalchemy", "rich", "click", "tqdm"}
    assert not heavy & set(done.stdout.split())


def test_every_error_is_in_the_tree_that_the_docstring_draws() -> None:
    from mcpaudit_lab import errors

    drawn = set(re.findall(r"(?:── |^ {4})(\w+)", errors.__doc__ or "", re.MULTILINE))
    classes = {
        n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)
    }
    assert drawn == classes
    assert all(issubclass(getattr(errors, name), errors.McpAuditError) for name in classes)


def test_what_is_not_checked_says_why() -> None:
    silent = re.compile(
        r"# (?:no" + r"qa: [A-Z0-9, ]+|type: ig" + r"nore\[[a-z, -]+\]|pragma: no " + r"cover"
        r"|fmt: \w+)\s*$"
        r"|(?:\.skip|import" + r'orskip)\((?:"\w+")?\)'
    )
    for folder in ("mcpaudit_lab", "tests", "docs", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
                assert not silent.search(line), f"{path}:{number} gives no reason"


def test_nothing_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("git lists the files to look at, and this is no checkout")
    hosts = "|".join(["pypi" + r"\.org", "python" + r"hosted\.org", "registry\\.npm" + "js"])
    wrong = re.compile(rf"{hosts}|/wo" + r"rk/|/tm" + r"p/[a-z]+/")
    for name in listed.stdout.split("\n"):
        path = ROOT / name
        if path.is_file() and path.suffix in (".py", ".md", ".toml", ".ipynb", ".sh", ""):
            found = wrong.search(path.read_text(errors="replace"))
            assert found is None, f"{name}: {found}"
