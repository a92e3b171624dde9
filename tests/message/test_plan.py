"""What an event leads to: one delivery a route, each in its first state."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from app.mapping.parse import parse_config
from app.mapping.rules import Config
from app.mapping.template_entries import parse_templates
from app.message.render import plan_deliveries
from app.model.delivery import Delivery, Reason, State
from app.model.event import Event
from app.providers import settings_types
from app.values.instant import format_instant, parse_instant

NOW = 1_800_000_000_000  # January 2027
COINS = {"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}
HEAD = """
version: 1
mode: {mode}
providers:
  gallabox: {{type: gallabox, channel_id: c, api_key: "${{K}}", api_secret: "${{S}}"}}
routes:
"""
ROUTE = """
  {name}:
    event: walletreward_create
    provider: gallabox
    template: {name}
    variables: [user_name, amount]
    {more}
"""


def read_config(*routes: tuple[str, str], mode: str = "live", templates: str = "") -> Config:
    text = HEAD.format(mode=mode) + "".join(ROUTE.format(name=name, more=more) for name, more in routes)
    parsed = parse_config(
        text,
        environment={"K": "key", "S": "secret"},
        provider_types=settings_types(),
        templates=parse_templates(templates).templates,
    )
    assert parsed.config is not None, parsed.problems
    return parsed.config


def plan(config: Config, payload: dict[str, Any], received_at: int = NOW) -> tuple[Delivery, ...]:
    event = Event("e-1", "nector", "walletreward_create", "d-1", b"", payload, received_at)
    ids = itertools.count(1)
    return plan_deliveries(event, config, lambda _: f"id-{next(ids)}")


def test_every_route_that_an_event_hits_gets_a_delivery_of_its_own() -> None:
    config = read_config(("a", ""), ("b", "when: amount | float > 50"), ("c", "when: amount | float > 500"))
    planned = plan(config, COINS)
    assert [(row.id, row.route, row.template, row.state) for row in planned] == [
        ("id-1", "a", "a", State.PENDING),
        ("id-2", "b", "b", State.PENDING),
    ]
    assert {(row.event_id, row.recipient, row.due_at, row.config_hash) for row in planned} == {
        ("e-1", "+919800000001", NOW, config.hash)
    }


@pytest.mark.parametrize(
    ("more", "mode", "payload", "state", "reason"),
    [
        ("", "live", {}, State.PENDING, None),
        ("", "shadow", {}, State.SHADOW, None),
        ("mode: shadow", "live", {}, State.SHADOW, None),
        ("live_from: 2099-01-01T00:00:00Z", "live", {}, State.SHADOW, Reason.NOT_LIVE),
        ("live_from: 2020-01-01T00:00:00Z", "live", {}, State.PENDING, None),
        ('only: ["+919800000001"]', "live", {}, State.PENDING, None),
        ('only: ["+919800000002"]', "live", {}, State.SHADOW, Reason.NOT_CHOSEN),
        ('only: ["+919800000002"]', "shadow", {}, State.SHADOW, None),
        ("valid_until: expire", "live", {"expire": "2020-01-01"}, State.EXPIRED, Reason.DEADLINE_PASSED),
        ("valid_until: expire", "live", {"expire": "soon"}, State.DEAD, Reason.DEADLINE_INVALID),
        ("valid_until: expire", "live", {}, State.DEAD, Reason.DEADLINE_INVALID),
        ("dedup_by: order", "live", {}, State.DEAD, Reason.VARIABLE_MISSING),
        ("", "live", {"amount": None}, State.DEAD, Reason.VARIABLE_MISSING),
        ("", "live", {"user_mobile": "12"}, State.DEAD, Reason.RECIPIENT_INVALID),
        ("", "live", {"user_mobile": None}, State.DEAD, Reason.RECIPIENT_MISSING),
        ("when: amount > 50", "live", {}, State.DEAD, Reason.EXPRESSION_FAILED),
    ],
)
def test_a_delivery_begins_in_the_state_that_its_route_and_event_make(
    more: str, mode: str, payload: dict[str, Any], state: State, reason: Reason | None
) -> None:
    (delivery,) = plan(read_config(("a", more), mode=mode), {**COINS, **payload})
    assert (delivery.state, delivery.reason) == (state, reason)
    assert (delivery.message is None) == (state is State.DEAD)
    assert bool(delivery.detail) == (state is State.DEAD)


def test_a_dead_delivery_keeps_neither_number_nor_value() -> None:
    (delivery,) = plan(read_config(("a", "")), {**COINS, "user_mobile": "98000 00001 7"})
    assert delivery.recipient == ""
    assert "98000" not in delivery.detail


LONG = """version: 1
templates:
  gallabox:
    a:
      header: {text: "Welcome {{1}}"}
      variables: [name, coins]
      body: "FIXED{{name}} {{coins}} {{name}}"
      buttons: [{url: "https://acme.example/r/{{1}}", text: Go}]
"""
PARTS = "header: {text: tier}\n    buttons: [{index: 0, url: code}]"


@pytest.mark.parametrize(
    ("fixed", "payload", "detail"),
    [
        (1000, {}, ""),
        (1011, {}, ""),  # 1,011 and twice Riya, 100 and two blanks: just 1,024
        (1012, {}, "the body would be 1 over WhatsApp's 1024 characters: shorten variable name with `truncate`"),
        (0, {"tier": "x" * 52}, ""),
        (0, {"tier": "x" * 53}, "the text header would be 1 over WhatsApp's 60 characters: shorten its value"),
        (0, {"code": "x" * 999}, ""),
        (0, {"code": "https://acme.example/r/A"}, "button 0 would lead to one address inside another"),
    ],
)
def test_what_whatsapp_would_refuse_for_its_length_is_dead_at_intake(
    fixed: int, payload: dict[str, Any], detail: str
) -> None:
    config = read_config(("a", PARTS), templates=LONG.replace("FIXED", "x" * fixed))
    (row,) = plan(config, {**COINS, "tier": "Gold", "code": "A1", **payload})
    found = (row.state, row.reason, row.detail[: len(detail)])
    assert found == ((State.DEAD, Reason.VARIABLE_INVALID, detail) if detail else (State.PENDING, None, ""))
    (control,) = plan(read_config(("a", PARTS)), {**COINS, "tier": "Gold", "code": "A1", **payload})
    assert control.state is State.PENDING, "control: without the template's text nobody can know"


def test_a_template_in_another_language_than_the_routes_is_sent_unmeasured() -> None:
    """Whether WhatsApp knows it there, the check of the mapping says; nobody knows how long its text is."""
    config = read_config(("a", f"language: hi\n    {PARTS}"), templates=LONG.replace("FIXED", "x" * 1012))
    (row,) = plan(config, {**COINS, "tier": "Gold", "code": "A1"})
    assert (row.state, row.message and row.message.language) == (State.PENDING, "hi")
    (control,) = plan(
        read_config(("a", PARTS), templates=LONG.replace("FIXED", "x" * 1012)), {**COINS, "tier": "Gold", "code": "A1"}
    )
    assert control.state is State.DEAD, "control: in its own language it is too long"


def test_an_event_that_hits_nothing_leads_to_nothing() -> None:
    assert plan(read_config(("a", "when: amount | float > 500")), COINS) == ()


@pytest.mark.parametrize(
    ("head", "more", "state"),
    [
        ('only: ["+919800000001", "+919800000002"]', "", State.PENDING),
        ('only: ["+919800000002"]', "", State.SHADOW),
        ('only: ["+919800000001"]', 'only: ["+919800000002"]', State.SHADOW),
        ('defaults: {only: ["+919800000002"]}', "", State.SHADOW),
        ('defaults: {only: ["+919800000002"]}', 'only: ["+919800000001"]', State.PENDING),
    ],
)
def test_only_the_chosen_numbers_get_a_message(head: str, more: str, state: State) -> None:
    text = HEAD.format(mode="live").replace("providers:", f"{head}\nproviders:") + ROUTE.format(name="one", more=more)
    parsed = parse_config(text, environment={"K": "key", "S": "secret"}, provider_types=settings_types(), templates={})
    assert parsed.config is not None, parsed.problems
    assert [delivery.state for delivery in plan(parsed.config, COINS)] == [state]


STORE = "store: {country: IN, timezone: %s, locale: en_IN}\n"


@pytest.mark.parametrize(
    ("zone", "payload", "deadline"),
    [
        ("Asia/Kolkata", {"expire": "2028-02-29"}, "2028-02-29T18:30:00.000Z"),
        ("Europe/Berlin", {"expire": "2028-02-29"}, "2028-02-29T23:00:00.000Z"),
        ("America/New_York", {"expire": "2028-11-05"}, "2028-11-06T05:00:00.000Z"),  # a day of 25 h
        ("Asia/Kolkata", {"expire": "2028-02-29T10:00:00Z"}, "2028-02-29T10:00:00.000Z"),
        # What zone a customer is in, or says to be in, is never asked: the shop's own counts.
        ("Asia/Kolkata", {"expire": "2028-02-29", "timezone": "Mars/Base"}, "2028-02-29T18:30:00.000Z"),
        ("Asia/Kolkata", {"expire": "2028-02-29", "timezone": "America/New_York"}, "2028-02-29T18:30:00.000Z"),
    ],
)
def test_a_date_is_valid_until_its_day_is_over_in_the_zone_of_the_shop(
    zone: str, payload: dict[str, Any], deadline: str
) -> None:
    text = HEAD.format(mode="live").replace("providers:", STORE % zone + "providers:")
    text += ROUTE.format(name="a", more="valid_until: expire\n    valid_for: 30d")
    parsed = parse_config(text, environment={"K": "key", "S": "secret"}, provider_types=settings_types(), templates={})
    assert parsed.config is not None, parsed.problems
    received_at = parse_instant(deadline, "UTC", end_of_day=False)
    assert received_at is not None
    (delivery,) = plan(parsed.config, {**COINS, **payload}, received_at - 86_400_000)
    assert delivery.state is State.PENDING
    assert format_instant(delivery.deadline_at) == deadline
