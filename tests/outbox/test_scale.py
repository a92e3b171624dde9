"""What work costs with a large store, counted in steps of SQLite's machine: the same on any hardware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.delivery.policy import Group
from app.model.message import Receipt, ReceiptStatus
from app.outbox import add as adding
from app.outbox import claim as claiming
from app.outbox import holds as holding
from app.outbox import read as reading
from app.outbox import receipts as receiving
from app.outbox import retention as forgetting
from app.outbox import retention as wiping
from app.outbox import sweep as sweeping
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.values import DeliveryFilter
from tests.outbox.methods import SqliteOutbox

MANY = 20_000

MULTIPLY = """
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, message, checksum, state, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, attempts)
SELECT id || '-' || n, event_seq, route, provider, template, rank, recipient || n, message, checksum, ?, '', due_at,
    deadline_at, created_at, updated_at, on_unknown, config_hash, 0
FROM deliveries, counted WHERE id = ?
"""


def count_steps(work: Callable[[SqliteTx], Any]) -> Callable[[SqliteTx], int]:
    """Return a job that does `work` and says how many tens of steps it took."""

    def run(db: SqliteTx) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        db.db.set_progress_handler(count, 10)
        try:
            work(db)
        finally:
            db.db.set_progress_handler(None, 0)
        return steps

    return run


async def fill(shop: Any, state: str, count: int = MANY) -> None:
    """Add so many deliveries like one of route `a`, in a state."""
    sample = await shop.add(route="a")
    await shop.store._writer.run(lambda db: db.execute(MULTIPLY, (count, state, sample)).rowcount)


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite(recipient_gap_ms=0))


def claim(shop: Any, limit: int) -> Callable[[SqliteTx], int]:
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


async def test_behind_a_hundred_thousand_of_one_route_the_next_claim_serves_another(shop: Any) -> None:
    await fill(shop, "pending", 100_000)
    assert [each.delivery.route for each in await shop.claim(1)] == ["a"]
    await shop.add(route="b", due_at=shop.now + 60)
    # 62.5 ms later, at 16/s: whatever stands before it, and however long that has waited.
    assert [each.delivery.route for each in await shop.claim(1, after_ms=63)] == ["b"]
    await shop.add(route="c", due_at=shop.now + 100)
    assert "c" in {each.delivery.route for each in await shop.claim(2, after_ms=126)}


async def test_control_the_oldest_first_would_leave_another_route_behind_them_all(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order_by_age(groups: Sequence[Group], _after: str | None) -> Sequence[Sequence[Group]]:
        return [[each] for each in sorted(groups, key=lambda each: each.due_at)]

    monkeypatch.setattr(claiming, "order_turns", order_by_age)
    await fill(shop, "pending", 200)
    await shop.claim(1)
    await shop.add(route="b", due_at=shop.now + 60)
    assert [each.delivery.route for each in await shop.claim(1, after_ms=63)] == ["a"]


async def test_the_next_due_time_costs_the_same_however_many_wait(shop: Any) -> None:
    find = count_steps(lambda db: claiming.find_next_due(db, "gallabox"))
    await fill(shop, "pending", 200)
    few = await shop.store._writer.run(find)
    await fill(shop, "pending")
    assert await shop.store._writer.run(find) < 1.5 * few + 20


async def test_the_oldest_due_costs_the_same_however_many_wait(shop: Any) -> None:
    find = count_steps(lambda db: claiming.find_oldest_due(db, "gallabox"))
    await fill(shop, "pending", 200)
    few = await shop.store._writer.run(find)
    await fill(shop, "pending")
    assert await shop.store._writer.run(find) < 1.5 * few + 20


async def test_listing_no_holds_costs_the_same_however_many_wait(shop: Any) -> None:
    await fill(shop, "pending")
    assert await shop.store._writer.run(count_steps(holding.list_holds)) < 20


async def test_what_was_counted_costs_the_same_however_many_there_are(shop: Any) -> None:
    await fill(shop, "dead")
    assert await shop.store._writer.run(count_steps(reading.count_reached)) < 50


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


def add(shop: Any) -> Callable[[SqliteTx], int]:
    event = shop.event()
    deliveries = [shop.delivery(event, dedup_key=event.id)]
    return count_steps(lambda db: adding.add_event(db, event, deliveries))


def receive(_shop: Any) -> Callable[[SqliteTx], int]:
    receipt = Receipt(ReceiptStatus.SENT, "nobody's", "wamid-of-nobody")
    return count_steps(lambda db: receiving.apply_receipt(db, "gallabox", receipt))


def sweep(shop: Any) -> Callable[[SqliteTx], int]:
    def run(db: SqliteTx) -> None:
        sweeping.tidy(db, shop.now, 0, 0)
        sweeping.expire_overdue(db, shop.now)
        sweeping.resend_unknown(db, shop.now)

    return count_steps(run)


def forget(shop: Any) -> Callable[[SqliteTx], int]:
    """Look for what may be forgotten where nothing is old enough, as nearly every hour."""
    return count_steps(lambda db: forgetting.forget_events(db, shop.now - 1, 0))


def wipe(shop: Any) -> Callable[[SqliteTx], int]:
    return count_steps(lambda db: wiping.wipe_events(db, shop.now - 1, (-(2**62), 0)))


@pytest.mark.parametrize("work", [add, receive, sweep, forget, wipe])
@pytest.mark.parametrize("state", ["accepted", "dead"])
async def test_other_work_costs_the_same_however_many_are_finished(
    shop: Any, state: str, work: Callable[[Any], Callable[[SqliteTx], int]]
) -> None:
    await fill(shop, state, 200)
    few = await shop.store._writer.run(work(shop))
    await fill(shop, state)
    assert await shop.store._writer.run(work(shop)) < 1.5 * few + 20


async def test_forgetting_costs_by_the_step_and_not_by_the_table(shop: Any) -> None:
    async def forget_some() -> int:
        events = [shop.event() for _ in range(forgetting.FORGET_LIMIT)]
        await asyncio.gather(*[shop.store.add_event(event, []) for event in events])
        steps: int = await shop.store._writer.run(
            count_steps(lambda db: forgetting.forget_events(db, shop.now + 1, events_before))
        )
        return steps

    find_last = "SELECT coalesce(max(seq), 0) FROM events"
    events_before = 0
    few = await forget_some()
    await fill(shop, "accepted")
    events_before = await shop.store._reader.run(lambda db: db.execute(find_last).fetchone()[0])
    assert await forget_some() < 1.5 * few + 20


async def test_a_scan_would_be_noticed(shop: Any) -> None:
    """The known-bad control of the tests above."""
    await fill(shop, "accepted")
    scan = count_steps(lambda db: db.execute("SELECT * FROM deliveries NOT INDEXED WHERE state = 'pending'").fetchall())
    assert await shop.store._writer.run(scan) > 5_000
