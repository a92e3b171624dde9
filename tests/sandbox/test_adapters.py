"""The sandbox and the relay's own adapters understand each other: what one writes, the other takes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from app.model.delivery import Accepted, Rejected
from app.model.message import Button, Header, Message, ReceiptStatus, Variable
from app.providers.base import Response
from app.providers.bitespeed import Bitespeed, BitespeedSettings
from app.providers.gallabox import Gallabox, GallaboxSettings
from tests.providers.conftest import read_webhook

GALLABOX = Gallabox(
    GallaboxSettings.model_validate(
        {
            "type": "gallabox",
            "channel_id": "channel-1",
            "api_key": "key-1",
            "api_secret": "secret-1",
            "webhook_secret": "hook",
            "base_url": "https://gallabox.example",
        }
    )
)
BITESPEED = Bitespeed(
    BitespeedSettings.model_validate(
        {
            "type": "bitespeed",
            "channel_id": "channel-2",
            "user_id": "user-2",
            "webhook_token": "tok",
            "base_url": "https://bitespeed.example/bitespeed",
        }
    )
)
MESSAGES = [
    (GALLABOX, Message("+919800000001", "coins_earned", "", "en", (Variable("name", "Riya"), Variable("coins", "1")))),
    (
        GALLABOX,
        Message(
            "+919800000001",
            "banner",
            variables=(Variable(None, "Riya"),),
            header=Header("image", "https://cdn.example/b.jpg"),
            buttons=(Button(1, "ACME"),),
        ),
    ),
    (GALLABOX, Message("+919800000001", "titled", header=Header("text", "Riya"))),
    (BITESPEED, Message("+919800000001", "tpl_1", variables=(Variable(None, "Riya"),))),
    (
        BITESPEED,
        Message(
            "+919800000001",
            "tpl_4711",
            variables=(Variable(None, "Riya"), Variable(None, "ACME-7Q2P")),
            header=Header("document", "https://cdn.example/c.pdf", "code.pdf"),
            buttons=(Button(1, "ACME"),),
        ),
    ),
]


def send(client: Any, provider: Any, message: Message) -> Any:
    request = provider.build_request(message, "delivery-1")
    path = urlsplit(request.url).path
    answer = client.request(request.method, path, headers=request.headers, content=request.body)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return provider.read_response(Response(answer.status_code, headers, answer.content))


@pytest.mark.parametrize(("provider", "message"), MESSAGES)
def test_message_is_accepted_with_the_sandbox_id(sandbox: Any, provider: Any, message: Message) -> None:
    outcome = send(sandbox.client, provider, message)
    assert outcome == Accepted(sandbox.list_messages()[0]["id"])


@pytest.mark.parametrize(("provider", "template"), [(GALLABOX, "coins_earned"), (BITESPEED, "tpl_1")])
def test_refusal_is_understood_as_one(sandbox: Any, provider: Any, template: str) -> None:
    assert isinstance(send(sandbox.client, provider, Message("+919800000001", template)), Rejected)


@pytest.mark.parametrize(("provider", "message"), [MESSAGES[0], MESSAGES[3]])
def test_receipts_are_verified_and_read(start_sandbox: Any, receiver: Any, provider: Any, message: Message) -> None:
    settings = {"gallabox_webhook_secret": "hook", "bitespeed_webhook_token": "tok"}
    with start_sandbox(relay_url=receiver.url, receipt_delay_ms=1, **settings) as sandbox:
        outcome = send(sandbox.client, provider, message)
        posts = receiver.wait_for(3)
    assert all(
        provider.read_proof(post.headers, {name: values[0] for name, values in post.query.items()}).fits(post.body)
        for post in posts
    )
    receipts = [receipt for post in posts for receipt in read_webhook(provider, post.headers, post.body).receipts]
    assert [receipt.status for receipt in receipts] == [ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.READ]
    assert {receipt.provider_message_id for receipt in receipts} == {outcome.provider_message_id}
    assert {receipt.delivery_id for receipt in receipts} == {"delivery-1" if provider is GALLABOX else None}
    assert all(receipt.at is not None for receipt in receipts)
