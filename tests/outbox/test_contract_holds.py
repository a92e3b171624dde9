"""What the holds promise, whatever the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Reason, State, Uncertain
from app.outbox.claim import find_next_due
from app.outbox.values import Closed, Hold
from app.values.instant import format_instant
from tests.outbox.methods import at

PROBE, SLOW_PROBE = 300_000, 900_000


@pytest.mark.parametrize(
    ("scope", "passing"),
    [
        ("provider:gallabox", []),
        ("provider:bitespeed", ["a/x", "a/y", "b/x"]),
        ("route:a", ["b/x"]),
        ("route:b", ["a/x", "a/y"]),
        ("template:gallabox/x", ["a/y"]),
        ("template:bitespeed/x", ["a/x", "a/y", "b/x"]),
    ],
)
async def test_a_hold_stops_what_is_in_its_scope_only(shop: Any, scope: str, passing: list[str]) -> None:
    for route, template in (("a", "x"), ("a", "y"), ("b", "x")):
        await shop.add(route=route, template=template)
    await shop.store.put_hold(scope, "by_hand", shop.now)
    claimed = [f"{each.delivery.route}/{each.delivery.template}" for each in await shop.claim()]
    assert sorted(claimed) == passing
    held = await shop.list_ids(state="held")
    assert len(held) == 3 - len(passing)
    assert (await shop.store.next_due_at("gallabox")) is None


async def test_held_is_a_view_that_ends_with_the_hold(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.store.put_hold("route:coupon-ready", "by_hand", shop.now)
    row = await shop.read(delivery_id)
    assert (row["state"], row["next_attempt_at"]) == ("held", None)
    assert await shop.list_ids(state="pending") == []
    assert await shop.store.release_hold("route:coupon-ready", shop.now)
    assert not await shop.store.release_hold("route:coupon-ready", shop.now)
    assert (await shop.show(delivery_id))[0] == "pending"
    assert await shop.timeline(delivery_id) == [("pending", None)]
    assert len(await shop.claim()) == 1


async def test_holds_are_listed_oldest_first_with_what_waits_behind_them(shop: Any) -> None:
    await shop.add_many(2, route="a", template="x")
    await shop.add(route="b", template="x")
    await shop.store.put_hold("template:gallabox/x", "template_paused", shop.now + 2, shop.now + 9)
    await shop.store.put_hold("route:a", "by_hand", shop.now + 1)
    await shop.store.put_hold("route:none", "by_hand", shop.now + 3)
    assert list(await shop.store.list_holds()) == [
        Hold("route:a", "by_hand", shop.now + 1, 2),
        Hold("template:gallabox/x", "template_paused", shop.now + 2, 3, shop.now + 9),
        Hold("route:none", "by_hand", shop.now + 3, 0),
    ]


@pytest.mark.parametrize(
    ("first", "second", "standing"),
    [
        (("balance_empty", 5), ("credentials_refused", 9), ("credentials_refused", 9)),
        (("balance_empty", 5), ("by_hand", None), ("by_hand", None)),
        (("by_hand", None), ("balance_empty", 9), ("by_hand", None)),
        (("by_hand", None), ("by_hand", 9), ("by_hand", None)),
    ],
)
async def test_a_hold_by_hand_outranks_an_automatic_one_and_since_stays(
    shop: Any, first: tuple[str, int | None], second: tuple[str, int | None], standing: tuple[str, int | None]
) -> None:
    for after_ms, (reason, probe_ms) in enumerate((first, second)):
        probe_at = None if probe_ms is None else shop.now + probe_ms
        await shop.store.put_hold("provider:gallabox", reason, shop.now + after_ms, probe_at)
    (hold,) = await shop.store.list_holds()
    probe_at = None if standing[1] is None else shop.now + standing[1]
    assert (hold.reason, hold.probe_at, hold.since) == (standing[0], probe_at, shop.now)


@pytest.mark.parametrize("reason", ["by_hand", "stock is being counted", "balance_empty"])
async def test_what_a_person_has_stopped_the_machine_neither_renames_nor_probes_nor_releases(
    shop: Any, reason: str
) -> None:
    await shop.add_many(2)
    await shop.store.put_hold("provider:gallabox", "credentials_refused", shop.now, shop.now)
    (probe,) = await shop.claim()
    assert not await shop.store.put_hold("provider:gallabox", reason, shop.now + 5, shop.now + 6, by_hand=True)
    assert await shop.accept(probe, after_ms=7)
    assert not await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now + 8, shop.now + 9)
    assert list(await shop.store.list_holds()) == [Hold("provider:gallabox", reason, shop.now, 1)]
    assert not await shop.claim(after_ms=PROBE)
    assert await shop.store.release_hold("provider:gallabox", shop.now)
    assert len(await shop.claim(after_ms=PROBE)) == 1


async def test_a_probe_that_is_accepted_ends_the_holds_it_tried_and_no_wider_one(shop: Any) -> None:
    await shop.add_many(2)
    await shop.store.put_hold("template:gallabox/coupon_ready", "template_paused", shop.now, shop.now)
    await shop.store.put_hold("route:coupon-ready", "refused_repeatedly", shop.now, shop.now)
    (probe,) = await shop.claim()
    await shop.store.put_hold("provider:gallabox", "counting stock", shop.now + 5, by_hand=True)
    await shop.store.release_hold("route:coupon-ready", shop.now + 6)
    closed = await shop.store.close_attempt(probe, Accepted(), Decision(State.ACCEPTED), shop.now + 7, 1)
    assert closed == Closed(recorded=True, holds_released=("template:gallabox/coupon_ready",))
    assert [hold.scope for hold in await shop.store.list_holds()] == ["provider:gallabox"]


async def test_a_probe_that_was_not_accepted_ends_no_hold(shop: Any) -> None:
    await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    (probe,) = await shop.claim()
    decision = Decision(State.UNKNOWN, Reason.TIMED_OUT)
    closed = await shop.store.close_attempt(probe, Uncertain(Reason.TIMED_OUT), decision, shop.now, 1)
    assert closed == Closed(recorded=True)
    assert len(await shop.store.list_holds()) == 1


async def test_a_stale_probe_ends_no_hold(shop: Any) -> None:
    await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    (stale,) = await shop.claim()
    await shop.retry_later(stale, 1, why=Reason.UNAVAILABLE)
    assert not await shop.accept(stale)
    assert len(await shop.store.list_holds()) == 1


async def test_what_is_held_spends_no_attempt_and_expires_when_its_time_has_come(shop: Any) -> None:
    late, fine = await shop.add(deadline_at=shop.now + 1_000), await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now + PROBE)
    for after_ms in range(0, PROBE, 60_000):
        assert not await shop.claim(after_ms=after_ms)
    assert (await shop.store.sweep(shop.now + 1_000, 1)).expired == 1
    assert await shop.show(late) == ("expired", "deadline_passed", None)
    row = await shop.read(fine)
    assert (row["state"], row["attempts"]) == ("held", 0)


async def test_a_hold_lasts_through_a_restart(open_shop: Callable[..., Any]) -> None:
    shop = open_shop()
    await shop.add_many(2)
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    (probe,) = await shop.claim()
    await shop.retry_later(probe, 1, why=Reason.BALANCE_EMPTY, attempt_spent=False)
    await shop.store.close()
    shop = open_shop()
    assert not await shop.claim(after_ms=PROBE - 1)
    assert [each.probes for each in await shop.claim(after_ms=PROBE)] == [("provider:gallabox",)]


@pytest.mark.parametrize(
    ("scope", "every_ms"),
    [
        ("provider:gallabox", PROBE),
        ("route:coupon-ready", SLOW_PROBE),
        ("template:gallabox/coupon_ready", SLOW_PROBE),
    ],
)
async def test_one_delivery_at_a_time_probes_a_hold(shop: Any, scope: str, every_ms: int) -> None:
    await shop.add_many(5)
    await shop.store.put_hold(scope, "balance_empty", shop.now, shop.now + PROBE)
    assert await shop.store.next_due_at("gallabox") == shop.now + PROBE
    assert not await shop.claim(after_ms=PROBE - 1)
    (probe,) = await shop.claim(after_ms=PROBE)
    assert probe.probes == (scope,)
    assert not await shop.claim(after_ms=PROBE + every_ms - 1)
    assert await shop.store.next_due_at("gallabox") == shop.now + PROBE + every_ms
    assert len(await shop.claim(after_ms=PROBE + every_ms)) == 1


async def test_a_probe_waits_for_something_to_send(shop: Any) -> None:
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now + PROBE)
    assert not await shop.claim(after_ms=PROBE)
    await shop.add(due_at=shop.now + PROBE + 7)
    assert await shop.store.next_due_at("gallabox") == shop.now + PROBE + 7
    assert len(await shop.claim(after_ms=PROBE + 7)) == 1


async def test_what_else_is_not_held_goes_beside_the_probe(shop: Any) -> None:
    await shop.add_many(3, route="a")
    await shop.add_many(3, route="b")
    await shop.store.put_hold("route:a", "template_paused", shop.now, shop.now)
    claimed = await shop.claim()
    assert [(each.delivery.route, each.probes) for each in claimed] == [
        ("a", ("route:a",)),
        ("b", ()),
        ("b", ()),
        ("b", ()),
    ]


async def test_what_two_holds_stop_is_a_probe_of_both_when_both_may_be_probed(shop: Any) -> None:
    await shop.add_many(2)
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    await shop.store.put_hold("route:coupon-ready", "template_paused", shop.now, shop.now + 50)
    assert not await shop.claim()
    assert await shop.store.next_due_at("gallabox") == shop.now + 50
    (probe,) = await shop.claim(after_ms=50)
    assert probe.probes == ("provider:gallabox", "route:coupon-ready")
    assert {hold.scope: hold.probe_at for hold in await shop.store.list_holds()} == {
        "provider:gallabox": shop.now + 50 + PROBE,
        "route:coupon-ready": shop.now + 50 + SLOW_PROBE,
    }


async def test_a_hold_by_hand_is_never_probed_whatever_else_holds_it(shop: Any) -> None:
    await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    await shop.store.put_hold("route:coupon-ready", "by_hand", shop.now)
    assert not await shop.claim(after_ms=PROBE)
    assert await shop.store.next_due_at("gallabox") is None


async def test_a_probe_passes_over_what_expired(shop: Any) -> None:
    late = await shop.add(deadline_at=shop.now)
    fine = await shop.add(due_at=shop.now)
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    assert [each.delivery.id for each in await shop.claim()] == [fine]
    assert (await shop.show(late))[0] == "expired"


async def test_a_failed_probe_holds_on_and_spends_no_attempt(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.store.put_hold("provider:gallabox", "balance_empty", shop.now, shop.now)
    (probe,) = await shop.claim()
    await shop.retry_later(
        probe, 1, why=Reason.BALANCE_EMPTY, hold_scope="provider:gallabox",
        hold_probe_at=shop.now + PROBE, attempt_spent=False,
    )  # fmt: skip
    assert await shop.show(delivery_id) == ("held", "balance_empty", None)
    assert (await shop.claim_one(after_ms=PROBE)).spent == 0


async def test_a_hold_with_an_end_ends_then_by_itself_and_its_lane_moves_at_that_moment(shop: Any) -> None:
    delivery_id = await shop.add()
    until = shop.now + 7_200_000
    await shop.store.put_hold("route:coupon-ready", "stock", shop.now, by_hand=True, author="asha", ends_at=until)
    assert await shop.store.read(at(shop.now, find_next_due, provider="gallabox")) == until
    assert not await shop.claim(after_ms=7_199_999)
    assert len(await shop.claim(after_ms=7_200_000)) == 1, "before the sweep has come to it"
    assert (await shop.store.sweep(shop.now + 7_203_000, 0)).ended == ("route:coupon-ready",)
    assert (await shop.store.sweep(shop.now + 7_203_000, 0)).ended == ()
    assert [
        (one["change"], one["at"], one["reason"], one["by_hand"], one["by"], one["until"])
        for one in (await shop.read(delivery_id))["hold_changes"]
    ] == [
        ("set", format_instant(shop.now), "stock", True, "asha", format_instant(until)),
        ("released", format_instant(until), "end_reached", False, None, None),
    ]


async def test_a_hold_without_an_end_never_ends_by_itself(shop: Any) -> None:
    await shop.add()
    await shop.store.put_hold("route:coupon-ready", "stock", shop.now, by_hand=True, author="asha")
    assert not await shop.claim(after_ms=10**10)
    assert (await shop.store.sweep(shop.now + 1, 0)).ended == ()
    assert await shop.store.list_holds() == [Hold("route:coupon-ready", "stock", shop.now, 1, None, "asha", None)]


@pytest.mark.parametrize(("again", "left"), [({"ends_at": None}, None), ({"ends_at": 2**45}, 2**45)])
async def test_a_hold_that_is_set_again_has_its_new_end(shop: Any, again: dict[str, Any], left: int | None) -> None:
    await shop.store.put_hold("route:a", "stock", shop.now, by_hand=True, ends_at=shop.now + 5)
    await shop.store.put_hold("route:a", "stock", shop.now + 1, by_hand=True, **again)
    assert (await shop.store.sweep(shop.now + 6, 0)).ended == ()
    assert [hold.ends_at for hold in await shop.store.list_holds()] == [left]


async def test_one_that_is_over_is_not_what_is_set_after_it(shop: Any) -> None:
    await shop.store.put_hold("route:a", "stock", shop.now, by_hand=True, ends_at=shop.now + 5)
    assert await shop.store.put_hold("route:a", "refused_repeatedly", shop.now + 6, shop.now + 9)
    assert [(hold.reason, hold.since) for hold in await shop.store.list_holds()] == [
        ("refused_repeatedly", shop.now + 6)
    ]
