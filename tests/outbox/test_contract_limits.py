"""What the limits of the YAML promise of a store: never more than written, counted across a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, State, Uncertain
from app.model.message import Limit, Limits
from app.outbox.holds import free_waiting
from app.outbox.store import Tx
from app.outbox.values import NewHold
from tests.outbox.conftest import DAY, NOW, OpenStore, Shop
from tests.outbox.methods import at

HOUR = 3_600_000
GAP = 6_000
TO_ONE = Limits(person=Limit(2, DAY))
BY_ROUTE = Limits(route=Limit(3, HOUR))
IN_ALL = Limits(all=Limit(3, HOUR))
WHO: dict[str, Any] = {"recipient": "+919800000042", "deadline_at": NOW + 3 * DAY}
HELD = (NewHold("route:coupon-ready", "limit_reached"),)


def limit(shop: Shop, limits: Limits, gap_ms: int = 0) -> None:
    shop.store.limits, shop.store.gap_ms = limits, gap_ms


async def claim(shop: Shop, after_ms: int = 0, provider: str = "gallabox") -> Any:
    return await shop.store.claim_all(provider, NOW + after_ms, 50, 30_000)


def read_sends(tx: Tx) -> list[tuple[str, int, int]]:
    return [tuple(row) for row in tx.rows("SELECT scope, at, n FROM sends WHERE n > 0 ORDER BY scope, at")]


async def test_over_a_persons_limit_a_message_waits_and_goes_once_the_window_lets_it(shop: Shop) -> None:
    limit(shop, TO_ONE, GAP)
    first, second, third, fourth = [await shop.add(**WHO) for _ in range(4)]
    for after_ms, expected in [(0, [first]), (GAP, [second]), (2 * GAP, [])]:
        assert [each.delivery.id for each in (await claim(shop, after_ms)).attempts] == expected
    for waiting in (third, fourth):
        assert await shop.show(waiting) == ("pending", "limit_person", None)
    assert await shop.store.next_due_at("gallabox") == NOW + DAY
    assert (await claim(shop, DAY - 1)).attempts == []
    (attempt,) = (await claim(shop, DAY)).attempts
    assert attempt.delivery.id == third
    assert (await claim(shop, DAY + GAP)).attempts[0].delivery.id == fourth
    assert (await shop.read(third))["reason"] is None


async def test_a_persons_limit_counts_over_routes_and_providers_and_says_once_whom_it_stops(shop: Shop) -> None:
    limit(shop, TO_ONE)
    await shop.add(**WHO)
    await shop.add(**WHO, route="coins", provider="bitespeed")
    late = await shop.add(**WHO, route="coins")
    assert [len((await claim(shop, provider=each)).attempts) for each in ("gallabox", "bitespeed")] == [2, 0]
    assert (await claim(shop)).limited == ()
    other = await shop.add(**WHO, route="tier")
    claimed = await claim(shop, 1)
    assert claimed[:4] == ([], (), ("tier",), NOW + DAY)
    assert await shop.show(other) == ("pending", "limit_person", None)
    assert (await shop.show(late))[0] == "sending"


async def test_a_routes_own_limit_on_a_person_counts_this_route_alone(shop: Shop) -> None:
    limit(shop, Limits(routes={"coins": (Limit(1, DAY), None)}))
    for route in ("coins", "coins", "tier", "tier"):
        await shop.add(**WHO, route=route)
    routes = [each.delivery.route for each in (await claim(shop)).attempts]
    assert sorted(routes) == ["coins", "tier", "tier"]


async def test_a_message_that_waits_for_a_limit_ends_at_its_deadline(shop: Shop) -> None:
    limit(shop, TO_ONE)
    ids = [await shop.add(**{**WHO, "deadline_at": NOW + HOUR}) for _ in range(3)]
    await claim(shop)
    await shop.store.sweep(NOW + HOUR, 1)
    assert await shop.show(ids[2]) == ("expired", "deadline_passed", None)


async def test_over_a_routes_limit_it_is_held_and_another_route_goes_on(shop: Shop) -> None:
    limit(shop, BY_ROUTE)
    await shop.add_many(5)
    await shop.add_many(2, route="coins")
    claimed = await claim(shop)
    assert len(claimed.attempts) == 5
    assert claimed.holds_set == HELD
    assert [(hold.scope, hold.reason, hold.deliveries, hold.probe_at) for hold in await shop.store.list_holds()] == [
        ("route:coupon-ready", "limit_reached", 2, None)
    ]
    assert (await claim(shop, 2 * HOUR)).attempts == []  # it does not end by itself: somebody should have looked


async def test_over_the_limit_of_all_the_provider_is_held_and_the_next_one_too_once_it_asks(shop: Shop) -> None:
    limit(shop, IN_ALL)
    await shop.add_many(2)
    await shop.add_many(2, route="coins")
    await shop.add_many(2, route="tier", provider="bitespeed")
    claimed = await claim(shop)
    assert len(claimed.attempts) == 3
    assert claimed.holds_set == (NewHold("provider:gallabox", "limit_reached"),)
    claimed = await claim(shop, provider="bitespeed")
    assert claimed[:4] == ([], (NewHold("provider:bitespeed", "limit_reached"),), (), None)


@pytest.mark.parametrize(
    ("limits", "scope"), [(BY_ROUTE, "route:coupon-ready"), (IN_ALL, "provider:gallabox")], ids=["route", "all"]
)
async def test_who_lets_go_lets_as_many_go_again(shop: Shop, limits: Limits, scope: str) -> None:
    limit(shop, limits)
    await shop.add_many(10)
    for _ in range(3):
        assert len((await claim(shop)).attempts) == 3
        assert (await claim(shop)).attempts == []
        assert await shop.store.release_hold(scope, NOW)
    assert len((await claim(shop)).attempts) == 1


async def test_a_pause_by_hand_that_is_let_go_is_no_way_around_a_limit(shop: Shop) -> None:
    limit(shop, BY_ROUTE)
    await shop.add_many(9)
    await claim(shop)
    await shop.store.put_hold("route:coupon-ready", Reason.BY_HAND, NOW)
    assert await shop.store.release_hold("route:coupon-ready", NOW)
    claimed = await claim(shop)
    assert (claimed.attempts, claimed.holds_set) == ([], HELD)


async def test_a_restart_forgets_nothing_that_was_counted(open_store: OpenStore, wrap: Callable[..., Shop]) -> None:
    shop = wrap(open_store())
    limit(shop, TO_ONE)
    for _ in range(4):
        await shop.add(**WHO)
    assert len((await claim(shop)).attempts) == 2
    await shop.store.close()
    again = wrap(open_store())
    limit(again, TO_ONE)
    await again.store.recover_open_attempts(NOW, 1)
    assert (await claim(again, HOUR)).attempts == []
    assert len((await claim(again, DAY)).attempts) == 2


NEVER = Decision(State.PENDING, Reason.CONNECT_FAILED, due_at=NOW + HOUR)


@pytest.mark.parametrize(
    ("outcome", "decision", "counts"),
    [
        (Accepted(), Decision(State.ACCEPTED), True),
        (Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT), True),
        (Retryable(Reason.CONNECT_FAILED), NEVER, False),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 400: no"), Decision(State.DEAD, Reason.REQUEST_REFUSED), False),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 200: no"), Decision(State.DEAD, Reason.REQUEST_REFUSED), True),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_an_attempt_that_surely_was_not_sent_does_not_count(
    shop: Shop, outcome: Outcome, decision: Decision, counts: bool
) -> None:
    limit(shop, Limits(Limit(1, DAY), Limit(100, HOUR), Limit(100, HOUR)))
    await shop.add(**WHO)
    (attempt,) = (await claim(shop)).attempts
    waiting = await shop.add(**WHO)
    assert (await claim(shop)).attempts == []
    assert await shop.close(attempt, outcome, decision)
    assert len(await shop.store.read(read_sends)) == (3 if counts else 0)
    # Who waited asks again at once, unless the message that was not sent goes once more.
    ids = [each.delivery.id for each in (await claim(shop, 1)).attempts]
    assert ids == ([waiting] if not counts and decision.state is State.DEAD else [])


async def test_a_limit_that_was_changed_is_asked_again_for_whom_it_kept_waiting(shop: Shop) -> None:
    limit(shop, TO_ONE)
    for _ in range(4):
        await shop.add(**WHO)
    await claim(shop)
    limit(shop, Limits(person=Limit(3, DAY)))
    assert (await claim(shop)).attempts == []
    assert await shop.store.write(at(NOW, free_waiting, provider="gallabox")) == 2
    assert len((await claim(shop, HOUR)).attempts) == 1


async def test_no_limit_counts_nothing_and_old_counts_are_dropped(shop: Shop) -> None:
    await shop.add_many(3)
    await shop.claim()
    assert await shop.store.read(read_sends) == []
    limit(shop, Limits(person=Limit(1, DAY), all=Limit(100, HOUR)))
    await shop.add_many(2)
    await claim(shop)
    assert len(await shop.store.read(read_sends)) == 3
    await shop.store.sweep(NOW + DAY + HOUR, 1)
    assert await shop.store.read(read_sends) == []


async def test_a_clock_that_is_set_back_silences_nobody_for_longer_than_the_window(shop: Shop) -> None:
    limit(shop, TO_ONE)
    for _ in range(3):
        await shop.add(**{**WHO, "deadline_at": NOW + 90 * DAY, "due_at": 0})
    await claim(shop, 30 * DAY)
    assert await shop.store.shift_waits(NOW, NOW + 30 * DAY) == -30 * DAY
    assert [(at, n) for _, at, n in await shop.store.read(read_sends)] == [(NOW, 2)]
    assert (await claim(shop, DAY - 1)).attempts == []
    assert len((await claim(shop, DAY)).attempts) == 1


async def test_what_was_counted_of_a_person_is_erased_with_them(shop: Shop) -> None:
    limit(shop, Limits(Limit(5, DAY), routes={"coupon-ready": (Limit(5, DAY), None)}))
    await shop.add(**WHO)
    await shop.add()
    for attempt in (await claim(shop)).attempts:
        await shop.accept(attempt)
    assert len(await shop.store.read(read_sends)) == 4
    await shop.store.erase_person(WHO["recipient"], NOW)
    assert len(await shop.store.read(read_sends)) == 2
