"""What close_attempt promises for an outcome that comes after its attempt was given up as lost."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.model.message import ReceiptStatus

SETTLE = 900_000


async def lose(shop: Any, **fields: Any) -> Any:
    """Return an attempt whose lease ran out and whose delivery is `unknown` for that."""
    await shop.add(**fields)
    attempt = await shop.claim_one()
    assert (await shop.store.sweep(shop.now + 30_000, SETTLE)).lost == 1
    return attempt


@pytest.mark.parametrize(
    ("outcome", "decision", "shown", "spent"),
    [
        (Accepted("wamid-1"), Decision(State.ACCEPTED), ("accepted", None), 1),
        (
            Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
            Decision(State.DEAD, Reason.RECIPIENT_UNREACHABLE),
            ("dead", "recipient_unreachable"),
            1,
        ),
        (
            Retryable(Reason.UNAVAILABLE),
            Decision(State.PENDING, Reason.UNAVAILABLE, due_at=1_790_000_050_000),
            ("pending", "unavailable"),
            1,
        ),
        (
            Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER),
            Decision(State.PENDING, Reason.BALANCE_EMPTY, due_at=1_790_000_050_000, attempt_spent=False),
            ("pending", "balance_empty"),
            0,
        ),
        (Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT), ("unknown", "timed_out"), 1),
    ],
)
async def test_a_late_outcome_is_better_knowledge_than_having_given_up(
    shop: Any, outcome: Outcome, decision: Decision, shown: tuple[str, str | None], spent: int
) -> None:
    attempt = await lose(shop)
    assert await shop.close(attempt, outcome, decision, after_ms=40_000, tries=2)
    row = await shop.read(attempt.delivery.id)
    assert (row["state"], row["reason"]) == shown
    (recorded,) = row["attempt_list"]
    assert (recorded["outcome"], recorded["tries"]) == (type(outcome).__name__.lower(), 2)
    steps = [("pending", None), ("sending", None), ("unknown", "process_died")]
    assert await shop.timeline(attempt.delivery.id) == steps + ([] if shown[0] == "unknown" else [shown])
    if shown[0] == "pending":
        assert (await shop.claim_one(after_ms=50_000)).spent == spent
    counted = await shop.store.count_deliveries()
    assert sum(counted.values()) == 1


async def test_a_late_outcome_is_recorded_once(shop: Any) -> None:
    attempt = await lose(shop)
    gone = (Uncertain(Reason.PROCESS_DIED, "given up at shutdown"), Decision(State.UNKNOWN, Reason.PROCESS_DIED))
    assert await shop.close(attempt, *gone)
    before = await shop.read(attempt.delivery.id)
    assert not await shop.close(attempt, *gone), "as when a commit was not seen to succeed, and is tried again"
    assert not await shop.accept(attempt)
    assert await shop.read(attempt.delivery.id) == before


async def test_an_attempt_that_was_given_up_at_shutdown_is_recorded_once(shop: Any) -> None:
    await shop.add()
    attempt = await shop.claim_one()
    assert await shop.leave_unknown(attempt, Reason.PROCESS_DIED)
    assert not await shop.accept(attempt)


async def test_a_late_outcome_changes_nothing_once_another_attempt_followed(shop: Any) -> None:
    attempt = await lose(shop)
    assert await shop.store.retry_deliveries([attempt.delivery.id], shop.now + 31_000)
    newer = await shop.claim_one(after_ms=37_000)
    assert not await shop.accept(attempt, after_ms=38_000)
    assert (await shop.store.sweep(shop.now + 100_000, SETTLE)).lost == 1
    assert not await shop.accept(attempt, after_ms=100_001)
    assert await shop.accept(newer, after_ms=100_002)


@pytest.mark.parametrize("state", ["pending", "accepted"])
async def test_a_late_outcome_changes_nothing_once_the_delivery_was_settled_otherwise(shop: Any, state: str) -> None:
    attempt = await lose(shop)
    if state == "pending":
        await shop.store.retry_deliveries([attempt.delivery.id], shop.now + 31_000)
    else:
        await shop.receive(ReceiptStatus.DELIVERED, attempt.delivery.id)
    refused = Decision(State.DEAD, Reason.REQUEST_REFUSED)
    assert not await shop.close(attempt, Rejected(Reason.REQUEST_REFUSED), refused)
    assert (await shop.show(attempt.delivery.id))[0] == state


async def test_the_gap_to_the_next_message_counts_from_when_a_lost_attempt_was_given_up(shop: Any) -> None:
    """It may have reached its recipient at any moment until then."""
    await shop.add(recipient="+919800000001")
    await shop.claim_one()
    await shop.add(recipient="+919800000001")
    await shop.store.recover_open_attempts(shop.now + 5_000, SETTLE)
    assert not await shop.claim(after_ms=10_999)
    assert len(await shop.claim(after_ms=11_000)) == 1
