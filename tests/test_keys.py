"""Minted keys in a store, and the keys a portal is started with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from sqlalchemy import create_engine, text

from mcpaudit_lab.errors import KeyNameTaken
from mcpaudit_lab.server.auth.api_keys import ENVIRONMENT, ApiKeys, parse_keys
from mcpaudit_lab.server.auth.authentication import Access, Authenticator, Denial
from mcpaudit_lab.server.auth.minted_keys import MemoryKeyStore, SqlKeyStore, looks_minted, mint_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcpaudit_lab.server.auth.minted_keys import KeyStore

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    engine = create_engine(url)
    yield SqlKeyStore(engine)
    engine.dispose()


def header(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-api-key", key.encode())]


async def test_a_minted_key_lets_its_holder_in_and_mints_nothing(store: KeyStore) -> None:
    auth = Authenticator(ApiKeys({"dev": "k"}), store)
    minted, key = await auth.mint("ci", "for tests", "apikey:dev", None)
    assert looks_minted(key.encode())
    access = await auth.authenticate(header(key))
    assert isinstance(access, Access)
    assert (access.identity.subject, access.identity.api_key_name) == ("apikey:ci", "ci")
    assert not access.may_mint
    bearer = [(b"authorization", f"Bearer {key}".encode())]
    assert await auth.authenticate(bearer) == access
    static = await auth.authenticate(header("k"))
    assert isinstance(static, Access)
    assert static.may_mint
    (listed,) = await auth.list_minted()
    assert listed.last_used_at is not None
    assert replace(listed, last_used_at=None) == minted
    assert set(listed.to_wire()) == {
        "id", "name", "description", "created_by", "created_at", "last_used_at",
    }  # fmt: skip  # reads better as a list than as a column


async def test_neither_the_key_nor_its_hash_is_shown(store: KeyStore) -> None:
    auth = Authenticator(ApiKeys({"dev": "throwaway"}), store)
    minted, key = await auth.mint("ci", "", "apikey:dev", None)
    access = await auth.authenticate(header(key))
    shown = f"{minted!r} {minted.to_wire()} {access!r} {auth.keys!r} {await auth.list_minted()}"
    for secret in (key, key[3:], minted.digest.hex(), repr(minted.digest), "throwaway"):
        assert secret not in shown


async def test_the_database_has_no_key_in_it(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'keys.db'}")
    auth = Authenticator(ApiKeys({}), SqlKeyStore(engine))
    _, key = await auth.mint("ci", "", "apikey:dev", None)
    with engine.connect() as connection:
        row: Any = connection.execute(text("select * from mcpaudit_keys")).one()
    engine.dispose()
    assert key not in str(row)
    assert key.encode() not in (tmp_path / "keys.db").read_bytes()


async def test_a_revoked_key_is_wrong_at_once_and_for_its_open_streams(store: KeyStore) -> None:
    auth = Authenticator(ApiKeys({}), store, recheck_s=3600)
    _, key = await auth.mint("ci", "", "apikey:dev", None)
    _, other = await auth.mint("other", "", "apikey:dev", None)
    access = await auth.authenticate(header(key))
    kept = await auth.authenticate(header(other))
    assert isinstance(access, Access)
    assert isinstance(kept, Access)
    ended = anyio.Event()

    async def watch() -> None:
        await auth.wait_until_invalid(access)
        ended.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(auth.wait_until_invalid, kept)
            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            assert await auth.revoke("ci")
            await ended.wait()
            group.cancel_scope.cancel()
    assert await auth.authenticate(header(key)) is Denial.INVALID
    assert isinstance(await auth.authenticate(header(other)), Access)
    assert not await auth.revoke("ci")


async def test_a_key_that_another_portal_revoked_lives_for_the_recheck_only(
    store: KeyStore,
) -> None:
    clock = Clock()
    here, there = (Authenticator(ApiKeys({}), store, now=clock, recheck_s=2) for _ in range(2))
    _, key = await there.mint("ci", "", "apikey:dev", None)
    access = await here.authenticate(header(key))
    assert isinstance(access, Access)
    await there.revoke("ci")
    assert isinstance(await here.authenticate(header(key)), Access)
    clock.now += timedelta(seconds=2)
    assert await here.authenticate(header(key)) is Denial.INVALID
    with anyio.fail_after(5):
        await here.wait_until_invalid(access)


async def test_a_key_ends_when_it_expires(store: KeyStore) -> None:
    clock = Clock()
    auth = Authenticator(ApiKeys({}), store, now=clock)
    end = clock.now + timedelta(hours=1)
    minted, key = await auth.mint("ci", "", "apikey:dev", end)
    access = await auth.authenticate(header(key))
    assert isinstance(access, Access)
    assert minted.to_wire()["expires_at"] == "2026-11-24T04:00:00Z"
    clock.now = end - timedelta(microseconds=1)
    assert isinstance(await auth.authenticate(header(key)), Access)
    clock.now = end
    assert await auth.authenticate(header(key)) is Denial.INVALID
    with anyio.fail_after(5):
        await auth.wait_until_invalid(access)


async def test_two_keys_do_not_share_a_name(store: KeyStore) -> None:
    auth = Authenticator(ApiKeys({"dev": "k"}), store)
    await auth.mint("ci", "", "apikey:dev", None)
    for name in ("ci", "dev"):
        with pytest.raises(KeyNameTaken, match=name):
            await auth.mint(name, "", "apikey:dev", None)


async def test_keys_are_listed_newest_first(store: KeyStore) -> None:
    clock = Clock()
    auth = Authenticator(ApiKeys({}), store, now=clock)
    for name in ("b", "a", "c"):
        await auth.mint(name, "", "apikey:dev", None)
        clock.now += timedelta(seconds=1)
    assert [key.name for key in await auth.list_minted()] == ["c", "a", "b"]


class CountingStore(MemoryKeyStore):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0
        self.touched = 0

    async def find(self, digest: bytes) -> Any:
        self.found += 1
        return await super().find(digest)

    async def touch(self, used: Any) -> None:
        self.touched += 1
        await super().touch(used)


async def test_the_store_is_not_asked_for_every_call() -> None:
    store, clock = CountingStore(), Clock()
    auth = Authenticator(ApiKeys({}), store, now=clock, recheck_s=2)
    _, key = await auth.mint("ci", "", "apikey:dev", None)
    for _ in range(100):
        assert isinstance(await auth.authenticate(header(key)), Access)
        clock.now += timedelta(seconds=0.1)
    assert store.found <= 7
    assert store.touched == 1
    for wrong in ("nope", "mt_short", "x" * 46, "mt_" + "é" * 43):
        assert await auth.authenticate(header(wrong)) is Denial.INVALID
    assert store.found <= 7, "what cannot be a minted key is not looked for"


async def test_a_use_that_cannot_be_stored_lets_the_holder_in() -> None:
    class Broken(MemoryKeyStore):
        async def touch(self, used: Any) -> None:
            del used
            raise OSError("read-only")

    auth = Authenticator(ApiKeys({}), Broken())
    _, key = await auth.mint("ci", "", "apikey:dev", None)
    assert isinstance(await auth.authenticate(header(key)), Access)


async def test_keys_differ() -> None:
    assert len({mint_key() for _ in range(100)}) == 100


def test_keys_come_from_options_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\n dev-local = upstream-dev-key \nci=a=b==\n", encoding="utf-8")
    keys = ApiKeys.collect(
        {"option": "o"}, file=file, environ={ENVIRONMENT: "env=e,more=m\nlast=l"}
    )
    assert keys.names == ("option", "env", "more", "last", "dev-local", "ci")
    assert keys.name_of(b"upstream-dev-key") == "dev-local"
    assert keys.name_of(b"a=b==") == "ci"
    assert keys.name_of(b"upstream-dev-ke") is None
    assert keys.name_of(b"") is None
    assert "ci" in keys
    assert len(keys) == 6


def test_faulty_lines_are_told_without_what_is_in_them() -> None:
    for line in ("justakey", "name=", "=s3cret"):
        with pytest.raises(ValueError, match=r"^f, line 2: not of the form NAME=KEY$"):
            parse_keys(["a=b", line], "f")
    with pytest.raises(ValueError, match=r"^f, line 2: duplicate name$"):
        parse_keys(["a=b", "a=c"], "f")
    with pytest.raises(ValueError, match="'a' has two different keys"):
        ApiKeys.collect({"a": "1"}, environ={ENVIRONMENT: "a=2"})
    with pytest.raises(ValueError, match="are equal"):
        ApiKeys({"a": "1", "b": "1"})
    with pytest.raises(ValueError, match="neither empty"):
        ApiKeys({"a": ""})
