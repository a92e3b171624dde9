from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

GALLABOX = {
    "channelId": "channel-1",
    "channelType": "whatsapp",
    "localMessageId": "delivery-1",
    "recipient": {"name": "Riya", "phone": "919800000001"},
    "whatsapp": {
        "type": "template",
        "template": {"templateName": "coins_earned", "bodyValues": {"name": "Riya", "coins": "100"}},
    },
}
BITESPEED = {
    "channelId": "channel-2",
    "userId": "user-2",
    "templateId": "tpl_1",
    "phone": "919800000001",
    "variables": ["Riya"],
}
CREDENTIALS = {"apiKey": "a", "apiSecret": "b"}


def send_gallabox(sandbox: Any) -> str:
    answer = sandbox.client.post("/devapi/messages/whatsapp", headers=CREDENTIALS, json=GALLABOX)
    return str(answer.json()["id"])


def test_gallabox_receipts_come_in_order_signed_and_with_our_id(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=1, gallabox_webhook_secret="hook") as sandbox:
        message_id = send_gallabox(sandbox)
        posts = receiver.wait_for(3)
    assert {post.path for post in posts} == {"/webhooks/gallabox"}
    for post, status in zip(posts, ("sent", "delivered", "read"), strict=True):
        digest = hmac.new(b"hook", post.body, hashlib.sha256).digest()
        assert post.headers["x-gallabox-signature"] == base64.b64encode(digest).decode()
        assert post.headers["x-event-name"] == "Message.WA.Status.Received"
        body = json.loads(post.body)
        assert (body["id"], body["localMessageId"]) == (message_id, "delivery-1")
        assert body["contact"]["phone"] == ["919800000001"]
        assert (body["whatsapp"]["to"], body["whatsapp"]["status"]) == ("919800000001", status)


def test_bitespeed_receipts_are_chatwoot_events_with_the_token(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url + "/", receipt_delay_ms=1, bitespeed_webhook_token="tok&en") as sandbox:
        plain = sandbox.client.post("/", json=BITESPEED).json()["data"]["id"]
        first = receiver.wait_for(3)
        sandbox.client.post("/", json={**BITESPEED, "deliveryId": "delivery-2"})
        posts = receiver.wait_for(6)
    assert {post.path for post in posts} == {"/webhooks/bitespeed"}
    assert all(post.query == {"token": ["tok&en"]} for post in posts)
    bodies = [json.loads(post.body) for post in posts]
    assert [body["status"] for body in bodies] == ["sent", "delivered", "read"] * 2
    assert {body["id"] for body in bodies[: len(first)]} == {plain}
    assert all(body["event"] == "message_updated" for body in bodies)
    assert bodies[0]["content_attributes"] == {"template_name": "tpl_1"}
    assert bodies[3]["content_attributes"] == {"template_name": "tpl_1", "local_message_id": "delivery-2"}
    assert bodies[0]["conversation"]["meta"]["sender"]["phone_number"] == "+919800000001"


def test_accepted_but_unanswered_request_gets_its_receipts(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=1, faults="bitespeed=half_answer:1") as sandbox:
        with sandbox.client.stream("POST", "/", json={**BITESPEED, "deliveryId": "delivery-1"}):
            pass
        body = json.loads(receiver.wait_for(1)[0].body)
    assert body["content_attributes"]["local_message_id"] == "delivery-1"


def test_refused_request_gets_no_receipt(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=0, read_receipts=False) as sandbox:
        sandbox.client.post("/", json={**BITESPEED, "variables": []})
        send_gallabox(sandbox)
        posts = receiver.wait_for(2)
    assert {post.path for post in posts} == {"/webhooks/gallabox"}


def test_read_receipts_can_be_off(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=0, read_receipts=False) as sandbox:
        send_gallabox(sandbox)
        receiver.wait_for(2)
        send_gallabox(sandbox)
        posts = receiver.wait_for(4)
    assert [json.loads(post.body)["whatsapp"]["status"] for post in posts] == ["sent", "delivered"] * 2


def test_receipts_can_be_off(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=0, receipts=False) as sandbox:
        send_gallabox(sandbox)
    assert receiver.posts == []


def test_receipt_is_tried_again_until_the_relay_takes_it(start_sandbox: Any, receiver: Any) -> None:
    receiver.answers = [503, 0]
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=0) as sandbox:
        send_gallabox(sandbox)
        posts = receiver.wait_for(5)
    statuses = [json.loads(post.body)["whatsapp"]["status"] for post in posts]
    assert statuses == ["sent", "sent", "sent", "delivered", "read"]
    assert len({post.body for post in posts[:3]}) == 1


def test_receipt_that_the_relay_refuses_is_told_and_not_repeated(start_sandbox: Any, receiver: Any) -> None:
    receiver.answers = [401]
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=0) as sandbox:
        send_gallabox(sandbox)
        posts = receiver.wait_for(3)
        shown = sandbox.shown[1:]
    assert [json.loads(post.body)["whatsapp"]["status"] for post in posts] == ["sent", "delivered", "read"]
    assert shown == ['gallabox: the relay did not take the receipt "sent": HTTP 401']


def test_receipts_still_to_come_do_not_keep_the_sandbox_from_ending(start_sandbox: Any, receiver: Any) -> None:
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=60_000) as sandbox:
        send_gallabox(sandbox)
    assert receiver.posts == []
