"""What a preview and a check tell of a number's country, a day's end and a sum's currency."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.authoring.examples import describe_reading, remark_on_day, remark_on_money
from app.mapping.fields import Constant, VariableSource
from app.mapping.grammar import ExpressionCompiler
from app.mapping.rules import Route, Store
from app.model.event import Event

COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")
Remark = Callable[[Route, Event, Store], Iterator[str]]


def tell(remark: Remark, payload: dict[str, Any], store: Store | None = None, **fields: Any) -> list[str]:
    route = Route.model_construct(name="r", event="order_create", provider="gallabox", template="t", **fields)
    return list(remark(route, Event("e", "nector", "order_create", None, b"", payload, 1), store or Store()))


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"mobile": "9800000001"}, "as one of IN (`store.country`)"),
        ({"mobile": "+919800000001", "country": "US"}, "by its own code"),
        ({"mobile": "98", "country": "US"}, ""),
        ({}, ""),
        ({"mobile": "9800000001", "country": "IN"}, "as one of IN (`country`)"),
        ({"mobile": "9175550143", "country": "US"}, "as one of US (`country`)"),
        (
            {"mobile": "9175550143", "customer": {"default_address": {"country_code": "US"}}},
            "as one of US (`customer.default_address.country_code`)",
        ),
    ],
)
def test_country_by_which_a_number_was_read_is_told(payload: dict[str, Any], told: str) -> None:
    route = Route.model_construct(name="r", event="order_create", provider="gallabox", template="t")
    event = Event("e", "nector", "order_create", None, b"", payload, 1)
    assert describe_reading(route, event, Store()) == told


@pytest.mark.parametrize(
    ("expire", "day_ends", "told"),
    [
        ("2026-12-31", "", ["valid_until (`expire`) is a whole day: until 24:00 in Asia/Kolkata"]),
        ("31 Dec 2026", "", ["valid_until (`expire`) is a whole day: until 24:00 in Asia/Kolkata"]),
        ("2026-12-31", "22:00", ["valid_until (`expire`) is a whole day: until 22:00 in Asia/Kolkata"]),
        ("2026-12-31T00:00:00Z", "24:00", ["valid_until (`expire`) is a whole day: until 24:00 in Asia/Kolkata"]),
        ("2026-12-31T00:00:00Z", "", []),
        ("2026-12-31T18:29:59Z", "24:00", []),
        ("soon", "", []),
        (None, "", []),
    ],
)
def test_deadline_that_is_a_whole_day_is_told(expire: Any, day_ends: str, told: list[str]) -> None:
    store = Store.model_construct(day_ends=day_ends)
    assert tell(remark_on_day, {"expire": expire}, store, valid_until=COMPILER.compile("expire")) == told


def test_route_without_a_deadline_has_no_day_to_tell_of() -> None:
    assert tell(remark_on_day, {}) == []


USD = "variable 1 shows INR, and the event's `currency` names USD; write money(currency)"


@pytest.mark.parametrize(
    ("source", "payload", "told"),
    [
        ("total | money", {"total": 409.94, "currency": "USD"}, [USD]),
        ('total | money("INR")', {"total": 409.94, "currency": "usd"}, [USD]),
        ("total | money('INR')", {"total": 409.94, "currency": "USD"}, [USD]),
        ("total | money(currency)", {"total": 409.94, "currency": "USD"}, []),
        ("total | money", {"total": 1, "currency": "INR"}, []),
        ("total | money", {"total": 1}, []),
        ("total | money", {"total": 1, "currency": "₹"}, []),
        ("total | money", {"total": 1, "business_currency_code": "usd", "currency": "USD"}, []),
        ("total", {"total": 1, "currency": "USD"}, []),
        (
            "order.total | money",
            {"order": {"total": 1, "presentment_currency": "EUR"}, "currency": "INR"},
            [USD.replace("currency", "order.presentment_currency").replace("USD", "EUR")],
        ),
    ],
)  # fmt: skip
def test_sum_in_another_currency_than_the_events_is_told(source: str, payload: dict[str, Any], told: list[str]) -> None:
    variables = (VariableSource(None, COMPILER.compile(source)), VariableSource(None, Constant(text="x")))
    assert tell(remark_on_money, payload, variables=variables) == told
