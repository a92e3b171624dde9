"""What is remembered of the holds, whatever the store: when each was set and released, why, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, Scope, State
from app.model.message import ReceiptStatus
from app.outbox import holds as hold_changes
from app.outbox import holds as holding
from tests.outbox.methods import SqliteOutbox

DAY = 86_400_000
SCOPE = "provider:gallabox"


async def list_changes(shop: Any, delivery_id: str) -> list[tuple[str, str, str, bool, str]]:
    """Return (scope, change, reason, by hand, the instant's seconds) of what a delivery met."""
    return [
        (each["scope"], each["change"], each["reason"], each["by_hand"], each["at"][17:-1])
        for each in (await shop.read(delivery_id))["hold_changes"]
    ]


async def test_a_hold_by_hand_is_remembered_until_its_release(shop: Any) -> None:
    delivery_id = await shop.add()
    assert await shop.store.put_hold("route:coupon-ready", "wrong text", shop.now + 1_000, by_hand=True)
    assert await shop.store.release_hold("route:coupon-ready", shop.now + 2_000)
    assert not await shop.store.release_hold("route:coupon-ready", shop.now + 3_000)
    assert await list_changes(shop, delivery_id) == [
        ("route:coupon-ready", "set", "wrong text", True, "21.000"),
        ("route:coupon-ready", "released", "wrong text", True, "22.000"),
    ]


async def test_a_hold_that_an_attempt_sets_is_remembered_until_its_probe_is_accepted(shop: Any) -> None:
    delivery_id = await shop.add()
    decision = Decision(State.PENDING, Reason.BALANCE_EMPTY, shop.now, SCOPE, shop.now, attempt_spent=False)
    await shop.close(await shop.claim_one(), Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), decision, after_ms=500)
    assert await shop.accept(await shop.claim_one(after_ms=6_000), after_ms=7_000)
    assert await list_changes(shop, delivery_id) == [
        (SCOPE, "set", "balance_empty", False, "20.500"),
        (SCOPE, "released", "balance_empty", False, "27.000"),
    ]


async def test_a_hold_that_whatsapp_lifts_is_remembered_as_such_and_one_by_hand_stays(shop: Any) -> None:
    delivery_id = await shop.add()
    reasons = {Reason.ACCOUNT_BLOCKED, Reason.TEMPLATE_PAUSED}
    assert not await shop.store.lift_hold(SCOPE, reasons, shop.now)
    await shop.store.put_hold(SCOPE, "account_blocked", shop.now + 1_000, shop.now + 9_000)
    assert not await shop.store.lift_hold(SCOPE, {Reason.TEMPLATE_PAUSED}, shop.now + 2_000)
    assert await shop.store.lift_hold(SCOPE, reasons, shop.now + 3_000)
    assert await list_changes(shop, delivery_id) == [
        (SCOPE, "set", "account_blocked", False, "21.000"),
        (SCOPE, "released", "reinstated", False, "23.000"),
    ]
    await shop.store.put_hold(SCOPE, "account_blocked", shop.now + 4_000, by_hand=True)
    assert not await shop.store.lift_hold(SCOPE, reasons, shop.now + 5_000)
    assert [hold.scope for hold in await shop.store.list_holds()] == [SCOPE]


async def test_the_fifth_refusal_in_a_row_is_remembered_as_the_routes_hold(shop: Any) -> None:
    ids = await shop.add_many(5)
    for attempt in await shop.claim():
        await shop.close(
            attempt, Rejected(Reason.PARAMETERS_REFUSED), Decision(State.DEAD, Reason.PARAMETERS_REFUSED), after_ms=9
        )
    told = [("route:coupon-ready", "set", "refused_repeatedly", False, "20.009")]
    assert [await list_changes(shop, id_) for id_ in ids] == [told] * 5


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (("balance_empty", False), ["balance_empty"]),
        (("credentials_refused", False), ["balance_empty", "credentials_refused"]),
        (("balance_empty", True), ["balance_empty", "balance_empty"]),
        (("by_hand", False), ["balance_empty", "by_hand"]),
    ],
)
async def test_only_a_renewal_for_another_reason_or_by_a_person_is_news(
    shop: Any, second: tuple[str, bool], told: list[str]
) -> None:
    delivery_id = await shop.add()
    await shop.store.put_hold(SCOPE, "balance_empty", shop.now, shop.now + 5)
    await shop.store.put_hold(SCOPE, second[0], shop.now + 1, shop.now + 9, by_hand=second[1])
    assert [reason for _, _, reason, *_ in await list_changes(shop, delivery_id)] == told


async def test_what_changes_nothing_of_a_persons_hold_is_not_remembered(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.store.put_hold(SCOPE, "counting stock", shop.now, by_hand=True)
    await shop.store.put_hold(SCOPE, "balance_empty", shop.now + 1, shop.now + 2)
    assert len(await list_changes(shop, delivery_id)) == 1


async def test_a_delivery_is_told_what_stood_when_it_came_and_nothing_before_or_after(shop: Any) -> None:
    await shop.store.put_hold(SCOPE, "balance_empty", shop.now - 9_000, shop.now)
    await shop.store.put_hold(SCOPE, "credentials_refused", shop.now - 8_000, shop.now)
    await shop.store.put_hold("route:coupon-ready", "by_hand", shop.now - 7_000)
    await shop.store.release_hold("route:coupon-ready", shop.now - 6_000)
    await shop.store.put_hold("route:another", "by_hand", shop.now)
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one(), after_ms=2_000)
    await shop.store.put_hold(SCOPE, "account_blocked", shop.now + 2_001, shop.now)
    assert await list_changes(shop, delivery_id) == [
        (SCOPE, "set", "credentials_refused", False, "12.000"),
        (SCOPE, "released", "credentials_refused", False, "22.000"),
    ]


async def test_what_its_failed_receipt_sets_is_told_though_it_had_been_accepted_long_before(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one(), "m-1", after_ms=1_000)
    await shop.store.put_hold(SCOPE, "by_hand", shop.now + 2_000)
    why = {"reason": Reason.TEMPLATE_PAUSED, "scope": Scope.TEMPLATE}
    await shop.receive(ReceiptStatus.FAILED, delivery_id, after_ms=3_000, **why)
    assert await list_changes(shop, delivery_id) == [
        ("template:gallabox/coupon_ready", "set", "template_paused", False, "23.000")
    ]


async def test_a_scope_keeps_its_newest_changes_only(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_changes, "KEPT", 6)
    delivery_id = await shop.add()
    await shop.store.put_hold("route:coupon-ready", "by_hand", shop.now)
    for number in range(20):
        reason = ("balance_empty", "credentials_refused")[number % 2]
        await shop.store.put_hold(SCOPE, reason, shop.now + number * 1_000, shop.now)
    told = await list_changes(shop, delivery_id)
    assert [at for scope, *_, at in told if scope == SCOPE] == [f"{20 + number}.000" for number in range(14, 20)]
    assert len(told) == 7, "another scope's history is not touched"


async def test_history_is_forgotten_with_the_records_but_for_what_still_stands(shop: Any) -> None:
    await shop.store.put_hold(SCOPE, "balance_empty", shop.now, shop.now)
    await shop.store.put_hold("route:coupon-ready", "by_hand", shop.now)
    await shop.store.release_hold("route:coupon-ready", shop.now + 1)
    delivery_id = await shop.add()
    assert len(await list_changes(shop, delivery_id)) == 3
    await shop.store.forget_records(shop.now + 1)
    assert [change for _, change, *_ in await list_changes(shop, delivery_id)] == ["set", "released"]
    await shop.store.forget_records(shop.now + DAY)
    assert await list_changes(shop, delivery_id) == [(SCOPE, "set", "balance_empty", False, "20.000")]


async def test_control_a_door_beside_put_hold_leaves_a_hold_that_nobody_can_explain(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "note_change", lambda *_, **__: None)
    shop = wrap(open_sqlite())
    delivery_id = await shop.add()
    await shop.store.put_hold(SCOPE, "balance_empty", shop.now, shop.now)
    assert (await shop.show(delivery_id))[0] == "held"
    assert await list_changes(shop, delivery_id) == []
