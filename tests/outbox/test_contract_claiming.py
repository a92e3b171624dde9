"""What claim_due and next_due_at promise, whatever the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from app.model.delivery import Attempt, State

SECOND = 1_000
GAP = 6 * SECOND
DAY = 86_400_000


def routes(attempts: list[Attempt]) -> list[str]:
    return [attempt.delivery.route for attempt in attempts]


def ids(attempts: list[Attempt]) -> list[str]:
    return [attempt.delivery.id for attempt in attempts]


async def test_a_claim_opens_an_attempt_with_the_frozen_message(shop: Any) -> None:
    event = shop.event()
    given = shop.delivery(event, priority=3, on_unknown="resend", config_hash="abc")
    await shop.store.add_event(event, [given])
    attempt = await shop.claim_one(after_ms=5)
    got = attempt.delivery
    assert (attempt.number, attempt.started_at, attempt.spent, attempt.probes) == (1, shop.now + 5, 0, ())
    assert got.message == given.message
    assert (got.id, got.event_id, got.route, got.provider, got.template) == (
        given.id, event.id, given.route, given.provider, given.template,
    )  # fmt: skip
    assert (got.recipient, got.created_at, got.due_at, got.deadline_at) == (
        given.recipient, given.created_at, given.due_at, given.deadline_at,
    )  # fmt: skip
    assert (got.priority, got.on_unknown, got.config_hash, got.state) == (3, "resend", "abc", State.SENDING)
    assert await shop.show(given.id) == ("sending", None, None)
    assert await shop.timeline(given.id) == [("pending", None), ("sending", None)]
    assert [row["number"] for row in (await shop.read(given.id))["attempt_list"]] == [1]


async def test_what_is_claimed_is_not_claimed_again(shop: Any) -> None:
    await shop.add_many(3)
    assert len(await shop.claim(2)) == 2
    assert len(await shop.claim(2)) == 1
    assert not await shop.claim(2)


@pytest.mark.parametrize(
    "fields",
    [
        {"due_at": 1_790_000_000_001},
        {"provider": "bitespeed"},
        {"state": State.SHADOW},
        {"state": State.SUPPRESSED},
        {"state": State.DEAD},
    ],
)
async def test_only_due_pending_deliveries_of_the_lane_are_claimed(shop: Any, fields: dict[str, Any]) -> None:
    await shop.add(**fields)
    assert not await shop.claim()


async def test_a_limit_of_none_claims_nothing(shop: Any) -> None:
    await shop.add()
    assert not await shop.claim(0)


async def test_routes_take_turns_within_a_claim(shop: Any) -> None:
    await shop.add_many(6, route="a")
    await shop.add_many(2, route="b")
    await shop.add_many(3, route="c")
    assert routes(await shop.claim(9)) == ["a", "b", "c", "a", "b", "c", "a", "c", "a"]


async def test_a_burst_of_ten_thousand_does_not_delay_the_one_of_another_route(shop: Any) -> None:
    await shop.add_many(10_000, route="a")
    one = await shop.add(route="b", due_at=shop.now + 1)
    assert one in ids(await shop.claim(2, after_ms=1))


async def test_turns_go_on_where_the_last_claim_stopped(shop: Any) -> None:
    for route in ("a", "b", "c"):
        await shop.add_many(4, route=route)
    served = [routes(await shop.claim(1))[0] for _ in range(6)]
    assert Counter(served) == {"a": 2, "b": 2, "c": 2}


async def test_higher_priority_goes_first_then_the_oldest(shop: Any) -> None:
    old = await shop.add(due_at=shop.now - 2)
    older = await shop.add(due_at=shop.now - 3)
    urgent = await shop.add(due_at=shop.now, priority=1)
    assert ids(await shop.claim(3)) == [urgent, older, old]


async def test_the_first_added_goes_first_where_due_times_are_equal(shop: Any) -> None:
    added = await shop.add_many(40)
    assert ids(await shop.claim(40)) == added


async def test_a_message_of_a_renamed_template_keeps_its_place(shop: Any) -> None:
    old = await shop.add(template="z_before_reload", due_at=shop.now - 5)
    new = await shop.add(template="a_after_reload", due_at=shop.now)
    assert ids(await shop.claim(2)) == [old, new]


async def test_what_is_past_its_deadline_expires_instead(shop: Any) -> None:
    late = await shop.add(deadline_at=shop.now)
    in_time = await shop.add(deadline_at=shop.now + 1)
    assert ids(await shop.claim()) == [in_time]
    assert await shop.show(late) == ("expired", "deadline_passed", None)
    assert await shop.timeline(late) == [("pending", None), ("expired", "deadline_passed")]
    assert (await shop.read(late))["attempts"] == 0


async def test_two_thousand_expired_ones_of_a_route_do_not_hide_another_route(shop: Any) -> None:
    await shop.add_many(2_000, route="a", deadline_at=shop.now)
    fine = await shop.add(route="b")
    assert ids(await shop.claim(1)) == [fine]


async def test_repeated_claims_get_past_any_number_of_expired_ones(shop: Any) -> None:
    await shop.add_many(2_000, deadline_at=shop.now)
    fine = await shop.add()
    claimed: list[str] = []
    for _ in range(10):
        claimed += ids(await shop.claim(1))
    assert claimed == [fine]


async def test_a_recipient_is_put_off_for_six_seconds_within_one_claim(shop: Any) -> None:
    first, second = await shop.add_many(2, recipient="+919800000001")
    other = await shop.add()
    assert ids(await shop.claim()) == [first, other]
    assert await shop.store.next_due_at("gallabox") == shop.now + GAP
    assert not await shop.claim(after_ms=GAP - 1)
    assert ids(await shop.claim(after_ms=GAP)) == [second]


async def test_a_recipient_is_put_off_across_claims_and_restarts(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    await shop.add(recipient="+919800000001")
    await shop.claim()
    await shop.store.close()
    shop = open_shop()
    await shop.store.recover_open_attempts(shop.now, 1)
    second = await shop.add(recipient="+919800000001")
    assert not await shop.claim(after_ms=SECOND)
    assert ids(await shop.claim(after_ms=GAP)) == [second]


async def test_sweeping_forgets_no_recipient_too_soon(shop: Any) -> None:
    await shop.add_many(2, recipient="+919800000001")
    await shop.claim()
    await shop.store.sweep(shop.now + GAP - 1, 0)
    assert not await shop.claim(after_ms=GAP - 1)


async def test_recipients_of_different_providers_do_not_put_each_other_off(shop: Any) -> None:
    await shop.add(recipient="+919800000001")
    await shop.add(recipient="+919800000001", provider="bitespeed")
    assert len(await shop.claim()) == len(await shop.claim(provider="bitespeed")) == 1


async def test_many_messages_to_one_recipient_neither_starve_others_nor_lose_their_order(shop: Any) -> None:
    many = await shop.add_many(60, recipient="+919800000001")
    others = await shop.add_many(3, due_at=shop.now + 1)
    claimed: list[str] = []
    for _ in range(10):
        claimed += ids(await shop.claim(2, after_ms=1))
    assert sorted(claimed) == sorted([many[0], *others])
    for turn in range(1, 5):
        assert ids(await shop.claim(5, after_ms=1 + turn * GAP)) == [many[turn]]


async def test_the_gap_is_a_setting(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(recipient_gap_ms=0)
    await shop.add_many(3, recipient="+919800000001")
    assert len(await shop.claim()) == 3


async def test_a_clock_set_back_silences_nobody_for_longer_than_the_gap(shop: Any) -> None:
    await shop.add(recipient="+919800000001")
    await shop.claim(after_ms=0)
    second = await shop.add(recipient="+919800000001", due_at=shop.now - 3_600 * SECOND)
    assert not await shop.claim(after_ms=-3_600 * SECOND)
    assert await shop.store.next_due_at("gallabox") == shop.now - 3_600 * SECOND + GAP
    assert ids(await shop.claim(after_ms=GAP)) == [second]


@pytest.mark.parametrize(
    ("due", "expected"), [((), None), ((5,), 5), ((9, 5), 5), ((-DAY,), -DAY)], ids=["none", "one", "earliest", "past"]
)
async def test_next_due_is_the_earliest_pending_of_the_lane(
    shop: Any, due: tuple[int, ...], expected: int | None
) -> None:
    await shop.add(provider="bitespeed", due_at=shop.now - 10)
    for number, each in enumerate(due):
        await shop.add(route=f"route-{number}", due_at=shop.now + each)
    found = await shop.store.next_due_at("gallabox")
    assert found == (None if expected is None else shop.now + expected)
