"""What sweep and retry_deliveries promise, whatever the store."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.deciding import Decision
from app.core.models import Reason, ReceiptStatus, Rejected, State
from app.outbox.base import Swept

DAY = 86_400_000


async def test_sweeping_expires_what_is_past_its_deadline_held_ones_too(shop: Any) -> None:
    held = await shop.add(deadline_at=shop.now + 5)
    later = await shop.add(deadline_at=shop.now + 6)
    await shop.store.put_hold("provider:gallabox", "by_hand", shop.now)
    assert await shop.store.sweep(shop.now + 5, 0) == Swept(expired=1, resent=0, lost=0)
    assert await shop.show(held) == ("expired", "deadline_passed", None)
    assert (await shop.show(later))[0] == "held"
    assert await shop.timeline(held) == [("pending", None), ("expired", "deadline_passed")]


async def test_sweeping_takes_any_number(shop: Any) -> None:
    await shop.add_many(2_500, deadline_at=shop.now)
    assert (await shop.store.sweep(shop.now, 0)).expired == 2_500
    assert await shop.store.count_deliveries() == {("gallabox", State.EXPIRED): 2_500}


async def test_a_settled_unknown_is_pending_again_and_keeps_its_reason(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=900_000)
    assert (await shop.store.sweep(shop.now + 899_999, 0)).resent == 0
    assert not await shop.claim(after_ms=899_999)
    assert (await shop.store.sweep(shop.now + 900_000, 0)).resent == 1
    assert await shop.show(delivery_id) == ("pending", "timed_out", None)
    assert (await shop.claim_one(after_ms=900_000)).number == 2


async def test_an_unknown_without_a_due_time_waits_for_ever(shop: Any) -> None:
    await shop.add()
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    assert (await shop.store.sweep(shop.now + 300 * DAY, 0)).resent == 0


async def test_an_unknown_past_its_deadline_stays_unknown(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend", deadline_at=shop.now + 100)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=50)
    for _ in range(2):
        assert await shop.store.sweep(shop.now + 100, 0) == Swept(expired=0, resent=0, lost=0)
    assert await shop.show(delivery_id) == ("unknown", "timed_out", None)


async def test_an_attempt_whose_lease_ran_out_is_unknown(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    attempt = await shop.claim_one()
    assert (await shop.store.sweep(shop.now + 29_999, 900_000)).lost == 0
    assert (await shop.store.sweep(shop.now + 30_000, 900_000)).lost == 1
    assert await shop.show(delivery_id) == ("unknown", "process_died", None)
    assert (await shop.store.sweep(shop.now + 929_999, 900_000)).resent == 0
    assert (await shop.store.sweep(shop.now + 930_000, 900_000)).resent == 1
    assert (await shop.claim_one(after_ms=930_000)).number == 2
    assert not await shop.accept(attempt)


async def test_retrying_by_hand_makes_them_pending_and_due_now(shop: Any) -> None:
    dead, unknown, expired = await shop.add_many(3)
    for attempt, state in zip(await shop.claim(), (State.DEAD, State.UNKNOWN, State.EXPIRED), strict=True):
        await shop.close(attempt, Rejected(Reason.REQUEST_REFUSED), Decision(state, Reason.REQUEST_REFUSED))
    wanted = [unknown, dead, "dlv-none", expired, dead]
    assert await shop.store.retry_deliveries(wanted, shop.now + 10_000) == [unknown, dead, expired]
    assert await shop.show(dead) == ("pending", None, None)
    again = await shop.claim(after_ms=10_000)
    assert [(attempt.number, attempt.spent) for attempt in again] == [(2, 0)] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"state": State.PENDING},
        {"state": State.SHADOW},
        {"state": State.SUPPRESSED},
        {"state": State.DEAD, "message": None},
        {"state": State.DEAD, "deadline_at": 1_790_000_000_000},
    ],
    ids=["pending", "shadow", "suppressed", "without a message", "past its deadline"],
)
async def test_what_cannot_be_sent_again_is_not_retried(shop: Any, fields: dict[str, Any]) -> None:
    delivery_id = await shop.add(**fields)
    before = await shop.read(delivery_id)
    assert not await shop.store.retry_deliveries([delivery_id], shop.now)
    assert await shop.read(delivery_id) == before


async def test_what_is_accepted_or_being_sent_is_not_retried(shop: Any) -> None:
    sending, accepted = await shop.add_many(2)
    _, second = await shop.claim()
    await shop.accept(second)
    await shop.receive(ReceiptStatus.FAILED, accepted)
    assert not await shop.store.retry_deliveries([sending, accepted], shop.now)
