"""What find_events, find_duplicates, the plans and count_reasons promise, whatever the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.delivery.replay import Verdict
from app.model.delivery import Delivery, Reason, Rejected, State
from app.model.event import Event
from app.outbox.replay import Applied, EventQuery, Plan

MINUTE = 60_000
DAY = 86_400_000
KEY = {"recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}
DEAD = {"state": State.DEAD, "reason": Reason.VARIABLE_MISSING, "message": None, "recipient": ""}


async def add(shop: Any, *deliveries: dict[str, Any], **event: Any) -> Event:
    """Add an event with deliveries."""
    added: Event = shop.event(**event)
    await shop.store.add_event(added, [shop.delivery(added, **each) for each in deliveries])
    return added


async def find(shop: Any, **wanted: Any) -> list[str]:
    """Return the ids of all pages."""
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await shop.store.find_events(EventQuery(**wanted, after=after))
        assert len(page.events) <= wanted.get("limit", 100)
        found += [event.id for event in page.events]
        after = page.next_after
    return found


async def apply(
    shop: Any, *deliveries: Delivery, plan_id: str = "plan-1", after_ms: int = MINUTE, save: bool = True
) -> Applied | None:
    if save:
        await shop.store.save_plan(Plan(plan_id, shop.now, "hash", "[]"))
    applied: Applied | None = await shop.store.apply_plan(plan_id, deliveries, shop.now + after_ms)
    return applied


def again(shop: Any, event: Event, **fields: Any) -> Delivery:
    """Return a replay's delivery of an event: made later than its first ones."""
    delivery: Delivery = shop.delivery(
        event, **{"created_at": shop.now + MINUTE, "due_at": shop.now + MINUTE, **fields}
    )
    return delivery


def left_out(applied: Applied | None) -> Sequence[Verdict]:
    assert applied is not None
    return list(applied.left_out.values())


# -- finding ---------------------------------------------------------------------------------------


async def test_a_stored_event_is_found_as_it_came_with_its_deliveries(shop: Any) -> None:
    event = await add(shop, {"route": "a", "id": "d-a", **KEY}, {"route": "b", "id": "d-b", **DEAD})
    page = await shop.store.find_events(EventQuery(ids=[event.id]))
    (found,) = page.events
    assert (found.id, found.source, found.topic, found.source_delivery_id, found.received_at, found.body) == (
        event.id, event.source, event.topic, event.delivery_id, event.received_at, event.body,
    )  # fmt: skip
    assert [(each.id, each.route, each.recipient, each.state, each.reason) for each in found.deliveries] == [
        ("d-a", "a", "+919800000001", State.PENDING, None),
        ("d-b", "b", "", State.DEAD, Reason.VARIABLE_MISSING),
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["dead", "mixed", "none", "pending", "late"]),
        ({"state": "dead"}, ["dead", "mixed"]),
        ({"state": "dead", "route": "a"}, ["dead"]),
        ({"state": "dead", "route": "b"}, ["mixed"]),
        ({"state": "expired"}, ["mixed"]),
        ({"state": "pending"}, ["pending", "late"]),
        ({"state": "accepted"}, []),
        ({"state": "unrouted"}, ["none"]),
        ({"route": "b"}, ["mixed", "late"]),
        ({"topic": "order_create"}, ["none", "late"]),
        ({"topic": "order_create", "state": "pending"}, ["late"]),
        ({"since": 1_790_000_000_000 + 1}, ["late"]),
        ({"until": 1_790_000_000_000 + MINUTE}, ["dead", "mixed", "none", "pending"]),
        ({"until": 1_790_000_000_000}, []),
        ({"since": 1_790_000_000_000 + MINUTE, "until": 1_790_000_000_000 + MINUTE + 1}, ["late"]),
        ({"state": "dead", "since": 1_790_000_000_000 + 1}, []),
        ({"ids": ["pending", "nothing", "dead", "dead"]}, ["dead", "pending"]),
        ({"ids": ["pending", "dead", "mixed"], "state": "dead"}, ["dead", "mixed"]),
        ({"ids": ["pending", "none"], "topic": "order_create"}, ["none"]),
        ({"ids": ["pending", "none"], "state": "unrouted"}, ["none"]),
        ({"ids": []}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_every_condition_narrows_what_is_found_oldest_first(
    shop: Any, wanted: dict[str, Any], expected: list[str], limit: int
) -> None:
    await add(shop, {"route": "a", **DEAD}, id="dead")
    await add(shop, {"route": "b", **DEAD}, {"route": "c", **DEAD}, {"route": "a", "state": State.EXPIRED}, id="mixed")
    await add(shop, id="none", topic="order_create")
    await add(shop, {"route": "a"}, id="pending")
    await add(shop, {"route": "b"}, id="late", topic="order_create", received_at=shop.now + MINUTE)
    assert await find(shop, **wanted, **({} if "ids" in wanted else {"limit": limit})) == expected


async def test_an_attempt_that_may_have_arrived_is_remembered_of_a_delivery(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    await shop.store.retry_deliveries([delivery_id], shop.now + MINUTE)
    attempt = await shop.claim_one(after_ms=MINUTE)
    await shop.close(attempt, Rejected(Reason.REQUEST_REFUSED), Decision(State.DEAD, Reason.REQUEST_REFUSED))
    await shop.add()
    page = await shop.store.find_events(EventQuery())
    assert [each.ambiguous for event in page.events for each in event.deliveries] == [True, False]


async def test_a_wiped_event_is_found_without_its_body(shop: Any) -> None:
    event = await add(shop, {**DEAD})
    await shop.store.wipe_payloads(shop.now + DAY)
    (found,) = (await shop.store.find_events(EventQuery(ids=[event.id]))).events
    assert found.body is None


# -- repeats ---------------------------------------------------------------------------------------


async def test_an_events_own_key_is_no_duplicate_and_anothers_is(shop: Any) -> None:
    first = await add(shop, {**KEY})
    second = await add(shop, {**KEY})
    mine, theirs = again(shop, first, **KEY), again(shop, second, **KEY)
    free = again(shop, second, recipient="+919800000002", dedup_key="ACME-7Q2P")
    without = again(shop, second)
    unknown = again(shop, shop.event(), **KEY)
    asked = [mine, theirs, free, without, unknown]
    assert set(await shop.store.find_duplicates(asked, shop.now)) == {theirs.id, unknown.id}
    assert set(await shop.store.find_duplicates(asked, shop.now + 30 * DAY)) == set()


async def test_a_replay_of_an_events_own_key_begins_its_window_anew(shop: Any) -> None:
    long = {**KEY, "deadline_at": shop.now + 90 * DAY}
    event = await add(shop, long)
    attempt = await shop.claim_one()
    await shop.close(attempt, Rejected(Reason.REQUEST_REFUSED), Decision(State.DEAD, Reason.REQUEST_REFUSED))
    new = again(shop, event, **long, created_at=shop.now + 20 * DAY)
    assert left_out(await apply(shop, new)) == []
    repeat = again(shop, await add(shop), **KEY)
    assert await shop.store.find_duplicates([repeat], shop.now + 50 * DAY - 1)
    assert not await shop.store.find_duplicates([repeat], shop.now + 50 * DAY)


# -- plans -----------------------------------------------------------------------------------------


async def test_a_saved_plan_is_read_back_even_after_a_restart(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    plan = Plan("plan-1", shop.now, "abc", '[["e-1","coins","send",null,null]]')
    await shop.store.save_plan(plan)
    await shop.store.save_plan(replace(plan, entries="[]"))
    await shop.store.close()
    shop = open_shop()
    assert await shop.store.read_plan("plan-1") == plan
    assert await shop.store.read_plan("plan-2") is None


async def test_an_applied_plan_gives_its_events_new_deliveries_that_are_sent(shop: Any) -> None:
    event = await add(shop, {"route": "coupon-ready", **DEAD})
    new = again(shop, event, detail="replayed by plan plan-1")
    applied = await apply(shop, new)
    assert applied is not None
    assert [(each.id, each.route, each.provider, each.state) for each in applied.deliveries] == [
        (new.id, "coupon-ready", "gallabox", State.PENDING)
    ]
    assert applied.left_out == {}
    assert len(await shop.list_ids(event_id=event.id)) == 2
    assert (await shop.read(new.id))["timeline"][0] == {
        "at": (await shop.read(new.id))["created_at"], "kind": "state", "value": "pending", "reason": None,
        "detail": "replayed by plan plan-1", "cause": "replayed", "attempt": None,
    }  # fmt: skip
    assert [attempt.delivery.id for attempt in await shop.claim(after_ms=MINUTE)] == [new.id]
    plan = await shop.store.read_plan("plan-1")
    assert plan is not None
    assert plan.applied_at == shop.now + MINUTE


async def test_a_plan_is_applied_once_also_by_two_at_once_and_after_a_restart(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    event = await add(shop, {**DEAD})
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    both = await asyncio.gather(*[apply(shop, again(shop, event), save=False) for _ in range(10)])
    assert sorted(applied is None for applied in both) == [False] + [True] * 9
    await shop.store.close()
    shop = open_shop()
    assert await apply(shop, again(shop, event, route="other", template="other")) is None
    assert len(await shop.list_ids(event_id=event.id)) == 2


async def test_a_plan_that_is_unknown_or_older_than_a_day_is_not_applied(shop: Any) -> None:
    event = await add(shop, {**DEAD})
    late = {"deadline_at": shop.now + 9 * DAY}
    assert await apply(shop, again(shop, event, **late), plan_id="nothing", save=False) is None
    assert await apply(shop, again(shop, event, **late), after_ms=DAY) is None
    assert len(await shop.list_ids()) == 1
    await shop.store.sweep(shop.now + DAY - 1, 0)
    assert await shop.store.read_plan("plan-1") is not None
    await shop.store.sweep(shop.now + DAY, 0)
    assert await shop.store.read_plan("plan-1") is None


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.ACCEPTED, Verdict.ACCEPTED),
        (State.PENDING, Verdict.OPEN),
        (State.SENDING, Verdict.OPEN),
        (State.UNKNOWN, Verdict.UNKNOWN),
    ],
)
@pytest.mark.parametrize("name", [{}, {"route": "renamed"}])
async def test_what_arrived_since_the_plan_or_may_have_is_left_out(
    shop: Any, state: State, verdict: Verdict, name: dict[str, Any]
) -> None:
    event = await add(shop, {"state": state})
    assert left_out(await apply(shop, again(shop, event, **name))) == [verdict]
    assert len(await shop.list_ids()) == 1


async def test_of_two_plans_for_the_same_event_the_second_finds_it_open(shop: Any) -> None:
    event = await add(shop, {**DEAD})
    assert left_out(await apply(shop, again(shop, event), plan_id="one")) == []
    assert left_out(await apply(shop, again(shop, event), plan_id="two")) == [Verdict.OPEN]


async def test_what_is_no_longer_true_wiped_or_a_repeat_is_left_out_and_the_rest_is_sent(shop: Any) -> None:
    wiped = await add(shop, {**DEAD})
    await shop.store.wipe_payloads(shop.now + 1)
    late, repeat, fine = [await add(shop, {**DEAD}) for _ in range(3)]
    await add(shop, {**KEY})
    applied = await apply(
        shop,
        again(shop, late, deadline_at=shop.now + MINUTE),
        again(shop, wiped),
        again(shop, shop.event()),
        again(shop, repeat, **KEY),
        again(shop, fine, id="fine"),
    )
    assert left_out(applied) == [Verdict.EXPIRED, Verdict.WIPED, Verdict.WIPED, Verdict.DUPLICATE]
    assert applied is not None
    assert [each.id for each in applied.deliveries] == ["fine"]


async def test_of_two_of_a_plan_with_one_key_only_the_first_is_sent(shop: Any) -> None:
    events = [await add(shop, {**DEAD}) for _ in range(3)]
    applied = await apply(shop, *[again(shop, event, **KEY) for event in events])
    assert left_out(applied) == [Verdict.DUPLICATE] * 2
    later = await shop.add(**KEY, created_at=shop.now + 2 * MINUTE)
    assert await shop.show(later) == ("suppressed", "duplicate", None)


async def test_two_routes_of_one_event_may_fill_the_same_template(shop: Any) -> None:
    event = await add(shop)
    assert left_out(await apply(shop, *[again(shop, event, route=route) for route in ("a", "b")])) == []
    assert len(await shop.list_ids()) == 2


async def test_a_failing_apply_leaves_the_plan_to_be_applied(shop: Any) -> None:
    event, other = await add(shop, {**DEAD}), await add(shop, {**DEAD})
    new = again(shop, event)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await apply(shop, new, again(shop, other, id=new.id))
    assert len(await shop.list_ids()) == 2
    assert left_out(await apply(shop, new, save=False)) == []


async def test_a_replayed_payload_is_wiped_once_its_own_delivery_is_over(shop: Any) -> None:
    event = await add(shop, {**DEAD})
    await apply(shop, again(shop, event))
    await shop.accept(await shop.claim_one(after_ms=MINUTE), after_ms=MINUTE)
    await shop.store.wipe_payloads(shop.now + MINUTE)
    (found,) = (await shop.store.find_events(EventQuery(ids=[event.id]))).events
    assert found.body is not None
    await shop.store.wipe_payloads(shop.now + MINUTE + 1)
    (found,) = (await shop.store.find_events(EventQuery(ids=[event.id]))).events
    assert (found.body, [each.recipient for each in found.deliveries]) == (None, ["", ""])


# -- retry beside replay ---------------------------------------------------------------------------


async def test_a_delivery_that_a_replay_made_anew_is_not_retried_beside_it(shop: Any) -> None:
    event = await add(shop, {"id": "old", "state": State.DEAD, "reason": Reason.REQUEST_REFUSED})
    await apply(shop, again(shop, event, id="new"))
    for _ in range(2):
        assert not await shop.store.retry_deliveries(["old"], shop.now + MINUTE)
        assert await shop.store.explain_retry(["old"], shop.now + MINUTE) == {"old": "replayed"}
        for attempt in await shop.claim(after_ms=MINUTE):
            await shop.accept(attempt)


async def test_a_replay_that_died_leaves_either_to_be_retried_but_not_both(shop: Any) -> None:
    event = await add(shop, {"id": "old", "state": State.DEAD, "reason": Reason.REQUEST_REFUSED})
    await apply(shop, again(shop, event, id="new"))
    attempt = await shop.claim_one(after_ms=MINUTE)
    await shop.close(attempt, Rejected(Reason.REQUEST_REFUSED), Decision(State.DEAD, Reason.REQUEST_REFUSED))
    assert await shop.store.retry_deliveries(["old", "new"], shop.now + MINUTE) == ["old"]


async def test_why_a_delivery_cannot_be_retried_is_told(shop: Any) -> None:
    await shop.add(id="fine", state=State.DEAD)
    await shop.add(id="wiped", state=State.DEAD, message=None)
    await shop.add(id="late", state=State.UNKNOWN, deadline_at=shop.now)
    await shop.add(id="done", state=State.ACCEPTED)
    await shop.add(id="waiting")
    ids = ["fine", "wiped", "late", "done", "waiting", "nothing"]
    assert await shop.store.explain_retry(ids, shop.now) == {
        "wiped": "payload_gone", "late": "deadline_passed", "done": "accepted", "waiting": "pending",
        "nothing": "not_found",
    }  # fmt: skip
    assert await shop.store.retry_deliveries(ids, shop.now) == ["fine"]


async def test_who_sent_an_unknown_one_again_stands_in_its_timeline(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    await shop.store.retry_deliveries([delivery_id], shop.now + MINUTE)
    (step,) = [step for step in (await shop.read(delivery_id))["timeline"] if "by hand" in step["detail"]]
    assert (step["value"], step["detail"]) == ("pending", "retried by hand, though it may have arrived")


# -- reasons ---------------------------------------------------------------------------------------


async def test_a_states_deliveries_are_counted_by_reason_the_largest_group_first(shop: Any) -> None:
    for number, (reason, route) in enumerate(
        [
            (Reason.RECIPIENT_INVALID, "a"),
            (Reason.VARIABLE_MISSING, "a"),
            (Reason.VARIABLE_MISSING, "a"),
            (Reason.VARIABLE_MISSING, "b"),
        ]
    ):
        await shop.add(id=f"d-{number}", route=route, state=State.DEAD, reason=reason, created_at=shop.now + number)
    await shop.add(state=State.EXPIRED, reason=Reason.DEADLINE_PASSED)
    groups = await shop.store.count_reasons("dead")
    assert [
        (group["reason"], group["route"], group["provider"], group["count"], group["newest_id"]) for group in groups
    ] == [
        ("variable_missing", "a", "gallabox", 2, "d-2"),
        ("variable_missing", "b", "gallabox", 1, "d-3"),
        ("recipient_invalid", "a", "gallabox", 1, "d-0"),
    ]
    assert groups[0]["newest_at"] == (await shop.read("d-2"))["updated_at"]
    assert await shop.store.count_reasons("unknown") == []


async def test_held_deliveries_are_counted_too(shop: Any) -> None:
    await shop.add(route="a")
    await shop.add(route="b")
    await shop.store.put_hold("route:a", "wrong text", shop.now)
    assert [(group["route"], group["count"]) for group in await shop.store.count_reasons("held")] == [("a", 1)]
    assert [(group["route"], group["count"]) for group in await shop.store.count_reasons("pending")] == [("b", 1)]
