from __future__ import annotations

import hmac
from typing import Any

import pytest

from app.errors import Mistake, Refusal
from app.model.event import Act
from app.sources import SOURCE
from app.sources.base import Envelope, Verified
from app.sources.nector import canonical_topic, write_headers

DEBIT = {"operation": "dr", "amount": 100}


def read(headers: dict[str, str]) -> Envelope:
    """Return what the headers say beside a topic."""
    found = SOURCE.read({"x-nector-topic": "coupon_create", **headers}, b'{"a": 1}')
    assert isinstance(found, Envelope)
    return found


@pytest.mark.parametrize(
    ("given_topic", "topic"),
    [
        ("coupon_create", "coupon_create"),
        ("  coupon_create ", "coupon_create"),
        ("Coupon_Create", "coupon_create"),
        ("wallettransaction_update", "wallettrasaction_update"),
        ("wallettrasaction_update", "wallettrasaction_update"),
        ("Wallet Coins Rewarded", "walletreward_create"),
        ("wallet  coins REWARDED", "walletreward_create"),
        ("Coupon Is Created", "coupon_create"),
        ("My own Trigger", "My own Trigger"),
        (" custom.topic ", "custom.topic"),
        ("", ""),
    ],
)
def test_topic_has_one_name(given_topic: str, topic: str) -> None:
    assert canonical_topic(given_topic) == topic


def test_every_topic_is_its_own_canonical_name_and_has_properties() -> None:
    assert [canonical_topic(topic) for topic in SOURCE.topics] == list(SOURCE.topics)
    assert len(set(SOURCE.topics)) == 18
    assert all({"user_mobile", "customer.id", "lead._id"} < set(SOURCE.properties[topic]) for topic in SOURCE.topics)
    assert "expire" in SOURCE.properties["coupon_create"]
    assert "expire" not in SOURCE.properties["lead_create"]


# -- headers --------------------------------------------------------------------------------------


def test_headers_are_read() -> None:
    headers = {
        "x-nector-topic": " Coupon Is Created ",
        "x-nector-delivery-id": " d-1 ",
        "x-nector-timestamp": "1790000000",
    }
    assert read(headers) == Envelope("coupon_create", "d-1", 1_790_000_000_000, {"a": 1})


def test_absent_and_blank_headers_are_nothing() -> None:
    assert read({}) == read({"x-nector-delivery-id": " "}) == Envelope("coupon_create", None, None, {"a": 1})


@pytest.mark.parametrize("headers", [{}, {"x-nector-topic": "  ", "x-nector-delivery-id": " "}])
def test_an_event_without_a_topic_is_refused(headers: dict[str, str]) -> None:
    assert SOURCE.read_topic(headers) == ""
    assert SOURCE.read(headers, b"{}") == Refusal(422, "the header x-nector-topic is missing or empty")
    assert SOURCE.read(headers, b"[]") == Refusal(422, "the body is JSON, but not an object")


def test_long_delivery_ids_stay_apart() -> None:
    ids = {read({"x-nector-delivery-id": "a" * 300 + end}).source_id for end in "xy"}
    assert len(ids) == 2
    assert all(found is not None and len(found) <= 200 for found in ids)
    assert read({"x-nector-delivery-id": "a" * 200}).source_id == "a" * 200


def test_what_is_of_another_kind_is_noted_and_the_payload_stays_as_it_was_sent() -> None:
    found = SOURCE.read({"x-nector-topic": "walletreward_create"}, b'{"amount": [1], "balance": 1.50, "more": {}}')
    assert isinstance(found, Envelope)
    assert found.notes == ("`amount` is a list, not a number",)
    assert (found.payload["amount"], str(found.payload["balance"])) == ([1], "1.50")


def test_topic_is_capped_and_printable() -> None:
    assert SOURCE.read_topic({"x-nector-topic": "a\x1b[31m\r\n" + "b" * 500}) == "a[31m" + "b" * 95


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1790000000", 1_790_000_000_000),
        ("1790000000123", 1_790_000_000_123),
        (" 1790000000 ", 1_790_000_000_000),
        ("1790000000.5", 1_790_000_000_500),
        ("0", None),
        ("20261231", None),
        ("1790000000123456", None),
        ("", None),
        ("now", None),
        ("\uff11\uff17\uff19\uff10", None),
        ("nan", None),
        ("9" * 5000, None),
    ],
)
def test_timestamp_is_seconds_or_milliseconds(text: str, instant: int | None) -> None:
    assert read({"x-nector-timestamp": text}).sent_at == instant


# -- the signature --------------------------------------------------------------------------------


SIGNED = write_headers("coupon_create", "d-1", b"{}", "right", 1_790_000_000_000)


@pytest.mark.parametrize(
    ("headers", "secrets", "mistake"),
    [
        (SIGNED, ["older", "right"], None),
        (SIGNED, ["wrong"], Mistake.OTHER),
        ({**SIGNED, "x-nector-webhook-secret": "right"}, ["right"], Mistake.PLAIN),
        ({}, ["right"], Mistake.MISSING),
    ],
)
def test_what_is_wrong_with_a_secret_is_told_before_the_body_is_read(
    headers: dict[str, str], secrets: list[str], mistake: Mistake | None
) -> None:
    assert SOURCE.find_mistake(headers, secrets) is mistake
    assert mistake is None or mistake in SOURCE.cures


STAMPED = {**SIGNED, "x-nector-webhook-hmac": hmac.digest(b"right", b"1790000000.{}", "sha256").hex()}
OVER = "hex/key=secret/over=timestamp.body"


@pytest.mark.parametrize(
    ("headers", "options", "found"),
    [
        (SIGNED, {}, Verified("hex/key=secret")),
        (SIGNED, {"only": "base64/key=secret"}, Mistake.OTHER),
        ({}, {"thorough": True}, Mistake.MISSING),
        (STAMPED, {}, Mistake.OTHER),
        (STAMPED, {"thorough": True}, Verified(OVER)),
        (STAMPED, {"only": OVER}, Verified(OVER)),
    ],
)
def test_a_signature_is_told_by_its_recipe(
    headers: dict[str, str], options: dict[str, Any], found: Verified | Mistake
) -> None:
    assert SOURCE.verify(headers, b"{}", ["right"], **options) == found


# -- what the customer did ------------------------------------------------------------------------


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
    assert SOURCE.read_acts(topic, payload) == (() if act is None else (act,))


def test_what_a_message_is_meant_to_bring_about_goes_by_its_topic() -> None:
    assert set(SOURCE.aims) <= set(SOURCE.topics)
    assert SOURCE.aims["coinexpirynotify_create"] is Act.COINS_SPENT
    assert "lead_create" not in SOURCE.aims
