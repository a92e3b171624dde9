"""Webhooks beyond WhatsApp's own statuses: other APIs' receipts, forms, and what is said of templates and accounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from app.model.delivery import Reason, Scope
from app.model.message import Notice, Receipt, ReceiptStatus
from app.providers.base import Provider
from app.providers.body import MAX_WEBHOOK_BYTES, parse_webhook, read_challenge
from app.providers.trouble import META_CODES
from tests.providers.conftest import read_webhook

FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
AT = 1_790_000_000_000
UNREACHABLE = (Reason.RECIPIENT_UNREACHABLE, "131026: not on WhatsApp", Scope.RECIPIENT)


def encode(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


# -- receipts of other APIs ------------------------------------------------------------------------

GUPSHUP = {"id": "payload.gsId", "status": "payload.type", "code": "payload.payload.code", "at": "timestamp"}
INTERAKT = {
    "id": "data.message.id",
    "status": "type",
    "words": {"sent": "message_api_sent", "delivered": ["message_api_delivered"], "failed": ["message_api_failed"]},
    "code": "data.message.channel_error_code",
}
WATI = {
    "id": "id",
    "delivery_id": ["localMessageId"],
    "status": "eventType",
    "words": {"delivered": ["sentMessageDELIVERED"], "read": ["sentMessageREAD"], "failed": ["templateMessageFailed"]},
    "code": "failedCode",
    "at": ["nothing", "timestamp"],
}
TWILIO = {"id": "MessageSid", "status": "MessageStatus", "code": "ErrorCode"}


@pytest.mark.parametrize(
    ("rule", "body", "expected"),
    [
        # https://partner-docs.gupshup.io/docs/v2-message-events
        (
            GUPSHUP,
            {"type": "message-event", "timestamp": AT, "payload": {"gsId": "gs-1", "type": "delivered"}},
            [Receipt(ReceiptStatus.DELIVERED, None, "gs-1", AT)],
        ),
        (
            GUPSHUP,
            {"payload": {"gsId": "gs-1", "type": "failed", "payload": {"code": 1002, "reason": "no 919800000001"}}},
            [Receipt(ReceiptStatus.FAILED, None, "gs-1", None, Reason.REQUEST_REFUSED, "1002: no ***")],
        ),
        (GUPSHUP, {"payload": {"gsId": "gs-1", "type": "enqueued"}}, []),
        # https://www.interakt.shop/resource-center/get-webhooks-for-your-events
        (
            INTERAKT,
            {
                "type": "message_api_failed",
                "data": {"message": {"id": "in-1", "channel_error_code": "131026", "reason": "not on WhatsApp"}},
            },
            [Receipt(ReceiptStatus.FAILED, None, "in-1", None, *UNREACHABLE)],
        ),
        (INTERAKT, [{"type": "message_api_sent", "data": {"message": {"id": 7}}}, None, 5],
         [Receipt(ReceiptStatus.SENT, None, "7")]),
        # https://docs.wati.io/reference/template-message-failed
        (
            WATI,
            {"eventType": "templateMessageFailed", "localMessageId": "d-1", "failedCode": "470", "timestamp": AT},
            [Receipt(ReceiptStatus.FAILED, "d-1", None, AT, Reason.REQUEST_REFUSED, "470")],
        ),
        (WATI, {"eventType": "SENTMESSAGEREAD", "id": "w-1"}, [Receipt(ReceiptStatus.READ, None, "w-1")]),
        (WATI, {"eventType": "sentMessageREAD"}, []),
        # https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks
        (
            TWILIO,
            urlencode({"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "63024"}).encode(),
            [Receipt(ReceiptStatus.FAILED, None, "SM1", None, Reason.REQUEST_REFUSED, "63024")],
        ),
        (TWILIO, b"MessageSid=SM1&MessageStatus=read", [Receipt(ReceiptStatus.READ, None, "SM1")]),
        (TWILIO, b"MessageSid=SM1&MessageStatus=queued", []),
        (TWILIO, b"\xff&=&&&%", []),
    ],
)  # fmt: skip
def test_receipts_that_the_yaml_describes_are_read(
    build_account: Callable[..., Provider], rule: Mapping[str, Any], body: Any, expected: list[Receipt]
) -> None:
    provider = build_account("http", receipts=rule)
    headers = FORM if isinstance(body, bytes) else {"content-type": "application/json"}
    assert list(read_webhook(provider, headers, encode(body)).receipts) == expected
    assert list(read_webhook(build_account("http"), headers, encode(body)).receipts) == []  # the control


def test_whatsapps_own_form_is_read_beside_what_is_described(build_account: Callable[..., Provider]) -> None:
    body = encode({"entry": [{"changes": [{"value": {"statuses": [{"id": "wamid.a", "status": "read"}]}}]}]})
    provider = build_account("http", receipts=TWILIO)
    assert list(read_webhook(provider, {}, body).receipts) == [Receipt(ReceiptStatus.READ, None, "wamid.a")]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"status": "status"}, "say where: id or delivery_id"),
        ({"status": 5, "id": "id"}, "status"),
        ({"status": "status", "id": "id", "words": {"seen": ["seen"]}}, "words.seen"),
    ],
)
def test_a_rule_that_can_find_nothing_is_refused(
    build_account: Callable[..., Provider], rule: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        build_account("http", receipts=rule)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"code": 131999, "title": "Media upload error"}, "131999: Media upload error"),
        ({"code": 131999, "title": "(#131999) Media upload error"}, "(#131999) Media upload error"),
        ({"code": "E_63"}, "E_63"),
        ({"code": 919800000001, "title": "no"}, "no"),
        ({"title": "no"}, "no"),
        ({}, ""),
    ],
)
def test_a_code_that_we_do_not_know_keeps_its_number(
    build_account: Callable[..., Provider], error: Any, detail: str
) -> None:
    failed = {"id": "wamid.a", "status": "failed", "errors": [error]}
    body = encode({"entry": [{"changes": [{"value": {"statuses": [failed]}}]}]})
    (receipt,) = read_webhook(build_account("http"), {}, body).receipts
    assert (receipt.reason, receipt.detail) == (Reason.REQUEST_REFUSED, detail)


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "value"),
    [
        ({}, b'{"a": 1}', {"a": 1}),
        ({}, b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ({}, b"a=1", None),
        ({"content-type": "application/json"}, b"a=1", None),
        ({"content-type": "Application/X-WWW-Form-Urlencoded"}, b"a=1&b=x%20y&a=2&c=", {"a": "2", "b": "x y"}),
        ({}, b'"' + b"a" * (MAX_WEBHOOK_BYTES - 2) + b'"', "a" * (MAX_WEBHOOK_BYTES - 2)),
        ({}, b'"' + b"a" * (MAX_WEBHOOK_BYTES - 1) + b'"', None),
    ],
)
def test_a_webhooks_body_is_json_or_a_form(headers: Mapping[str, str], body: bytes, value: Any) -> None:
    assert parse_webhook(headers, body) == value


# -- hub.challenge ---------------------------------------------------------------------------------

ASKED = {"hub.mode": "subscribe", "hub.verify_token": "hook+canary", "hub.challenge": "1158201444"}


@pytest.mark.parametrize(
    ("expected", "changes", "challenge"),
    [
        ("hook+canary", {}, "1158201444"),
        ("hook+canary", {"hub.verify_token": "hook canary"}, "1158201444"),
        ("hook+canary", {"hub.verify_token": "hook-canary"}, None),
        ("hook+canary", {"hub.mode": "unsubscribe"}, None),
        ("hook+canary", {"hub.challenge": "<script>"}, None),
        ("hook+canary", {"hub.challenge": "1" * 201}, None),
        ("hook+canary", {"hub.challenge": ""}, None),
        ("", {"hub.verify_token": ""}, None),
    ],
)
def test_a_challenge_is_given_back_to_who_has_the_token(
    expected: str, changes: Mapping[str, str], challenge: str | None
) -> None:
    assert read_challenge(expected, {**ASKED, **changes}) == challenge


# -- templates and accounts ------------------------------------------------------------------------


def change(field: str, **value: Any) -> Any:
    return {"entry": [7, {"changes": [None, {"field": field, "value": value}]}]}


def template(event: str) -> Any:
    named = {"message_template_name": "coins", "message_template_language": "en_US", "message_template_id": 1}
    return change("message_template_status_update", event=event, **named)


def restriction(*kinds: str) -> Any:
    info = [{"restriction_type": kind, "expiration": 1} for kind in kinds]
    return change("account_update", event="ACCOUNT_RESTRICTION", restriction_info=info)


def error(code: int) -> Any:
    return {"code": code, "title": "x", "message": "x", "error_data": {"details": "x"}}


BLOCKED = Notice(Reason.ACCOUNT_BLOCKED)
QUIET_EVENTS = (
    "ACCOUNT_VIOLATION", "AD_ACCOUNT_LINKED", "AUTH_INTL_PRICE_ELIGIBILITY_UPDATE", "MM_LITE_TERMS_SIGNED",
    "BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE", "PARTNER_ADDED", "PARTNER_APP_INSTALLED", "PARTNER_APP_UNINSTALLED",
    "PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE", "PARTNER_REMOVED", "VOLUME_BASED_PRICING_TIER_UPDATE",
)  # fmt: skip
HOLD = {  # the provider, by the same table as an answer's
    Reason.CREDENTIALS_REFUSED: (0, 3, 10, 190, 200, 299, 131005),
    Reason.ACCOUNT_BLOCKED: (
        33, 368, 130497, 131031, 131037, 131045, 131048, 131064, 133000, 133005, 133006, 133007, 133008, 133009, 133010,
        133015, 134011,
    ),
    Reason.BALANCE_EMPTY: (131042,),
}  # fmt: skip
PASS = {  # only told: the next answer says whether it still holds, and pauses its lane
    Reason.RATE_LIMITED: (4, 17, 613, 80007, 80008, 130429, 133016),
    Reason.UNAVAILABLE: (2, 131016, 131057, 133004),
}
OF_ONE_MESSAGE = (
    1, 100, 130472, 131000, 131001, 131002, 131008, 131009, 131021, 131026, 131030, 131047, 131049, 131050, 131051,
    131052, 131053, 131055, 131056, 131062, 131063, 132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016,
    132018, 132068, 132069, 134100, 134101, 134102, 135000, 139999,
)  # fmt: skip
META = [
    *((template(word), [Notice(Reason.TEMPLATE_PAUSED, "coins", "en_US")]) for word in ("PAUSED", "DISABLED")),
    (template("REJECTED"), [Notice(Reason.TEMPLATE_REFUSED, "coins", "en_US")]),
    *((template(word), [Notice(None, "coins", "en_US")]) for word in ("APPROVED", "REINSTATED", "approved")),
    *((template(word), []) for word in ("FLAGGED", "PENDING", "IN_APPEAL", "")),
    (change("message_template_status_update", event="PAUSED"), []),
    (restriction("RESTRICTED_ADD_PHONE_NUMBER_ACTION", "RESTRICTED_BIZ_INITIATED_MESSAGING"), [BLOCKED]),
    (restriction("RESTRICTED_ADD_PHONE_NUMBER_ACTION"), []),
    (change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": "DISABLE"}), [BLOCKED]),
    (change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": "REINSTATE"}), [Notice(None)]),
    (change("account_update", event="DISABLED_UPDATE", ban_info={"waba_ban_state": "SCHEDULE_FOR_DISABLE"}), []),
    *((change("account_update", event=event), [BLOCKED]) for event in ("ACCOUNT_DELETED", "ACCOUNT_OFFBOARDED")),
    (change("account_update", event="ACCOUNT_RECONNECTED"), [Notice(None)]),
    *((change("account_update", event=event), []) for event in QUIET_EVENTS),
    # They change how much may be sent a day, and say nothing of what is refused now.
    *((change("phone_number_quality_update", event=event), []) for event in ("FLAGGED", "UNFLAGGED", "DOWNGRADE")),
    *(
        (change("messages", errors=[error(code), 7]), [Notice(reason)])
        for reason, codes in HOLD.items()
        for code in codes
    ),
    *(
        (change("messages", errors=[error(code)]), [Notice(reason, passing=True)])
        for reason, codes in PASS.items()
        for code in codes
    ),
    *((change("messages", errors=[error(code)]), []) for code in OF_ONE_MESSAGE),
    ({"entry": [{"changes": [{"field": 1, "value": "x"}]}]}, []),
    (5, []),
]  # fmt: skip


def test_every_code_that_we_know_is_in_the_table_of_notices() -> None:
    told = [*HOLD.values(), *PASS.values(), OF_ONE_MESSAGE]
    codes = [code for some in told for code in some]
    assert len(codes) == len(set(codes))
    assert {code for code in META_CODES if code not in range(201, 299)} == set(codes) - {139999}


@pytest.mark.parametrize("type_", ["http", "bitespeed", "gallabox"])
@pytest.mark.parametrize(("body", "expected"), META)
def test_what_whatsapp_says_of_a_template_or_an_account_is_read(
    build_account: Callable[..., Provider], type_: str, body: Any, expected: list[Notice]
) -> None:
    assert list(read_webhook(build_account(type_), {}, encode(body)).notices) == expected


@pytest.mark.parametrize(
    ("event", "body", "expected"),
    [
        ("Template.Status", {"name": "coins", "status": "paused"}, [Notice(Reason.TEMPLATE_PAUSED, "coins")]),
        (
            "template.status",
            {"data": {"template": {"name": "coins", "language": "en", "status": "APPROVED"}}},
            [Notice(None, "coins", "en")],
        ),
        ("Template.Status", {"name": "coins", "status": "submitted"}, []),
        ("Template.Status", template("PAUSED"), [Notice(Reason.TEMPLATE_PAUSED, "coins", "en_US")]),
        ("Message.Send", {"name": "coins", "status": "paused"}, []),
        ("", {"name": "coins", "status": "paused"}, []),
    ],
)
def test_gallaboxs_template_status_is_read_wherever_its_parts_stand(
    build_account: Callable[..., Provider], event: str, body: Any, expected: list[Notice]
) -> None:
    headers = {"x-event-name": event} if event else {}
    assert list(read_webhook(build_account("gallabox"), headers, encode(body)).notices) == expected
