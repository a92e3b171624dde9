"""What sweep, retry_deliveries and shift_waits promise, whatever the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, State
from app.model.receipt import ReceiptStatus
from app.outbox.values import LaneState, Swept

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


# -- the wall clock was set ------------------------------------------------------------------------

HOUR = 3_600_000
STEPS = [HOUR, -HOUR, 10 * DAY, -DAY]
REFUSED = Reason.CONNECT_FAILED


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_retry_waits_as_long_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(deadline_at=shop.now + 20 * DAY)
    await shop.retry_later(await shop.claim_one(), 60_000, why=REFUSED)
    await shop.store.shift_waits(by_ms)
    assert await shop.store.next_due_at("gallabox") == shop.now + by_ms + 60_000
    assert not await shop.claim(after_ms=by_ms + 59_999)
    assert await shop.claim(after_ms=by_ms + 60_000)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_an_unknown_settles_as_late_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(on_unknown="resend", deadline_at=shop.now + 20 * DAY)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=900_000)
    await shop.store.shift_waits(by_ms)
    assert (await shop.store.sweep(shop.now + by_ms + 899_999, 0)).resent == 0
    assert (await shop.store.sweep(shop.now + by_ms + 900_000, 0)).resent == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_lease_lasts_as_long_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add()
    await shop.claim_one()
    await shop.store.shift_waits(by_ms)
    assert (await shop.store.sweep(shop.now + by_ms + 29_999, 0)).lost == 0
    assert (await shop.store.sweep(shop.now + by_ms + 30_000, 0)).lost == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_probe_comes_as_late_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(deadline_at=shop.now + 20 * DAY)
    await shop.store.put_hold("provider:gallabox", "credentials_refused", shop.now, shop.now + 300_000)
    await shop.store.shift_waits(by_ms)
    (hold,) = await shop.store.list_holds()
    assert (hold.since, hold.probe_at) == (shop.now, shop.now + by_ms + 300_000)
    assert not await shop.claim(after_ms=by_ms + 299_999)
    assert await shop.claim(after_ms=by_ms + 300_000)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_recipients_gap_lasts_as_long_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add_many(2, recipient="+919800000001", deadline_at=shop.now + 20 * DAY)
    assert len(await shop.claim()) == 1
    await shop.store.shift_waits(by_ms)
    assert not await shop.claim(after_ms=by_ms + 5_999)
    assert len(await shop.claim(after_ms=by_ms + 6_000)) == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_lanes_pause_and_luck_move_with_the_step(shop: Any, by_ms: int) -> None:
    await shop.add()
    await shop.claim_one()
    await shop.store.save_lane("gallabox", LaneState(None, shop.now + 5, 6, shop.now + 7, None))
    await shop.store.shift_waits(by_ms)
    now = shop.now + by_ms
    assert await shop.store.read_lane("gallabox") == LaneState(now, now + 5, 6, now + 7, None)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_what_names_an_instant_of_the_world_stays(shop: Any, by_ms: int) -> None:
    def pick(row: Any) -> Any:
        names = ("created_at", "updated_at", "deadline_at", "timeline", "attempt_list", "receipts", "event")
        return {name: row[name] for name in names}

    ids = await shop.add_many(3, dedup_key=None)
    await shop.retry_later(await shop.claim_one(), 60_000, why=REFUSED)
    await shop.accept(await shop.claim_one(), "wamid-1")
    await shop.receive(ReceiptStatus.DELIVERED, message_id="wamid-1")
    before = [pick(await shop.read(id_)) for id_ in ids]
    await shop.store.shift_waits(by_ms)
    assert [pick(await shop.read(id_)) for id_ in ids] == before


async def test_a_dedup_key_is_known_as_long_as_the_world_says(shop: Any) -> None:
    await shop.add(dedup_key="ACME", recipient="+919800000001")
    await shop.store.shift_waits(-DAY)
    again = await shop.add(dedup_key="ACME", recipient="+919800000001")
    assert (await shop.show(again))[0] == "suppressed"


async def test_a_second_call_for_the_same_step_moves_nothing(shop: Any) -> None:
    await shop.add()
    assert (await shop.store.read_time()).shifted_ms == 0
    for total_ms in (HOUR, HOUR, HOUR - 5_000):
        await shop.store.shift_waits(total_ms)
        assert (await shop.store.read_time()).shifted_ms == total_ms
        assert await shop.store.next_due_at("gallabox") == shop.now + total_ms


async def test_what_was_called_before_a_shift_is_moved_and_what_after_is_not(shop: Any) -> None:
    first, second = shop.event(), shop.event()
    await asyncio.gather(
        shop.store.add_event(first, [shop.delivery(first, id="before", provider="a")]),
        shop.store.shift_waits(HOUR),
        shop.store.add_event(second, [shop.delivery(second, id="after", provider="b")]),
    )
    assert await shop.store.next_due_at("a") == shop.now + HOUR
    assert await shop.store.next_due_at("b") == shop.now


async def test_the_store_knows_to_a_minute_when_it_was_last_in_use(shop: Any, open_shop: Any) -> None:
    assert (await shop.store.read_time()).newest is None
    for after_ms, newest in ((0, 0), (59_999, 0), (60_000, 60_000), (1_000, 60_000)):
        await shop.store.sweep(shop.now + after_ms, 0)
        assert (await shop.store.read_time()).newest == shop.now + newest
    await shop.add()
    await shop.claim_one(after_ms=70_000)
    assert (await shop.store.read_time()).newest == shop.now + 70_000
    await shop.store.shift_waits(-HOUR)
    await shop.store.close()
    time = await open_shop().store.read_time()
    assert (time.newest, time.shifted_ms) == (shop.now + 70_000 - HOUR, -HOUR)


async def test_what_expired_by_a_false_clock_may_be_retried_once_it_is_right(shop: Any) -> None:
    delivery_id = await shop.add(deadline_at=shop.now + DAY)
    assert (await shop.store.sweep(shop.now + 10 * DAY, 0)).expired == 1
    assert not await shop.store.retry_deliveries([delivery_id], shop.now + DAY)
    assert await shop.store.retry_deliveries([delivery_id], shop.now + DAY - 1) == [delivery_id]
    assert (await shop.claim_one(after_ms=DAY - 1)).delivery.id == delivery_id
