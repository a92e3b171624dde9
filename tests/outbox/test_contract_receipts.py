"""What apply_receipt promises, whatever the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.core.deciding import Decision
from app.core.models import Reason, ReceiptStatus, Rejected, State

SENT, DELIVERED, READ, FAILED = ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.READ, ReceiptStatus.FAILED
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("given", "standing"),
    [
        ([SENT], "sent"),
        ([SENT, DELIVERED, READ], "read"),
        ([READ, DELIVERED, SENT], "read"),
        ([DELIVERED, SENT], "delivered"),
        ([SENT, FAILED], "failed"),
        ([FAILED, SENT], "failed"),
        ([DELIVERED, FAILED], "delivered"),
        ([READ, FAILED], "read"),
        ([FAILED, DELIVERED], "delivered"),
    ],
)
async def test_receipts_in_any_order_never_go_back(shop: Any, given: Sequence[ReceiptStatus], standing: str) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    for status in given:
        assert await shop.receive(status, delivery_id)
    assert (await shop.show(delivery_id))[::2] == ("accepted", standing)
    assert [value for value, _ in await shop.timeline(delivery_id)][3:] == [*given]
    assert {row["status"] for row in (await shop.read(delivery_id))["receipts"]} == {*given}


async def test_a_repeated_receipt_changes_nothing(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.receive(DELIVERED, delivery_id, at=shop.now + 1, after_ms=10)
    before = await shop.read(delivery_id)
    assert await shop.receive(DELIVERED, delivery_id, at=shop.now + 2, after_ms=20)
    assert await shop.read(delivery_id) == before


async def test_a_receipt_is_matched_by_the_providers_id_too(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one(), "wamid-1")
    assert await shop.receive(DELIVERED, None, "wamid-1")
    assert await shop.receive(READ, "an id of theirs", "wamid-1")
    assert await shop.show(delivery_id) == ("accepted", None, "read")


@pytest.mark.parametrize(
    ("delivery_id", "message_id", "provider"),
    [("ours", None, "bitespeed"), (None, "wamid-1", "bitespeed"), (None, None, "gallabox"), ("", "", "gallabox")],
)
async def test_a_receipt_of_nothing_of_ours_matches_nothing(
    shop: Any, delivery_id: str | None, message_id: str | None, provider: str
) -> None:
    event = shop.event()
    await shop.store.add_event(event, [shop.delivery(event, id="ours")])
    await shop.accept(await shop.claim_one(), "wamid-1")
    assert not await shop.receive(DELIVERED, delivery_id, message_id, provider=provider)
    assert await shop.show("ours") == ("accepted", None, None)


async def test_a_failed_receipt_says_why_until_the_message_arrives_after_all(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.receive(FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE, detail="131026")
    assert await shop.show(delivery_id) == ("accepted", "recipient_unreachable", "failed")
    await shop.receive(DELIVERED, delivery_id)
    assert await shop.show(delivery_id) == ("accepted", None, "delivered")


@pytest.mark.parametrize("status", [SENT, DELIVERED, READ, FAILED])
async def test_any_receipt_settles_an_unknown_delivery_as_accepted(shop: Any, status: ReceiptStatus) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=1_000)
    assert await shop.receive(status, delivery_id)
    assert (await shop.show(delivery_id))[0] == "accepted"
    assert (await shop.store.sweep(shop.now + 1_000, 0)).resent == 0


@pytest.mark.parametrize(("status", "state"), [(SENT, "accepted"), (READ, "accepted"), (FAILED, "pending")])
async def test_a_message_that_arrived_is_not_sent_again(shop: Any, status: ReceiptStatus, state: str) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT, due_ms=1_000)
    assert (await shop.store.sweep(shop.now + 1_000, 0)).resent == 1
    await shop.receive(status, delivery_id)
    assert (await shop.show(delivery_id))[0] == state
    assert bool(await shop.claim(after_ms=10_000)) is (state == "pending")


async def test_a_receipt_that_says_it_arrived_corrects_a_refusal(shop: Any) -> None:
    delivery_id = await shop.add()
    refused = Decision(State.DEAD, Reason.REQUEST_REFUSED)
    await shop.close(await shop.claim_one(), Rejected(Reason.REQUEST_REFUSED), refused)
    await shop.receive(FAILED, delivery_id)
    assert (await shop.show(delivery_id))[0] == "dead"
    await shop.receive(DELIVERED, delivery_id)
    assert await shop.show(delivery_id) == ("accepted", None, "delivered")


async def test_a_receipt_for_what_was_never_tried_sends_nothing_and_stops_nothing(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.receive(DELIVERED, delivery_id)
    assert await shop.show(delivery_id) == ("pending", None, "delivered")
    assert len(await shop.claim()) == 1


async def test_a_receipt_before_our_own_send_returned_is_shown_and_settles_at_the_close(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    assert await shop.receive(DELIVERED, delivery_id)
    assert await shop.show(delivery_id) == ("sending", None, "delivered")
    assert await shop.leave_unknown(attempt, Reason.CONNECTION_LOST, due_ms=1_000)
    assert await shop.show(delivery_id) == ("accepted", None, "delivered")
    assert (await shop.read(delivery_id))["attempt_list"][0]["reason"] == "connection_lost"


async def test_an_early_receipt_waits_for_the_providers_id(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    assert not await shop.receive(SENT, None, "wamid-1")
    assert not await shop.receive(DELIVERED, None, "wamid-1", reason=None)
    assert not await shop.receive(DELIVERED, None, "wamid-other")
    await shop.accept(attempt, "wamid-1")
    assert await shop.show(delivery_id) == ("accepted", None, "delivered")


async def test_an_early_receipt_waits_for_its_delivery(shop: Any) -> None:
    assert not await shop.receive(FAILED, "ours", reason=Reason.RECIPIENT_CAPPED)
    event = shop.event()
    await shop.store.add_event(event, [shop.delivery(event, id="ours")])
    await shop.accept(await shop.claim_one())
    assert await shop.show("ours") == ("accepted", "recipient_capped", "failed")


@pytest.mark.parametrize(("hours", "receipt"), [(23, "delivered"), (24, None)])
async def test_an_early_receipt_is_kept_24_hours_and_through_a_restart(
    open_shop: Callable[..., Any], hours: int, receipt: str | None
) -> None:
    shop = open_shop()
    delivery_id = await shop.add(deadline_at=shop.now + 48 * HOUR)
    await shop.receive(DELIVERED, None, "wamid-1")
    await shop.store.close()
    shop = open_shop()
    await shop.store.sweep(shop.now + hours * HOUR, 0)
    await shop.accept(await shop.claim_one(after_ms=10), "wamid-1")
    assert (await shop.show(delivery_id))[2] == receipt


async def test_a_receipt_teaches_the_providers_id(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.leave_unknown(await shop.claim_one(), Reason.TIMED_OUT)
    await shop.receive(SENT, delivery_id, "wamid-1")
    assert await shop.receive(READ, None, "wamid-1")
    assert await shop.show(delivery_id) == ("accepted", None, "read")
