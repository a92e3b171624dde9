from __future__ import annotations

from typing import Any

import pytest

from app.mapping.expression import ExpressionCompiler
from app.message.person import find_recipient
from app.model.delivery import Reason
from app.values.phone import PhoneFault

COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        ({"user_mobile": "9800000001", "mobile": "9800000002"}, "+919800000001"),
        ({"user_mobile": " ", "mobile": "9800000002"}, "+919800000002"),
        ({"user_mobile": None, "customer": {"mobile": 9800000003}}, "+919800000003"),
        ({"lead": {"mobile": "9800000004"}}, "+919800000004"),
        ({"mobile": "9800000002", "customer": {"mobile": "9800000003"}}, "+919800000002"),
        ({"customer": {"mobile": "9800000003", "country": "ind"}}, "+919800000003"),
        ({"customer": {"mobile": "202 555 0143", "country": "usa"}}, "+12025550143"),
        ({"mobile": "50000000", "country": "KW"}, "+96550000000"),
        ({"user_mobile": "50000000", "user_country": "kwt"}, "+96550000000"),
        ({"lead": {"mobile": "50000000", "country": "kwt"}}, "+96550000000"),
        ({"mobile": "50000000", "country": "ind", "customer": {"country": "kwt"}}, "+96550000000"),
        ({"mobile": "9800000001", "country": "null"}, "+919800000001"),
        ({"mobile": "+91 98000 00001", "country": "Bharat"}, "+919800000001"),
        ({"mobile": "+91 98000 00001", "country": "kwt"}, "+919800000001"),
    ],
)
def test_recipient_is_the_first_number_read_in_its_country(payload: dict[str, Any], number: str) -> None:
    assert find_recipient(payload, "IN", None) == number


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        ({}, Reason.RECIPIENT_MISSING, "the event names no mobile number"),
        ({"user_mobile": "", "customer": "Riya"}, Reason.RECIPIENT_MISSING, "the event names no mobile number"),
        ({"user_mobile": "980"}, Reason.RECIPIENT_INVALID, "the recipient (`user_mobile`) is not a valid number in IN"),
        (
            {"user_mobile": []},
            Reason.RECIPIENT_INVALID,
            "the recipient (`user_mobile`) is not written as a phone number",
        ),
        # A wrong number in the first place is not made good by another person's in the second.
        ({"user_mobile": "980", "mobile": "9800000001"}, Reason.RECIPIENT_INVALID, "the recipient (`user_mobile`)"),
        ({"mobile": "50000000"}, Reason.RECIPIENT_INVALID, "the recipient (`mobile`) is not a valid number in IN"),
        (
            {"mobile": "9800000001", "customer": {"country": "Bharat"}},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) cannot be read: `customer.country` is not a country code such as IN or ind",
        ),
        ({"mobile": "9800000001", "country": 91}, Reason.RECIPIENT_INVALID, "the recipient (`mobile`) cannot be read"),
    ],
)
def test_recipient_is_never_guessed(payload: dict[str, Any], reason: Reason, detail: str) -> None:
    fault = find_recipient(payload, "IN", None)
    assert isinstance(fault, PhoneFault)
    assert fault.reason is reason
    assert fault.detail.startswith(detail)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("order.phone", "+919800000005"),
        ('nobody.phone | default("9800000006")', "+919800000006"),
        ("order.phone | phone", "+919800000005"),
        ("nobody.phone", PhoneFault("the recipient (`nobody.phone`) is missing", Reason.RECIPIENT_MISSING)),
        ("order.letters", PhoneFault("the recipient (`order.letters`) is not written as a phone number")),
        ("order.short | phone", PhoneFault("the recipient (`order.short`) is not a valid number in IN")),
    ],
)
def test_route_may_name_its_own_recipient(source: str, found: str | PhoneFault) -> None:
    payload = {"user_mobile": "9800000001", "order": {"phone": "9800000005", "letters": ["A"], "short": "98"}}
    assert find_recipient(payload, "IN", COMPILER.compile(source)) == found


def test_recipient_that_cannot_be_worked_out_says_so() -> None:
    fault = find_recipient({"a": "x"}, "IN", COMPILER.compile("a + 1"))
    assert isinstance(fault, PhoneFault)
    assert fault.reason is Reason.EXPRESSION_FAILED
