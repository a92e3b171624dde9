"""Seen and queued are one: a copy is known if, and only if, the first one's delivery is in the outbox."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.model.delivery import Delivery
from app.model.event import Event
from app.outbox import add as adding
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.values import Enqueued
from tests.outbox.methods import SqliteOutbox

SAME = {"recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite())


def read_state(path: Path) -> tuple[int, int, int]:
    """Return how many events, deliveries and keys a killed process left."""
    db = sqlite3.connect(path)
    try:
        events, deliveries, keys = (
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  # our own three names
            for table in ("events", "deliveries", "dedup_keys")
        )
    finally:
        db.close()
    return events, deliveries, keys


def add_in_two_transactions(tx: SqliteTx, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
    """The control: first it is seen, then it is queued."""
    add_alone(tx, event, [])
    (seq,) = tx.execute("SELECT seq FROM events WHERE id = ?", (event.id,)).fetchone()
    tx.execute("COMMIT")
    tx.execute("BEGIN IMMEDIATE")
    planned = [(seq, adding.freeze_delivery(each, tx.people_key)) for each in deliveries]
    states = adding._insert_deliveries(tx, adding._judge_deliveries(tx, planned))
    return Enqueued(event.id, tuple(states), duplicate=False)


add_alone = adding.add_event


async def test_no_kill_leaves_an_event_seen_and_not_queued(shop: Any, keep_kills: Callable[..., Any]) -> None:
    states = [read_state(path) for path in await keep_kills(shop.store, shop.add(**SAME))]
    assert len(states) > 5
    assert set(states) == {(0, 0, 0), (1, 1, 1)}


async def test_two_transactions_would_be_noticed(
    shop: Any, keep_kills: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "add_event", add_in_two_transactions)
    states = [read_state(path) for path in await keep_kills(shop.store, shop.add(**SAME))]
    assert (1, 0, 0) in states


async def test_a_failing_add_leaves_its_key_to_the_next(shop: Any) -> None:
    taken = await shop.add()
    event = shop.event()
    with pytest.raises(sqlite3.IntegrityError):
        await shop.store.add_event(event, [shop.delivery(event, id="d-1", **SAME), shop.delivery(event, id=taken)])
    assert await shop.show(await shop.add(**SAME)) == ("pending", None, None)


async def count_sent(shop: Any, pairs: Sequence[dict[str, Any]]) -> int:
    """Add events at once; return how many would be sent."""
    ids = await asyncio.gather(*[shop.add(**pair) for pair in pairs])
    return [(await shop.show(each))[0] for each in ids].count("pending")


COLLIDING = [
    {"route": "1", "recipient": "+919800000001", "dedup_key": "23"},
    {"route": "12", "recipient": "+919800000001", "dedup_key": "3"},
    {"route": "1", "recipient": "+91980000000", "dedup_key": "123"},
    {"route": "1+91", "recipient": "9800000001", "dedup_key": "23"},
    {"route": "1", "recipient": "+919800000001", "dedup_key": "2\x003"},
]


async def test_the_parts_of_a_key_cannot_collide(shop: Any) -> None:
    assert await count_sent(shop, COLLIDING) == len(COLLIDING)


async def test_a_key_that_is_joined_plainly_would_be_noticed(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def join(delivery: Delivery) -> bytes:
        return hashlib.sha256(f"{delivery.route}{delivery.recipient}{delivery.dedup_key}".encode()).digest()

    monkeypatch.setattr(adding, "hash_dedup_key", join)
    assert await count_sent(shop, COLLIDING) < len(COLLIDING)


async def test_without_the_keys_fifty_of_one_dedup_key_would_all_be_sent(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control of test_fifty_parallel_events_of_one_dedup_key_send_one_message."""
    monkeypatch.setattr(adding, "hash_dedup_key", lambda _: None)
    assert await count_sent(shop, [SAME] * 50) == 50


async def test_what_is_kept_of_a_key_is_a_hash_and_outlives_the_payload(shop: Any) -> None:
    first = await shop.add(**SAME)
    await shop.accept(await shop.claim_one())
    await shop.store.wipe_payloads(shop.now + 1)
    rows = await shop.store._reader.run(lambda db: db.execute("SELECT * FROM dedup_keys").fetchall())
    assert [len(row[0]) for row in rows] == [32]
    assert "ACME" not in str(rows)
    assert (await shop.read(first))["recipient"] == ""
    assert await shop.show(await shop.add(**SAME)) == ("suppressed", "duplicate", None)
