"""What close_attempt and recover_open_attempts promise, whatever the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.model.message import ReceiptStatus

SETTLE = 900_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("outcome", "decision", "shown", "recorded"),
    [
        (
            Accepted("wamid-1"),
            Decision(State.ACCEPTED),
            ("accepted", None, None),
            ("accepted", None, ""),
        ),
        (
            Retryable(Reason.UNAVAILABLE, detail="503"),
            Decision(State.PENDING, Reason.UNAVAILABLE, due_at=1_790_000_009_000),
            ("pending", "unavailable", "2026-09-21T14:13:29.000Z"),
            ("retryable", "unavailable", "503"),
        ),
        (
            Rejected(Reason.RECIPIENT_UNREACHABLE, detail="131026"),
            Decision(State.DEAD, Reason.RECIPIENT_UNREACHABLE),
            ("dead", "recipient_unreachable", None),
            ("rejected", "recipient_unreachable", "131026"),
        ),
        (
            Uncertain(Reason.TIMED_OUT),
            Decision(State.UNKNOWN, Reason.TIMED_OUT, due_at=1_790_000_900_000),
            ("unknown", "timed_out", "2026-09-21T14:28:20.000Z"),
            ("uncertain", "timed_out", ""),
        ),
        (
            Retryable(Reason.CONNECT_FAILED),
            Decision(State.EXPIRED, Reason.DEADLINE_PASSED),
            ("expired", "deadline_passed", None),
            ("retryable", "connect_failed", ""),
        ),
    ],
)
async def test_closing_records_the_attempt_and_what_follows(
    shop: Any, outcome: Outcome, decision: Decision, shown: tuple[Any, ...], recorded: tuple[Any, ...]
) -> None:
    delivery_id = await shop.add()
    assert await shop.close(await shop.claim_one(), outcome, decision, after_ms=250, tries=2)
    row = await shop.read(delivery_id)
    assert (row["state"], row["reason"], row["next_attempt_at"]) == shown
    (attempt,) = row["attempt_list"]
    assert (attempt["outcome"], attempt["reason"], attempt["detail"]) == recorded
    assert (attempt["number"], attempt["tries"], attempt["ended_at"]) == (1, 2, "2026-09-21T14:13:20.250Z")
    assert (await shop.timeline(delivery_id))[-1] == (shown[0], shown[1])
    assert row["provider_message_id"] == ("wamid-1" if isinstance(outcome, Accepted) else None)


async def test_a_retried_delivery_is_claimed_when_due_with_the_next_number(shop: Any) -> None:
    await shop.add()
    await shop.retry_later(await shop.claim_one(), 8_000, why=Reason.UNAVAILABLE)
    assert await shop.store.next_due_at("gallabox") == shop.now + 8_000
    assert not await shop.claim(after_ms=7_999)
    attempt = await shop.claim_one(after_ms=8_000)
    assert (attempt.number, attempt.spent) == (2, 1)


async def test_an_attempt_that_is_not_spent_is_kept_but_does_not_count_for_backing_off(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.retry_later(await shop.claim_one(), 8_000, why=Reason.RATE_LIMITED, attempt_spent=False)
    attempt = await shop.claim_one(after_ms=8_000)
    assert (attempt.number, attempt.spent) == (2, 0)
    assert (await shop.read(delivery_id))["attempts"] == 2


async def test_a_retry_without_a_due_time_is_due_at_once(shop: Any) -> None:
    await shop.add()
    await shop.close(
        await shop.claim_one(), Retryable(Reason.UNAVAILABLE), Decision(State.PENDING, Reason.UNAVAILABLE), after_ms=7
    )
    assert await shop.store.next_due_at("gallabox") == shop.now + 7


async def test_closing_twice_changes_nothing_the_second_time(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    assert await shop.accept(attempt)
    before = await shop.read(delivery_id)
    assert not await shop.close(attempt, Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT))
    assert await shop.read(delivery_id) == before


async def test_a_stale_attempt_closes_nothing_nor_sets_a_hold(shop: Any) -> None:
    delivery_id = await shop.add()
    stale = await shop.claim_one()
    await shop.retry_later(stale, 8_000, why=Reason.UNAVAILABLE)
    assert (await shop.claim_one(after_ms=8_000)).number == 2
    refused = Decision(State.PENDING, Reason.CREDENTIALS_REFUSED, due_at=shop.now, hold_scope="provider:gallabox")
    assert not await shop.close(stale, Rejected(Reason.CREDENTIALS_REFUSED), refused, after_ms=9_000)
    assert await shop.show(delivery_id) == ("sending", None, None)
    assert not await shop.store.list_holds()


async def test_what_stays_uncertain_is_sent_again_once_and_then_waits_for_a_person(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=SETTLE)
    assert (await shop.store.sweep(shop.now + SETTLE, SETTLE)).resent == 1
    await shop.leave_unknown(await shop.claim_one(after_ms=SETTLE), Reason.TIMED_OUT, due_ms=2 * SETTLE)
    assert (await shop.store.sweep(shop.now + 9 * SETTLE, SETTLE)).resent == 0
    assert await shop.show(delivery_id) == ("unknown", "timed_out", None)
    assert await shop.store.retry_deliveries([delivery_id], shop.now + 9 * SETTLE) == [delivery_id]
    assert (await shop.claim_one(after_ms=9 * SETTLE)).number == 3


async def test_a_death_of_ours_does_not_use_the_resend_up(shop: Any) -> None:
    await shop.add(on_unknown="resend")
    await shop.claim_one()
    await shop.store.recover_open_attempts(shop.now, SETTLE)
    await shop.store.sweep(shop.now + SETTLE, SETTLE)
    await shop.leave_unknown(await shop.claim_one(after_ms=SETTLE), Reason.TIMED_OUT, due_ms=2 * SETTLE)
    assert (await shop.store.sweep(shop.now + 2 * SETTLE, SETTLE)).resent == 1


async def test_an_attempt_of_a_delivery_nobody_knows_closes_nothing(shop: Any) -> None:
    await shop.add()
    attempt = await shop.claim_one()
    assert not await shop.accept(replace(attempt, delivery=replace(attempt.delivery, id="dlv-none")))


async def test_a_hold_is_named_for_what_the_provider_said_even_where_the_one_message_expires(shop: Any) -> None:
    await shop.add()
    expired = Decision(
        State.EXPIRED, Reason.DEADLINE_PASSED, hold_scope="provider:gallabox", hold_probe_at=shop.now + 300_000
    )
    await shop.close(await shop.claim_one(), Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), expired)
    assert [hold.reason for hold in await shop.store.list_holds()] == ["balance_empty"]


async def test_a_decision_may_set_a_hold_and_one_that_stands_keeps_its_since(shop: Any) -> None:
    await shop.add_many(2)
    first, second = await shop.claim()
    for attempt, after_ms in ((first, 10), (second, 20)):
        refused = Decision(
            State.PENDING,
            Reason.CREDENTIALS_REFUSED,
            due_at=shop.now + after_ms,
            hold_scope="provider:gallabox",
            hold_probe_at=shop.now + after_ms + 300_000,
            attempt_spent=False,
        )
        await shop.close(attempt, Rejected(Reason.CREDENTIALS_REFUSED), refused, after_ms=after_ms)
    (hold,) = await shop.store.list_holds()
    assert (hold.scope, hold.reason, hold.since, hold.deliveries, hold.probe_at) == (
        "provider:gallabox",
        "credentials_refused",
        shop.now + 10,
        2,
        shop.now + 300_020,
    )


@pytest.mark.parametrize(("on_unknown", "due_ms"), [("hold", None), ("resend", SETTLE)])
async def test_what_a_dead_process_left_open_is_unknown_after_recovery(
    open_shop: Callable[..., Any], on_unknown: str, due_ms: int | None
) -> None:
    shop = open_shop()
    delivery_id = await shop.add(on_unknown=on_unknown)
    await shop.claim_one()
    await shop.store.close()
    shop = open_shop()
    assert await shop.store.recover_open_attempts(shop.now + 50, SETTLE) == 1
    row = await shop.read(delivery_id)
    assert (row["state"], row["reason"]) == ("unknown", "process_died")
    assert [(each["outcome"], each["reason"]) for each in row["attempt_list"]] == [("uncertain", "process_died")]
    assert await shop.timeline(delivery_id) == [("pending", None), ("sending", None), ("unknown", "process_died")]
    swept = await shop.store.sweep(shop.now + 50 + SETTLE, SETTLE)
    assert swept.resent == (0 if due_ms is None else 1)


async def test_recovery_settles_what_already_has_a_receipt(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.claim_one()
    await shop.receive(ReceiptStatus.SENT, delivery_id)
    assert await shop.store.recover_open_attempts(shop.now, SETTLE) == 1
    assert await shop.show(delivery_id) == ("accepted", None, "sent")
    assert (await shop.store.sweep(shop.now + SETTLE, SETTLE)).resent == 0


async def test_recovery_touches_nothing_that_is_not_open(shop: Any) -> None:
    await shop.add_many(3)
    first, second = await shop.claim(2)
    await shop.accept(first)
    assert await shop.store.recover_open_attempts(shop.now, SETTLE) == 1
    assert await shop.store.recover_open_attempts(shop.now, SETTLE) == 0
    assert (await shop.show(first.delivery.id))[0] == "accepted"
    assert (await shop.show(second.delivery.id))[0] == "unknown"
    assert len(await shop.claim()) == 1


async def test_the_third_death_with_one_delivery_open_leaves_it_to_a_person(shop: Any) -> None:
    delivery_id = await shop.add(on_unknown="resend", deadline_at=shop.now + DAY)
    resent = []
    for death in range(4):
        await shop.claim(after_ms=death * 10_000)
        await shop.store.recover_open_attempts(shop.now + death * 10_000, 1_000)
        resent.append((await shop.store.sweep(shop.now + death * 10_000 + 1_000, 1_000)).resent)
    assert resent == [1, 1, 0, 0]
    assert await shop.show(delivery_id) == ("unknown", "process_died", None)
