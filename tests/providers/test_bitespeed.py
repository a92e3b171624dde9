from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from app.model.delivery import Accepted, Reason, Rejected, Scope, Uncertain
from app.model.message import Message, Receipt, ReceiptStatus
from app.providers.base import Provider, Response
from app.providers.bitespeed import BitespeedSettings
from tests.providers.conftest import read_webhook


@pytest.fixture
def bitespeed(build_account: Callable[..., Provider]) -> Provider:
    return build_account("bitespeed")


def event(**changes: Any) -> bytes:
    fields = {"event": "message_updated", "id": 4711, "status": "delivered", "message_type": "outgoing"}
    return json.dumps({**fields, **changes}).encode()


def test_request_is_the_suggested_contract(bitespeed: Provider) -> None:
    message = Message("+919800000001", "tpl_4711")
    request = bitespeed.build_request(message, "d-1")
    assert (request.method, request.url) == ("POST", "https://bitespeed.example/send")
    assert request.headers == {"authorization": "Bearer bearer-canary-2", "content-type": "application/json"}
    assert json.loads(request.body) == {
        "channelId": "channel-canary-2",
        "userId": "user-canary-2",
        "templateId": "tpl_4711",
        "phone": "919800000001",
        "variables": [],
    }


def test_header_and_buttons_are_added_where_there_are_any(bitespeed: Provider, message: Message) -> None:
    body = json.loads(bitespeed.build_request(message, "d-1").body)
    assert body["variables"] == ["Riya", "100"]
    assert body["header"] == {"kind": "image", "url": "https://cdn.example/banner.jpg", "filename": "banner"}
    assert body["buttons"] == [{"index": 0, "url": "redeem%2FACME-7Q2P"}]


def test_the_whole_request_is_data(build_account: Callable[..., Provider], message: Message) -> None:
    provider = build_account(
        "bitespeed",
        path="/v2/send?kind=wa",
        method="PUT",
        headers={"x-user": "u-1", "Content-Type": "application/json; charset=utf-8"},
        body={"who": "$phone_plus", "inbox": "$channel_id", "ref": "relay/$delivery_id"},
    )
    request = provider.build_request(message, "d-1")
    assert (request.method, request.url) == ("PUT", "https://bitespeed.example/send/v2/send?kind=wa")
    assert request.headers == {"x-user": "u-1", "content-type": "application/json"}
    assert json.loads(request.body) == {"who": "+919800000001", "inbox": "channel-canary-2", "ref": "relay/d-1"}


@pytest.mark.parametrize(
    ("answer", "message_id"),
    [
        ({"message_id": "a", "id": "b"}, "a"),
        ({"messageId": "a"}, "a"),
        ({"id": 4711}, "4711"),
        ({"data": {"id": "a"}}, "a"),
        ({"data": {"message_id": "a"}}, "a"),
        ({"messages": [{"id": "wamid.a"}]}, "wamid.a"),
        ({"queued": True, "errors": [], "error": None, "status": 200}, None),
    ],
)
def test_json_without_an_error_is_accepted_with_the_first_id(
    bitespeed: Provider, answer: Mapping[str, Any], message_id: str | None
) -> None:
    assert bitespeed.read_response(Response(200, {}, json.dumps(answer).encode())) == Accepted(message_id)


@pytest.mark.parametrize("answer", [{"id": {"nested": 1}}, {"id": "x" * 201}, {"template": {"id": "t-1"}}])
def test_json_that_names_neither_an_id_nor_an_error_is_uncertain(
    bitespeed: Provider, answer: Mapping[str, Any]
) -> None:
    assert isinstance(bitespeed.read_response(Response(200, {}, json.dumps(answer).encode())), Uncertain)


@pytest.mark.parametrize(
    ("rule", "status", "answer", "kind"),
    [
        ({"any_2xx": True}, 204, b"", Accepted),
        ({"any_2xx": True}, 200, b"OK", Accepted),
        ({"any_2xx": True}, 302, b"OK", Rejected),
        ({"any_2xx": True, "statuses": [202]}, 200, b"OK", Uncertain),
        ({"statuses": [202]}, 200, b'{"id": 1}', Uncertain),
        ({"statuses": [202]}, 202, b'{"id": 1}', Accepted),
        ({"path": "data.state", "equals": "queued"}, 200, b'{"data": {"state": "QUEUED"}}', Accepted),
        ({"path": "data.state", "equals": "queued"}, 200, b'{"data": {"state": "lost"}}', Uncertain),
        ({"path": "data.state", "equals": "queued"}, 200, b'{"data": {}}', Uncertain),
        ({"path": "ok", "equals": True}, 200, b'{"ok": true}', Accepted),
        ({"path": "n", "equals": 1}, 200, b'{"n": true}', Uncertain),
        ({"path": "n", "equals": 1}, 200, b'{"n": 1}', Accepted),
        ({"path": "ticket"}, 200, b'{"ticket": "t-1"}', Accepted),
        ({"path": "ticket"}, 200, b'{"ticket": ""}', Uncertain),
        ({"path": "state", "equals": "queued"}, 202, b'{"status": "submitted", "messageId": "gs-1"}', Uncertain),
        ({"path": "ticket"}, 200, b'{"ticket": "t-1", "error": "no"}', Rejected),
    ],
)
def test_accepted_is_what_the_rule_says(
    build_account: Callable[..., Provider], rule: Mapping[str, Any], status: int, answer: bytes, kind: type
) -> None:
    provider = build_account("bitespeed", accepted=rule)
    assert type(provider.read_response(Response(status, {}, answer))) is kind


@pytest.mark.parametrize("path", ["result.ref", ["nowhere", "result.ref"]])
def test_message_id_stands_where_the_settings_say(build_account: Callable[..., Provider], path: Any) -> None:
    provider = build_account("bitespeed", message_id=path)
    assert provider.read_response(Response(200, {}, b'{"id": "no", "result": {"ref": "yes"}}')) == Accepted("yes")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (event(), [Receipt(ReceiptStatus.DELIVERED, None, "4711")]),
        (
            event(source_id="wamid.a", created_at="2026-11-22T04:30:00Z"),
            [
                Receipt(ReceiptStatus.DELIVERED, None, "wamid.a", 1_795_321_800_000),
                Receipt(ReceiptStatus.DELIVERED, None, "4711", 1_795_321_800_000),
            ],
        ),
        (
            event(content_attributes={"local_message_id": "d-1"}, updated_at=1_790_000_000),
            [Receipt(ReceiptStatus.DELIVERED, "d-1", "4711", 1_790_000_000_000)],
        ),
        (
            event(id=None, content_attributes={"local_message_id": "d-1"}),
            [Receipt(ReceiptStatus.DELIVERED, "d-1", None)],
        ),
        (
            event(status="failed", content_attributes={"external_error": "131026: cannot reach +91 98000 00001"}),
            [
                Receipt(
                    ReceiptStatus.FAILED,
                    None,
                    "4711",
                    None,
                    Reason.RECIPIENT_UNREACHABLE,
                    "131026: cannot reach ***",
                    Scope.RECIPIENT,
                )
            ],
        ),
        (event(id=None), []),
        (event(event="conversation_updated"), []),
        (event(message_type="incoming"), []),
        (event(message_type=0), []),
        (event(status="progress"), []),
    ],
)
def test_chatwoot_events_are_receipts(bitespeed: Provider, body: bytes, expected: list[Receipt]) -> None:
    assert list(read_webhook(bitespeed, {}, body).receipts) == expected


def test_one_bad_entry_of_a_batch_does_not_lose_the_rest(bitespeed: Provider) -> None:
    batch = b"[null, 7, {}, " + event(event=[]) + b", " + event(status="read") + b"]"
    assert [receipt.status for receipt in read_webhook(bitespeed, {}, batch).receipts] == [ReceiptStatus.READ]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"body": {"to": "$fone"}}, r"\$fone is not known"),
        ({"body": {"to": "all: $variables"}}, "has to be the whole value"),
        ({"body": {"n": float("nan")}}, "body"),
        ({"headers": {"Content-Length": "5"}}, "cannot be set"),
        ({"headers": {"x-key": "a\r\nb"}}, "printable ASCII"),
        ({"headers": {"x key": "a"}}, "cannot be set"),
        ({"path": "v1"}, "path"),
        ({"path": "/v1 /x"}, "path"),
        ({"path": "\\evil"}, "path"),
        ({"method": "GET"}, "method"),
        ({"accepted": {"statuses": [404]}}, "accepted"),
        ({"accepted": {"any": True}}, "accepted"),
        ({"message_id": 7}, "message_id"),
    ],
)
def test_bad_settings_are_refused(build_account: Callable[..., Provider], bad: Mapping[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        build_account("bitespeed", **bad)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("allow_http", "fine"), [(True, True), ("true", True), (False, False), ("false", False), ("", False)]
)
def test_plain_http_is_a_switch_that_the_environment_may_set(
    build_account: Callable[..., Provider], allow_http: Any, fine: bool
) -> None:
    try:
        build_account("bitespeed", base_url="http://sandbox:9100/bitespeed", allow_http=allow_http)
    except ValidationError:
        assert not fine
    else:
        assert fine


def test_settings_are_read_from_strict_json_as_the_yaml_reader_does() -> None:
    written = {
        "type": "bitespeed",
        "base_url": "https://bitespeed.example",
        "channel_id": "c",
        "user_id": "u",
        "webhook_token": "t",
        "message_id": ["data.id", "id"],
        "accepted": {"statuses": [200, 202], "any_2xx": True},
        "allow_http": "false",
    }
    read = BitespeedSettings.model_validate_json(json.dumps(written), strict=True)
    assert read.message_id == ("data.id", "id")
    assert read.accepted.statuses == (200, 202)
