"""A test message is made of a route's example, and goes to nobody but the numbers that may get one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.authoring import preview  # its classes are not collected as tests
from app.errors import Refusal
from app.mapping.parse import Parsed, parse_config
from app.mapping.rules import Config
from app.providers import settings_types

OWN, CHOSEN, OTHER = "+919800000099", "+919800000098", "+919800000097"
CONFIG = f"""version: 1
only: ["{CHOSEN}"]
providers:
  sms: {{type: bitespeed, base_url: "https://a.example", channel_id: c, user_id: u}}
routes:
  coins:
    event: walletreward_create
    provider: sms
    template: coins
    when: amount
    variables: [amount]
    examples:
      - event: {{amount: null}}
        hits: false
      - event: {{user_mobile: "9800000001", amount: 5}}
        sends: {{variables: ["5"]}}
      - event: {{user_mobile: "12", amount: 5}}
        dead: recipient_invalid
  bare: {{event: order_create, provider: sms, template: bare}}
"""


@pytest.fixture(scope="module")
def config(config_of: Callable[[Parsed], Config]) -> Config:
    return config_of(parse_config(CONFIG, environment={}, provider_types=settings_types(), templates={}))


def make(config: Config, numbers: tuple[str, ...] = (OWN,), **order: Any) -> preview.TestMessage | Refusal:
    return preview.make_test_message(config, preview.TestOrder(**order), numbers, "e", 1_790_000_000_000)


@pytest.mark.parametrize("order", [{"to": "98000 00099"}, {"to": CHOSEN}, {"to": OWN, "example": 2}])
def test_it_is_the_example_that_sends_to_the_number_that_was_asked_for(config: Config, order: dict[str, Any]) -> None:
    made = make(config, route="coins", **order)
    assert isinstance(made, preview.TestMessage)
    assert [variable.value for variable in made.message.variables] == ["5"]
    assert made.message.recipient == (CHOSEN if order["to"] == CHOSEN else OWN)
    assert made.event.source == "send-test"


@pytest.mark.parametrize(
    ("order", "status", "told"),
    [
        ({"route": "coin", "to": OWN}, 422, "route: the YAML has no route of this name; it has bare, coins"),
        ({"route": "coins", "to": OTHER}, 403, "to: this number is not among those of RELAY_TEST_NUMBERS"),
        ({"route": "coins", "to": "98"}, 422, "to: the number is not a valid number in IN"),
        ({"route": "coins", "to": OWN, "example": 4}, 422, "example: the route has 3; they are counted from 1"),
        ({"route": "coins", "to": OWN, "example": 3}, 422, "example: no message comes of it: recipient_invalid"),
        ({"route": "bare", "to": OWN}, 422, "example: the route has none that sends; add one"),
    ],
)
def test_anything_else_is_refused(config: Config, order: dict[str, Any], status: int, told: str) -> None:
    refused = make(config, **order)
    assert isinstance(refused, Refusal)
    assert (refused.http_status, refused.detail[: len(told)]) == (status, told)


def test_where_no_number_may_get_one_the_cure_is_told(config: Config) -> None:
    refused = make(replace(config, only=None), (), route="coins", to=OWN)
    assert isinstance(refused, Refusal)
    assert (refused.http_status, "write yours into RELAY_TEST_NUMBERS" in refused.detail) == (403, True)
