"""What read_ledger promises, whatever the store: how far messages came, and what their customers did after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.model.delivery import Reason, Rejected, State
from app.model.event import TEST_SOURCE, Act, Customer
from app.model.message import ReceiptStatus
from app.outbox import report as ledger
from app.outbox.values import LedgerQuery, LedgerRow
from tests.outbox.methods import SqliteOutbox

RIYA, KABIR = Customer("+919800000001", "shopify-1"), Customer("+919800000002", "shopify-2")
HOUR, DAY = 3_600_000, 86_400_000
USED = Act.COUPON_USED


async def read(shop: Any, **wanted: Any) -> dict[str, dict[str, int]]:
    """Return the columns that are not 0, by key."""
    standard: dict[str, Any] = {
        "since": shop.now - DAY, "until": shop.now + 30 * DAY, "by": "route", "window_ms": 7 * DAY,
        "timezone": "Asia/Kolkata",
    }  # fmt: skip
    rows = await shop.store.read_ledger(LedgerQuery(**{**standard, **wanted}))
    return {row.key: {name: n for name, n in asdict(row).items() if n and name != "key"} for row in rows}


async def send(shop: Any, to: Customer = RIYA, **fields: Any) -> str:
    """Add a delivery about a customer, and let the provider accept it 3 s later."""
    about = {name: fields.pop(name) for name in ("topic", "source", "received_at") if name in fields}
    event = shop.event(customer=to, **about)
    delivery = shop.delivery(event, recipient=to.number, **fields)
    await shop.store.add_event(event, [delivery])
    (attempt,) = await shop.claim(1, after_ms=3_000)
    await shop.accept(attempt, after_ms=3_000)
    return str(delivery.id)


async def act(shop: Any, *acts: Act, after_ms: int, by: Customer = RIYA) -> str:
    """Add an event that tells of acts."""
    event = shop.event(customer=by, acts=acts, received_at=shop.now + after_ms)
    return str((await shop.store.add_event(event, [])).event_id)


async def test_a_delivery_is_counted_in_each_column_that_it_came_to(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(recipient_gap_ms=0)
    read_one, delivered, failed, quiet = [await send(shop) for _ in range(4)]
    for delivery_id, status in (
        (read_one, ReceiptStatus.SENT), (read_one, ReceiptStatus.READ), (delivered, ReceiptStatus.DELIVERED),
        (failed, ReceiptStatus.FAILED),
    ):  # fmt: skip
        await shop.receive(status, delivery_id)
    for state in (State.DEAD, State.EXPIRED, State.UNKNOWN, State.SUPPRESSED, State.SHADOW, State.PENDING):
        await shop.add(state=state)
    assert quiet
    assert await read(shop) == {
        "coupon-ready": {
            "received": 9, "accepted": 4, "delivered": 2, "read": 1, "failed": 1, "waiting": 1, "dead": 1,
            "expired": 1, "unknown": 1, "suppressed": 1, "reported": 3,
        }
    }  # fmt: skip


ACTS: list[tuple[str, dict[str, Any], bool]] = [
    ("an hour later", {"after_ms": HOUR}, True),
    ("right after the acceptance", {"after_ms": 3_001}, True),
    ("as it was accepted", {"after_ms": 3_000}, False),
    ("between the event and the acceptance", {"after_ms": 1_000}, False),
    ("before the event", {"after_ms": -HOUR}, False),
    ("at the end of the window", {"after_ms": 3_000 + 7 * DAY}, True),
    ("past the window", {"after_ms": 3_001 + 7 * DAY}, False),
    ("another customer", {"after_ms": HOUR, "by": KABIR}, False),
    ("known by the source's id alone", {"after_ms": HOUR, "by": Customer("", RIYA.id)}, True),
    ("another one's id alone", {"after_ms": HOUR, "by": Customer("", KABIR.id)}, False),
    ("the number alone", {"after_ms": HOUR, "by": Customer(RIYA.number, "")}, True),
    ("another number under the same id", {"after_ms": HOUR, "by": Customer(KABIR.number, RIYA.id)}, False),
    ("nobody", {"after_ms": HOUR, "by": Customer()}, False),
]


@pytest.mark.parametrize(("given", "counts"), [each[1:] for each in ACTS], ids=[each[0] for each in ACTS])
async def test_an_act_counts_for_the_same_person_after_the_acceptance_and_within_the_window(
    shop: Any, given: dict[str, Any], counts: bool
) -> None:
    await send(shop)
    await act(shop, USED, **given)
    assert (await read(shop))["coupon-ready"].get("acted", 0) == counts


CONTROLS: Mapping[str, tuple[str, str]] = {
    "past the window": ("BETWEEN 1 AND :window", ">= 1"),
    "another customer": ("a.person = d.person", "a.person IS NOT NULL"),
    "between the event and the acceptance": ("BETWEEN 1 AND :window", "<= :window"),
    "another one's id alone": ("a.customer = e.customer", "1"),
}


@pytest.mark.parametrize("name", CONTROLS)
async def test_without_its_window_its_person_or_its_acceptance_a_ledger_counts_too_much(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    old, new = CONTROLS[name]
    assert old in ledger._COUNT
    monkeypatch.setattr(ledger, "_COUNT", ledger._COUNT.replace(old, new))
    shop = wrap(open_sqlite())
    await send(shop)
    await act(shop, USED, **next(given for each, given, _ in ACTS if each == name))
    assert (await read(shop))["coupon-ready"]["acted"] == 1


async def test_acts_that_repeat_count_once_and_one_act_counts_for_every_message_before_it(
    open_shop: Callable[..., Any],
) -> None:
    shop = open_shop(recipient_gap_ms=0)
    await send(shop)
    await send(shop, route="coupon-unused")
    for hours in (1, 2, 3):
        await act(shop, USED, after_ms=hours * HOUR)
    found = await read(shop)
    assert found["coupon-ready"]["acted"] == found["coupon-unused"]["acted"] == 1


@pytest.mark.parametrize(
    ("topic", "acts", "acted", "ordered"),
    [
        ("coupon_create", (Act.COUPON_USED,), 1, 0),
        ("coupon_create", (Act.ORDER_PLACED,), 0, 1),
        ("coupon_create", (Act.COUPON_USED, Act.ORDER_PLACED), 1, 1),
        ("coupon_create", (Act.COINS_SPENT, Act.REVIEW_WRITTEN, Act.REFERRAL_DONE), 0, 0),
        ("walletreward_create", (Act.COINS_SPENT,), 1, 0),
        ("reviewrequest_create", (Act.REVIEW_WRITTEN,), 1, 0),
        ("incompletereferralrequest_create", (Act.REFERRAL_DONE,), 1, 0),
        ("a trigger of their own", (Act.ORDER_PLACED,), 1, 1),
        ("a trigger of their own", (Act.COUPON_USED,), 0, 0),
    ],
)
async def test_a_topics_own_act_is_acted_and_any_order_is_ordered(
    shop: Any, topic: str, acts: tuple[Act, ...], acted: int, ordered: int
) -> None:
    await send(shop, topic=topic)
    for hours, each in enumerate(acts, 1):
        await act(shop, each, after_ms=hours * HOUR)
    found = (await read(shop))["coupon-ready"]
    assert (found.get("acted", 0), found.get("ordered", 0)) == (acted, ordered)


async def test_an_act_after_a_message_that_was_not_accepted_counts_for_nothing(shop: Any) -> None:
    event = shop.event(customer=RIYA)
    await shop.store.add_event(event, [shop.delivery(event, recipient=RIYA.number)])
    refused = Rejected(Reason.REQUEST_REFUSED)
    await shop.close(await shop.claim_one(), refused, Decision(State.DEAD, Reason.REQUEST_REFUSED))
    await act(shop, USED, after_ms=HOUR)
    assert await read(shop) == {"coupon-ready": {"received": 1, "dead": 1}}


async def test_test_messages_and_shadows_are_left_out_and_what_shadows_customers_did_is_not(
    open_shop: Callable[..., Any],
) -> None:
    shop = open_shop(recipient_gap_ms=0)
    await send(shop)
    await send(shop, source=TEST_SOURCE)
    event = shop.event(customer=RIYA, acts=(USED,), received_at=shop.now + HOUR)
    await shop.store.add_event(event, [shop.delivery(event, state=State.SHADOW)])
    assert await read(shop) == {"coupon-ready": {"received": 1, "accepted": 1, "acted": 1}}


async def test_what_was_wiped_still_counts(shop: Any) -> None:
    await send(shop)
    event_id = await act(shop, USED, after_ms=HOUR)
    assert await shop.store.wipe_payloads(shop.now + DAY) == 1
    assert event_id
    assert (await read(shop))["coupon-ready"]["acted"] == 1
    await shop.store.forget_records(shop.now + DAY)  # and what was forgotten does not
    assert await read(shop) == {}


async def test_it_counts_by_topic_and_by_day_of_the_store(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(recipient_gap_ms=0)  # now: 2026-09-21T13:33:20Z
    for hours in (0, 5, 6):
        await send(shop, topic="viptier_create", created_at=shop.now + hours * HOUR, due_at=shop.now)
    await send(shop, route="b")
    assert await read(shop, by="topic") == {
        "viptier_create": {"received": 3, "accepted": 3},
        "coupon_create": {"received": 1, "accepted": 1},
    }
    assert {day: row["received"] for day, row in (await read(shop, by="day")).items()} == {
        "2026-09-21": 2,
        "2026-09-22": 2,  # in India from 18:30Z on
    }
    assert {day: row["received"] for day, row in (await read(shop, by="day", timezone="UTC")).items()} == {
        "2026-09-21": 4
    }


async def test_days_are_in_order_and_other_keys_by_how_much_they_received(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(recipient_gap_ms=0)
    for route, days in (("a", 2), ("b", 1), ("b", 0), ("c", 2), ("c", 2)):
        await send(shop, route=route, created_at=shop.now + days * DAY, due_at=shop.now)
    assert list(await read(shop)) == ["b", "c", "a"]
    assert list(await read(shop, by="day")) == ["2026-09-21", "2026-09-22", "2026-09-23"]


async def test_it_counts_from_one_instant_on_and_before_another(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(recipient_gap_ms=0)
    for route, at in (("before", -1), ("first", 0), ("last", 9), ("after", 10)):
        await send(shop, route=route, created_at=shop.now + at, due_at=shop.now)
    assert set(await read(shop, since=shop.now, until=shop.now + 10)) == {"first", "last"}
    assert await read(shop, since=shop.now + 20) == {}


@pytest.mark.parametrize("step", [1, 2, 3, 100])
async def test_however_it_is_cut_into_steps_each_delivery_is_counted_once(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(ledger.cut_steps, "__defaults__", (step,))
    shop = wrap(open_sqlite(recipient_gap_ms=0))
    for at in (0, 0, 0, 1, 2, 2, 7):
        await send(shop, created_at=shop.now + at, due_at=shop.now)
    await act(shop, USED, after_ms=HOUR)
    assert await read(shop) == {"coupon-ready": {"received": 7, "accepted": 7, "acted": 7}}


async def test_tapped_reply_buttons_are_clicks(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_sqlite())
    await send(shop)
    await shop.store.write(lambda tx: tx.run("INSERT INTO clicks SELECT seq, 1 FROM deliveries"))
    assert (await read(shop))["coupon-ready"]["clicked"] == 1


def test_rows_add_up() -> None:
    rows = [LedgerRow("a", 3, 2, read=1), LedgerRow("b", 4, 1, read=2)]
    assert ledger.sum_rows("total", rows) == LedgerRow("total", 7, 3, read=3)
    assert ledger.sum_rows("total", []) == LedgerRow("total")
