"""What apply_reports promises, whatever the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Reason, Rejected, Scope, State
from app.model.message import Receipt, ReceiptStatus
from app.outbox.values import Hold, NewHold, ReceiptResult

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


# -- what a failed receipt holds -------------------------------------------------------------------

TEMPLATE, ACCOUNT = "template:gallabox/coupon_ready", "provider:gallabox"


async def note(
    shop: Any,
    delivery_id: str | None,
    message_id: str | None = None,
    *,
    reason: Reason = Reason.TEMPLATE_REFUSED,
    scope: Scope = Scope.TEMPLATE,
) -> ReceiptResult:
    failed = Receipt(FAILED, delivery_id, message_id, reason=reason, scope=scope)
    noted: ReceiptResult
    (noted,) = await shop.store.apply_receipts("gallabox", [failed], shop.now)
    return noted


@pytest.mark.parametrize(
    ("scope", "held", "wait_ms"),
    [
        (Scope.TEMPLATE, TEMPLATE, 900_000),
        (Scope.PROVIDER, ACCOUNT, 300_000),
        (Scope.MESSAGE, None, 0),
        (Scope.RECIPIENT, None, 0),
    ],
)
async def test_a_failed_receipt_holds_what_it_speaks_of_and_says_so_once(
    shop: Any, scope: Scope, held: str | None, wait_ms: int
) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    noted = await note(shop, delivery_id, scope=scope)
    assert (noted.delivery_id, noted.route) == (delivery_id, "coupon-ready")
    assert noted.event_id == (await shop.read(delivery_id))["event_id"]
    assert [hold.scope for hold in noted.holds_set] == ([held] if held else [])
    expected = [Hold(held, "template_refused", shop.now, 0, shop.now + wait_ms)] if held else []
    assert list(await shop.store.list_holds()) == expected
    assert (await note(shop, delivery_id, scope=scope)).holds_set == ()


async def test_receipts_that_come_together_are_taken_in_their_order(shop: Any) -> None:
    ids = [await shop.add(), await shop.add()]
    for attempt in await shop.claim():
        await shop.accept(attempt)
    told = [(ids[0], FAILED), (ids[1], READ), ("early", SENT), (ids[0], DELIVERED), (ids[1], SENT)]
    receipts = [Receipt(status, id_, None) for id_, status in told]
    noted = await shop.store.apply_receipts("gallabox", receipts, shop.now)
    assert [one.delivery_id for one in noted] == [ids[0], ids[1], None, ids[0], ids[1]]
    assert [(await shop.read(id_))["receipt"] for id_ in ids] == ["delivered", "read"]
    assert list(await shop.store.apply_receipts("gallabox", [], shop.now)) == []


async def test_a_repeated_receipt_does_not_set_again_what_a_person_released(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await note(shop, delivery_id)
    await shop.store.release_hold(TEMPLATE, shop.now)
    assert (await note(shop, delivery_id)).holds_set == ()
    assert list(await shop.store.list_holds()) == []


async def test_a_second_message_that_failed_alike_tells_of_no_new_hold(shop: Any) -> None:
    await shop.add_many(2)
    attempts = await shop.claim()
    for number, attempt in enumerate(attempts):
        await shop.accept(attempt)
        assert len((await note(shop, attempt.delivery.id)).holds_set) == 1 - number


async def test_a_receipt_never_changes_what_a_person_has_stopped(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.store.put_hold(TEMPLATE, "by_hand", shop.now, by_hand=True)
    assert (await note(shop, delivery_id)).holds_set == ()
    assert list(await shop.store.list_holds()) == [Hold(TEMPLATE, "by_hand", shop.now, 0)]


async def test_a_receipt_of_nothing_of_ours_holds_nothing(shop: Any) -> None:
    assert await note(shop, "of nobody") == ReceiptResult()
    assert list(await shop.store.list_holds()) == []


async def test_an_early_failure_holds_once_its_message_is_known(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    assert (await note(shop, None, "wamid-1")).delivery_id is None
    assert list(await shop.store.list_holds()) == []
    closed = await shop.store.close_attempt(attempt, Accepted("wamid-1"), Decision(State.ACCEPTED), shop.now, 1)
    assert closed.holds_set == (NewHold(TEMPLATE, "template_refused"),)
    assert await shop.show(delivery_id) == ("accepted", "template_refused", "failed")


@pytest.mark.parametrize("reason", [Reason.RECIPIENT_CAPPED, Reason.RATE_LIMITED, Reason.SERVER_ERROR])
async def test_what_might_pass_is_not_tried_again_for_a_late_receipt(shop: Any, reason: Reason) -> None:
    delivery_id = await shop.add(on_unknown="resend")
    await shop.accept(await shop.claim_one())
    await note(shop, delivery_id, reason=reason, scope=Scope.MESSAGE)
    assert await shop.show(delivery_id) == ("accepted", reason, "failed")
    assert (await shop.store.sweep(shop.now + HOUR, 0)).resent == 0
    assert await shop.claim(after_ms=23 * HOUR) == []


# -- by which id -----------------------------------------------------------------------------------


async def test_a_receipt_is_matched_by_our_id_then_the_providers_then_whatsapps(shop: Any) -> None:
    ours, its, whatsapps = [await shop.add() for _ in range(3)]
    for attempt, message_id in zip(await shop.claim(), ("g-1", "g-2", "g-3"), strict=True):
        await shop.accept(attempt, message_id)
    await shop.receive(SENT, None, "g-3", wamid="wamid.3")
    assert await shop.receive(READ, None, None, wamid="wamid.3")
    assert await shop.receive(READ, None, "g-2", wamid="wamid.3")
    assert await shop.receive(READ, ours, "g-2", wamid="wamid.3")
    assert [(await shop.show(id_))[2] for id_ in (ours, its, whatsapps)] == ["read", "read", "read"]
    assert await shop.receive(DELIVERED, None, "wamid.3"), "some webhooks give it as the provider's own"
    assert {row["status"] for row in (await shop.read(whatsapps))["receipts"]} == {"sent", "delivered", "read"}


async def test_an_early_receipt_teaches_whatsapps_id_too(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    await shop.receive(SENT, None, "g-1", wamid="wamid.1")
    await shop.accept(attempt, "g-1")
    assert await shop.receive(READ, None, None, wamid="wamid.1")
    assert (await shop.show(delivery_id))[2] == "read"


@pytest.mark.parametrize("first", [("g-1", None), (None, "wamid.1"), ("g-1", "wamid.other")])
async def test_what_came_early_is_applied_once_another_receipt_tells_whose_id_it_had(shop: Any, first: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    its_id, wamid = first
    assert not await shop.receive(READ, None, its_id, wamid=wamid)
    assert await shop.receive(SENT, delivery_id, "g-1", wamid="wamid.1")
    assert (await shop.show(delivery_id))[2] == "read"
    assert {row["status"] for row in (await shop.read(delivery_id))["receipts"]} == {"sent", "read"}


async def test_an_early_failure_holds_once_another_receipt_tells_whose_it_was(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    for its_id in ("g-1", "wamid.1"):
        assert not await shop.receive(FAILED, None, its_id, reason=Reason.TEMPLATE_PAUSED, scope=Scope.TEMPLATE)
    receipt = Receipt(SENT, delivery_id, "g-1", wamid="wamid.1")
    (result,) = await shop.store.apply_receipts("gallabox", [receipt], shop.now)
    assert [hold.scope for hold in result.holds_set] == ["template:gallabox/coupon_ready"]
    assert (await shop.show(delivery_id))[1:] == ("template_paused", "failed")


async def test_a_chain_of_early_receipts_is_applied_to_its_end(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    assert not await shop.receive(READ, None, None, wamid="wamid.1")
    assert not await shop.receive(DELIVERED, None, "g-1", wamid="wamid.1")
    assert await shop.receive(SENT, delivery_id, "g-1")
    assert {row["status"] for row in (await shop.read(delivery_id))["receipts"]} == {"sent", "delivered", "read"}


ECHO = "could not reach Riya with ACME-7Q2P: number gone"


async def read_words(shop: Any, delivery_id: str) -> list[str]:
    """Return the words of a delivery's failed receipt, wherever they are shown."""
    row = await shop.read(delivery_id)
    return [row["receipts"][-1]["detail"], row["timeline"][-1]["detail"]]


async def test_what_a_failed_receipt_says_does_not_repeat_the_messages_values(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.receive(FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE, detail=ECHO)
    assert await read_words(shop, delivery_id) == ["could not reach *** with ***: number gone"] * 2


async def test_nor_does_one_that_came_before_its_send_had_ended(shop: Any) -> None:
    delivery_id = await shop.add()
    attempt = await shop.claim_one()
    assert not await shop.receive(FAILED, None, "wamid-1", reason=Reason.RECIPIENT_UNREACHABLE, detail=ECHO)
    await shop.accept(attempt, "wamid-1")
    assert await read_words(shop, delivery_id) == ["could not reach *** with ***: number gone"] * 2


async def test_of_a_message_that_was_wiped_no_words_are_kept(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.store.wipe_payloads(shop.now + 1)
    await shop.receive(FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE, detail=ECHO)
    assert await read_words(shop, delivery_id) == [""] * 2
    assert await shop.show(delivery_id) == ("accepted", "recipient_unreachable", "failed")


async def test_without_striking_the_words_would_be_seen(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.outbox.receipts.strike_message", lambda text, _message: text)
    delivery_id = await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.receive(FAILED, delivery_id, reason=Reason.RECIPIENT_UNREACHABLE, detail=ECHO)
    assert await read_words(shop, delivery_id) == [ECHO] * 2
