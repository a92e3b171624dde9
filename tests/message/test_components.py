"""Every part of a template, from the YAML to the vendor's wire and to the customer's screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.authoring.preview import draw_page, preview_message, print_preview
from app.mapping.fields import ButtonSource
from app.mapping.parse import Parsed
from app.mapping.rules import Config, Route
from app.mapping.template import BUTTON_KINDS, Templates, show_message
from app.mapping.template_entries import dump_templates, parse_templates
from app.message.components import (
    BUTTONS,
    checksum,
    decode_message,
    encode_message,
    list_components,
    thaw_message,
)
from app.message.render import Unrendered, render_message
from app.model.delivery import Reason
from app.model.event import Event
from app.model.message import Button, Header, Location, Message, Variable
from app.providers import build_provider
from app.providers.base import Request
from app.sandbox.bitespeed import FakeBiteSpeed
from app.sandbox.gallabox import FakeGallabox
from app.sandbox.vendor import Order, Refusal, SandboxSettings

TEMPLATES = """version: 1
templates:
  PROVIDER:
    coupon:
      body: Your coupon is here.
      buttons:
        - {copy_code: true, text: Copy offer code}
        - {url: "https://acme.example/r/{{1}}", text: Shop}
    reply: {body: "Stay?", buttons: [{phone: "+919800000001", text: Call}, {reply: "Yes"}]}
    password: {category: AUTHENTICATION, body: "Your code is {{1}}.", buttons: [{otp: true, text: Copy code}]}
    flow: {body: "Tell us more.", buttons: [{flow: true, text: Begin}, {catalog: true, text: View catalog}]}
    shop: {header: {location: true}, body: "Visit us."}
    offer: {limited_time_offer: {text: Only now}, body: "Hurry.", buttons: [{copy_code: true, text: Copy}]}
"""
EVENT = {
    "user_mobile": "9800000001",
    "value": "ACME-7Q2P",
    "order_id": 1042,
    "expire": "2026-12-31T18:29:59Z",
    "at": {"lat": 12.9716, "lon": "77.5946"},
}
CODE = {"type": "button", "sub_type": "copy_code", "index": 0}
CODE |= {"parameters": [{"type": "coupon_code", "coupon_code": "ACME-7Q2P"}]}
END = 1798741799000
# (the route's keys, Cloud API's components as Meta's pages have them, what the customer sees of it)
PARTS = [
    (
        "template: coupon, buttons: [{index: 0, copy_code: value}, {index: 1, url: order_id}]",
        [CODE, {"type": "button", "sub_type": "url", "index": 1, "parameters": [{"type": "text", "text": "1042"}]}],
        ["Copy offer code → ACME-7Q2P", "Shop → https://acme.example/r/1042"],
    ),
    (
        "template: reply, buttons: [{index: 1, payload: order_id}]",
        [
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": 1,
                "parameters": [{"type": "payload", "payload": "1042"}],
            }
        ],
        ["Call → +919800000001", "Yes → 1042"],
    ),
    ("template: reply", [], ["[ Yes ]"]),
    (
        "template: password, variables: [order_id], buttons: [{index: 0, otp: order_id}]",
        [
            {"type": "body", "parameters": [{"type": "text", "text": "1042"}]},
            {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "text", "text": "1042"}]},
        ],
        ["Your code is 1042.", "Copy code → 1042"],
    ),
    (
        "template: flow, buttons: [{index: 0, flow: order_id}]",
        [
            {
                "type": "button",
                "sub_type": "flow",
                "index": 0,
                "parameters": [{"type": "action", "action": {"flow_token": "1042"}}],
            }
        ],
        ["Begin → 1042", "View catalog"],
    ),
    (
        (
            "template: shop, header: {location: {latitude: at.lat, longitude: at.lon, name: {text: Acme},"
            " address: {text: 1 MG Road}}}"
        ),
        [
            {
                "type": "header",
                "parameters": [
                    {
                        "type": "location",
                        "location": {
                            "latitude": "12.9716",
                            "longitude": "77.5946",
                            "name": "Acme",
                            "address": "1 MG Road",
                        },
                    }
                ],
            }
        ],
        ["[location Acme, 1 MG Road]"],
    ),
    (
        "template: offer, limited_time_offer: expire, buttons: [{index: 0, copy_code: value}]",
        [
            {
                "type": "limited_time_offer",
                "parameters": [{"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": END}}],
            },
            CODE,
        ],
        ["Only now (ends 2026-12-31T18:29:59.000Z)"],
    ),
]


@pytest.fixture
def read(
    parse: Callable[..., Parsed], config_of: Callable[[Parsed], Config], with_route: Callable[..., str]
) -> Callable[..., tuple[Config, Route, Templates]]:
    def read_route(keys: str, provider: str = "gallabox") -> tuple[Config, Route, Templates]:
        parsed = parse_templates(TEMPLATES.replace("PROVIDER", provider))
        assert parsed.problems == ()
        text = with_route(f"provider: {provider}, valid_for: 1h, {keys}")
        config = config_of(parse(text.partition("  uses-")[0], templates=parsed.templates))
        return config, config.routes[0], parsed.templates

    return read_route


def render(config: Config, route: Route, **changes: Any) -> Message | Unrendered:
    event = Event("e", "nector", route.topic, None, b"", {**EVENT, **changes}, 1)
    return render_message(route, event, config.store)


def accept(provider: str, request: Request, templates: Templates) -> Order | Refusal:
    fake: Any = FakeGallabox if provider == "gallabox" else FakeBiteSpeed
    order: Order | Refusal = fake(SandboxSettings(), templates).read(
        {name.lower(): value for name, value in request.headers.items()}, request.body
    )
    return order


@pytest.mark.parametrize("provider", ["gallabox", "bitespeed"])
@pytest.mark.parametrize(("keys", "components", "seen"), PARTS)
def test_a_part_is_written_frozen_sent_and_seen(
    read: Callable[..., Any], provider: str, keys: str, components: list[Any], seen: list[str]
) -> None:
    config, route, templates = read(keys, provider)
    message = render(config, route)
    assert isinstance(message, Message)
    assert list_components(message) == components
    assert decode_message(encode_message(message)) == message
    request = build_provider(config.providers[provider]).build_request(message, "d-1")
    order = accept(provider, request, templates)
    assert isinstance(order, Order), order
    event = Event("e", "nector", route.topic, None, b"", EVENT, 1)
    preview = preview_message(route, event, config.store, templates, "example 1")
    assert order.filled == preview.filled == show_message(templates[provider, route.template], message)
    for text in seen:
        assert text in print_preview(preview)
        assert text.strip("[ ]").partition(" → ")[0] in draw_page([preview], "x")


@pytest.mark.parametrize(("keys", "components", "seen"), [part for part in PARTS if part[1]])
def test_the_sandbox_refuses_the_same_without_the_part(
    read: Callable[..., Any], keys: str, components: list[Any], seen: list[str]
) -> None:
    del components, seen
    config, route, templates = read(keys)
    message = render(config, route)
    assert isinstance(message, Message)
    bare = replace(message, header=None, buttons=(), offer_ends_at=None)
    if route.template == "reply":  # a payload may be left out
        bare = replace(message, buttons=(Button(1, "x", "flow"),))
    request = build_provider(config.providers["gallabox"]).build_request(bare, "d-1")
    assert isinstance(accept("gallabox", request, templates), Refusal)


@pytest.mark.parametrize(
    ("keys", "changes", "reason", "detail"),
    [
        (PARTS[0][0], {"value": None}, Reason.VARIABLE_MISSING, "button 0 (`value`) is missing"),
        (PARTS[0][0], {"value": "x" * 21}, Reason.VARIABLE_INVALID, "button 0 (`value`) is longer than 20 characters"),
        (PARTS[0][0], {"value": ["x"]}, Reason.VARIABLE_INVALID, "button 0 (`value`) is a list or an object"),
        (
            PARTS[0][0],
            {"order_id": "https://acme.example/r/1"},
            Reason.VARIABLE_INVALID,
            "button 1 would lead to one address inside another: give only what follows its fixed part",
        ),
        (
            PARTS[5][0],
            {"at": {"lat": 91, "lon": 7}},
            Reason.VARIABLE_INVALID,
            "the location's latitude (`at.lat`) is no",
        ),
        (
            PARTS[5][0],
            {"at": {"lat": 9, "lon": "east"}},
            Reason.VARIABLE_INVALID,
            "the location's longitude (`at.lon`)",
        ),
        (PARTS[5][0], {"at": {"lat": 9}}, Reason.VARIABLE_MISSING, "the location's longitude (`at.lon`) is missing"),
        (PARTS[6][0], {"expire": "soon"}, Reason.VARIABLE_INVALID, "limited_time_offer (`expire`) is not a date"),
        (PARTS[6][0], {"expire": None}, Reason.VARIABLE_INVALID, "limited_time_offer (`expire`) is missing"),
        (
            "template: offer, limited_time_offer: order_id + value, buttons: [{index: 0, copy_code: value}]",
            {},
            Reason.VARIABLE_INVALID,
            "limited_time_offer cannot be worked out",
        ),
    ],
)
def test_a_value_that_a_part_cannot_take_is_told_with_its_place(
    read: Callable[..., Any], keys: str, changes: Mapping[str, Any], reason: Reason, detail: str
) -> None:
    config, route, _ = read(keys)
    found = render(config, route, **changes)
    assert isinstance(found, Unrendered)
    assert found.reason is reason
    assert found.detail.startswith(detail)


def test_a_kind_of_button_stands_in_both_places_and_in_the_yaml() -> None:
    keys = {name for name, field in ButtonSource.model_fields.items() if type(None) in get_args(field.annotation)}
    assert keys == set(BUTTONS) == {kind.filled_by for kind in BUTTON_KINDS.values()} - {""}


def test_every_part_of_a_template_is_read_back_from_the_file_that_was_written() -> None:
    text = """version: 1
templates:
  gallabox:
    all:
      - header: {location: true}
        limited_time_offer: {text: Only now, expires: false}
        body: Hello.
        others: [carousel]
        buttons:
          - {copy_code: true, text: Copy}
          - {otp: true, text: Copy}
          - {flow: true, text: Begin}
          - {catalog: true, text: View}
          - {mpm: true, text: View}
          - {spm: true, text: View}
          - {other: order_details, text: Pay}
      - {language: hi, header: {other: gif}, body: "Namaste."}
"""
    parsed = parse_templates(text)
    assert parsed.problems == ()
    assert parsed.places == {("gallabox", "all"): (5, 9)}
    template = parsed.templates["gallabox", "all"]
    assert [version.language for version in template.versions] == ["en", "hi"]
    assert [button.kind for button in template.buttons][-2:] == ["spm", "order_details"]
    assert parse_templates(dump_templates(parsed.templates)).templates == parsed.templates


def test_a_language_stands_once_for_each_template() -> None:
    parsed = parse_templates("version: 1\ntemplates: {g: {a: [{body: x}, {body: y}, {bdy: z}]}}\n")
    assert [problem.message for problem in parsed.problems] == [
        '"a" stands here twice in "en"',
        "templates.g.a.2.body: is missing",
        'templates.g.a.2.bdy: unknown key; did you mean "body"?',
    ]


# -- languages ------------------------------------------------------------------------------------

LANGUAGES = """version: 1
templates:
  gallabox:
    both: [{body: "Hello {{1}}."}, {language: hi, body: "Namaste ji {{1}}."}]
"""
CHOSEN = 'template: both, variables: [value], language: lang | default("en")'


@pytest.mark.parametrize(
    ("keys", "changes", "language", "body"),
    [
        (CHOSEN, {"lang": "hi"}, "hi", "Namaste ji ACME-7Q2P."),
        (CHOSEN, {}, "en", "Hello ACME-7Q2P."),
        (CHOSEN, {"lang": "null"}, "en", "Hello ACME-7Q2P."),
        ("template: both, variables: [value], language: hi", {}, "hi", "Namaste ji ACME-7Q2P."),
        ("template: both, variables: [value]", {}, None, "Hello ACME-7Q2P."),
    ],
)
def test_a_language_may_be_the_customers_own(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
    keys: str,
    changes: Mapping[str, Any],
    language: str | None,
    body: str,
) -> None:
    templates = parse_templates(LANGUAGES).templates
    text = with_route(f"provider: gallabox, {keys}").partition("  uses-")[0]
    config = config_of(parse(text, templates=templates))
    message = render(config, config.routes[0], **changes)
    assert isinstance(message, Message)
    assert message.language == language
    request = build_provider(config.providers["gallabox"]).build_request(message, "d-1")
    order = accept("gallabox", request, templates)
    assert isinstance(order, Order)
    assert order.filled.body == body == show_message(templates["gallabox", "both"], message).body


@pytest.mark.parametrize(
    ("language", "detail"),
    [
        ("Hindi", 'the language (`lang | default("en")`) is no code such as en'),
        ("fr", 'the language (`lang | default("en")`) is none of template both, which has en, hi'),
        (["hi"], 'the language (`lang | default("en")`) is a list or an object, not a single value'),
    ],
)
def test_a_language_that_the_template_has_not_is_told(
    parse: Callable[..., Parsed],
    config_of: Callable[[Parsed], Config],
    with_route: Callable[..., str],
    language: Any,
    detail: str,
) -> None:
    text = with_route(f"provider: gallabox, {CHOSEN}").partition("  uses-")[0]
    config = config_of(parse(text, templates=parse_templates(LANGUAGES).templates))
    assert render(config, config.routes[0], lang=language) == Unrendered(Reason.VARIABLE_INVALID, detail)


@pytest.mark.parametrize(
    "language", ["english", "en-US", "customer.language", "'6'", "lang | default(", "lang | upper"]
)
def test_a_language_without_a_fallback_is_an_error(
    parse: Callable[..., Parsed], with_route: Callable[..., str], language: str
) -> None:
    parsed = parse(with_route(f"provider: bitespeed, template: t, language: {language}"))
    assert parsed.config is None
    assert "is no language of WhatsApp templates, and no expression with a fallback" in parsed.problems[0].message


# -- messages that the release before froze ---------------------------------------------------------

FROZEN_BEFORE = (
    b'{"recipient":"+919800000001","recipient_name":"Riya","template":"coins_expiring","language":"en",'
    b'"variables":[["name","Riya"],["coins","450"]],'
    b'"header":["image","https://cdn.acme.example/a.png",null],"buttons":[[0,"RIYA22"]]}'
)
SENT_BEFORE = (
    b'{"channelId":"example-channel","channelType":"whatsapp","localMessageId":"d-1",'
    b'"recipient":{"name":"Riya","phone":"919800000001"},"whatsapp":{"type":"template","template":'
    b'{"templateName":"coins_expiring","bodyValues":{"name":"Riya","coins":"450"},"languageCode":"en",'
    b'"headerValues":{"mediaUrl":"https://cdn.acme.example/a.png","mediaName":"a.png"},'
    b'"buttonValues":[{"index":0,"sub_type":"url","parameters":{"type":"text","text":"RIYA22"}}]}}}'
)


def test_a_message_that_the_release_before_froze_goes_out_byte_by_byte_the_same(read: Callable[..., Any]) -> None:
    config, _, _ = read("template: reply")
    message = decode_message(FROZEN_BEFORE)
    assert message.header == Header("image", "https://cdn.acme.example/a.png")
    assert message.buttons == (Button(0, "RIYA22", "url"),)
    assert build_provider(config.providers["gallabox"]).build_request(message, "d-1").body == SENT_BEFORE


def test_a_message_that_a_later_release_froze_is_no_message() -> None:
    later = {**json.loads(FROZEN_BEFORE), "version": 3}
    with pytest.raises(ValueError, match="no frozen message"):
        decode_message(json.dumps(later).encode())
    assert decode_message(json.dumps({**later, "version": 2}).encode())


def test_a_location_is_thawed_as_one() -> None:
    message = Message("+919800000001", "t", header=Location("1", "2", "Acme", "1 MG Road"))
    assert decode_message(encode_message(message)) == message


MESSAGES = st.builds(
    Message,
    recipient=st.text(),
    template=st.text(),
    recipient_name=st.text(),
    language=st.none() | st.text(),
    variables=st.lists(st.builds(Variable, st.none() | st.text(), st.text())).map(tuple),
    header=st.none()
    | st.builds(Header, st.sampled_from(["image", "video", "document", "text"]), st.text(), st.none() | st.text()),
    buttons=st.lists(st.builds(Button, st.integers(0, 9), st.text())).map(tuple),
)
MESSAGE = Message("+919800000001", "coins_earned", "रिया", "hi", (Variable(None, "रिया"), Variable("coins", "100")))


@given(MESSAGES)
def test_frozen_message_thaws_to_the_same(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def test_frozen_message_is_compact_ascii() -> None:
    frozen = encode_message(MESSAGE)
    assert frozen.isascii()
    assert b": " not in frozen
    assert len(encode_message(Message("+919800000001", "t\ud800"))) > 0


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{}", b"[]", b"null", b"\xff", encode_message(MESSAGE)[:-1], b'{"recipient":"x","template":"y"}'],
)
def test_damaged_message_does_not_thaw(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="these bytes are no frozen message"):
        decode_message(damaged)


@given(st.data())
def test_every_flipped_bit_shows_in_the_checksum(data: st.DataObject) -> None:
    frozen = bytearray(encode_message(MESSAGE))
    whole = checksum(bytes(frozen))
    at = data.draw(st.integers(0, len(frozen) - 1))
    frozen[at] ^= 1 << data.draw(st.integers(0, 7))
    assert checksum(bytes(frozen)) != whole


FROZEN = encode_message(MESSAGE)


@pytest.mark.parametrize(
    ("data", "expected", "message"),
    [
        (FROZEN, checksum(FROZEN), MESSAGE),
        (None, None, None),
        (FROZEN, checksum(b"another"), None),
        (b"{}", checksum(b"{}"), None),
    ],
)
def test_only_what_was_frozen_and_can_be_read_thaws(
    data: bytes | None, expected: str | None, message: Message | None
) -> None:
    assert thaw_message(data, expected) == message
