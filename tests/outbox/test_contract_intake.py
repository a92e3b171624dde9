"""What add_event promises, whatever the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.model.delivery import Reason, State

DAY = 86_400_000


async def test_added_event_and_its_deliveries_are_readable(shop: Any) -> None:
    event = shop.event()
    deliveries = [shop.delivery(event, route="a"), shop.delivery(event, route="b", provider="bitespeed")]
    enqueued = await shop.store.add_event(event, deliveries)
    assert (enqueued.event_id, enqueued.duplicate) == (event.id, False)
    assert [(each.id, each.route, each.provider, each.state) for each in enqueued.deliveries] == [
        (deliveries[0].id, "a", "gallabox", State.PENDING),
        (deliveries[1].id, "b", "bitespeed", State.PENDING),
    ]
    assert sorted(await shop.list_ids(event_id=event.id)) == sorted(each.id for each in deliveries)


async def test_an_event_without_deliveries_is_kept_and_known_again(shop: Any) -> None:
    event = shop.event()
    first = await shop.store.add_event(event, [])
    again = await shop.store.add_event(shop.event(delivery_id=event.delivery_id), [])
    assert (first.event_id, first.duplicate, first.deliveries) == (event.id, False, ())
    assert (again.event_id, again.duplicate, again.deliveries) == (event.id, True, ())


async def test_a_known_source_delivery_id_changes_nothing_and_answers_with_the_first(shop: Any) -> None:
    event = shop.event()
    first = await shop.store.add_event(event, [shop.delivery(event)])
    copy = shop.event(delivery_id=event.delivery_id)
    again = await shop.store.add_event(copy, [shop.delivery(copy)])
    assert (again.event_id, again.duplicate) == (event.id, True)
    assert again.deliveries == first.deliveries
    assert len(await shop.list_ids()) == 1


async def test_a_duplicate_answers_with_the_state_of_now(shop: Any) -> None:
    event = shop.event()
    await shop.store.add_event(event, [shop.delivery(event)])
    await shop.accept(await shop.claim_one())
    again = await shop.store.add_event(shop.event(delivery_id=event.delivery_id), [])
    assert [each.state for each in again.deliveries] == [State.ACCEPTED]


async def test_the_same_delivery_id_of_another_source_is_another_event(shop: Any) -> None:
    event = shop.event(delivery_id="7")
    await shop.store.add_event(event, [])
    assert not (await shop.store.add_event(shop.event(delivery_id="7", source="other"), [])).duplicate


async def test_the_same_delivery_id_with_another_topic_is_another_event(shop: Any) -> None:
    first, other = shop.event(delivery_id="7"), shop.event(delivery_id="7", topic="viptier_create")
    await shop.store.add_event(first, [])
    assert not (await shop.store.add_event(other, [])).duplicate
    for event in (first, other):
        again = await shop.store.add_event(shop.event(delivery_id="7", topic=event.topic), [])
        assert (again.event_id, again.duplicate) == (event.id, True)


async def test_events_without_a_source_id_are_all_new_but_the_same_one_is_not(shop: Any) -> None:
    first, second = shop.event(delivery_id=None), shop.event(delivery_id=None)
    assert not (await shop.store.add_event(first, [])).duplicate
    assert not (await shop.store.add_event(second, [])).duplicate
    assert (await shop.store.add_event(first, [])).duplicate


async def test_fifty_parallel_copies_are_one_event_with_one_answer(shop: Any) -> None:
    copies = [shop.event(delivery_id="the-same") for _ in range(50)]
    answers = await asyncio.gather(*[shop.store.add_event(copy, [shop.delivery(copy)]) for copy in copies])
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({(answer.event_id, answer.deliveries) for answer in answers}) == 1
    assert len(await shop.list_ids()) == 1


async def test_fifty_parallel_events_of_one_dedup_key_send_one_message(shop: Any) -> None:
    same = {"recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}
    ids = await asyncio.gather(*[shop.add(**same) for _ in range(50)])
    shown = [await shop.show(each) for each in ids]
    assert sorted(shown) == [("pending", None, None)] + [("suppressed", "duplicate", None)] * 49


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ({}, {}, "suppressed"),
        ({}, {"recipient": "+919800000002"}, "pending"),
        ({}, {"route": "other"}, "pending"),
        ({}, {"dedup_key": "other"}, "pending"),
        ({"route": "1", "dedup_key": "23"}, {"route": "12", "dedup_key": "3"}, "pending"),
        ({}, {"dedup_key": None}, "pending"),
        ({}, {"created_at": 1_790_000_000_000 + 30 * DAY}, "pending"),
        ({}, {"created_at": 1_790_000_000_000 + 30 * DAY - 1}, "suppressed"),
        ({"state": State.SHADOW}, {}, "pending"),
        ({"state": State.SHADOW}, {"state": State.SHADOW}, "suppressed"),
        ({"state": State.DEAD, "reason": Reason.VARIABLE_MISSING, "message": None}, {}, "pending"),
        ({"dedup_key": "\ud800"}, {"dedup_key": "\ud800"}, "suppressed"),
    ],
)
async def test_dedup_compares_route_recipient_and_key_for_30_days(
    shop: Any, first: dict[str, Any], second: dict[str, Any], state: str
) -> None:
    standard = {"route": "coupon-ready", "recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}
    await shop.add(**{**standard, **first})
    again = await shop.add(**{**standard, **second})
    assert (await shop.show(again))[0] == state


async def test_a_suppressed_repeat_does_not_lengthen_the_window(shop: Any) -> None:
    same = {"recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}
    states = [
        (await shop.show(await shop.add(**same, created_at=shop.now + days * DAY)))[0] for days in (0, 20, 31, 50, 62)
    ]
    assert states == ["pending", "suppressed", "pending", "suppressed", "pending"]


async def test_a_dead_delivery_is_stored_as_handed_in(shop: Any) -> None:
    dead = await shop.add(
        state=State.DEAD, reason=Reason.VARIABLE_MISSING, detail="user_name is missing", message=None, recipient=""
    )
    row = await shop.read(dead)
    assert (row["state"], row["reason"], row["detail"], row["recipient"], row["message"]) == (
        "dead",
        "variable_missing",
        "user_name is missing",
        "",
        None,
    )
    assert await shop.timeline(dead) == [("dead", "variable_missing")]
    assert not await shop.claim()


async def test_a_failing_add_leaves_nothing_behind_and_hurts_nobody_beside_it(shop: Any) -> None:
    event = shop.event()
    twice = shop.delivery(event)
    outcomes = await asyncio.gather(
        shop.add(), shop.store.add_event(event, [twice, twice]), shop.add(), return_exceptions=True
    )
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
    assert not (await shop.store.add_event(event, [])).duplicate
    assert len(await shop.list_ids()) == 2


async def test_what_was_added_is_there_after_a_restart(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    added = await shop.add()
    await shop.store.close()
    assert await open_shop().list_ids() == [added]
