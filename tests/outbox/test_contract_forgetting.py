"""What forget_records promises, whatever the store; and what bounds receipts that belong to nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, State
from app.model.message import ReceiptStatus

DAY = 86_400_000


async def forget(shop: Any, after_ms: int = 1) -> int:
    forgotten: int = await shop.store.forget_records(shop.now + after_ms)
    return forgotten


async def test_what_ended_before_is_gone_with_all_that_hung_on_it(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one(), "wamid-1")
    await shop.receive(ReceiptStatus.DELIVERED, delivery_id)
    assert await forget(shop) == 1
    assert await shop.store.read_delivery(delivery_id) is None
    assert await shop.list_ids() == []
    assert await shop.store.count_deliveries() in ({}, {("gallabox", State.ACCEPTED): 0})
    assert not await shop.receive(ReceiptStatus.READ, delivery_id, "wamid-1"), "a late receipt finds nobody"
    assert await forget(shop) == 0


@pytest.mark.parametrize("state", [State.ACCEPTED, State.DEAD, State.EXPIRED])
async def test_a_last_state_is_forgotten_only_from_its_own_time_on(shop: Any, state: State) -> None:
    await shop.add()
    await shop.close(await shop.claim_one(), Rejected(Reason.REQUEST_REFUSED), Decision(state), after_ms=500)
    assert await forget(shop, 500) == 0
    assert await forget(shop, 501) == 1


@pytest.mark.parametrize("state", [State.SHADOW, State.SUPPRESSED, State.DEAD])
async def test_what_was_never_sent_is_forgotten_too(shop: Any, state: State) -> None:
    await shop.add(state=state)
    assert await forget(shop) == 1


async def test_an_event_of_no_route_is_forgotten(shop: Any) -> None:
    event = shop.event()
    await shop.store.add_event(event, [])
    assert await forget(shop, 0) == 0
    assert await forget(shop) == 1
    assert not (await shop.store.add_event(event, [])).duplicate, "its delivery id went with it"


async def test_what_is_not_over_is_kept(shop: Any) -> None:
    later = {"deadline_at": shop.now + 20 * DAY}
    pending = await shop.add(due_at=shop.now + 9 * DAY, **later)
    held = await shop.add(route="held", **later)
    await shop.store.put_hold("route:held", "by_hand", shop.now)
    unknown = await shop.add(**later)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    sending = await shop.add(**later)
    await shop.claim_one()
    assert await forget(shop, 10 * DAY) == 0
    assert set(await shop.list_ids()) == {pending, held, unknown, sending}


async def test_an_unknown_long_past_its_deadline_is_forgotten(shop: Any) -> None:
    await shop.add(deadline_at=shop.now + DAY)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    assert await forget(shop, DAY) == 0
    assert await forget(shop, DAY + 1) == 1


async def test_one_that_is_not_over_keeps_its_whole_event(shop: Any) -> None:
    ids = await shop.add_many(2)
    await shop.accept((await shop.claim(1))[0])
    assert await forget(shop) == 0
    assert sorted(await shop.list_ids()) == sorted(ids)


async def test_a_late_change_keeps_an_old_event(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one(), after_ms=5 * DAY)
    assert await forget(shop, 2 * DAY) == 0
    assert await shop.show(delivery_id) == ("accepted", None, None)


async def test_a_younger_event_is_kept(shop: Any) -> None:
    event = shop.event(received_at=shop.now + DAY)
    await shop.store.add_event(event, [])
    await shop.add(state=State.SHADOW)
    assert await forget(shop) == 1
    assert (await shop.store.add_event(event, [])).duplicate


async def test_any_number_is_forgotten_past_any_number_that_is_kept(shop: Any) -> None:
    await asyncio.gather(*[shop.add(deadline_at=shop.now + 20 * DAY) for _ in range(700)])
    await asyncio.gather(*[shop.add(state=State.SHADOW) for _ in range(900)])
    assert await forget(shop) == 900
    assert (await shop.store.count_deliveries())["gallabox", State.PENDING] == 700


async def test_intake_goes_on_while_much_is_forgotten(shop: Any) -> None:
    await asyncio.gather(*[shop.add(state=State.SHADOW) for _ in range(1_500)])
    forgetting = asyncio.create_task(forget(shop))
    await asyncio.sleep(0)
    added_first = 0
    while not forgetting.done():
        await shop.add()
        added_first += not forgetting.done()
    assert await forgetting == 1_500
    assert added_first >= 2


async def test_counts_keep_to_the_rows(shop: Any) -> None:
    for state in (State.DEAD, State.DEAD, State.SHADOW):
        await shop.add(state=state)
    young = shop.event(received_at=shop.now + DAY)
    young_delivery = shop.delivery(young, state=State.DEAD, created_at=shop.now + DAY)
    await shop.store.add_event(young, [young_delivery])
    await forget(shop)
    counts = {key: n for key, n in (await shop.store.count_deliveries()).items() if n}
    assert counts == {("gallabox", State.DEAD): 1}
    assert await shop.list_ids(state="dead") == [young_delivery.id]
