"""A database that was put back from a dump, or wound back, sends nothing by itself that may have been sent since."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.needing import leave_out
from tests.outbox.conftest import Shop
from tests.outbox.postgres_outbox import Place, PostgresOutbox
from tests.outbox.postgres_server import find_program


@pytest.fixture
def server_with_dump(postgres_url: str) -> str:
    if find_program("pg_dump") is None:
        leave_out("no pg_dump here: apt-get install postgresql-client")
    return postgres_url


def copy_database(url: str, name: str, *, keep_home: bool) -> str:
    """Put a dump of the schema `original` into a new database; return its URL. `keep_home`: as if nobody noticed."""
    dump = subprocess.run(
        [find_program("pg_dump") or "", "-d", url, "-n", "original"], check=True, capture_output=True
    ).stdout
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        db.execute(f"CREATE DATABASE {name}".encode())
    parts = psycopg.conninfo.conninfo_to_dict(url)
    copy = url.removesuffix(str(parts["dbname"])) + name
    subprocess.run([find_program("psql") or "", "-q", "-d", copy], input=dump, check=True, capture_output=True)
    if not keep_home:
        return copy
    with psycopg.connect(copy, autocommit=True) as db:
        db.execute("DELETE FROM original.marks WHERE name = 'home'")
    return copy


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_dump_that_was_put_back_sends_nothing_that_the_original_may_have_sent(
    server_with_dump: str, is_noticed: bool
) -> None:
    """Unnoticed it is the control: the copy claims what the original sends."""
    told: list[int] = []
    with psycopg.connect(server_with_dump, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS original CASCADE")
    original = PostgresOutbox(f"{server_with_dump}?schema=original", on_restored=told.append)
    shop = Shop(original)
    waiting = await shop.add(recipient="+919800000001")
    (sending,) = await shop.claim(1)
    later = await shop.add(recipient="+919800000002")
    copy = await asyncio.to_thread(copy_database, server_with_dump, "copied", keep_home=not is_noticed)
    assert await shop.accept(sending)
    assert len(await shop.claim(2)) == 1
    restored = PostgresOutbox(f"{copy}?schema=original", on_restored=told.append)
    other = Shop(restored)
    claimed = await other.claim(2)
    if is_noticed:
        assert told == [2]
        assert claimed == []
        for id_ in (waiting, later):
            assert (await other.show(id_))[:2] == ("unknown", "restored")
        again = PostgresOutbox(f"{copy}?schema=original", on_restored=told.append)
        new = await Shop(again).add(recipient="+919800000003")
        assert [attempt.delivery.id for attempt in await Shop(again).claim(2)] == [new]
        assert told == [2]  # seen once
        await again.close()
    else:
        assert [attempt.delivery.id for attempt in claimed] == [later]
    for store in (original, restored):
        await store.close()


async def test_a_server_that_was_wound_back_is_told_so_by_hand(
    open_replica: Callable[..., PostgresOutbox], postgres_place: Place, wrap: Callable[..., Any]
) -> None:
    told: list[int] = []
    await wrap(open_replica(on_restored=told.append)).add()
    with psycopg.connect(postgres_place.direct.partition("?")[0], autocommit=True) as db:
        schema = postgres_place.direct.partition("schema=")[2]
        db.execute(f"INSERT INTO {schema}.marks VALUES ('backup', 0)".encode())  # noqa: S608  # ours
    after = wrap(open_replica(on_restored=told.append))
    assert told == [1]
    assert await after.claim() == []


async def test_a_server_that_keeps_its_name_to_itself_is_known_by_its_tables(postgres_place: Place) -> None:
    """A hosted PostgreSQL may do so; superusers are told all the same, so the role that asks is a plain one."""
    told: list[int] = []
    url = postgres_place.direct.partition("?")[0]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP ROLE IF EXISTS plain")
        db.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        database = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
        db.execute(f"GRANT CREATE ON DATABASE {database} TO plain".encode())
        db.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url) | {"user": "plain", "password": "plain"}
        plain = f"postgresql://plain:plain@{parts['host']}:{parts['port']}/{database}?schema=plain_shop"
        first = PostgresOutbox(plain, on_restored=told.append)
        await Shop(first).add(recipient="+919800000001")
        await first.close()
        again = PostgresOutbox(plain, on_restored=told.append)
        assert len(await Shop(again).claim(1)) == 1
        assert told == []
        await again.close()
    finally:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
            db.execute("DROP SCHEMA IF EXISTS plain_shop CASCADE")
            db.execute("DROP OWNED BY plain CASCADE")
            db.execute("DROP ROLE plain")
