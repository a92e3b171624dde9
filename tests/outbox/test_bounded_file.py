"""Under steady load the file stops growing: what is forgotten makes room for what comes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.model.message import ReceiptStatus
from app.outbox import sweep as sweeping
from tests.outbox.methods import SqliteOutbox

DAY = 86_400_000
MONTHS = 9
EVENTS = 150  # a month


async def live_a_month(shop: Any, month: int) -> None:
    """Add, send and get receipts for a month's events, all dated into that month."""
    at = shop.now + month * 30 * DAY
    dates = {"created_at": at, "due_at": at, "deadline_at": at + DAY}
    events = [shop.event(received_at=at, body=b"x" * 600) for _ in range(EVENTS)]
    await asyncio.gather(*[shop.store.add_event(event, [shop.delivery(event, **dates)]) for event in events])
    unrouted = [shop.event(received_at=at) for _ in range(EVENTS // 10)]
    await asyncio.gather(*[shop.store.add_event(event, []) for event in unrouted])
    after = at - shop.now
    while attempts := await shop.claim(100, after_ms=after):
        await asyncio.gather(*[shop.accept(each, each.delivery.id, after_ms=after) for each in attempts])
        received = [shop.receive(ReceiptStatus.SENT, each.delivery.id, after_ms=after) for each in attempts]
        await asyncio.gather(*received)
    await asyncio.gather(*[shop.receive(ReceiptStatus.READ, None, f"x-{month}-{n}", after_ms=after) for n in range(50)])


async def count_pages(store: Any) -> int:
    def count(db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA page_count").fetchone()[0])

    pages: int = await store._writer.run_alone(count)
    return pages


async def live(shop: Any, *, forget: bool) -> list[int]:
    """Return the file's pages after each month."""
    pages = []
    for month in range(MONTHS):
        await live_a_month(shop, month)
        now = shop.now + (month * 30 + 1) * DAY
        await shop.store.sweep(now, 0)
        if forget:
            await shop.store.forget_records(now - 90 * DAY)
        await shop.store.wipe_payloads(now - 7 * DAY)
        pages.append(await count_pages(shop.store))
    return pages


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite(recipient_gap_ms=0))


async def test_the_file_stops_growing_once_the_first_month_is_forgotten(shop: Any) -> None:
    pages = await live(shop, forget=True)
    print(f"figures: pages after each month of {EVENTS} events, 90 days kept: {pages}")  # noqa: T201  # for the release notes
    assert pages[-1] <= 1.05 * pages[4]


async def test_without_forgetting_it_would_grow_for_ever(shop: Any) -> None:
    """The known-bad control."""
    pages = await live(shop, forget=False)
    assert pages[-1] > 1.4 * pages[4]


async def test_what_was_wiped_and_forgotten_is_in_no_file_any_more(shop: Any, database: Path) -> None:
    canaries = [b"+919800012345", b"canary-body", b"canary-source", b"canary-wamid", b"canary-detail", b"canary-event"]
    event = shop.event(id="canary-event", delivery_id="canary-source", body=b'{"name": "canary-body"}')
    await shop.store.add_event(event, [shop.delivery(event, recipient="+919800012345", detail="canary-detail")])
    await shop.accept(await shop.claim_one(), "canary-wamid")

    def find() -> list[bytes]:
        held = b"".join(path.read_bytes() for path in database.parent.iterdir())
        return [canary for canary in canaries if canary in held]

    assert find() == canaries, "else this test could not fail"
    await shop.store.sweep(shop.now + 100 * DAY, 0)
    assert await shop.store.forget_records(shop.now + 90 * DAY) == 1
    await shop.store.wipe_payloads(shop.now + 90 * DAY)
    assert find() == []


async def test_receipts_of_nothing_are_bounded_by_number(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "EARLY_LIMIT", 100)
    received = [shop.receive(ReceiptStatus.SENT, f"none-{n}", f"wamid-{n}", after_ms=n) for n in range(250)]
    assert not any(await asyncio.gather(*received))
    await shop.store.sweep(shop.now + 1_000, 0)
    kept = await shop.store._reader.run(
        lambda db: db.execute("SELECT count(*), min(received_at) FROM early_receipts").fetchone()
    )
    assert kept == (100, shop.now + 150), "the newest are kept"
    await shop.store.sweep(shop.now + 1_000, 0)
    assert len(await shop.store._reader.run(lambda db: db.execute("SELECT 1 FROM early_receipts").fetchall())) == 100
