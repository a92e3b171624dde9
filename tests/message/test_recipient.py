from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mapping.expression import Expression
from app.mapping.fields import Constant, Source
from app.mapping.grammar import ExpressionCompiler
from app.mapping.rules import Store
from app.message.recipient import Recipient, find_customer, find_recipient
from app.model.delivery import Delivery, Reason, State
from app.model.event import Customer, Event, Person
from app.sources import SOURCE
from app.values.phone import PhoneFault

COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")
STORE = Store()


def make_event(payload: dict[str, Any]) -> Event:
    return Event("e", SOURCE.name, "coupon_create", None, b"", payload, 0)


def find_number(
    payload: dict[str, Any], expression: Expression | None = None, country: Source | None = None
) -> str | PhoneFault:
    found = find_recipient(payload, SOURCE.find_person(payload), STORE, expression, country)
    return found.number if isinstance(found, Recipient) else found


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
        ({"mobile": "50000000", "country": "kwt", "customer": {"country": "ind"}}, "+96550000000"),
        ({"mobile": "50000000", "customer": {"country": "kwt"}}, "+96550000000"),
        ({"mobile": "9800000001", "country": 91}, "+919800000001"),
        ({"mobile": "9800000001", "country": "+91"}, "+919800000001"),
        ({"mobile": "9800000001", "country": "India"}, "+919800000001"),
        ({"mobile": "9800000001", "country": {"code": "IN", "name": "India"}}, "+919800000001"),
        ({"mobile": "501234567", "country": "UAE"}, "+971501234567"),
        ({"mobile": "501234567", "country": "United Arab Emirates"}, "+971501234567"),
        ({"mobile": "7400123456", "country": "UK"}, "+447400123456"),
        ({"mobile": "501234567", "country": "KSA"}, "+966501234567"),
        ({"mobile": "9175550143", "country_code": "US"}, "+19175550143"),
        ({"mobile": "9175550143", "countryCode": "US"}, "+19175550143"),
        ({"mobile": "9175550143", "country-code": "US"}, "+19175550143"),
        ({"mobile": "9175550143", "user_country_code": "US"}, "+19175550143"),
        ({"mobile": "9175550143", "phoneCountryCode": "+1"}, "+19175550143"),
        ({"mobile": "4165550143", "country_code": "1"}, "+14165550143"),
        ({"user_mobile": "7012345678", "phone_country_code": "+234"}, "+2347012345678"),
        ({"mobile": "8123456789", "country_code": "62"}, "+628123456789"),
        ({"customer": {"mobile": "7400123456", "country_code": "GB"}}, "+447400123456"),
        ({"mobile": "9171234567", "country_iso": "PH"}, "+639171234567"),
        (
            {"mobile": "9175550143", "default_address": {"country_code": "US", "country": "United States"}},
            "+19175550143",
        ),
        ({"mobile": "9175550143", "customer": {"defaultAddress": {"country": "US"}}}, "+19175550143"),
        ({"mobile": "9175550143", "billing_country": "US"}, "+19175550143"),
        # The nearest wins; what cannot be read does not hide what can; none is no reason to guess.
        ({"country": "IN", "customer": {"mobile": "9175550143", "country": "US"}}, "+19175550143"),
        ({"country": "US", "customer": {"mobile": "9175550143"}}, "+19175550143"),
        ({"mobile": "9800000001", "country": "IN", "country_name": "Bharat"}, "+919800000001"),
        ({"mobile": "9175550143", "country": "US", "country_code": "+1"}, "+19175550143"),
        ({"mobile": "9800000001", "default_address": "10 MG Road", "country": " "}, "+919800000001"),
        ({"mobile": "9800000001", "country": "null"}, "+919800000001"),
        ({"mobile": "+91 98000 00001", "country": "Bharat"}, "+919800000001"),
        ({"mobile": "+91 98000 00001", "country": "kwt"}, "+919800000001"),
    ],
)
def test_recipient_is_the_first_number_read_in_its_country(payload: dict[str, Any], number: str) -> None:
    assert find_number(payload) == number


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
        (
            {"mobile": "9800000001", "country": True},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) cannot be read",
        ),
        (
            {"mobile": "9800000001", "country": {"code": "XX"}},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) cannot",
        ),
        ({"mobile": "9800000001", "country_code": "999"}, Reason.RECIPIENT_INVALID, "the recipient (`mobile`) cannot"),
        (
            {"mobile": "9175550143", "country": "US", "country_code": "IN"},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) cannot be read: `country` and `country_code` name different countries",
        ),
        (
            {"mobile": "9175550143", "billing": {"country": "US"}, "shipping": {"country": "IN"}},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) cannot be read: `billing.country` and `shipping.country` name different",
        ),
        (
            {"mobile": "50000000", "country": "ind", "customer": {"country": "kwt"}},
            Reason.RECIPIENT_INVALID,
            "the recipient (`mobile`) is not a valid number in IN",
        ),
    ],
)
def test_recipient_is_never_guessed(payload: dict[str, Any], reason: Reason, detail: str) -> None:
    fault = find_number(payload)
    assert isinstance(fault, PhoneFault)
    assert fault.reason == reason
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
    assert find_number(payload, COMPILER.compile(source)) == found


def test_recipient_that_cannot_be_worked_out_says_so() -> None:
    fault = find_number({"a": "x"}, COMPILER.compile("a + 1"))
    assert isinstance(fault, PhoneFault)
    assert fault.reason == Reason.EXPRESSION_FAILED


SHOPIFY = {
    "customer": {
        "phone": None,
        "default_address": {"phone": "917-555-0143", "country": "United States", "country_code": "US"},
    },
    "billing": {"phone": "917-555-0143", "country": "US"},
    "order": {"phone": "9800000001", "country": "IN", "cc": "IN", "strange": "Bharat", "dial": 971},
}


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("customer.phone | default(customer.default_address.phone)", "+19175550143"),
        ("customer.default_address.phone | phone", "+19175550143"),
        ("customer.default_address.phone | trim", "+19175550143"),
        ('customer.default_address.phone | replace("-", "")', "+19175550143"),
        ("billing.phone", "+19175550143"),
        ("billing.phone | phone(billing.country)", "+19175550143"),
        ('billing.phone | phone("US")', "+19175550143"),
        ("order.phone", "+919800000001"),
        ("order.phone | phone(order.nothing)", "+919800000001"),
    ],
)
def test_country_is_the_one_beside_the_value_that_was_used(source: str, number: str) -> None:
    assert find_number(SHOPIFY, COMPILER.compile(source)) == number


@pytest.mark.parametrize(
    ("country", "found"),
    [
        ("order.cc", "+919175550143"),
        ('order.nothing | default("US")', "+19175550143"),
        ("order.nothing", "+19175550143"),  # as without `country:`
        (Constant(text="IN"), "+919175550143"),
        (
            "order.strange",
            PhoneFault("the recipient (`billing.phone`) cannot be read: `order.strange` is not a country"),
        ),
        (
            "order.strange + 1",
            PhoneFault("the recipient (`billing.phone`) cannot be read: its country (`order.strange"),
        ),
        (
            "order.strange | int",
            PhoneFault("the recipient (`billing.phone`) cannot be read: its country (`order.strange"),
        ),
    ],
)
def test_route_may_name_the_country_of_its_recipient(country: str | Constant, found: str | PhoneFault) -> None:
    source = COMPILER.compile(country) if isinstance(country, str) else country
    number = find_number(SHOPIFY, COMPILER.compile("billing.phone"), source)
    if isinstance(found, PhoneFault):
        assert isinstance(number, PhoneFault)
        assert number.detail.startswith(found.detail)
    else:
        assert number == found


def test_phone_filter_with_a_country_that_is_none_reads_nothing() -> None:
    for source in ("billing.phone | phone(order.strange)", 'billing.phone | phone("India, Asia")'):
        fault = find_number(SHOPIFY, COMPILER.compile(source))
        assert isinstance(fault, PhoneFault)
        assert (fault.reason, "its country" in fault.detail) == (Reason.RECIPIENT_INVALID, True)


def test_recipient_tells_by_which_country_it_was_read() -> None:
    def tell(payload: dict[str, Any]) -> Any:
        return find_recipient(payload, SOURCE.find_person(payload), STORE)

    assert tell({"mobile": "9800000001"}) == Recipient("+919800000001", "IN", "")
    assert tell({"mobile": "9175550143", "lead": {"country": "US"}}) == Recipient("+19175550143", "US", "lead.country")
    assert tell({"mobile": "+919800000001", "country": "US"}) == Recipient("+919800000001", "", "")


@pytest.mark.parametrize("country", ["IN", "US", "MX", "AR", "AE"])
@given(number=st.integers(0, 10**16) | st.integers(6 * 10**9, 10**10) | st.integers(910_000_000_000, 919_999_999_999))
def test_quick_way_for_a_lone_number_does_the_same(country: str, number: int) -> None:
    def tell(raw: Any) -> Any:
        return find_recipient({"mobile": raw}, Person(raw, ("mobile",), "", ""), Store(country=country))

    assert tell(str(number)) == tell(number)  # for a number that is no text there is no quick way


# -- the customer ---------------------------------------------------------------------------------


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
    assert find_customer(make_event(payload), (), STORE) == customer


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

    monkeypatch.setattr("app.message.recipient.find_recipient", count)
    deliveries = [make_delivery(recipient) for recipient in recipients]
    assert find_customer(make_event({"user_mobile": written}), deliveries, STORE).number == "+919800000001"
    assert len(reads) == read


@pytest.fixture
def make_delivery() -> Callable[[str], Delivery]:
    return lambda recipient: Delivery("d", "e", "r", "p", "t", recipient, None, State.PENDING, None, 0, 0, 1)
