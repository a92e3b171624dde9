"""What a claim costs with a large store, counted in steps of SQLite's machine: the same on any hardware."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from app.outbox import claiming, holding, reading
from app.outbox.base import DeliveryFilter
from app.outbox.sqlite import SqliteOutbox

MANY = 20_000

MULTIPLY = """
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, message, checksum, state, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, attempts)
SELECT id || '-' || n, event_seq, route, provider, template, rank, recipient || n, message, checksum, ?, '', due_at,
    deadline_at, created_at, updated_at, on_unknown, config_hash, 0
FROM deliveries, counted WHERE id = ?
"""


def count_steps(work: Callable[[sqlite3.Connection], Any]) -> Callable[[sqlite3.Connection], int]:
    """Return a job that does `work` and says how many tens of steps it took."""

    def run(db: sqlite3.Connection) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.set_progress_handler(count, 10)
        try:
            work(db)
        finally:
            db.set_progress_handler(None, 0)
        return steps

    return run


async def fill(shop: Any, state: str, count: int = MANY) -> None:
    """Add so many deliveries like one of route `a`, in a state."""
    sample = await shop.add(route="a")
    await shop.store._writer.run(lambda db: db.execute(MULTIPLY, (count, state, sample)).rowcount)


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite(recipient_gap_ms=0))


def claim(shop: Any, limit: int) -> Callable[[sqlite3.Connection], int]:
    asked = claiming.Claim("gallabox", shop.now, limit, 30_000, 0)
    return count_steps(lambda db: claiming.claim_due(db, asked))


@pytest.mark.parametrize("state", ["accepted", "pending", "unknown", "dead"])
async def test_a_claim_costs_the_same_however_many_others_there_are(shop: Any, state: str) -> None:
    await fill(shop, state, 200)
    few = await shop.store._writer.run(claim(shop, 1))
    await fill(shop, state)
    assert await shop.store._writer.run(claim(shop, 1)) < 1.5 * few + 20


async def test_a_claim_costs_no_more_behind_a_held_crowd(shop: Any) -> None:
    await fill(shop, "pending", 200)
    await shop.add(route="b")
    await shop.store.put_hold("route:a", "by_hand", shop.now)
    few = await shop.store._writer.run(claim(shop, 5))
    await fill(shop, "pending")
    await shop.add(route="b")
    assert await shop.store._writer.run(claim(shop, 5)) < 1.5 * few + 20


async def test_the_next_due_time_costs_the_same_however_many_wait(shop: Any) -> None:
    find = count_steps(lambda db: claiming.find_next_due(db, "gallabox"))
    await fill(shop, "pending", 200)
    few = await shop.store._writer.run(find)
    await fill(shop, "pending")
    assert await shop.store._writer.run(find) < 1.5 * few + 20


async def test_counting_what_is_finished_costs_nothing(shop: Any) -> None:
    await fill(shop, "accepted")
    assert await shop.store._writer.run(count_steps(reading.count_deliveries)) < 50
    assert await shop.store._writer.run(count_steps(holding.list_holds)) < 50


@pytest.mark.parametrize("state", ["dead", "unknown", "sending", "expired"])
async def test_listing_a_rare_state_passes_over_no_crowd(shop: Any, state: str) -> None:
    await shop.add(state=state)
    await fill(shop, "accepted")
    listing = count_steps(lambda db: reading.list_deliveries(db, DeliveryFilter(state=state)))
    assert await shop.store._writer.run(listing) < 50


async def test_a_scan_would_be_noticed(shop: Any) -> None:
    """The known-bad control of the tests above."""
    await fill(shop, "accepted")
    scan = count_steps(lambda db: db.execute("SELECT * FROM deliveries NOT INDEXED WHERE state = 'pending'").fetchall())
    assert await shop.store._writer.run(scan) > 5_000
