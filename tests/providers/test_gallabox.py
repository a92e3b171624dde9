from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from app.mapping.template import Template, TemplateButton
from app.model.delivery import Accepted, Reason, Rejected, Retryable, Scope, Uncertain
from app.model.message import Header, Location, Message, Receipt, ReceiptStatus, Variable
from app.providers.base import Provider, Response
from app.providers.gallabox import Gallabox
from tests.providers.conftest import read_webhook

STATUS = {"x-event-name": "Message.WA.Status.Received"}
FAILED = {"x-event-name": "message.wa.status.FAILED"}


@pytest.fixture
def gallabox(build_account: Callable[..., Provider]) -> Provider:
    return build_account("gallabox")


def test_request_is_the_documented_one(gallabox: Provider, message: Message) -> None:
    request = gallabox.build_request(message, "4a6c1c0e")
    assert (request.method, request.url) == ("POST", "https://gallabox.example/devapi/messages/whatsapp")
    assert request.headers == {
        "apiKey": "key-canary-1",
        "apiSecret": "secret-canary-1",
        "content-type": "application/json",
    }
    assert json.loads(request.body) == {
        "channelId": "ch-1",
        "channelType": "whatsapp",
        "localMessageId": "4a6c1c0e",
        "recipient": {"name": "Riya", "phone": "919800000001"},
        "whatsapp": {
            "type": "template",
            "template": {
                "templateName": "coins_earned",
                "languageCode": "en",
                "bodyValues": {"user_name": "Riya", "amount": "100"},
                "headerValues": {"mediaUrl": "https://cdn.example/banner.jpg", "mediaName": "banner"},
                "buttonValues": [
                    {"index": 0, "sub_type": "url", "parameters": {"type": "text", "text": "redeem%2FACME-7Q2P"}}
                ],
            },
        },
    }


def test_what_a_message_lacks_is_left_out(gallabox: Provider) -> None:
    bare = Message("+919800000001", "hello", variables=(Variable(None, "a"), Variable(None, "b")))
    body = json.loads(gallabox.build_request(bare, "d-1").body)
    assert body["recipient"] == {"name": "919800000001", "phone": "919800000001"}
    assert body["whatsapp"]["template"] == {"templateName": "hello", "bodyValues": {"1": "a", "2": "b"}}


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (Header("text", "Diwali"), {"1": "Diwali"}),
        (
            Header("document", "https://cdn.example/a.pdf"),
            {"mediaUrl": "https://cdn.example/a.pdf", "mediaName": "a.pdf"},
        ),
        (
            Location("12.97", "77.59", "Acme", "1 MG Road"),
            {"latitude": "12.97", "longitude": "77.59", "name": "Acme", "address": "1 MG Road"},
        ),
    ],
)
def test_header_goes_by_its_kind(
    gallabox: Provider, message: Message, header: Header | Location, values: Mapping[str, str]
) -> None:
    body = json.loads(gallabox.build_request(replace(message, header=header), "d-1").body)
    assert body["whatsapp"]["template"]["headerValues"] == values


def test_the_end_of_an_offer_goes_in_milliseconds(gallabox: Provider, message: Message) -> None:
    body = json.loads(gallabox.build_request(replace(message, offer_ends_at=1_790_000_000_000), "d-1").body)
    assert body["whatsapp"]["template"]["limitedTimeOfferValues"] == {"expiration_time_ms": 1_790_000_000_000}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"id": "g-1", "status": "ACCEPTED"}, Accepted),
        ({"id": "g-1", "status": "accepted", "warnings": ["slow"]}, Accepted),
        ({"status": "Accepted"}, Accepted),
        ({"id": "g-1", "status": "QUEUED"}, Accepted),
        ({"id": "g-1", "status": "FAILED", "message": "no"}, Rejected),
        ({"status": "ACCEPTED", "error": "no"}, Rejected),
        ({"id": "g-1"}, Accepted),
        ({"id": "g-1", "status": "ACCEPTED", "message": 7}, Accepted),
        ({"id": "g-1", "status": "IN_LIMBO"}, Uncertain),
        ({}, Uncertain),
    ],
)
def test_what_says_that_it_was_taken_is_accepted(gallabox: Provider, answer: Mapping[str, Any], kind: type) -> None:
    assert type(gallabox.read_response(Response(202, {}, json.dumps(answer).encode()))) is kind


@pytest.mark.parametrize(("treat_500_as", "kind"), [("retry", Retryable), ("unknown", Uncertain)])
def test_500_is_what_the_settings_say(build_account: Callable[..., Provider], treat_500_as: str, kind: type) -> None:
    provider = build_account("gallabox", treat_500_as=treat_500_as)
    assert type(provider.read_response(Response(500, {}, b""))) is kind


def test_signature_is_base64_and_nothing_else(gallabox: Provider) -> None:
    body = b'{"id": "g-1"}'
    digest = hmac.new(b"hook-canary-1", body, hashlib.sha256)
    good = base64.b64encode(digest.digest()).decode()
    assert gallabox.read_proof({"x-gallabox-signature": f" {good} "}, {}).fits(body)
    for bad in (digest.hexdigest(), good[:-1], good.lower(), f"sha256={good}"):
        assert not gallabox.read_proof({"x-gallabox-signature": bad}, {}).fits(body)
    assert not gallabox.read_proof({"x-gallabox-signature": good}, {}).fits(body + b" ")


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (
            STATUS,
            {"id": "g-1", "localMessageId": "d-1", "whatsapp": {"status": "delivered", "time": "1790000000"}},
            Receipt(ReceiptStatus.DELIVERED, "d-1", "g-1", 1_790_000_000_000),
        ),
        (
            {"x-event-name": "Broadcast.WA.Message.Status.Received"},
            {"data": {"messageId": "g-2", "status": "read", "timestamp": "2026-11-22T04:30:00Z"}},
            Receipt(ReceiptStatus.READ, None, "g-2", 1_795_321_800_000),
        ),
        ({}, {"message": {"id": "g-3", "status": "sent"}}, Receipt(ReceiptStatus.SENT, None, "g-3")),
        (
            FAILED,
            {"localMessageId": "d-1", "errors": [{"code": 131026, "title": "undeliverable to 919800000001"}]},
            Receipt(
                ReceiptStatus.FAILED,
                "d-1",
                None,
                None,
                Reason.RECIPIENT_UNREACHABLE,
                "131026: undeliverable to ***",
                Scope.RECIPIENT,
            ),
        ),
        (
            FAILED,
            {"data": {"id": "g-4", "errorMessage": "(#131049) not delivered to maintain healthy engagement"}},
            Receipt(
                ReceiptStatus.FAILED,
                None,
                "g-4",
                None,
                Reason.RECIPIENT_CAPPED,
                "(#131049) not delivered to maintain healthy engagement",
            ),
        ),
        (
            STATUS,
            {"id": "g-5", "whatsapp": {"status": "failed", "errors": [{"code": 131050}]}},
            Receipt(ReceiptStatus.FAILED, None, "g-5", None, Reason.RECIPIENT_OPTED_OUT, "131050", Scope.RECIPIENT),
        ),
        (
            FAILED,
            {"id": "g-6", "error": "something"},
            Receipt(ReceiptStatus.FAILED, None, "g-6", None, Reason.REQUEST_REFUSED, "something"),
        ),
    ],
)
def test_receipt_is_read_wherever_its_parts_stand(
    gallabox: Provider, headers: Mapping[str, str], body: Any, expected: Receipt
) -> None:
    assert tuple(read_webhook(gallabox, headers, json.dumps(body).encode()).receipts) == (expected,)


@pytest.mark.parametrize(
    "event", ["Message.Received", "Template.Status", "Message.WA.Payment.Status.Received", "Conversation.Update", "x"]
)
def test_other_events_report_nothing_even_with_a_status(gallabox: Provider, event: str) -> None:
    body = b'{"id": "g-1", "status": "failed", "whatsapp": {"status": "delivered"}}'
    assert tuple(read_webhook(gallabox, {"x-event-name": event}, body).receipts) == ()


def test_one_bad_entry_of_a_batch_does_not_lose_the_rest(gallabox: Provider) -> None:
    batch = [None, 7, {"id": [1]}, {"whatsapp": 3}, {"id": "g-1", "whatsapp": {"status": "read"}}, {"id": "g-2"}]
    receipts = read_webhook(gallabox, STATUS, json.dumps(batch).encode()).receipts
    assert [(receipt.provider_message_id, receipt.status) for receipt in receipts] == [("g-1", ReceiptStatus.READ)]


@pytest.mark.parametrize(
    "bad",
    [
        {"api_key": "bad-canary\n1"},
        {"api_secret": ""},
        {"base_url": "http://gallabox.example"},
        {"channel": "typo"},
        {"type": "bitespeed"},
    ],
)
def test_bad_settings_are_refused_without_showing_their_values(
    build_account: Callable[..., Provider], bad: Mapping[str, str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        build_account("gallabox", **bad)
    assert "canary" not in str(caught.value)


LISTED = [
    {
        "id": "64f0",
        "channelId": "ch-1",
        "name": "coins_earned",
        "status": "APPROVED",
        "language": "en_US",
        "category": "marketing",
        "variables": ["name", "coins"],
        "components": [
            {"type": "HEADER", "format": "TEXT", "text": "Hi"},
            {"type": "BODY", "text": "{{name}}, you earned {{coins}} coins."},
            {"type": "FOOTER", "text": "Acme"},
            {
                "type": "BUTTONS",
                "buttons": [
                    {"type": "URL", "text": "Shop", "url": "https://shop.example/{{1}}"},
                    {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "180000"},
                    {"type": "QUICK_REPLY", "text": "Stop"},
                    {"type": "FLOW"},
                ],
            },
        ],
    },
    {"name": "banner", "components": [{"type": "header", "format": "image"}, {"type": "body", "text": "Look"}]},
    {"name": "elsewhere", "channelId": "ch-2", "components": [{"type": "BODY", "text": "no"}]},
    {"name": "no body", "components": [{"type": "BODY"}]},
    {"components": [{"type": "BODY", "text": "no name"}]},
    {"name": "odd", "components": 7},
    None,
]


def test_templates_of_the_channel_are_read_from_the_list(build_account: Callable[..., Provider]) -> None:
    provider = build_account("gallabox")
    assert isinstance(provider, Gallabox)
    assert provider.read_templates("main", json.dumps(LISTED).encode()) == [
        Template(
            provider="main",
            id="coins_earned",
            body="{{name}}, you earned {{coins}} coins.",
            variables=("name", "coins"),
            header_kind="text",
            header_text="Hi",
            footer="Acme",
            buttons=(
                TemplateButton("url", "Shop", "https://shop.example/{{1}}"),
                TemplateButton("phone", "Call", "180000"),
                TemplateButton("reply", "Stop"),
                TemplateButton("flow", "flow"),
            ),
            language="en_US",
            category="MARKETING",
            status="approved",
        ),
        Template(provider="main", id="banner", body="Look", header_kind="image", status=""),
        Template(provider="main", id="no body", body="", status=""),
        Template(provider="main", id="odd", body="", status=""),
    ]


COUPON = {
    "name": "coupon",
    "status": "approved",
    "components": [
        {"type": "HEADER", "format": "LOCATION"},
        {"type": "LIMITED_TIME_OFFER", "limited_time_offer": {"text": "Only now", "has_expiration": True}},
        {"type": "BODY", "text": "Hurry."},
        {"type": "CAROUSEL", "cards": [{"components": []}]},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "COPY_CODE", "example": "25OFF"},
                {"type": "OTP", "otp_type": "COPY_CODE", "text": "Copy"},
                {
                    "type": "URL",
                    "text": "Copy",
                    "url": "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}",
                },
                {"type": "CATALOG"},
                {"type": "MPM", "text": "View items"},
                {"type": "SPM"},
                {"type": "ORDER_DETAILS", "text": "Pay"},
                {"text": "Odd"},
                {"type": "URL", "text": "Shop", "url": "https://shop.example/{{1}}"},
            ],
        },
    ],
}


def test_every_part_of_a_listed_template_is_kept_in_its_place(build_account: Callable[..., Provider]) -> None:
    provider = build_account("gallabox")
    assert isinstance(provider, Gallabox)
    assert provider.read_templates("main", json.dumps([COUPON]).encode()) == [
        Template(
            provider="main",
            id="coupon",
            body="Hurry.",
            header_kind="location",
            offer="Only now",
            offer_expires=True,
            others=("carousel",),
            buttons=(
                TemplateButton("copy_code", "Copy offer code"),
                TemplateButton("otp", "Copy"),
                TemplateButton("otp", "Copy"),
                TemplateButton("catalog", "View catalog"),
                TemplateButton("mpm", "View items"),
                TemplateButton("spm", "View"),
                TemplateButton("order_details", "Pay"),
                TemplateButton("unknown", "Odd"),
                TemplateButton("url", "Shop", "https://shop.example/{{1}}"),
            ),
            status="approved",
        )
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"null"])
def test_what_is_no_list_of_templates_is_none(build_account: Callable[..., Provider], body: bytes) -> None:
    provider = build_account("gallabox")
    assert isinstance(provider, Gallabox)
    assert provider.read_templates("main", body) is None


def test_without_an_account_id_no_list_can_be_asked_for(build_account: Callable[..., Provider]) -> None:
    provider = build_account("gallabox", account_id="")
    assert isinstance(provider, Gallabox)
    assert provider.list_templates_request() is None


def test_list_is_asked_for_with_the_account_id_and_the_keys(build_account: Callable[..., Provider]) -> None:
    provider = build_account("gallabox", account_id="acc/1")
    assert isinstance(provider, Gallabox)
    request = provider.list_templates_request()
    assert request is not None
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://gallabox.example/devapi/accounts/acc%2F1/whatsappTemplates"
    assert request.headers == {"apiKey": "key-canary-1", "apiSecret": "secret-canary-1"}


@pytest.mark.parametrize(
    ("form", "taken"),
    [("base64", {"base64"}), ("hex", {"hex", "HEX", "sha256"}), ("either", {"base64", "hex", "HEX", "sha256"})],
)
def test_a_signature_in_hex_is_taken_only_where_the_yaml_says_so(
    build_account: Callable[..., Provider], form: str, taken: set[str]
) -> None:
    provider, body = build_account("gallabox", webhook_signature=form), b'{"id": "g-1"}'
    digest = hmac.new(b"hook-canary-1", body, hashlib.sha256)
    written = {
        "base64": base64.b64encode(digest.digest()).decode(),
        "hex": digest.hexdigest(),
        "HEX": digest.hexdigest().upper(),
        "sha256": f"sha256={digest.hexdigest()}",
        "forged": "0" * 64,
        "none": "",
    }
    found = {
        name for name, text in written.items() if provider.read_proof({"x-gallabox-signature": text}, {}).fits(body)
    }
    assert found == taken
    worth_reading = {
        name for name, text in written.items()
        if provider.read_proof({"x-gallabox-signature": f" {text}"}, {}).find_mistake() is None
    }  # fmt: skip
    forged = set() if form == "base64" else {"forged"}
    assert worth_reading == taken | forged


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title, lambda name: f" {name} "])
@pytest.mark.parametrize("event", ["Message.Send", "Broadcast.WA.Message.Status.Received", "Message.WA.Status.Failed"])
def test_an_events_name_is_read_in_any_case(gallabox: Provider, event: str, spell: Callable[[str], str]) -> None:
    body = b'{"id": "g-1", "whatsapp": {"status": "failed"}}'
    assert len(read_webhook(gallabox, {"x-event-name": spell(event)}, body).receipts) == 1


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"localMessageId": "d-1", "id": "g-1", "whatsapp": {"id": "wamid.1"}}, ("d-1", "g-1", "wamid.1")),
        ({"id": "g-1", "wamid": "wamid.1"}, (None, "g-1", "wamid.1")),
        ({"data": {"id": "g-1", "messageId": "wamid.1"}}, (None, "g-1", "wamid.1")),
        ({"id": "wamid.1"}, (None, "wamid.1", None)),
        ({"id": "g-1", "whatsapp": {"id": "another"}}, (None, "g-1", None)),
    ],
)
def test_a_receipt_names_its_message_by_every_id_it_has(
    gallabox: Provider, body: Any, ids: tuple[str | None, ...]
) -> None:
    (receipt,) = read_webhook(gallabox, FAILED, json.dumps(body).encode()).receipts
    assert (receipt.delivery_id, receipt.provider_message_id, receipt.wamid) == ids
