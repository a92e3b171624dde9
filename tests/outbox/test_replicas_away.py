"""A database that is away, or must not be trusted: nobody exits, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from app.errors import StoreBroken, StoreError
from app.outbox.postgres import schema
from app.outbox.postgres import store as stores
from app.outbox.postgres.link import DatabaseAway
from app.outbox.read import read_last_event
from app.outbox.store import Tx
from tests.needing import leave_out
from tests.outbox.conftest import Shop
from tests.outbox.postgres_outbox import Place, PostgresOutbox
from tests.outbox.postgres_server import Server, run_server, why_not


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that may be killed."""
    if (lack := why_not()) is not None:
        leave_out(lack)
    with run_server() as started:
        yield started


def list_events(tx: Tx) -> set[str]:
    return {row.id for row in tx.rows("SELECT id FROM events")}


async def add_until(shop: Any, acknowledged: list[str], refused: list[str], ended: asyncio.Event) -> None:
    while not ended.is_set():
        event = shop.event()
        try:
            await shop.store.add_event(event, [shop.delivery(event)])
        except StoreError:
            assert shop.store._writer.broken is None
            refused.append(event.id)
            await asyncio.sleep(0.02)
        else:
            acknowledged.append(event.id)


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.timeout(240)
async def test_a_server_killed_under_load_loses_nothing_and_ends_nobody(server: Server) -> None:
    store = PostgresOutbox(f"{server.url}?schema=killed")
    shop, ended = Shop(store), asyncio.Event()
    acknowledged: list[str] = []
    refused: list[str] = []
    sending = await shop.add()
    attempt = await shop.claim_one()
    adding = [asyncio.create_task(add_until(shop, acknowledged, refused, ended)) for _ in range(4)]
    await wait_until(lambda: len(acknowledged) > 50)
    await asyncio.to_thread(server.kill)
    await wait_until(lambda: len(refused) > 10)
    assert not await store.can_commit()
    with pytest.raises(DatabaseAway):
        await store.read(read_last_event)
    with pytest.raises(StoreError):
        await shop.accept(attempt)
    before = len(acknowledged)
    await asyncio.to_thread(server.start)
    await wait_until(lambda: len(acknowledged) > before + 50)
    ended.set()
    await asyncio.gather(*adding)
    assert set(acknowledged) <= await store.read(list_events)
    assert await shop.accept(attempt)  # what was in flight is recorded now
    assert (await shop.show(sending))[0] == "accepted"
    assert await store.can_commit()
    await store.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("is_checked", [True, False])
async def test_a_server_that_acknowledges_before_it_has_written_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, is_checked: bool
) -> None:
    """Unchecked it is the control: what it has acknowledged is gone when it is killed."""
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute("ALTER ROLE relay SET synchronous_commit = off")
        db.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        db.execute("SELECT pg_reload_conf()")
    try:
        if is_checked:
            with pytest.raises(StoreBroken, match=r"synchronous_commit is off.*ALTER ROLE"):
                PostgresOutbox(f"{server.url}?schema=careless")
            return
        monkeypatch.setattr(stores, "check_server", lambda _db: None)
        store = PostgresOutbox(f"{server.url}?schema=careless")
        shop = Shop(store)
        added = [await shop.add() for _ in range(20)]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await wait_until_back(store)
        assert set(await shop.list_ids()) < set(added)
        await store.close()
    finally:
        with psycopg.connect(server.url, autocommit=True) as db:
            db.execute("ALTER ROLE relay RESET synchronous_commit")
            db.execute("ALTER SYSTEM RESET wal_writer_delay")
            db.execute("SELECT pg_reload_conf()")


async def wait_until_back(store: PostgresOutbox) -> None:
    async with asyncio.timeout(60):
        while not await store.can_commit():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_its_files_is_refused_with_the_cure(
    postgres_place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Asked:
        def __init__(self, db: Any) -> None:
            self._db = db
            self.info = db.info

        def execute(self, sql: Any, *given: Any) -> Any:
            return self._db.execute("SELECT 'off'") if sql == f"SHOW {name}" else self._db.execute(sql, *given)

    whole = schema.check_server
    monkeypatch.setattr(stores, "check_server", lambda db: whole(Asked(db)))  # type: ignore[arg-type]
    with pytest.raises(StoreBroken, match=f"{name} is off.*set it to on"):
        PostgresOutbox(postgres_place.url)


def test_a_database_that_is_away_at_the_start_is_waited_for_and_then_named() -> None:
    url = "postgresql://relay:secret-password@127.0.0.1:1/relay?schema=acme"
    with pytest.raises(StoreBroken, match=r"postgresql://127.0.0.1:1/relay\?schema=acme: .*check RELAY_DATABASE_URL"):
        PostgresOutbox(url, patience_s=0)


def test_what_is_said_of_a_database_holds_no_password() -> None:
    url = "postgresql://relay:secret-password@127.0.0.1:1/relay"
    with pytest.raises(StoreBroken) as raised:
        PostgresOutbox(url, patience_s=0)
    assert "secret-password" not in str(raised.value)


async def test_a_schema_of_somebody_elses_tables_is_left_alone(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute("CREATE SCHEMA theirs")
        db.execute("CREATE TABLE theirs.events (id int)")
    with pytest.raises(StoreBroken, match=r"schema theirs has tables of somebody else.*\?schema="):
        PostgresOutbox(f"{server.url}?schema=theirs")


async def test_two_relays_share_a_database_and_see_nothing_of_each_other(server: Server) -> None:
    one, other = (PostgresOutbox(f"{server.url}?schema={name}") for name in ("shop_a", "shop_b"))
    await Shop(one).add()
    assert len(await Shop(one).list_ids()) == 1
    assert await Shop(other).list_ids() == []
    assert await Shop(other).claim() == []
    await one.close()
    await other.close()


async def test_a_standby_that_is_not_synchronous_is_warned_of() -> None:
    class Replicated:
        def __init__(self, names: str, standbys: int) -> None:
            self._row = (names, standbys)

        def execute(self, _sql: str) -> Any:
            return self

        def fetchone(self) -> tuple[str, int]:
            return self._row

    assert [bool(schema.list_doubts(Replicated(*given))) for given in [("", 0), ("", 1), ("a", 1)]] == [  # type: ignore[arg-type]
        False, True, False,
    ]  # fmt: skip
