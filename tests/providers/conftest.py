"""One sample account per provider type. A new type needs its entry in SAMPLES, and the contract suite runs over it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from app.model.message import Button, Header, Message, Variable
from app.providers import PROVIDER_TYPES, build_provider
from app.providers.base import Provider, WebhookContent
from app.providers.body import parse_webhook

Proof = tuple[Mapping[str, str], Mapping[str, str]]  # (headers, query) that show where a webhook comes from


@dataclass(frozen=True)
class Sample:
    """What the contract suite has to know of a type: its YAML keys, its secrets, its answers and its webhooks."""

    settings: Mapping[str, Any]
    secrets: tuple[str, ...]
    accepted_body: Mapping[str, Any]  # an answer that means "taken", with the provider's id "m-1"
    prove: Callable[[bytes], Proof]
    unprovable: Mapping[str, Any]  # the same settings without a webhook secret
    describe_receipt: Callable[[str, str], Any]  # (provider's message id, status word) -> body
    describe_reply: Callable[[str, str], Any]  # (the id of the message it answers, text) -> body, from 919800000001
    reply_headers: Mapping[str, str]


def sign_base64(secret: str, body: bytes) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def describe_meta_status(message_id: str, status: str) -> Any:
    statuses = [{"id": message_id, "status": status, "timestamp": "1790000000", "recipient_id": "919800000001"}]
    return {"entry": [{"changes": [{"field": "messages", "value": {"statuses": statuses}}]}]}


def describe_meta_reply(message_id: str, text: str) -> Any:
    said = {"from": "919800000001", "id": "wamid.in", "timestamp": "1790000000", "type": "text", "text": {"body": text}}
    messages = [{**said, "context": {"from": "919800000099", "id": message_id}}]
    return {"entry": [{"changes": [{"field": "messages", "value": {"messages": messages}}]}]}


SAMPLES: Mapping[str, Sample] = {
    "gallabox": Sample(
        settings={
            "type": "gallabox",
            "channel_id": "ch-1",
            "api_key": "key-canary-1",
            "api_secret": "secret-canary-1",
            "webhook_secret": "hook-canary-1",
            "base_url": "https://gallabox.example",
        },
        secrets=("key-canary-1", "secret-canary-1", "hook-canary-1"),
        accepted_body={"id": "m-1", "status": "ACCEPTED", "message": "Message received"},
        prove=lambda body: (
            {"x-gallabox-signature": sign_base64("hook-canary-1", body), "x-event-name": "Message.WA.Status.Received"},
            {},
        ),
        unprovable={"webhook_secret": ""},
        describe_receipt=lambda message_id, status: {"id": message_id, "whatsapp": {"status": status}},
        describe_reply=lambda message_id, text: {
            "id": "in-1",
            "contact": {"phone": ["919800000001"]},
            "whatsapp": {
                "from": "919800000001",
                "type": "text",
                "text": {"body": text},
                "context": {"id": message_id},
                "time": "1790000000",
            },
        },
        reply_headers={"x-event-name": "Message.Received"},
    ),
    "bitespeed": Sample(
        settings={
            "type": "bitespeed",
            "channel_id": "channel-canary-2",
            "user_id": "user-canary-2",
            "base_url": "https://bitespeed.example/send",
            "headers": {"authorization": "Bearer bearer-canary-2"},
            "webhook_token": "hook-canary-2",
        },
        secrets=("channel-canary-2", "user-canary-2", "bearer-canary-2", "hook-canary-2"),
        accepted_body={"success": True, "data": {"id": "m-1"}},
        prove=lambda _body: ({}, {"token": "hook-canary-2"}),
        unprovable={"webhook_token": ""},
        describe_receipt=lambda message_id, status: {
            "event": "message_updated",
            "id": message_id,
            "status": status,
            "message_type": "outgoing",
        },
        describe_reply=lambda message_id, text: {
            "event": "message_created",
            "id": 4712,
            "message_type": "incoming",
            "content": text,
            "content_attributes": {"in_reply_to_external_id": message_id},
            "conversation": {"meta": {"sender": {"phone_number": "+919800000001"}}},
            "created_at": 1_790_000_000,
        },
        reply_headers={},
    ),
    "http": Sample(
        settings={
            "type": "http",
            "base_url": "https://api.example",
            "path": "/v1/messages",
            "headers": {"authorization": "Bearer bearer-canary-3"},
            "body": {
                "to": "$phone_plus",
                "ref": "$delivery_id",
                "template": {"name": "$template", "language": "$language", "params": "$variables"},
                "header": "$header",
                "buttons": "$buttons",
            },
            "webhook_secret": "hook-canary-3",
        },
        secrets=("bearer-canary-3", "hook-canary-3"),
        accepted_body={"messages": [{"id": "m-1"}]},
        prove=lambda body: (
            {"x-hub-signature-256": "sha256=" + hmac.new(b"hook-canary-3", body, hashlib.sha256).hexdigest()},
            {},
        ),
        unprovable={"webhook_secret": ""},
        describe_receipt=describe_meta_status,
        describe_reply=describe_meta_reply,
        reply_headers={},
    ),
}


def build(settings: Mapping[str, Any], **changes: Any) -> Provider:
    provider_type = PROVIDER_TYPES[settings["type"]]
    return build_provider(provider_type.settings_type.model_validate({**settings, **changes}))


@pytest.fixture
def build_account() -> Callable[..., Provider]:
    """(type, **changes to its sample settings) -> provider."""
    return lambda name, **changes: build(SAMPLES[name].settings, **changes)


@pytest.fixture(params=sorted(PROVIDER_TYPES))
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@pytest.fixture
def provider(sample: Sample) -> Provider:
    return build(sample.settings)


@pytest.fixture
def message() -> Message:
    return Message(
        recipient="+919800000001",
        template="coins_earned",
        recipient_name="Riya",
        language="en",
        variables=(Variable("user_name", "Riya"), Variable("amount", "100")),
        header=Header("image", "https://cdn.example/banner.jpg", "banner"),
        buttons=(Button(0, "redeem%2FACME-7Q2P"),),
    )


def all_texts(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in all_texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in all_texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.fixture
def texts_of() -> Callable[[bytes], list[str]]:
    """Every text in a JSON body."""
    return lambda body: all_texts(json.loads(body))


def read_webhook(provider: Provider, headers: Mapping[str, str], body: bytes) -> WebhookContent:
    """Return what a genuine webhook with this body holds."""
    return provider.read_webhook(headers, parse_webhook(headers, body))
