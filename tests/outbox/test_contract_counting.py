"""What the metrics ask a store for, whatever the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from app.model.delivery import Reason, State
from app.model.event import TEST_SOURCE
from app.model.message import ReceiptStatus
from tests.outbox.methods import Methods as Outbox

SECOND, MINUTE, DAY = 1_000, 60_000, 86_400_000
ROUTE = "coupon-ready"


async def count_timelines(shop: Any) -> Counter[tuple[str, str, str]]:
    """Return how often each state stands in the timelines, by route and provider; not `sending`."""
    found: Counter[tuple[str, str, str]] = Counter()
    for id_ in await shop.list_ids(limit=500):
        row = await shop.read(id_)
        states = [each["value"] for each in row["timeline"] if each["kind"] == "state"]
        found.update((row["route"], row["provider"], state) for state in states if state != "sending")
    return found


async def test_every_change_of_state_is_counted_whoever_made_it(shop: Any) -> None:
    accepted, retried, unknown, dead_later = [await shop.add() for _ in range(4)]
    await shop.add(state=State.DEAD, reason=Reason.VARIABLE_MISSING)
    await shop.add(state=State.SHADOW, route="b", provider="bitespeed")
    await shop.add(deadline_at=shop.now + SECOND)  # expired by the claim
    await shop.add(deadline_at=shop.now + 2 * SECOND, due_at=shop.now + DAY)  # expired by the sweep
    attempts = {each.delivery.id: each for each in await shop.claim(4)}
    await shop.accept(attempts[accepted])
    await shop.retry_later(attempts[retried], MINUTE, why=Reason.UNAVAILABLE)
    await shop.leave_unknown(attempts[unknown], Reason.TIMED_OUT)
    await shop.claim(after_ms=SECOND)
    await shop.store.sweep(shop.now + 3 * SECOND, 0)
    await shop.receive(ReceiptStatus.DELIVERED, unknown)  # settles it
    await shop.store.recover_open_attempts(shop.now, 0)  # dead_later's, whose process died
    await shop.store.retry_deliveries([dead_later], shop.now)  # by hand
    counted = await shop.store.count_reached()
    assert counted == await count_timelines(shop)
    assert counted == {
        (ROUTE, "gallabox", "pending"): 8,
        (ROUTE, "gallabox", "accepted"): 2,
        (ROUTE, "gallabox", "unknown"): 2,
        (ROUTE, "gallabox", "dead"): 1,
        (ROUTE, "gallabox", "expired"): 2,
        ("b", "bitespeed", "shadow"): 1,
    }


async def test_what_was_counted_outlasts_the_process_and_the_records(
    open_store: Callable[..., Outbox], wrap: Callable[..., Any]
) -> None:
    store = open_store()
    await wrap(store).add(state=State.DEAD)
    before = await store.count_reached()
    assert before == {(ROUTE, "gallabox", State.DEAD): 1}
    await store.close()
    again = wrap(open_store())
    assert await again.store.count_reached() == before
    assert await again.store.forget_records(again.now + 400 * DAY) == 1
    assert await again.store.count_reached() == before


async def test_the_oldest_due_is_since_when_the_oldest_could_have_gone(shop: Any) -> None:
    assert await shop.store.find_oldest_due("gallabox", shop.now) is None
    await shop.add(due_at=shop.now + 1)
    assert await shop.store.find_oldest_due("gallabox", shop.now) is None
    assert await shop.store.find_oldest_due("gallabox", shop.now + 1) == shop.now + 1
    await shop.add(due_at=shop.now - 7 * MINUTE, route="b", template="t-2")
    await shop.add(due_at=shop.now - 9 * MINUTE, provider="bitespeed")
    assert await shop.store.find_oldest_due("gallabox", shop.now) == shop.now - 7 * MINUTE
    assert await shop.store.find_oldest_due("bitespeed", shop.now) == shop.now - 9 * MINUTE
    assert await shop.store.find_oldest_due("nobody", shop.now) is None


@pytest.mark.parametrize("scope", ["provider:gallabox", "route:a", "template:gallabox/t-1"])
@pytest.mark.parametrize("probe_at", [None, 0])
async def test_what_is_held_does_not_wait_for_the_lane(shop: Any, scope: str, probe_at: int | None) -> None:
    await shop.add(due_at=shop.now - 9 * MINUTE, route="a", template="t-1")
    await shop.add(due_at=shop.now - 2 * MINUTE, route="b", template="t-2")
    await shop.store.put_hold(scope, "template_paused", shop.now, probe_at)
    expected = None if scope == "provider:gallabox" else shop.now - 2 * MINUTE
    assert await shop.store.find_oldest_due("gallabox", shop.now) == expected
    await shop.store.release_hold(scope, shop.now)
    assert await shop.store.find_oldest_due("gallabox", shop.now) == shop.now - 9 * MINUTE


async def test_what_is_being_sent_or_has_ended_does_not_wait(shop: Any) -> None:
    await shop.add(due_at=shop.now - 9 * MINUTE, recipient="+919800000001")
    await shop.add(due_at=shop.now - 5 * MINUTE, recipient="+919800000001")  # put off: one message in 6 s
    await shop.claim()
    assert await shop.store.find_oldest_due("gallabox", shop.now) is None
    assert await shop.store.find_oldest_due("gallabox", shop.now + DAY) == await shop.store.next_due_at("gallabox")


async def test_a_topics_last_event_is_remembered_but_for_tests(shop: Any) -> None:
    assert await shop.store.read_last_events() == {}
    for topic, received_at, source in (
        ("coupon_create", 5, "nector"),
        ("coupon_create", 3, "nector"),
        ("lead_create", 4, "nector"),
        ("coupon_create", 9, TEST_SOURCE),
    ):
        await shop.store.add_event(shop.event(topic=topic, received_at=received_at, source=source), [])
    assert await shop.store.read_last_events() == {"coupon_create": 5, "lead_create": 4}
    for _ in range(1_000):
        await shop.store.add_event(shop.event(topic="order_create", received_at=6), [])
    assert await shop.store.read_last_events() == {"order_create": 6}
