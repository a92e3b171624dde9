"""When a route is held because its messages are refused again and again, whatever the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.model.message import Receipt, ReceiptStatus
from app.outbox.replay import EventQuery
from app.outbox.values import Closed, Hold

DEAD = Decision(State.DEAD, Reason.PARAMETERS_REFUSED)
ROUTE = "route:coupon-ready"


async def refuse(
    shop: Any, times: int, reason: Reason = Reason.PARAMETERS_REFUSED, scope: Scope = Scope.MESSAGE, **fields: Any
) -> list[str | None]:
    """Have so many messages refused for good, one after the other; return the new hold of each, if any."""
    holds: list[str | None] = []
    for _ in range(times):
        await shop.add(**fields)
        closed = await shop.store.close_attempt(
            await shop.claim_one(), Rejected(reason, scope), Decision(State.DEAD, reason), shop.now, 1
        )
        holds += [hold.scope for hold in closed.holds_set] or [None]
    return holds


async def test_the_fifth_equal_refusal_in_a_row_holds_the_route(shop: Any) -> None:
    assert await refuse(shop, 5) == [None, None, None, None, ROUTE]
    await shop.add_many(2)
    other = await shop.add(route="other")
    assert [each.delivery.id for each in await shop.claim()] == [other]
    assert list(await shop.store.list_holds()) == [Hold(ROUTE, "refused_repeatedly", shop.now, 2, shop.now + 900_000)]


async def test_what_was_open_when_the_route_was_held_sets_it_no_second_time(shop: Any) -> None:
    await shop.add_many(7)
    refused = Rejected(Reason.PARAMETERS_REFUSED)
    closed = [await shop.store.close_attempt(each, refused, DEAD, shop.now, 1) for each in await shop.claim()]
    assert [[hold.scope for hold in each.holds_set] for each in closed] == [[]] * 4 + [[ROUTE]] + [[]] * 2


@pytest.mark.parametrize(
    ("reason", "scope", "held"),
    [
        (Reason.REQUEST_REFUSED, Scope.MESSAGE, False),  # another fault, not the same four times
        (Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT, True),  # somebody without WhatsApp says nothing of the route
    ],
)
async def test_only_the_same_refusal_of_a_message_counts_and_a_recipients_is_passed_over(
    shop: Any, reason: Reason, scope: Scope, held: bool
) -> None:
    await refuse(shop, 4)
    await refuse(shop, 1, reason, scope)
    assert await refuse(shop, 1) == [ROUTE if held else None]


async def test_an_acceptance_begins_the_count_again_and_what_is_retried_does_not(shop: Any) -> None:
    await refuse(shop, 4)
    await shop.add()
    await shop.retry_later(await shop.claim_one(), 8_000, why=Reason.UNAVAILABLE)
    await shop.add()
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    await shop.add()
    await shop.accept(await shop.claim_one())
    assert await refuse(shop, 4) == [None] * 4
    assert await refuse(shop, 1) == [ROUTE]


async def test_routes_are_counted_apart(shop: Any) -> None:
    await refuse(shop, 4, route="a")
    assert await refuse(shop, 4, route="b") == [None] * 4
    assert await refuse(shop, 1, route="a") == ["route:a"]


async def test_refusals_are_counted_across_a_restart(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    await refuse(shop, 4)
    await shop.store.close()
    assert await refuse(open_shop(), 1) == [ROUTE]


async def test_a_route_that_is_released_by_hand_is_counted_anew(shop: Any) -> None:
    await refuse(shop, 5)
    assert await shop.store.release_hold(ROUTE, shop.now)
    assert await refuse(shop, 5) == [None] * 4 + [ROUTE]


async def test_a_probe_that_is_refused_again_keeps_its_delivery_and_puts_the_next_one_off(shop: Any) -> None:
    await refuse(shop, 5)
    delivery_id = await shop.add()
    (probe,) = await shop.claim(after_ms=900_000)
    kept = Decision(State.PENDING, Reason.PARAMETERS_REFUSED, shop.now + 900_010, attempt_spent=False)
    closed = await shop.store.close_attempt(probe, Rejected(Reason.PARAMETERS_REFUSED), kept, shop.now + 900_010, 1)
    assert closed == Closed(recorded=True)
    assert await shop.show(delivery_id) == ("held", "parameters_refused", None)
    (hold,) = await shop.store.list_holds()
    assert (hold.reason, hold.since, hold.probe_at) == ("refused_repeatedly", shop.now, shop.now + 1_800_010)
    (again,) = await shop.claim(after_ms=1_800_010)
    assert again.spent == 0
    closed = await shop.store.close_attempt(again, Accepted(), Decision(State.ACCEPTED), shop.now + 1_800_020, 1)
    assert closed.holds_released == (ROUTE,)


async def test_a_route_that_a_person_has_stopped_is_not_renamed_by_its_refusals(shop: Any) -> None:
    await shop.add_many(6)
    open_ = await shop.claim()
    await shop.store.put_hold(ROUTE, "counting stock", shop.now, by_hand=True)
    refused = Rejected(Reason.PARAMETERS_REFUSED)
    closed = [await shop.store.close_attempt(each, refused, DEAD, shop.now, 1) for each in open_]
    assert {each.holds_set for each in closed} == {()}
    assert list(await shop.store.list_holds()) == [Hold(ROUTE, "counting stock", shop.now, 0)]


UNREADABLE = Uncertain(Reason.ANSWER_UNREADABLE, "HTTP 200: it names neither an id nor an error")
UNKNOWN = Decision(State.UNKNOWN, Reason.ANSWER_UNREADABLE)
PROVIDER = "provider:gallabox"


async def answer(shop: Any, times: int, outcome: Outcome = UNREADABLE, decision: Decision = UNKNOWN) -> list[str]:
    """Have so many messages answered in this way; return the holds that were new."""
    holds: list[str] = []
    for number in range(times):
        await shop.add(route=f"route-{number}")
        closed = await shop.store.close_attempt(await shop.claim_one(), outcome, decision, shop.now, 1)
        holds += [f"{hold.scope} {hold.reason}" for hold in closed.holds_set]
    return holds


async def test_the_fifth_unreadable_answer_in_a_row_holds_the_provider_whatever_the_routes(shop: Any) -> None:
    assert await answer(shop, 4) == []
    assert await answer(shop, 1) == [f"{PROVIDER} answers_unreadable"]
    await shop.add_many(2)
    assert not await shop.claim()
    assert list(await shop.store.list_holds()) == [
        Hold(PROVIDER, "answers_unreadable", shop.now, 2, shop.now + 300_000)
    ]


@pytest.mark.parametrize(
    ("outcome", "decision", "held"),
    [
        (Accepted("m-1"), Decision(State.ACCEPTED), False),
        (Rejected(Reason.REQUEST_REFUSED), Decision(State.DEAD, Reason.REQUEST_REFUSED), False),
        (Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT), True),  # no answer at all
        (Retryable(Reason.CONNECT_FAILED), Decision(State.DEAD, Reason.CONNECT_FAILED), True),
    ],
)
async def test_an_answer_that_can_be_read_begins_that_count_again(
    shop: Any, outcome: Outcome, decision: Decision, held: bool
) -> None:
    await answer(shop, 4)
    await answer(shop, 1, outcome, decision)
    assert bool(await answer(shop, 1)) is held


async def test_a_release_by_hand_begins_that_count_again(shop: Any) -> None:
    await answer(shop, 5)
    await shop.store.release_hold(PROVIDER, shop.now)
    assert await answer(shop, 4) == []
    assert await answer(shop, 1) == [f"{PROVIDER} answers_unreadable"]


async def test_a_probe_that_is_accepted_releases_it(shop: Any) -> None:
    await answer(shop, 5)
    await shop.add()
    probe = await shop.claim_one(after_ms=310_000)
    closed = await shop.store.close_attempt(probe, Accepted("m-1"), Decision(State.ACCEPTED), shop.now, 1)
    assert closed.holds_released == (PROVIDER,)
    assert await answer(shop, 4) == []


async def test_an_unreadable_answer_that_gave_an_id_is_settled_by_its_receipt(shop: Any) -> None:
    delivery_id = await shop.add()
    named = Uncertain(Reason.ANSWER_UNREADABLE, "HTTP 202", "m-9")
    await shop.store.close_attempt(await shop.claim_one(), named, UNKNOWN, shop.now, 1)
    receipt = Receipt(ReceiptStatus.DELIVERED, None, "m-9")
    (noted,) = await shop.store.apply_receipts("gallabox", [receipt], shop.now)
    assert noted.delivery_id == delivery_id


@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 200: no"), True),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 202"), True),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 400: HTTP 200"), False),
        (Rejected(Reason.REQUEST_REFUSED), False),
        (Uncertain(Reason.TIMED_OUT), True),
    ],
)
async def test_of_a_whole_state_what_was_perhaps_taken_is_not_sent_again(shop: Any, outcome: Any, left: bool) -> None:
    delivery_id = await shop.add()
    dead = Decision(State.DEAD, Reason.REQUEST_REFUSED)
    await shop.store.close_attempt(await shop.claim_one(), outcome, dead, shop.now, 1)
    retried = await shop.store.retry_deliveries([delivery_id], shop.now, careful=True)
    assert list(retried) == ([] if left else [delivery_id])
    if left:
        assert await shop.store.explain_retry([delivery_id], shop.now) == {delivery_id: "perhaps_taken"}
        assert await shop.store.retry_deliveries([delivery_id], shop.now) == [delivery_id], (
            "a person who has looked may"
        )


async def test_a_replay_sees_that_a_2xx_may_have_been_an_acceptance(shop: Any) -> None:
    for detail in ("HTTP 200: no", "HTTP 400: no"):
        await shop.add()
        refused = Rejected(Reason.REQUEST_REFUSED, detail=detail)
        dead = Decision(State.DEAD, Reason.REQUEST_REFUSED)
        await shop.store.close_attempt(await shop.claim_one(), refused, dead, shop.now, 1)
    page = await shop.store.find_events(EventQuery(state="dead"))
    assert [event.deliveries[0].ambiguous for event in page.events] == [True, False]
