"""What wipe_payloads, can_commit and close promise, whatever the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.errors import StoreError
from app.model.delivery import Reason, Rejected, State
from app.model.message import ReceiptStatus

DAY = 86_400_000


async def test_what_was_last_changed_before_is_wiped_and_its_story_stays(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    assert await shop.store.wipe_payloads(shop.now + 1) == 1
    row = await shop.read(delivery_id)
    assert (row["recipient"], row["message"], row["state"]) == ("", None, "accepted")
    assert [value for value, _ in await shop.timeline(delivery_id)] == ["pending", "sending", "accepted"]
    assert await shop.store.wipe_payloads(shop.now + 1) == 0


@pytest.mark.parametrize("state", [State.ACCEPTED, State.DEAD, State.EXPIRED])
async def test_a_last_state_is_wiped_only_from_its_own_time_on(shop: Any, state: State) -> None:
    await shop.add()
    await shop.close(await shop.claim_one(), Rejected(Reason.REQUEST_REFUSED), Decision(state), after_ms=500)
    assert await shop.store.wipe_payloads(shop.now + 500) == 0
    assert await shop.store.wipe_payloads(shop.now + 501) == 1


@pytest.mark.parametrize("state", [State.SHADOW, State.SUPPRESSED])
async def test_what_is_never_sent_is_wiped_too(shop: Any, state: State) -> None:
    await shop.add(state=state)
    assert await shop.store.wipe_payloads(shop.now + 1) == 1


async def test_what_may_still_be_sent_is_not_wiped(shop: Any) -> None:
    pending = await shop.add(due_at=shop.now + 9 * DAY, deadline_at=shop.now + 20 * DAY)
    sending = await shop.add(deadline_at=shop.now + 20 * DAY)
    await shop.claim()
    unknown = await shop.add(deadline_at=shop.now + 20 * DAY)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    assert await shop.store.wipe_payloads(shop.now + 10 * DAY) == 0
    for delivery_id in (pending, sending, unknown):
        assert (await shop.read(delivery_id))["message"] is not None


async def test_an_unknown_long_past_its_deadline_is_wiped(shop: Any) -> None:
    await shop.add(deadline_at=shop.now + DAY)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    assert await shop.store.wipe_payloads(shop.now + DAY) == 0
    assert await shop.store.wipe_payloads(shop.now + DAY + 1) == 1


async def test_one_unfinished_delivery_does_not_keep_the_others_of_its_event(shop: Any) -> None:
    done, waiting = await shop.add_many(2)
    await shop.accept((await shop.claim(1))[0])
    assert await shop.store.wipe_payloads(shop.now + 1) == 1
    assert (await shop.read(done))["message"] is None
    assert (await shop.read(waiting))["message"] is not None


async def test_any_number_is_wiped(shop: Any) -> None:
    for _ in range(3):
        await asyncio.gather(*[shop.add(state=State.SHADOW) for _ in range(400)])
    assert await shop.store.wipe_payloads(shop.now + 1) == 1_200


async def test_a_wiped_delivery_still_takes_receipts_but_no_retry(shop: Any) -> None:
    delivery_id = await shop.add(state=State.DEAD)
    await shop.store.wipe_payloads(shop.now + 1)
    assert await shop.receive(ReceiptStatus.SENT, delivery_id)
    assert not await shop.store.retry_deliveries([delivery_id], shop.now)


async def test_a_wiped_event_is_still_known(shop: Any) -> None:
    event = shop.event()
    await shop.store.add_event(event, [])
    await shop.store.wipe_payloads(shop.now + 1)
    assert (await shop.store.add_event(event, [])).duplicate


async def test_an_open_store_can_commit(shop: Any) -> None:
    assert await shop.store.can_commit()


async def test_a_closed_store_says_so_and_closes_again(shop: Any) -> None:
    await shop.store.close()
    await shop.store.close()
    assert not await shop.store.can_commit()
    with pytest.raises(StoreError, match="closed"):
        await shop.add()
    with pytest.raises(StoreError, match="closed"):
        await shop.store.list_holds()


async def test_closing_answers_what_waits(shop: Any) -> None:
    waiting = [asyncio.create_task(shop.add()) for _ in range(200)]
    await asyncio.sleep(0)
    await shop.store.close()
    assert len({await task for task in waiting}) == 200
