"""What the lists and counts show, whatever the store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.model.delivery import Reason, State
from app.model.message import Button, Header, Message, ReceiptStatus, Variable
from app.outbox.values import DeliveryFilter

KEYS = [
    "id", "event_id", "topic", "route", "provider", "template", "recipient", "state", "reason", "receipt", "attempts",
    "created_at", "updated_at", "next_attempt_at",
]  # fmt: skip


async def test_a_listed_delivery_has_exactly_the_agreed_keys(shop: Any) -> None:
    event = shop.event(topic="coupon_create")
    given = shop.delivery(event, recipient="+919800000001")
    await shop.store.add_event(event, [given])
    ((row,), cursor) = await shop.store.list_deliveries(DeliveryFilter())
    assert list(row) == KEYS
    assert row == {
        "id": given.id,
        "event_id": event.id,
        "topic": "coupon_create",
        "route": "coupon-ready",
        "provider": "gallabox",
        "template": "coupon_ready",
        "recipient": "+91******0001",
        "state": "pending",
        "reason": None,
        "receipt": None,
        "attempts": 0,
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:20.000Z",
        "next_attempt_at": "2026-09-21T14:13:20.000Z",
    }
    assert cursor is None


async def test_pages_are_newest_first_and_whole_while_new_ones_come(shop: Any) -> None:
    added = await shop.add_many(25)
    seen: list[str] = []
    cursor: str | None = None
    for page in range(3):
        rows, cursor = await shop.store.list_deliveries(DeliveryFilter(limit=10, cursor=cursor))
        seen += [row["id"] for row in rows]
        assert (cursor is None) is (page == 2)
        assert cursor is None or cursor.replace("-", "").replace("_", "").isalnum()
        await shop.add()
    assert seen == added[::-1]


@pytest.mark.parametrize("cursor", ["", "x", "!", "czA=x", "cy0x", "é", "s5", "czk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
async def test_a_foreign_cursor_is_refused(shop: Any, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await shop.store.list_deliveries(DeliveryFilter(cursor=cursor))


async def fill(shop: Any) -> dict[str, str]:
    """One delivery in every state, and what distinguishes it."""
    found = {
        "dead": await shop.add(state=State.DEAD, reason=Reason.VARIABLE_MISSING),
        "shadow": await shop.add(state=State.SHADOW),
        "suppressed": await shop.add(state=State.SUPPRESSED, reason=Reason.DUPLICATE),
        "expired": await shop.add(deadline_at=shop.now),
        "accepted": await shop.add(due_at=shop.now - 3),
        "unknown": await shop.add(due_at=shop.now - 2),
        "sending": await shop.add(due_at=shop.now - 1),
    }
    accepted, unknown, _ = await shop.claim(3)
    await shop.accept(accepted)
    await shop.leave_unknown(unknown, Reason.TIMED_OUT)
    await shop.store.sweep(shop.now, 0)
    found["pending"] = await shop.add(route="b", provider="bitespeed")
    found["held"] = await shop.add(route="stopped")
    await shop.store.put_hold("route:stopped", "by_hand", shop.now)
    return found


async def test_every_state_can_be_listed_by_itself(shop: Any) -> None:
    found = await fill(shop)
    assert {state: await shop.list_ids(state=state) for state in found} == {
        state: [id_] for state, id_ in found.items()
    }
    assert await shop.list_ids(state="nonsense") == []
    assert len(await shop.list_ids()) == len(found) == 9


async def test_filters_combine(shop: Any) -> None:
    found = await fill(shop)
    assert await shop.list_ids(provider="bitespeed") == [found["pending"]]
    assert await shop.list_ids(route="stopped", state="held") == [found["held"]]
    assert await shop.list_ids(route="b", state="dead") == []
    event_id = (await shop.read(found["dead"]))["event_id"]
    assert await shop.list_ids(event_id=event_id) == [found["dead"]]
    assert await shop.list_ids(event_id=event_id, state="accepted") == []
    assert await shop.list_ids(event_id="evt-none") == []


async def test_counts_equal_what_is_there(shop: Any) -> None:
    await fill(shop)
    assert await shop.store.count_deliveries() == {
        ("gallabox", State.DEAD): 1,
        ("gallabox", State.SHADOW): 1,
        ("gallabox", State.SUPPRESSED): 1,
        ("gallabox", State.EXPIRED): 1,
        ("gallabox", State.ACCEPTED): 1,
        ("gallabox", State.UNKNOWN): 1,
        ("gallabox", State.SENDING): 1,
        ("gallabox", State.PENDING): 1,
        ("bitespeed", State.PENDING): 1,
    }


async def test_a_delivery_reads_as_its_whole_story_without_values(shop: Any) -> None:
    message = Message(
        "+919800000001",
        "coupon_ready",
        "Riya Canary",
        "en",
        (Variable("name", "Riya Canary"), Variable(None, "ACME-7Q2P"), Variable(None, "")),
        Header("image", "https://pictures.example/canary.png"),
        (Button(0, "canary"),),
    )
    event = shop.event(body=b'{"name": "Canary"}', received_at=shop.now - 5)
    delivery_id = shop.delivery(event, recipient=message.recipient, message=message, config_hash="1a2b", config_line=41)
    await shop.store.add_event(event, [delivery_id])
    await shop.accept(await shop.claim_one(), "wamid-1", after_ms=300)
    await shop.receive(ReceiptStatus.DELIVERED, None, "wamid-1", at=shop.now + 400, after_ms=500)
    row = await shop.read(delivery_id.id)
    assert list(row)[: len(KEYS)] == KEYS
    assert row["event"] == {
        "id": event.id,
        "source": "nector",
        "topic": "coupon_create",
        "received_at": "2026-09-21T14:13:19.995Z",
        "delivery_id": event.delivery_id,
    }
    assert row["message"] == {
        "template": "coupon_ready",
        "language": "en",
        "header": "image",
        "variables": [
            {"name": "name", "value": "R***"},
            {"name": None, "value": "A***"},
            {"name": None, "value": "***"},
        ],
        "buttons": 1,
    }
    assert (row["config_hash"], row["config_line"], row["on_unknown"]) == ("1a2b", 41, "hold")
    assert (row["hold_changes"], row["siblings"]) == ([], [])
    assert row["attempt_list"] == [
        {
            "number": 1,
            "started_at": "2026-09-21T14:13:20.000Z",
            "ended_at": "2026-09-21T14:13:20.300Z",
            "outcome": "accepted",
            "reason": None,
            "detail": "",
            "tries": 1,
        }
    ]
    assert row["receipts"] == [
        {
            "status": "delivered",
            "at": "2026-09-21T14:13:20.400Z",
            "received_at": "2026-09-21T14:13:20.500Z",
            "reason": None,
            "detail": "",
        }
    ]
    assert [(each["kind"], each["value"], each["at"][-7:]) for each in row["timeline"]] == [
        ("state", "pending", "20.000Z"),
        ("state", "sending", "20.000Z"),
        ("state", "accepted", "20.300Z"),
        ("receipt", "delivered", "20.500Z"),
    ]
    text = json.dumps(row)
    assert not [secret for secret in ("anary", "7Q2P", "9800000001") if secret in text]


async def test_a_line_that_was_not_kept_reads_as_none(shop: Any) -> None:
    assert (await shop.read(await shop.add()))["config_line"] is None


async def test_a_delivery_names_the_others_of_its_event(shop: Any) -> None:
    event = shop.event()
    first, second = shop.delivery(event), shop.delivery(event, route="b", provider="bitespeed", state=State.DEAD)
    await shop.store.add_event(event, [first, second])
    await shop.add()
    assert (await shop.read(first.id))["siblings"] == [
        {
            "id": second.id,
            "route": "b",
            "provider": "bitespeed",
            "template": "coupon_ready",
            "state": "dead",
            "created_at": "2026-09-21T14:13:20.000Z",
        }
    ]
    assert [each["id"] for each in (await shop.read(second.id))["siblings"]] == [first.id]


async def test_a_providers_message_id_finds_its_delivery(shop: Any) -> None:
    delivery_id = await shop.add()
    await shop.add(provider="bitespeed")
    await shop.accept(await shop.claim_one(), "wamid.1=")
    assert await shop.list_ids(provider_message_id="wamid.1=") == [delivery_id]
    assert await shop.list_ids(provider_message_id="wamid.1=", provider="bitespeed") == []
    assert await shop.list_ids(provider_message_id="") == []


async def test_an_unknown_delivery_reads_as_none(shop: Any) -> None:
    assert await shop.store.read_delivery("dlv-none") is None
