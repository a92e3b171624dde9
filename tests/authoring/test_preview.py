from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from app.authoring.preview import (
    Preview,
    describe_match,
    describe_plan,
    draw_page,
    draw_text,
    preview_message,
    print_preview,
)
from app.mapping.parse import Parsed, parse_config
from app.mapping.rules import Config
from app.mapping.template import Templates
from app.mapping.template_entries import parse_templates
from app.model.event import Event
from app.providers import settings_types
from app.sources import SOURCE
from app.sources.properties import find_notes

TEMPLATES = """version: 1
templates:
  gallabox:
    coins: {variables: [name, coins], body: "Hi *{{name}}*, {{coins}} coins.", footer: Bye, category: MARKETING}
    shop: {header: {image: true}, body: "Look.", buttons: [{url: "https://a.example/{{1}}", text: Go}, {reply: Stop}]}
    title: {header: {text: "To {{1}}"}, body: "Look."}
"""
CONFIG = """version: 1
providers:
  gallabox: {type: gallabox, channel_id: c, api_key: "${KEY}", api_secret: "${KEY}"}
routes:
  coins:
    event: walletreward_create
    provider: gallabox
    template: coins
    when: amount | float > 0
    valid_until: until | default("2027-01-01T12:00")
    variables: [user_name | default(customer.name) | default("there"), amount]
  shop:
    event: lead_create
    provider: gallabox
    template: shop
    header: {image: photo}
    buttons: [{index: 0, url: code | default("all")}]
  title:
    event: lead_create
    provider: gallabox
    template: title
    header: {text: {text: "my  friends"}}
  unknown: {event: order_create, provider: gallabox, template: unknown, variables: [a, {text: b}]}
"""
PHONE = {"user_mobile": "9800000001"}


@pytest.fixture(scope="module")
def templates() -> Templates:
    return parse_templates(TEMPLATES).templates


@pytest.fixture(scope="module")
def config(templates: Templates, config_of: Callable[[Parsed], Config]) -> Config:
    types = settings_types()
    return config_of(parse_config(CONFIG, environment={"KEY": "k"}, provider_types=types, templates=templates))


@pytest.fixture
def show(config: Config, templates: Templates) -> Callable[..., Preview]:
    def preview(name: str, **payload: Any) -> Preview:
        (route,) = [route for route in config.routes if route.name == name]
        payload = {**PHONE, **payload}
        notes = find_notes(SOURCE.find_model(route.topic), payload)
        event = Event("e", "nector", route.topic, None, b"", payload, 1_790_000_000_000, notes=notes)
        return preview_message(route, event, config.store, templates, "example 1")

    return preview


@pytest.mark.parametrize(
    ("route", "payload", "notes"),
    [
        ("coins", {"user_name": "Riya", "amount": 5}, ["19 of 1024 characters"]),
        (
            "coins",
            {"amount": 5, "customer": {"name": "Asha"}},
            ["variable name shows a default, since `user_name` is missing", "19 of 1024 characters"],
        ),
        (
            "coins",
            {"user_name": "Ri\n  ya", "amount": 5},
            ["variable name was tidied (blanks, line breaks, signs that cannot be seen)", "20 of 1024 characters"],
        ),
        (
            "coins",
            {"user_name": "R" * 300, "amount": 5},
            ["variable name was cut to 256 characters", "271 of 1024 characters"],
        ),
        ("shop", {"photo": "https://a.example/b.png", "code": "A"}, ["5 of 1024 characters"]),
        (
            "shop",
            {"photo": "https://a.example/b.png"},
            ["button 0 shows a default, since `code` is missing", "5 of 1024 characters"],
        ),
        (
            "title",
            {},
            ["the header was tidied (blanks, line breaks, signs that cannot be seen)", "5 of 1024 characters"],
        ),
        ("unknown", {"a": "x"}, []),
        ("unknown", {"a": "x", "customer": 5}, ["`customer` is a number, not an object"]),
    ],
)
def test_what_was_done_to_the_values_is_told(
    show: Callable[..., Preview], route: str, payload: dict[str, Any], notes: list[str]
) -> None:
    assert list(show(route, **payload).notes) == notes


def test_a_message_over_whatsapps_length_is_not_sent_and_told_by_how_much(
    config_of: Callable[[Parsed], Config],
) -> None:
    templates = parse_templates(TEMPLATES.replace("Hi *", "x" * 1020)).templates
    types = settings_types()
    config = config_of(parse_config(CONFIG, environment={"KEY": "k"}, provider_types=types, templates=templates))
    event = Event("e", "nector", "walletreward_create", None, b"", {**PHONE, "user_name": "A", "amount": 1}, 1)
    preview = preview_message(config.routes[0], event, config.store, templates, "")
    assert not preview.is_sent
    assert preview.fault == (
        "variable_invalid (the body would be 8 over WhatsApp's 1024 characters: shorten variable name with `truncate`)"
    )


def test_a_preview_reads_as_plain_text(show: Callable[..., Preview]) -> None:
    assert print_preview(show("coins", user_name="Riya", amount=5)) == (
        "to +919800000001, read as one of IN (`store.country`)\n"
        "╭─\n│ Hi *Riya*, 5 coins.\n│ _Bye_\n╰─\nnote: 19 of 1024 characters"
    )
    assert print_preview(show("unknown", a="x")) == (
        "to +919800000001, read as one of IN (`store.country`)\n"
        "config/templates.yaml does not hold this template's text; its variables are:\n  1: x\n  2: b"
    )


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"user_name": "Riya"}, "not sent: variable_missing (variable coins (`amount`) is missing)"),
        (
            {"user_name": "Riya", "amount": [5]},
            (
                "not sent: variable_invalid (variable coins (`amount`) is a list or an object, not a single value)\n"
                "note: `amount` is a list, not a number"
            ),
        ),
        (
            {"amount": 5, "until": "soon"},
            'not sent: deadline_invalid (valid_until (`until | default("2027-01-01T12:00")`) is not a date)',
        ),
    ],
)
def test_a_message_that_is_not_sent_says_why(show: Callable[..., Preview], payload: dict[str, Any], text: str) -> None:
    preview = show("coins", **payload)
    assert print_preview(preview) == text
    assert not preview.is_sent


def test_an_event_that_misses_the_route_is_shown_and_marked(show: Callable[..., Preview]) -> None:
    text = print_preview(show("coins", user_name="Riya", amount=0))
    assert text.startswith(
        "this event does not hit the route (`when: amount | float > 0` is false); if it did:\nto +91"
    )


# -- as a page ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that every tag is closed, and keeps the text by class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1][1] or self.open[-1][0], []).append(data)


def test_a_page_shows_every_message_under_its_route(show: Callable[..., Preview]) -> None:
    page = Page(
        draw_page(
            [
                show("coins", user_name="Riya", amount=5),
                show("coins", user_name="Riya", amount=5, until="soon"),
                show("coins", user_name="Riya", amount=0),
                show("coins", user_name="Riya", amount=0, until="soon"),
                show("shop", photo="https://a.example/b.png", code="A&B"),
                show("title"),
                show("unknown", a="x"),
            ],
            "What customers see",
        )
    )
    assert page.texts["meta"] == [
        "walletreward_create · gallabox · coins · en · marketing",
        "lead_create · gallabox · shop · en · utility",
        "lead_create · gallabox · title · en · utility",
        "order_create · gallabox · unknown",
    ]
    assert page.texts["media"] == ["[image b.png]"]
    assert page.texts["header"] == ["To my friends"]
    assert page.texts["footer"] == ["Bye"] * 2
    assert page.texts["button"] == ["Go", "Stop"]
    assert page.texts["small"] == ["https://a.example/A&B"]
    assert page.texts["fault"] == [
        'not sent: deadline_invalid (valid_until (`until | default("2027-01-01T12:00")`) is not a date)',
        "the template's text is not in templates.yaml; its values:",
    ]
    assert page.texts["miss"] == ["does not hit the route: `when: amount | float > 0` is false"] * 2


def test_a_page_notes_what_is_of_another_kind_also_where_nothing_is_sent(show: Callable[..., Preview]) -> None:
    html = draw_page([show("unknown", a=[1], customer="Riya"), show("unknown", a=[1])], "x")
    assert html.count("<li>") == 1
    assert '<ul class="notes"><li>`customer` is a text, not an object</li></ul>' in html


def test_nothing_that_a_value_holds_becomes_markup_or_is_loaded(show: Callable[..., Preview]) -> None:
    evil = '<img src=x onerror="alert(1)"></style><script>alert(1)</script>'
    html = draw_page([show("coins", user_name=evil, amount=5), show("unknown", a=evil)], evil)
    page = Page(html)
    assert not {"img", "script", "a", "link", "iframe"} & {*page.tags}
    assert page.tags.count("style") == 1
    assert not re.search(r"(src|href)=", html.replace("src=x", ""))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*bold* _it_ ~no~", "<b>bold</b> <i>it</i> <s>no</s>"),
        ("2*3*4 a_b_c * x *", "2*3*4 a_b_c * x *"),
        ("*_both_*", "<b><i>both</i></b>"),
        ("*a\nb*", "*a\nb*"),
        ('a < b & "c"', "a &lt; b &amp; &quot;c&quot;"),
        ("https://x.example/a_b_c", "https://x.example/a_b_c"),
        ("```2 *a* <b>``` *c*", "<code>2 *a* &lt;b&gt;</code> <b>c</b>"),
        ("``` and ``", "``` and ``"),
    ],
)
def test_whatsapps_marks_show_as_they_do_there(text: str, html: str) -> None:
    assert draw_text(text) == html


@pytest.mark.parametrize(
    ("topic", "payload", "told"),
    [
        (
            "walletreward_create",
            {**PHONE, "user_name": "Riya", "amount": 5},
            ("coins", "hit", "pending", "+919800000001", {"name": "Riya", "coins": "5"}),
        ),
        ("walletreward_create", {"user_mobile": "1", "amount": 5}, ("coins", "hit", "dead", None, {})),
        ("walletreward_create", {**PHONE, "amount": 0}, ("coins", "when", None, None, None)),
        ("walletreward_create", {**PHONE, "amount": "x"}, ("coins", "broken", None, None, None)),
        ("order_create", {**PHONE, "amount": 1}, ("coins", "topic", None, None, None)),
    ],
)
def test_a_plan_says_of_each_route_what_becomes_of_an_event(
    config: Config, topic: str, payload: dict[str, Any], told: tuple[Any, ...]
) -> None:
    event = Event("e", SOURCE.name, topic, None, b"", payload, 1_790_000_000_000)
    rows = describe_plan(event, config, str)
    assert {row["route"] for row in rows} == {"coins", "shop", "title", "unknown"}
    row = next(row for row in rows if row["route"] == "coins")
    assert tuple(row.get(name) for name in ("route", "result", "state", "to", "variables")) == told
    assert row["when"] == "amount | float > 0"


def test_it_is_shown_what_a_condition_read() -> None:
    whens = {
        "hit": "when: customer.tier == 'gold' and fiat_value | float > 0",
        "plain": "",
        "other": "when: secret",
        "missing": "when: nobody[0] == 1",
    }
    account = "{type: bitespeed, base_url: https://a.example, channel_id: c, user_id: u}"
    text = f"version: 1\nproviders:\n  sms: {account}\nroutes:\n"
    for name, when in whens.items():
        topic = "lead_create" if name == "other" else "coupon_create"
        text += f"  {name}:\n    event: {topic}\n    provider: sms\n    template: {name}\n    {when}\n"
    parsed = parse_config(text, environment={}, provider_types=settings_types(), templates={})
    assert parsed.config is not None, parsed.problems
    payload = {"customer": {"tier": "gold"}, "fiat_value": "5", "secret": "x"}
    event = Event("e", SOURCE.name, "coupon_create", None, b"", payload, 1_790_000_000_000)
    rows = [describe_match(route, event) for route in parsed.config.routes]
    assert [(row["route"], row["result"], row["when"], row["reads"]) for row in rows] == [
        (
            "hit",
            "hit",
            "customer.tier == 'gold' and fiat_value | float > 0",
            {"customer.tier": "gold", "fiat_value": "5"},
        ),
        ("plain", "hit", None, {}),
        ("other", "topic", "secret", {}),
        ("missing", "when", "nobody[0] == 1", {"nobody.0": None}),
    ]
