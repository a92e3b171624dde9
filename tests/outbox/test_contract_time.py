"""What sweep, retry_deliveries and shift_waits promise, whatever the store."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, State, Uncertain
from app.model.message import ReceiptStatus
from app.outbox import sweep
from app.outbox.store import Tx
from app.outbox.sweep import shift_waits
from app.outbox.values import LaneState, SweepCounts

DAY = 86_400_000


async def test_sweeping_expires_what_is_past_its_deadline_held_ones_too(shop: Any) -> None:
    held = await shop.add(deadline_at=shop.now + 5)
    later = await shop.add(deadline_at=shop.now + 6)
    await shop.store.put_hold("provider:gallabox", "by_hand", shop.now)
    assert await shop.store.sweep(shop.now + 5, 0) == SweepCounts(expired=1, resent=0, lost=0)
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
        assert await shop.store.sweep(shop.now + 100, 0) == SweepCounts(expired=0, resent=0, lost=0)
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


# -- the wall clock was set back -------------------------------------------------------------------

HOUR = 3_600_000
STEPS = [-HOUR, -DAY]
REFUSED = Reason.CONNECT_FAILED


async def set_back(shop: Any, by_ms: int) -> None:
    assert await shop.store.shift_waits(shop.now + by_ms, shop.now) == by_ms


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_retry_waits_as_long_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(deadline_at=shop.now + 20 * DAY)
    await shop.retry_later(await shop.claim_one(), 60_000, why=REFUSED)
    await set_back(shop, by_ms)
    assert await shop.store.next_due_at("gallabox") == shop.now + by_ms + 60_000
    assert not await shop.claim(after_ms=by_ms + 59_999)
    assert await shop.claim(after_ms=by_ms + 60_000)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_an_unknown_settles_as_late_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(on_unknown="resend", deadline_at=shop.now + 20 * DAY)
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=900_000)
    await set_back(shop, by_ms)
    assert (await shop.store.sweep(shop.now + by_ms + 899_999, 0)).resent == 0
    assert (await shop.store.sweep(shop.now + by_ms + 900_000, 0)).resent == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_an_open_attempt_is_not_given_up_by_the_step(shop: Any, by_ms: int) -> None:
    await shop.add()
    await shop.claim_one()
    await set_back(shop, by_ms)
    assert (await shop.store.sweep(shop.now + by_ms + 29_999, 0)).lost == 0
    assert (await shop.store.sweep(shop.now + 30_000, 0)).lost == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_an_attempt_that_nobody_will_end_is_given_up_as_late_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add()
    await shop.claim_one()
    await set_back(shop, by_ms)
    assert (await shop.store.sweep(shop.now + by_ms + 30_000, 0)).lost == 1


async def test_what_was_opened_since_the_step_is_not_given_up_sooner(shop: Any) -> None:
    await shop.add(due_at=shop.now - HOUR)
    await shop.claim_one(after_ms=-HOUR)
    assert await shop.store.shift_waits(shop.now - HOUR + 4_000, shop.now) == 4_000 - HOUR
    assert (await shop.store.sweep(shop.now - HOUR + 29_999, 0)).lost == 0
    assert (await shop.store.sweep(shop.now - HOUR + 30_000, 0)).lost == 1


async def test_what_became_unknown_since_the_step_is_not_sent_again_sooner(shop: Any) -> None:
    await shop.add(due_at=shop.now - HOUR, on_unknown="resend", deadline_at=shop.now + 20 * DAY)
    attempt = await shop.claim_one(after_ms=-HOUR)
    why, due_at = Reason.TIMED_OUT, shop.now - HOUR + 900_000
    await shop.close(attempt, Uncertain(why), Decision(State.UNKNOWN, why, due_at=due_at), after_ms=-HOUR)
    assert await shop.store.shift_waits(shop.now - HOUR + 4_000, shop.now) == 4_000 - HOUR
    assert (await shop.store.sweep(due_at - 1, 0)).resent == 0
    assert (await shop.store.sweep(due_at, 0)).resent == 1


@pytest.mark.parametrize(
    "promise",
    [
        test_what_was_opened_since_the_step_is_not_given_up_sooner,
        test_what_became_unknown_since_the_step_is_not_sent_again_sooner,
    ],
)
async def test_control_whoever_moves_all_that_lies_ahead_is_too_soon(
    shop: Any, promise: Callable[[Any], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = re.compile(" AND (updated_at|last_attempt_at) > :now")
    monkeypatch.setattr(sweep, "_SHIFTS", [told.sub("", each) for each in sweep._SHIFTS])
    with pytest.raises(AssertionError):
        await promise(shop)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_probe_comes_as_late_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add(deadline_at=shop.now + 20 * DAY, due_at=shop.now + by_ms)
    await shop.store.put_hold("provider:gallabox", "credentials_refused", shop.now, shop.now + 300_000)
    await set_back(shop, by_ms)
    (hold,) = await shop.store.list_holds()
    assert (hold.since, hold.probe_at) == (shop.now, shop.now + by_ms + 300_000)
    assert not await shop.claim(after_ms=by_ms + 299_999)
    assert await shop.claim(after_ms=by_ms + 300_000)


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_recipients_gap_lasts_as_long_as_before_the_step(shop: Any, by_ms: int) -> None:
    await shop.add_many(2, recipient="+919800000001", deadline_at=shop.now + 20 * DAY)
    assert len(await shop.claim()) == 1
    await set_back(shop, by_ms)
    assert not await shop.claim(after_ms=by_ms + 5_999)
    assert len(await shop.claim(after_ms=by_ms + 6_000)) == 1


@pytest.mark.parametrize("by_ms", STEPS)
async def test_a_lanes_pause_and_luck_move_with_the_step(shop: Any, by_ms: int) -> None:
    await shop.add()
    await shop.claim_one()
    await shop.store.save_lane("gallabox", LaneState(None, shop.now + 5, 6, shop.now + 7, shop.now - 1, shop.now - 2))
    await set_back(shop, by_ms)
    now = shop.now + by_ms
    assert await shop.store.read_lane("gallabox") == LaneState(now, now + 5, 6, now + 7, now - 1, now - 2)


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
    await set_back(shop, by_ms)
    assert [pick(await shop.read(id_)) for id_ in ids] == before


async def test_what_was_reckoned_since_the_step_keeps_its_gap_and_its_turn(shop: Any) -> None:
    await shop.add_many(2, recipient="+919800000001", deadline_at=shop.now + 20 * DAY, due_at=shop.now - HOUR)
    assert len(await shop.claim(after_ms=-HOUR)) == 1
    assert await shop.store.shift_waits(shop.now - HOUR + 4_000, shop.now) == 4_000 - HOUR
    assert not await shop.claim(after_ms=-HOUR + 5_999)
    assert await shop.claim(after_ms=-HOUR + 6_000)


@pytest.mark.parametrize("by_ms", [HOUR, 0, -5_000])
async def test_a_clock_that_goes_on_or_is_corrected_moves_nothing(shop: Any, by_ms: int) -> None:
    await shop.add()
    assert await shop.store.shift_waits(shop.now + by_ms, shop.now) == 0
    assert await shop.store.next_due_at("gallabox") == shop.now


async def test_a_dedup_key_is_known_as_long_as_the_world_says(shop: Any) -> None:
    await shop.add(dedup_key="ACME", recipient="+919800000001")
    await set_back(shop, -DAY)
    again = await shop.add(dedup_key="ACME", recipient="+919800000001")
    assert (await shop.show(again))[0] == "suppressed"


async def test_whoever_asks_again_and_knows_no_time_moves_nothing_twice(shop: Any) -> None:
    await shop.add()
    await shop.claim_one()
    await shop.store.sweep(shop.now, 0)
    await shop.store.put_hold("provider:gallabox", "credentials_refused", shop.now, shop.now + 300_000)
    await set_back(shop, -HOUR)
    for after_ms in (0, 10, 60_000):
        assert await shop.store.shift_waits(shop.now - HOUR + after_ms, None) == 0
    (hold,) = await shop.store.list_holds()
    assert hold.probe_at == shop.now - HOUR + 300_000
    assert await shop.store.shift_waits(shop.now - HOUR, shop.now) == -HOUR  # control: whoever gives the time again


async def test_the_store_knows_to_a_minute_when_it_was_last_in_use(shop: Any, open_shop: Any) -> None:
    async def find_newest() -> int:
        """Ask it how far a clock that begins with the epoch was set back, and undo what it moved."""
        with pytest.raises(ZeroDivisionError):
            await shop.store.write(partial(_ask_newest, told))
        return int(told.pop())

    told: list[int] = []
    assert await shop.store.shift_waits(0, None) == 0, "never: nothing can have been set back"
    for after_ms, newest in ((0, 0), (59_999, 0), (60_000, 60_000), (1_000, 60_000)):
        await shop.store.sweep(shop.now + after_ms, 0)
        assert await find_newest() == shop.now + newest
    await shop.add()
    await shop.claim_one(after_ms=70_000)
    assert await find_newest() == shop.now + 70_000
    await shop.store.close()
    shop = open_shop()
    assert await find_newest() == shop.now + 70_000
    assert await shop.store.shift_waits(shop.now - HOUR, None) == -HOUR - 70_000
    assert await find_newest() == shop.now - HOUR


async def test_what_came_by_a_clock_that_nobody_noted_waits_no_longer_once_it_is_right(shop: Any) -> None:
    """A process that died before its next sweep."""
    await shop.store.sweep(shop.now, 0)
    ahead = shop.now + 10 * DAY
    await shop.add(created_at=ahead, due_at=ahead, deadline_at=ahead + DAY)
    assert await shop.store.shift_waits(shop.now, None) == -10 * DAY
    assert await shop.store.next_due_at("gallabox") == shop.now
    assert await shop.store.shift_waits(shop.now, None) == 0
    assert await shop.claim(after_ms=0)


def _ask_newest(told: list[int], tx: Tx) -> None:
    tx.now = 0  # type: ignore[misc]
    told.append(-shift_waits(tx, None))
    raise ZeroDivisionError


async def test_what_expired_by_a_false_clock_may_be_retried_once_it_is_right(shop: Any) -> None:
    delivery_id = await shop.add(deadline_at=shop.now + DAY)
    assert (await shop.store.sweep(shop.now + 10 * DAY, 0)).expired == 1
    assert not await shop.store.retry_deliveries([delivery_id], shop.now + DAY)
    assert await shop.store.retry_deliveries([delivery_id], shop.now + DAY - 1) == [delivery_id]
    assert (await shop.claim_one(after_ms=DAY - 1)).delivery.id == delivery_id
