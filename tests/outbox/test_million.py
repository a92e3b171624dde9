"""A million finished deliveries in a real file: what is done all day costs what it cost in an empty one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from app.core.models import State
from app.outbox import adding, claiming, reading, sweeping
from app.outbox.sqlite import SqliteOutbox
from app.outbox.values import DeliveryFilter

MILLION = 1_000_000
BATCH = 50_000

# Every event with one delivery, its attempt and two rows of timeline, as a working day leaves them.
FILL = """
WITH RECURSIVE counted (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1 + ?2 - 1)
INSERT INTO events (seq, id, source, source_delivery_id, topic, received_at)
SELECT n, 'old-' || n, 'nector', 'old-' || n, 'coupon_create', ?3 FROM counted
"""
FILL_DELIVERIES = """
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, state, detail, due_at, deadline_at,
    created_at, updated_at, on_unknown, config_hash, attempts, provider_message_id)
SELECT 'old-dlv-' || seq, seq, 'route-' || (seq % 20), 'gallabox', 'coupon_ready', 0, '', 'accepted', '', NULL, ?1,
    ?1, ?1, 'hold', 'abc', 1, 'wamid-' || seq FROM events WHERE seq >= ?2
"""


def count_steps(work: Callable[[sqlite3.Connection], Any]) -> Callable[[sqlite3.Connection], int]:
    """Return a job that does `work`, undoes it, and says how many tens of steps SQLite's machine took."""

    def run(db: sqlite3.Connection) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.execute("SAVEPOINT looked")
        db.set_progress_handler(count, 10)
        try:
            work(db)
        finally:
            db.set_progress_handler(None, 0)
            db.execute("ROLLBACK TO looked")
            db.execute("RELEASE looked")
        return steps

    return run


def list_page(wanted: DeliveryFilter) -> Callable[[sqlite3.Connection], Any]:
    return lambda db: reading.list_deliveries(db, wanted)


async def measure(shop: Any) -> dict[str, int]:
    """Return the steps of everything that is done all day."""
    event = shop.event()
    frozen = [adding.freeze_delivery(shop.delivery(event, dedup_key=event.id), b"key")]
    frozen_event = adding.freeze_event(event, b"key")
    asked = claiming.Claim("gallabox", shop.now, 10, 30_000, 0)
    wanted = {state: DeliveryFilter(state=state) for state in ("dead", "unknown", "accepted", None)}
    work: dict[str, Callable[[sqlite3.Connection], Any]] = {
        "add": lambda db: adding.add_event(db, frozen_event, frozen),
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
    for first in range(1_000, 1_000 + MILLION, BATCH):

        def fill(db: sqlite3.Connection, first: int = first) -> None:
            db.execute(FILL, (first, BATCH, shop.now - 1))
            db.execute(FILL_DELIVERIES, (shop.now - 1, first))

        await shop.store._writer.run(fill)
    counts = await shop.store.count_deliveries()
    assert counts["gallabox", State.ACCEPTED] == MILLION + 1
    after = await measure(shop)
    print(f"figures: tens of steps before and with a million finished: {before} {after}")  # noqa: T201  # what a long run is for
    # A page of a list has 50 rows of the crowd, before that only two.
    assert all(after[name] < 2 * before[name] + (600 if name.startswith("list") else 40) for name in before)
