from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.mapping.rules import Store
from app.message.person import AIMS, OTHER_AIM, find_customer, read_acts
from app.message.recipient import Recipient
from app.model.delivery import Delivery, State
from app.model.event import Act, Customer
from app.sources.nector import TOPICS

STORE = Store(country="IN", timezone="Asia/Kolkata", locale="en_IN")
DEBIT = {"operation": "dr", "amount": 100}


@pytest.mark.parametrize(
    ("topic", "payload", "act"),
    [
        ("coupon_update", {"status": "used"}, Act.COUPON_USED),
        ("coupon_update", {"status": " Redeemed "}, Act.COUPON_USED),
        ("coupon_update", {"coupon_status": "APPLIED"}, Act.COUPON_USED),
        ("coupon_update", {"coupon": {"status": "used"}}, Act.COUPON_USED),
        ("coupon_update", {"data": {"status": "used"}, "status": None}, Act.COUPON_USED),
        ("coupon_update", {"status": "issued"}, None),
        ("coupon_update", {"status": "unused"}, None),
        ("coupon_update", {"status": "expired", "value": "used"}, None),
        ("coupon_update", {"status": 1}, None),
        ("coupon_update", {}, None),
        ("coupon_create", {"status": "used"}, None),
        ("wallettrasaction_update", DEBIT, Act.COINS_SPENT),
        ("wallettrasaction_update", {"operation": "DR"}, Act.COINS_SPENT),
        ("wallettrasaction_update", {"wallettransaction": {"operation": "debit"}}, Act.COINS_SPENT),
        ("wallettrasaction_update", {"operation": "cr"}, None),
        ("wallettrasaction_update", {}, None),
        # Leaves the wallet, and nobody spent it.
        ("wallettrasaction_update", {**DEBIT, "title": "Coins Expired"}, None),
        ("wallettrasaction_update", {**DEBIT, "description": "order 1042 refunded"}, None),
        ("wallettrasaction_update", {**DEBIT, "status": "cancelled"}, None),
        ("wallettrasaction_update", {**DEBIT, "type": "reversal"}, None),
        ("wallettrasaction_update", {"operation": "dr", "transaction": {"title": "lapsed"}}, None),
        ("wallettrasaction_update", {**DEBIT, "title": "Coupon redeemed"}, Act.COINS_SPENT),
        ("order_create", {}, Act.ORDER_PLACED),
        ("order_update", {"status": "placed"}, None),
        ("review_create", {"rating": 5}, Act.REVIEW_WRITTEN),
        ("review_update", {"rating": 5}, None),
        ("referrernotify_create", {}, Act.REFERRAL_DONE),
        ("refereenotify_create", {}, None),
        ("a trigger of their own", {"status": "used", "operation": "dr"}, None),
    ],
)
def test_an_event_tells_what_its_customer_did(topic: str, payload: dict[str, Any], act: Act | None) -> None:
    assert read_acts(topic, payload) == (() if act is None else (act,))


def test_what_a_message_is_meant_to_bring_about_goes_by_its_topic() -> None:
    assert set(AIMS) <= set(TOPICS)
    assert AIMS["coinexpirynotify_create"] is Act.COINS_SPENT
    assert OTHER_AIM is Act.ORDER_PLACED


@pytest.mark.parametrize(
    ("payload", "customer"),
    [
        ({"user_mobile": "9800000001", "user_customer_id": "shopify-1"}, Customer("+919800000001", "shopify-1")),
        ({"customer": {"mobile": "+91 98000 00002", "id": "custom-1"}}, Customer("+919800000002", "custom-1")),
        ({"lead": {"mobile": "9800000003", "country": "ind", "_id": "l-1"}}, Customer("+919800000003", "l-1")),
        ({"customer": {"_id": "n-1", "customer_id": "shopify-1", "id": "c-1"}}, Customer("", "shopify-1")),
        ({"lead": {"_id": "n-1", "customer_id": "shopify-1"}}, Customer("", "shopify-1")),
        ({"user_customer_id": " ", "customer_id": 42}, Customer("", "42")),
        ({"user_customer_id": True, "customer": {"id": ["x"]}}, Customer()),
        ({"_id": "of the coupon", "id": "of the coupon", "user_mobile": "980"}, Customer()),
        ({"user_mobile": ["9800000001"]}, Customer()),
    ],
)
def test_whom_an_event_is_about_is_read_as_the_recipient_is(payload: dict[str, Any], customer: Customer) -> None:
    assert find_customer(payload, (), STORE) == customer


@pytest.mark.parametrize(
    ("recipients", "written", "read"),
    [
        (["+919800000001"], "9800000001", 0),
        (["+919800000001"], "+91 98000-00001", 0),
        (["", "+919800000001"], "09800000001", 0),
        ([""], "9800000001", 1),
        ([], "9800000001", 1),
        (["+919800000002"], "9800000001", 1),  # the route's own `recipient:` is somebody else
        (["+919800000001"], "01", 1),  # the end of many numbers
    ],
)
def test_a_number_that_a_delivery_has_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
    make_delivery: Callable[[str], Delivery],
    recipients: list[str],
    written: str,
    read: int,
) -> None:
    reads: list[Any] = []

    def count(*asked: Any) -> Recipient:
        reads.append(asked)
        return Recipient("+919800000001")

    monkeypatch.setattr("app.message.person.find_recipient", count)
    deliveries = [make_delivery(recipient) for recipient in recipients]
    assert find_customer({"user_mobile": written}, deliveries, STORE).number == "+919800000001"
    assert len(reads) == read


@pytest.fixture
def make_delivery() -> Callable[[str], Delivery]:
    return lambda recipient: Delivery("d", "e", "r", "p", "t", recipient, None, State.PENDING, None, 0, 0, 1)
