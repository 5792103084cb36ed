"""Every block of the documentation runs, and no public name is missing from it."""

from __future__ import annotations

import contextlib
import re
import shutil
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import Block, Page, read_blocks
from sqlalchemy import Connection, MetaData, create_engine

import mcpaudit_lab
from mcpaudit_lab import EventFilter, Lab, RejectReason
from mcpaudit_lab.cli import commands
from mcpaudit_lab.filters.event_filter import HAS_COLUMNS, TEXT_FIELDS
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS
from mcpaudit_lab.server import background_portal
from mcpaudit_lab.storage.aggregates import BREAKDOWN_COLUMNS
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

ROOT = Path(__file__).parents[1]
UPSTREAM = ROOT / "tests" / "data" / "upstream"
# The page on speed is measured, not run: its commands take minutes.
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "performance.md")
# Pages for which a portal is served, as the environment says: it is not for them to start one.
PORTAL_PAGES = {
    *("guard-releases.md", "live-stream.md", "portal-client.md"),
    *("pull.md", "replay.md", "watch.md"),
}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_block_of_a_page_runs_and_prints_what_the_page_shows(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Page(path, skipped=("sql", "sql postgresql", "sql duckdb"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(tmp_path))
        if path.name == "http-api.md":
            if shutil.which("curl") is None:
                pytest.skip("the page's examples need curl: apt-get install curl")
            portal = stack.enter_context(background_portal())
            here.environment |= {"URL": portal.url, "KEY": portal.api_key}
        if path.name in PORTAL_PAGES:
            portal = stack.enter_context(background_portal())
            monkeypatch.setenv("MCPAUDIT_URL", portal.url)
            monkeypatch.setenv("MCPAUDIT_API_KEY", portal.api_key)
            monkeypatch.setenv("TARGET", "")  # which a page sets
        if path.name == "postgresql.md":
            database = request.getfixturevalue("postgres_database")
            monkeypatch.setenv("MCPAUDIT_DATABASE_URL", database)
        here.run()


# SQL


@pytest.fixture(scope="module")
def portal(postgres_module_database: str) -> Iterator[Connection]:
    """The recorded rows in PostgreSQL."""
    engine = create_engine(postgres_module_database, **ENGINE_OPTIONS)
    metadata = MetaData()
    portal_tables(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name in ("audit_events", "audit_payloads"):
            statements = (UPSTREAM / "pg" / f"{name}.sql").read_text(encoding="utf-8")
            connection.exec_driver_sql(statements.replace("%", "%%"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def lab(portal: Connection) -> Iterator[Lab]:
    """The same rows in a lab."""
    with Lab() as lab:
        lab.load_database(portal.engine.url.render_as_string(hide_password=False))
        yield lab


SQL_BLOCKS = [block for block in read_blocks(ROOT / "docs" / "sql.md") if "sql" in block.info]


def rows_of(statement: str, portal: Connection | Lab) -> list[tuple[Any, ...]]:
    if isinstance(portal, Lab):
        rows = portal.sql(statement).fetchall()
    else:
        rows = list(map(tuple, portal.exec_driver_sql(statement.replace("%", "%%"))))
    return [tuple(_comparable(value) for value in row) for row in rows]


def _comparable(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@pytest.mark.parametrize(
    "block",
    [block for block in SQL_BLOCKS if block.info == "sql"],
    ids=lambda block: f"line {block.line}",
)
def test_a_recipe_gives_the_same_rows_on_postgresql_and_the_lab(
    block: Block, portal: Connection, lab: Lab
) -> None:
    rows = rows_of(block.text, lab)
    assert rows
    assert rows == rows_of(block.text, portal)


OTHERWISE = [block for block in SQL_BLOCKS if block.info != "sql"]


@pytest.mark.parametrize("number", range(0, len(OTHERWISE), 2))
def test_what_duckdb_says_otherwise_gives_the_same_rows(
    number: int, portal: Connection, lab: Lab
) -> None:
    theirs, ours = OTHERWISE[number : number + 2]
    assert (theirs.info, ours.info) == ("sql postgresql", "sql duckdb")
    rows = rows_of(ours.text, lab)
    assert rows
    assert rows == rows_of(theirs.text, portal)
    with pytest.raises(Exception, match=r"(Error|error)"):
        lab.sql(theirs.text)


# Nothing is left out


def test_every_public_name_is_in_the_documentation() -> None:
    # In the tables of names: `compare` is a command elsewhere, and an event a word of any sentence.
    text = page("index.md") + page("portal-client.md")
    assert [name for name in mcpaudit_lab.__all__ if f"`{name}`" not in text] == []


def test_every_filter_is_on_its_page() -> None:
    text = page("filters.md")
    names = [name for name in signature(EventFilter.__init__).parameters if name != "self"]
    names = [*names, *TEXT_FIELDS, *HAS_COLUMNS, "from"]
    names.remove("dotted")  # which stands for these
    # As a whole: `tool` is not there because `tool_name` is.
    missing = [name for name in names if not re.search(rf"`{name}(?!\w)", text)]
    missing += [name for name in ("param.", "response.", "header.") if f"`{name}" not in text]
    assert missing == []


def test_every_reason_of_rejection_is_on_its_page() -> None:
    assert [reason for reason in RejectReason if f"`{reason}`" not in page("loading.md")] == []


def test_every_member_of_the_record_is_on_its_page() -> None:
    text = page("record.md")
    names = [field.name for field in (*EVENT_FIELDS, *PAYLOAD_FIELDS)]
    names += [field.column for field in (*EVENT_FIELDS, *PAYLOAD_FIELDS)]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_command_and_option_is_on_its_page() -> None:
    text = page("cli.md")
    assert [name for name in commands.commands if f"`{name}`" not in text] == []
    parameters = [item for command in commands.commands.values() for item in command.params]
    options = {option for item in parameters for option in (*item.opts, *item.secondary_opts)}
    options = {option for option in options if option.startswith("--")}
    assert [option for option in sorted(options) if not re.search(rf"{option}\b", text)] == []


def test_every_breakdown_is_in_the_documentation() -> None:
    assert [name for name in BREAKDOWN_COLUMNS if f"`{name}`" not in page("cli.md")] == []


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"]
    wanted += extras["postgres"] + extras["notebook"] + extras["docs"]
    names = [re.split(r"[\[<>=~ ]", requirement)[0] for requirement in wanted]
    text = page("dependencies.md").lower()
    assert [name for name in names if name.lower() not in text] == []


def test_every_link_leads_somewhere() -> None:
    for path in (*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not re.match(r"https?:|mailto:", target):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    text = page("index.md")
    assert [path.name for path in PAGES if path.stem != "index" and path.name not in text] == []
