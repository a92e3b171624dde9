"""A million finished deliveries in a real file: what is done all day costs what it cost in an empty one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.model.delivery import State
from app.outbox import add as adding
from app.outbox import claim as claiming
from app.outbox import read as reading
from app.outbox import sweep as sweeping
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.values import DeliveryFilter, LedgerQuery
from tests.outbox.methods import SqliteOutbox

MILLION = 1_000_000
BATCH = 50_000
HOUR = 3_600_000

# Every event with one delivery, its attempt and two rows of timeline, as a working day leaves them.
FILL = """
WITH RECURSIVE counted (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1 + ?2 - 1)
INSERT INTO events (seq, id, source, source_delivery_id, topic, received_at, person)
SELECT n, 'old-' || n, 'nector', 'old-' || n, 'coupon_create', ?3 + n / 1000, CAST(n * 7919 % 200000 AS BLOB)
FROM counted
"""
FILL_DELIVERIES = """
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, state, detail, due_at, deadline_at,
    created_at, updated_at, on_unknown, config_hash, attempts, provider_message_id, person)
SELECT 'old-dlv-' || seq, seq, 'route-' || (seq % 20), 'gallabox', 'coupon_ready', 0, '', 'accepted', '', NULL, ?1,
    received_at, received_at, 'hold', 'abc', 1, 'wamid-' || seq, person FROM events WHERE seq >= ?2
"""
# 200,000 customers get five messages each; 300,000 events tell that one of them did something.
FILL_ACTS = """
INSERT INTO acts (event_seq, act, at, person)
SELECT seq, iif(seq % 2, 'coupon_used', 'order_placed'), received_at + 60000, person FROM events WHERE seq % 10 < 3
"""


def count_steps(work: Callable[[SqliteTx], Any]) -> Callable[[SqliteTx], int]:
    """Return a job that does `work`, undoes it, and says how many tens of steps SQLite's machine took."""

    def run(db: SqliteTx) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.execute("SAVEPOINT looked")
        db.db.set_progress_handler(count, 10)
        try:
            work(db)
        finally:
            db.db.set_progress_handler(None, 0)
            db.execute("ROLLBACK TO looked")
            db.execute("RELEASE looked")
        return steps

    return run


def list_page(wanted: DeliveryFilter) -> Callable[[SqliteTx], Any]:
    return lambda db: reading.list_deliveries(db, wanted)


async def fill(shop: Any) -> None:
    for first in range(1_000, 1_000 + MILLION, BATCH):

        def fill_some(db: SqliteTx, first: int = first) -> None:
            db.execute(FILL, (first, BATCH, shop.now - HOUR))
            db.execute(FILL_DELIVERIES, (shop.now - 1, first))

        await shop.store._writer.run(fill_some)
    await shop.store._writer.run(lambda db: db.execute(FILL_ACTS).rowcount)


async def measure(shop: Any) -> dict[str, int]:
    """Return the steps of everything that is done all day."""
    event = shop.event()
    deliveries = [shop.delivery(event, dedup_key=event.id)]
    asked = claiming.Claim("gallabox", shop.now, 10, 30_000, 0)
    wanted = {state: DeliveryFilter(state=state) for state in ("dead", "unknown", "accepted", None)}
    work: dict[str, Callable[[SqliteTx], Any]] = {
        "add": lambda db: adding.add_event(db, event, deliveries),
        "claim": lambda db: claiming.claim_due(db, asked),
        "next due": lambda db: claiming.find_next_due(db, "gallabox"),
        "sweep": lambda db: (sweeping.expire_overdue(db, shop.now), sweeping.resend_unknown(db, shop.now)),
        "count": reading.count_deliveries,
        **{f"list {state}": list_page(one) for state, one in wanted.items()},
    }
    return {name: await shop.store._writer.run(count_steps(job)) for name, job in work.items()}


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_million_finished_deliveries_change_nothing_of_what_is_done_all_day(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_sqlite(recipient_gap_ms=0))
    await shop.add_many(10)
    for state in (State.DEAD, State.ACCEPTED):
        await shop.add(state=state)
    before = await measure(shop)
    await fill(shop)
    counts = await shop.store.count_deliveries()
    assert counts["gallabox", State.ACCEPTED] == MILLION + 1
    after = await measure(shop)
    print(f"figures: tens of steps before and with a million finished: {before} {after}")  # noqa: T201  # what a long run is for
    # A page of a list has 50 rows of the crowd, before that only two.
    assert all(after[name] < 2 * before[name] + (600 if name.startswith("list") else 40) for name in before)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_report_of_a_million_deliveries_takes_seconds_and_no_lane_waits_for_it(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_sqlite())
    await fill(shop)
    wanted = LedgerQuery(0, shop.now, "route", 7 * 24 * HOUR, "Asia/Kolkata")
    began, cpu = time.perf_counter(), time.process_time()
    reading_all = asyncio.create_task(shop.store.read_ledger(wanted))
    waits = []
    while not reading_all.done():
        asked = time.perf_counter()
        await shop.store.next_due_at("gallabox")
        waits.append(time.perf_counter() - asked)
        await asyncio.sleep(0.01)
    took, worked = time.perf_counter() - began, time.process_time() - cpu
    rows = await reading_all
    print(f"figures: {took:.1f} s, {worked:.1f} s of work; a lane waited {max(waits) * 1000:.0f} ms")  # noqa: T201  # what a long run is for
    assert (len(rows), sum(row.accepted for row in rows)) == (20, MILLION)
    assert 0 < sum(row.acted for row in rows) < MILLION
    assert took < 60
    assert max(waits) < took / 4
