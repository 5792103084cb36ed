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

# The table of rooms, in order: a room imports only rooms above it.
ROOMS = re.findall(
    r"^\| `([a-z.]+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE
)
# The standard library and nothing else.
PLAIN = {"errors", "record", "filters", "comparison"}
# Imported when a condition is read.
GRAMMAR = ("filters/where.py", "lark")
# The one module that imports a room by its name as text, so that values can show themselves.
HOOK = "record/views.py"
# Heavy libraries and the rooms that may import them.
LIBRARIES = {
    "lark": {"filters"},
    "polars": {"storage"},
    "duckdb": {"storage", "storage.load", "lab", "replay", "portal.pull"},
    "pandas": {"storage", "storage.load", "lab", "portal.http", "portal.tail", "replay", "display"},
    "sqlalchemy": {"tables", "storage.load", "server.stores", "server.auth"},
    "platformdirs": {"cli", "server.stores"},
    "cryptography": {"proof"},
    "pyarrow": {"storage", "storage.load", "lab"},
    "rich": {"display", "demo", "cli", "tui"},
    "textual": {"tui"},
    "click": {"cli"},
    "anyio": {
        *(
            "assistant",
            "replay",
            "recorder",
            "server",
            "server.audit",
            "server.auth",
            "server.http",
        ),
        "server.tools",
    },
    "anywidget": {"display.tail", "display.table"},
    "httpx2": {"portal.http", "portal.stream", "replay", "server.auth", "recorder", "demo"},
    "ipywidgets": {"display.tail"},
    "IPython": {"portal.tail"},
    "jsonschema": {"calls"},
    "jwt": {"server.auth"},
    "matplotlib": {"display"},
    "mcp": {"replay", "server", "server.audit", "server.http", "server.tools", "demo", "assistant"},
    "mcp_types": {"assistant", "replay", "server.audit", "server.http", "server.tools"},
    "sseclient": {"portal.stream"},
    "stamina": {"portal.http", "server.stores"},
    "starlette": {"server", "server.http", "recorder"},
    "uvicorn": {"server", "recorder"},
    "yaml": {"formats"},
}
# Imported at the top of a module: only what costs next to nothing.
LIGHT = {"click"}
# Imported when one of their names is used, never by the door of a room.
HEAVY_ROOMS = {
    *("server", "server.audit", "server.auth", "server.http", "server.stores", "server.tools"),
    *("display.tail", "display.table"),
}
HEAVY = {
    "assistant/serving.py",
    "assistant/tools.py",
    "display/terminal_cards.py",
    "display/terminal_tables.py",
    "lab/sandbox_process.py",  # the program of another process
    "recorder/http.py",
    "recorder/serving.py",
    "replay/mcp_calls.py",  # McpTarget imports these two when it is opened
    "replay/mcp_wire.py",
    "tables/sqlalchemy_tables.py",
    "tui/app.py",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder of a module, or the module where it lies at the top; empty for the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1]) or parts[0].removeprefix("__init__")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path) -> list[tuple[str, bool, bool, tuple[str, ...]]]:
    """What a module imports: (module, at the top, for type checkers only, names from it)."""
    found: list[tuple[str, bool, bool, tuple[str, ...]]] = []

    def walk(node: ast.AST, top: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, typing, ()) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path} has a relative import"
                names = tuple(alias.name for alias in child.names)
                found.append((child.module or "", top, typing, names))
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            walk(child, top and not inside, typing or checking)

    walk(ast.parse(path.read_text()), top=True, typing=False)
    return found


def graph() -> dict[str, set[str]]:
    """Which module imports which, inside functions and for type checkers too."""
    names = {name_of(path) for path in modules()}
    found: dict[str, set[str]] = {}
    for path in modules():
        mine = found.setdefault(name_of(path), set())
        for name, _, _, members in imports(path):
            # ``from room import module`` imports the module, ``from room import name`` the room.
            parts = {f"{name}.{member}" for member in members} & names
            mine |= parts or ({name} & names)
    return found


def find_circle(edges: dict[str, set[str]]) -> list[str]:
    """The names along one circle of a graph; nothing where there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            if circle := walk(other, [*way, name]):
                return circle
        done.add(name)
        return []

    for name in sorted(edges):
        if circle := walk(name, []):
            return circle
    return []


def test_a_circle_is_found() -> None:
    assert find_circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    circle = find_circle(graph())
    assert not circle, "a circle of imports: " + " -> ".join(circle)


def test_the_table_has_every_room_and_nothing_else() -> None:
    rooms = {room_of(path) for path in modules()} - {""}
    assert set(ROOMS) == rooms
    assert len(ROOMS) == len(rooms)
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "errors.py", "py.typed"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it_and_from_their_doors(path: Path) -> None:
    room = room_of(path)
    for name, _, _, members in imports(path):
        if not name.startswith("mcpaudit_lab.") or not room:
            continue
        imported = name.removeprefix("mcpaudit_lab.")
        if imported in ROOMS:
            # The room itself, or one of its modules by name.
            file = PACKAGE / imported.replace(".", "/")
            inner = [m for m in members if (file / f"{m}.py").exists()]
            assert imported == room or not inner or imported == "errors", f"{path}: {inner}"
        else:
            imported = imported.rpartition(".")[0]
            # Helpers of every __init__: they must not import the rest of the record.
            helper = name in ("mcpaudit_lab.record.lazy", "mcpaudit_lab.record.version")
            own_part = path.name == "__init__.py" and imported.startswith(room)
            assert imported == room or helper or own_part, f"{path} reaches into {imported}: {name}"
            if helper:
                continue
        if imported != room:
            assert ROOMS.index(imported) < ROOMS.index(room), f"{path} imports {name}"


def test_only_the_hook_imports_by_a_name_that_is_text() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if "import_module" in path.read_text()
    }
    assert users == {HOOK, "record/lazy.py", "display/__init__.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_in_their_rooms_and_load_when_used(path: Path) -> None:
    room = room_of(path)
    for name, top, typing, _ in imports(path):
        library = name.split(".")[0]
        if (
            typing
            or library in sys.stdlib_module_names
            or library in ("mcpaudit_lab", "__future__")
        ):
            continue
        plain = room in PLAIN and (path.relative_to(PACKAGE).as_posix(), library) != GRAMMAR
        assert not plain, f"{path} is of a plain room and imports {name}"
        if library in LIBRARIES:
            assert room in LIBRARIES[library], f"{library} in {path}"
        alone = room in HEAVY_ROOMS or path.relative_to(PACKAGE).as_posix() in HEAVY
        assert not top or library in LIGHT or alone, f"{path} imports {name} when it is imported"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_public_names_are_sorted_and_are_there() -> None:
    names = mcpaudit_lab.__all__
    assert names == sorted(names)
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
    rooms = ", ".join(f"mcpaudit_lab.{name}" for name in sorted(PLAIN))
    code = f"import sys; import {rooms}; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"lark", "duckdb", "pandas", "numpy", "pyarrow", "sqlalchemy", "rich", "click", "tqdm"}
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


def test_every_file_that_the_guides_name_is_there() -> None:
    for guide in ("CONTRIBUTING.md", "docs/architecture.md"):
        text = (ROOT / guide).read_text(encoding="utf-8")
        named = re.findall(r"`((?:mcpaudit_lab|tests|docs|benchmarks)/[\w/.-]+)`", text)
        missing = [name for name in named if not (ROOT / name).exists()]
        assert not missing, f"{guide} names {missing}"


def test_the_walks_name_files_and_functions_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walks = page.partition("## Three walks")[2].partition("## Decisions")[0].split("\n\n**")
    assert len(walks) == 4
    for walk in walks[1:]:
        steps = re.findall(r"^\d\. `([\w/]+\.py)`, `([\w.]+)`", walk, re.MULTILINE)
        assert 3 <= len(steps) <= 6
        assert len(steps) == len(re.findall(r"^\d\. ", walk, re.MULTILINE))
        for file, name in steps:
            tree: ast.AST = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            for part in name.split("."):
                found = [
                    node
                    for node in ast.iter_child_nodes(tree)
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                    and node.name == part
                ]
                assert found, f"{file} has no {name}"
                tree = found[0]
