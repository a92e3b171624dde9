"""What erase_person and export_person promise, whatever the store: they find the same, and nothing of it is left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.model.delivery import Reason, State
from app.model.event import Act, Customer
from app.model.message import Receipt, ReceiptStatus
from app.outbox.replay import EventQuery
from app.outbox.values import Recording

HER, OTHER = "+919800000041", "+919800000042"
DAY = 86_400_000


async def add(shop: Any, body: Any, *to: str, customer: Customer | None = None, **fields: Any) -> list[str]:
    """Add one event with a delivery to each of these numbers; return the deliveries' ids."""
    acts = fields.pop("acts", ())
    event = shop.event(body=json.dumps(body).encode(), customer=customer, acts=acts)
    made = [shop.delivery(event, recipient=number, **fields) for number in to]
    return [each.id for each in (await shop.store.add_event(event, made)).deliveries]


async def export_events(shop: Any, number: str = HER) -> list[Any]:
    events: list[Any] = (await shop.store.export_person(number))["events"]
    return events


async def erase(shop: Any, number: str = HER) -> tuple[int, int, int]:
    """Erase, and hold both functions together: what is exported before is not there after."""
    erased = await shop.store.erase_person(number, shop.now + 1)
    assert erased.log_emptied is (shop.store.fleet is None)  # PostgreSQL keeps dead rows and a log of its own
    if not erased.open:
        assert await export_events(shop, number) == []
    return erased.events, erased.deliveries, erased.open


ABOUT_HER = Customer(HER, "c-41")

# What they are found by: (body, whom it is about, who gets a message) → is it hers?
PLACES: list[tuple[Any, Customer | None, tuple[str, ...], bool]] = [
    ({"user_mobile": "9800000041"}, ABOUT_HER, (HER,), True),
    ({"user_mobile": "9800000041"}, ABOUT_HER, (), True),
    ({"id": "x"}, ABOUT_HER, (), True),
    ({"id": "x"}, None, (HER,), True),
    ({"a": [{"b": "call +91 98000-00041 now"}]}, None, (), True),
    ({"a": 919800000041}, None, (OTHER,), True),
    ({"referred_by": "098000 00041"}, Customer(OTHER, "c-42"), (OTHER,), True),
    ({"user_customer_id": "c-41"}, Customer("", "c-41"), (), True),
    ({"user_mobile": "9800000042"}, Customer(OTHER, "c-41"), (OTHER,), False),
    ({"user_customer_id": "c-43"}, Customer("", "c-43"), (), False),
    ({"user_mobile": "98000000412"}, None, (), False),
    ({"user_mobile": "9800000042"}, Customer(OTHER, "c-42"), (OTHER,), False),
]


@pytest.mark.parametrize(("body", "customer", "to", "hers"), PLACES)
async def test_whoever_an_event_is_about_sent_to_or_names_is_found(
    shop: Any, body: Any, customer: Customer | None, to: tuple[str, ...], hers: bool
) -> None:
    await add(shop, {}, customer=ABOUT_HER)  # by which the source's id is known to be hers
    await add(shop, body, *to, customer=customer)
    found = [event["body"] for event in await export_events(shop)]
    assert found == ([{}, body] if hers else [{}])
    assert (await erase(shop))[0] == len(found)
    others = [event.body for event in (await shop.store.find_events(EventQuery())).events]
    assert others == [None, None if hers else json.dumps(body).encode()]


async def test_a_person_is_found_by_hash_long_after_the_number_was_wiped(shop: Any) -> None:
    await add(shop, {"user_mobile": HER}, HER, customer=ABOUT_HER, state=State.SHADOW)
    await shop.store.wipe_payloads(shop.now + 1)
    (event,) = await export_events(shop)
    assert (event["body"], event["deliveries"][0]["recipient"], event["deliveries"][0]["message"]) == (None, "", None)
    assert await erase(shop) == (1, 1, 0)


async def test_any_number_of_events_is_erased(shop: Any) -> None:
    for _ in range(350):
        await add(shop, {}, customer=ABOUT_HER)
        await add(shop, {"x": HER})
        await add(shop, {}, customer=Customer("", "c-41"))
    assert await erase(shop) == (1_050, 0, 0)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.DEAD, State.EXPIRED, State.SHADOW, State.SUPPRESSED])
async def test_what_has_ended_keeps_its_state_and_loses_what_is_hers(shop: Any, state: State) -> None:
    (delivery_id,) = await add(shop, {"user_mobile": HER}, HER, state=state, reason=Reason.NOT_LIVE)
    before = await shop.read(delivery_id)
    assert await erase(shop) == (1, 1, 0)
    after = await shop.read(delivery_id)
    assert (after["recipient"], after["message"]) == ("", None)
    assert {**before, "recipient": "", "message": None} == after


async def test_what_waits_is_suppressed_and_never_sent(shop: Any) -> None:
    (pending,) = await add(shop, {}, HER)
    (held,) = await add(shop, {}, HER, route="held")
    await shop.store.put_hold("route:held", "by_hand", shop.now)
    assert await erase(shop) == (2, 2, 0)
    assert await shop.store.release_hold("route:held", shop.now)
    assert await shop.claim() == []
    for delivery_id in (pending, held):
        assert await shop.show(delivery_id) == ("suppressed", "erased", None)
        assert await shop.timeline(delivery_id) == [("pending", None), ("suppressed", "erased")]
    assert await shop.store.retry_deliveries([pending], shop.now) == []


async def test_an_unknown_that_would_be_sent_again_is_suppressed_and_one_that_waits_for_a_person_stays(
    shop: Any,
) -> None:
    ids = []
    for due_ms in (60_000, None):
        ids += await add(shop, {}, HER if due_ms else OTHER, provider=f"p-{due_ms}")
        (attempt,) = await shop.claim(provider=f"p-{due_ms}")
        await shop.leave_unknown(attempt, Reason.TIMED_OUT, due_ms)
    await erase(shop, HER)
    await erase(shop, OTHER)
    await shop.store.sweep(shop.now + 120_000, 0)
    assert [(await shop.show(id_))[:2] for id_ in ids] == [("suppressed", "erased"), ("unknown", "timed_out")]
    assert await shop.store.explain_retry(ids, shop.now) == {ids[0]: "suppressed", ids[1]: "payload_gone"}


async def test_what_is_being_sent_is_left_and_found_again(shop: Any) -> None:
    sending, other = await add(shop, {"x": HER}, HER, HER, customer=ABOUT_HER)
    (attempt,) = await shop.claim(1)
    (linked,) = await add(shop, {}, OTHER, customer=Customer("", "c-41"), provider="bitespeed")
    (linked_attempt,) = await shop.claim(provider="bitespeed")
    assert await erase(shop) == (0, 1, 2)
    assert (await shop.show(sending), await shop.show(other)) == (
        ("sending", None, None),
        ("suppressed", "erased", None),
    )
    assert await shop.accept(attempt, "m-1")
    assert await erase(shop) == (1, 1, 1), "the link to what is still open stays"
    assert await shop.accept(linked_attempt, "m-2")
    assert await erase(shop) == (2, 1, 0)
    assert (await shop.show(sending))[0] == (await shop.show(linked))[0] == "accepted"
    assert await erase(shop) == (0, 0, 0)


async def test_what_an_event_that_names_her_sent_to_another_is_wiped_and_stays_the_others(shop: Any) -> None:
    (delivery_id,) = await add(shop, {"friend": HER}, OTHER, customer=Customer(OTHER, "c-42"), acts=(Act.ORDER_PLACED,))
    (event,) = await export_events(shop)
    assert event["deliveries"][0]["recipient"] == "+91******0042"
    assert OTHER not in json.dumps(event)
    assert await erase(shop) == (1, 1, 0)
    assert await shop.show(delivery_id) == ("suppressed", "erased", None)
    (event,) = await export_events(shop, OTHER)
    assert [act["act"] for act in event["acts"]] == ["order_placed"]


async def test_the_export_holds_everything_unmasked(shop: Any) -> None:
    (delivery_id,) = await add(
        shop, {"user_name": "Riya", "n": 1}, HER, customer=ABOUT_HER, acts=(Act.COINS_SPENT,), marketing=False
    )
    await shop.accept(await shop.claim_one(), "m-1")
    await shop.receive(ReceiptStatus.READ, delivery_id)
    record = await shop.store.export_person(HER)
    assert record["phone"] == HER
    assert record["marketing"] == {"suppressed": False, "reason": None, "since": None}
    assert record["unreachable_since"] is None
    (event,) = record["events"]
    assert event["body"] == {"user_name": "Riya", "n": 1}
    assert event["topic"] == "coupon_create"
    assert event["acts"] == [{"act": "coins_spent", "at": event["received_at"]}]
    (delivery,) = event["deliveries"]
    assert (delivery["id"], delivery["recipient"], delivery["state"]) == (delivery_id, HER, "accepted")
    assert delivery["message"]["variables"] == [["1", "Riya"], [None, "ACME-7Q2P"]]
    assert delivery["message"]["recipient_name"] == "Riya"
    assert (delivery["marketing"], delivery["clicked_at"], delivery["provider_message_id"]) == (False, None, "m-1")
    assert [each["outcome"] for each in delivery["attempt_list"]] == ["accepted"]
    assert [each["status"] for each in delivery["receipts"]] == ["read"]
    assert [each["value"] for each in delivery["timeline"]] == ["pending", "sending", "accepted", "read"]
    json.dumps(record)


async def test_a_body_that_is_no_json_is_searched_and_shown_as_a_text(shop: Any) -> None:
    await shop.store.add_event(shop.event(body=b"by hand: 98000 00041"), [])
    assert [event["body"] for event in await export_events(shop)] == ["by hand: 98000 00041"]
    assert await erase(shop) == (1, 0, 0)


async def test_an_erased_event_is_still_known_and_makes_no_replay(shop: Any) -> None:
    event = shop.event(customer=ABOUT_HER)
    await shop.store.add_event(event, [])
    await erase(shop)
    assert (await shop.store.add_event(event, [])).duplicate
    assert [each.body for each in (await shop.store.find_events(EventQuery())).events] == [None]


async def test_a_key_of_dedup_outlives_the_erasing(shop: Any) -> None:
    await add(shop, {}, HER, dedup_key="ACME-7Q2P")
    await erase(shop)
    (again,) = await add(shop, {}, HER, dedup_key="ACME-7Q2P")
    assert (await shop.show(again))[:2] == ("suppressed", "duplicate")


async def test_what_comes_after_is_new(shop: Any) -> None:
    await add(shop, {"a": 1}, HER, customer=ABOUT_HER)
    await erase(shop)
    (delivery_id,) = await add(shop, {"a": 2}, HER, customer=ABOUT_HER)
    assert [event["body"] for event in await export_events(shop)] == [{"a": 2}]
    assert [each.delivery.id for each in await shop.claim()] == [delivery_id]


@pytest.mark.parametrize("by", ["ours", "its"])
@pytest.mark.parametrize("end", ["erased", "wiped"])
async def test_a_late_receipt_finds_its_delivery_and_brings_nothing_back(shop: Any, by: str, end: str) -> None:
    (delivery_id,) = await add(shop, {}, HER)
    await shop.accept(await shop.claim_one(), "wamid.her")
    await (erase(shop) if end == "erased" else shop.store.wipe_payloads(shop.now + 1))
    given = (delivery_id, "wamid.her") if by == "ours" else (None, "wamid.her")
    assert await shop.receive(ReceiptStatus.READ, *given)
    row = await shop.read(delivery_id)
    assert (row["receipt"], row["provider_message_id"], row["recipient"]) == ("read", None, "")


async def test_receipts_of_nothing_whose_id_tells_her_number_go(shop: Any) -> None:
    await shop.receive(ReceiptStatus.SENT, None, f"wamid-{HER}")
    await shop.receive(ReceiptStatus.SENT, None, "wamid-1")
    await erase(shop)
    for message_id, receipt in ((f"wamid-{HER}", None), ("wamid-1", "sent")):
        delivery_id = await shop.add()
        await shop.accept(await shop.claim_one(), message_id)
        assert await shop.show(delivery_id) == ("accepted", None, receipt)


async def test_recordings_that_name_her_go(shop: Any) -> None:
    await shop.store.record_event(Recording("a", shop.now, '{"status": "9800000041"}'))
    await shop.store.record_event(Recording("a", shop.now, '{"status": "used"}'))
    await erase(shop)
    assert [each.payload for each in await shop.store.list_recordings(None)] == ['{"status": "used"}']


async def test_recordings_go_with_the_records_of_their_time(shop: Any) -> None:
    await shop.store.record_event(Recording("a", shop.now, "{}"))
    await shop.store.record_event(Recording("a", shop.now + 1, "[]"))
    await shop.store.forget_records(shop.now + 1)
    assert [each.payload for each in await shop.store.list_recordings(None)] == ["[]"]


async def test_of_nobody_nothing_is_found(shop: Any) -> None:
    await add(shop, {}, OTHER, customer=Customer(OTHER, "c-42"))
    record = await shop.store.export_person(HER)
    assert record == {
        "phone": HER,
        "marketing": {"suppressed": False, "reason": None, "since": None},
        "unreachable_since": None,
        "events": [],
    }
    assert await erase(shop) == (0, 0, 0)


async def test_an_early_receipt_of_her_delivery_is_not_lost_while_it_is_sent(shop: Any) -> None:
    (delivery_id,) = await add(shop, {}, HER)
    (attempt,) = await shop.claim()
    await shop.store.apply_receipts("gallabox", [Receipt(ReceiptStatus.SENT, delivery_id, "m-1")], shop.now)
    await erase(shop)
    assert await shop.accept(attempt, "m-1")
    assert await shop.show(delivery_id) == ("accepted", None, "sent")
