"""Bodies of events without a route: bounded in number and bytes, the oldest first; the events stay known."""

from __future__ import annotations

from typing import Any

import pytest

from app.model.delivery import State
from app.outbox import retention
from app.outbox.add import add_delivery, freeze_delivery
from app.outbox.replay import EventQuery
from app.outbox.retention import count_unrouted
from app.outbox.store import Tx
from app.outbox.values import UnroutedBodies
from tests.outbox.conftest import DAY, NOW, Shop
from tests.outbox.methods import At


async def post(shop: Shop, size: int = 10, **fields: Any) -> str:
    event = shop.event(body=b"x" * size, **fields)
    await shop.store.add_event(event, [])
    return event.id


async def read_kept(shop: Shop) -> list[str]:
    found = await shop.store.find_events(EventQuery(state="unrouted"))
    return [event.id for event in found.events if event.body is not None]


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_BODIES", 3)
    monkeypatch.setattr(retention, "MOST_BYTES", 100)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([10, 10, 10], [0, 1, 2]),
        ([10, 10, 10, 10, 10], [2, 3, 4]),
        ([50, 50], [0, 1]),
        ([50, 50, 1], [1, 2]),
        ([1, 1, 1, 99], [2, 3]),
        ([1, 1, 100], [2]),
        ([1, 1, 101], []),  # of itself too long
    ],
)
async def test_the_oldest_bodies_go_first_and_no_more_than_must(shop: Shop, sizes: list[int], kept: list[int]) -> None:
    ids = [await post(shop, size) for size in sizes]
    assert await read_kept(shop) == [ids[place] for place in kept]
    counted = UnroutedBodies(len(kept), sum(sizes[place] for place in kept), len(sizes) - len(kept))
    assert await shop.store.read(count_unrouted) == counted


@pytest.mark.usefixtures("_narrow")
async def test_an_event_whose_body_went_is_still_known(shop: Shop) -> None:
    first = await post(shop, delivery_id="source-1")
    for _ in range(5):
        await post(shop)
    again = await shop.store.add_event(shop.event(delivery_id="source-1"), [])
    assert (again.event_id, again.duplicate) == (first, True)


@pytest.mark.usefixtures("_narrow")
async def test_an_event_that_has_a_route_keeps_its_body_and_counts_for_nothing(shop: Shop) -> None:
    await shop.add()
    event = shop.event()
    await shop.store.add_event(event, [])
    made = shop.delivery(event)
    (seq,) = [row.seq for row in await shop.store.read(lambda tx: tx.rows("SELECT max(seq) AS seq FROM events"))]
    await shop.store.write(lambda tx: add_delivery(tx, seq, freeze_delivery(made, tx.people_key), State.PENDING, None))
    for _ in range(5):
        await post(shop)
    bodies = await shop.store.read(lambda tx: tx.rows("SELECT count(*) AS n FROM events WHERE body IS NOT NULL"))
    assert bodies[0].n == 1 + 1 + 3


async def test_a_body_that_is_wiped_forgotten_or_erased_is_not_counted(shop: Shop) -> None:
    for received_at in (NOW, NOW, NOW + DAY):
        await post(shop, received_at=received_at)
    await At(shop.store, NOW).write(lambda tx: tx.run("UPDATE events SET body = body"))
    await shop.store.wipe_payloads(NOW + 1)
    assert await shop.store.read(count_unrouted) == UnroutedBodies(1, 10, 0)
    await shop.store.forget_records(NOW + 2 * DAY)
    assert await shop.store.read(count_unrouted) == UnroutedBodies(0, 0, 0)


async def test_what_was_there_before_is_counted_from_the_migration_on(shop: Shop) -> None:
    def forget(tx: Tx) -> None:
        tx.run("DELETE FROM unrouted")

    await post(shop)
    await shop.store.write(forget)
    await post(shop, 7)
    assert await shop.store.read(count_unrouted) == UnroutedBodies(1, 7, 0)


async def test_control_without_the_bound_everything_stays(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.outbox.add.keep_unrouted", lambda *_: None)
    ids = [await post(shop, 60) for _ in range(5)]
    assert await read_kept(shop) == ids
