from __future__ import annotations

from typing import Any

import pytest

from app.mapping.grammar import ExpressionCompiler
from app.mapping.rules import Broken, Config, Hit, Miss, Route, Store, match_route
from app.model.event import Event
from app.sources import SOURCE

COMPILER = ExpressionCompiler("IN", "Asia/Kolkata", "en_IN")


def make_route(name: str, topic: str = "coupon_create", when: str | None = None) -> Route:
    condition = None if when is None else COMPILER.compile(when)
    return Route.model_construct(
        name=name, event=SOURCE.canonical_topic(topic), provider="gallabox", template="t", when=condition
    )


def make_event(payload: dict[str, Any], topic: str = "coupon_create") -> Event:
    return Event("e1", "nector", topic, "d1", b"{}", payload, 1_790_000_000_000)


def test_table_finds_routes_by_topic_in_the_order_of_the_file() -> None:
    first, second, third = make_route("a"), make_route("b", "wallettransaction_update"), make_route("c")
    config = Config("live", Store(), {}, (first, second, third), "")
    assert config.find_routes("coupon_create") == (first, third)
    assert config.find_routes("Coupon Is Created") == (first, third)
    assert config.find_routes("wallettrasaction_update") == (second,)
    assert config.find_routes("lead_create") == ()


@pytest.mark.parametrize(
    ("when", "payload"),
    [
        (None, {}),
        ("fiat_value | float > 0", {"fiat_value": "200"}),
        ("user_tier", {"user_tier": "Silver"}),
        ("user_tier == 'Silver'", {"user_tier": "Silver"}),
        ("flag", {"flag": True}),
        ("flag", {"flag": "true"}),
        ("flag", {"flag": 1}),
        ("items", {"items": ["a"]}),
        ("not flag", {"flag": False}),
    ],
)
def test_event_hits_the_route(when: str | None, payload: dict[str, Any]) -> None:
    route = make_route("r", when=when)
    assert match_route(route, make_event(payload)) == Hit(route)


@pytest.mark.parametrize("sent", ["1,250", "₹1,250.00", "1,00,000", "१२५०", "1 250", "999", 999])
def test_large_sums_hit_however_they_are_written(sent: Any) -> None:
    route = make_route("r", when="amount | float > 0")
    assert match_route(route, make_event({"amount": sent})) == Hit(route)


@pytest.mark.parametrize(
    ("when", "sent", "why"),
    [
        ("amount | float > 0", "100 coins", "is not a number"),
        ("amount | float > 0", "1e3", "is not a number"),
        ("amount | float > 0", True, "is not a number"),
        ("amount | float > 0", [100], "is not a number"),
        ("amount | int", "12,50", "is not a number"),
        ('amount | date("yyyy") == "2026"', "31/12/2026", "is not a date"),
        ('amount | phone == "+919800000001"', "98", "is not a valid number in IN"),
    ],
)
def test_what_is_there_and_cannot_be_read_is_not_missing(when: str, sent: Any, why: str) -> None:
    route = make_route("r", when=when)
    assert match_route(route, make_event({"amount": sent})) == Broken(
        route, f"`when` cannot be worked out: `amount` {why}"
    )


@pytest.mark.parametrize(
    ("when", "payload", "detail"),
    [
        ("fiat_value | float > 0", {"fiat_value": 0}, "`when: fiat_value | float > 0` is false"),
        ("fiat_value | float > 0", {}, "`when` is false, since `fiat_value` is missing"),
        ("fiat_value | float > 0", {"fiat_value": "N/A"}, "`when` is false, since `fiat_value` is missing"),
        ("fiat_value | float(0) > 0", {"fiat_value": "lots"}, "`when: fiat_value | float(0) > 0` is false"),
        ("not flag", {}, "`when` is false, since `flag` is missing"),
        ("flag", {"flag": False}, "`when: flag` is false"),
        ("flag", {"flag": "false"}, "`when: flag` is false"),
        ("flag", {"flag": " FALSE "}, "`when: flag` is false"),
        ("flag", {"flag": "0"}, "`when: flag` is false"),
        ("flag", {"flag": 0}, "`when: flag` is false"),
        ("flag", {"flag": []}, "`when: flag` is false"),
    ],
)
def test_event_misses_the_route_and_says_why(when: str, payload: dict[str, Any], detail: str) -> None:
    route = make_route("r", when=when)
    assert match_route(route, make_event(payload)) == Miss(route, "when", detail)


def test_event_of_another_topic_misses() -> None:
    route = make_route("r", "lead_create", "nonsense + 1")
    assert match_route(route, make_event({})) == Miss(route, "topic", "it waits for lead_create")
    spelt = make_route("r", "wallettrasaction_update")
    assert match_route(spelt, make_event({}, "wallettransaction_update")) == Hit(spelt)


def test_condition_that_cannot_be_worked_out_is_broken_and_names_no_value() -> None:
    route = make_route("r", when="fiat_value > 0")
    match = match_route(route, make_event({"fiat_value": "ACME-7Q2P"}))
    assert isinstance(match, Broken)
    assert match.detail.startswith("`when` cannot be worked out: `fiat_value > 0`")
    assert "ACME" not in match.detail
