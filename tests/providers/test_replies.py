"""What customers send back, in every place where a provider may put it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from app.model.message import Reply
from app.providers.base import Provider
from app.providers.whatsapp import read_sender
from tests.providers.conftest import read_webhook

RIYA = "+919800000001"
WROTE, TAPPED, ENGAGED = "Message.Received", "message.wa.INTERACTION.received", "Broadcast.WA.Message.Engaged.Received"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("919800000001", RIYA),
        ("+919800000001", RIYA),
        *((bad, "") for bad in ("", None, "09800000001", "+0919800000001", "98 00", "x", "9" * 16, "٩١٩٨٠٠٠٠٠٠٠١")),
    ],
)
def test_a_sender_is_an_international_number_or_nobody(given: str | None, expected: str) -> None:
    assert read_sender(given) == expected


def read(provider: Provider, body: Any, event: str = "") -> tuple[Reply, ...]:
    return tuple(read_webhook(provider, {"x-event-name": event} if event else {}, json.dumps(body).encode()).replies)


@pytest.mark.parametrize(
    ("event", "body", "expected"),
    [
        (WROTE, {"whatsapp": {"from": RIYA, "text": "stop"}}, Reply(RIYA, "stop")),
        (WROTE, {"data": {"whatsapp": {"from": RIYA[1:], "text": {"body": "hi"}}}}, Reply(RIYA, "hi")),
        (WROTE, {"contact": {"phone": [RIYA[1:]]}, "text": {"body": "hi"}}, Reply(RIYA, "hi")),
        (WROTE, {"whatsapp": {"from": RIYA, "type": "image"}}, Reply(RIYA)),
        (WROTE, {"whatsapp": {"from": RIYA, "type": "button", "button": {"text": "Stop"}}}, Reply(RIYA, "Stop", True)),
        (
            TAPPED,
            {
                "whatsapp": {
                    "from": RIYA[1:],
                    "interactive": {"type": "button_reply", "button_reply": {"id": "b-1", "title": "Shop now"}},
                    "context": {"id": "wamid.1"},
                    "timestamp": 1_790_000_000,
                }
            },
            Reply(RIYA, "Shop now", True, None, "wamid.1", 1_790_000_000_000, payload="b-1"),
        ),
        (
            TAPPED,
            {"localMessageId": "d-1", "whatsapp": {"time": "1790000000"}},
            Reply("", "", True, "d-1", None, 1_790_000_000_000),
        ),
        (
            ENGAGED,
            {"localMessageId": "d-1", "whatsapp": {"from": RIYA, "text": {"body": "ok"}}},
            Reply(RIYA, "ok", False, "d-1"),
        ),
        (
            ENGAGED,
            {"context": {"id": "wamid.1"}, "whatsapp": {"from": RIYA, "interactive": {"list_reply": {"title": "A"}}}},
            Reply(RIYA, "A", True, None, "wamid.1"),
        ),
    ],
)
def test_gallaboxs_replies_are_read_wherever_their_parts_stand(
    build_account: Callable[..., Provider], event: str, body: Any, expected: Reply
) -> None:
    provider = build_account("gallabox")
    assert read(provider, body, event) == (expected,)
    assert read(provider, [None, body, 7], event.upper()) == (expected,)


@pytest.mark.parametrize(
    "event", ["", "Message.Send", "Message.WA.Status.Received", "Contact.Updated", "Broadcast.WA.Message.Status.Failed"]
)
def test_what_gallabox_does_not_call_a_reply_is_none(build_account: Callable[..., Provider], event: str) -> None:
    assert read(build_account("gallabox"), {"whatsapp": {"from": RIYA, "text": {"body": "stop"}}}, event) == ()


def incoming(**changes: Any) -> Mapping[str, Any]:
    sender = {"conversation": {"meta": {"sender": {"phone_number": RIYA}}}}
    return {"event": "message_created", "message_type": "incoming", "content": "STOP", **sender, **changes}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (incoming(), Reply(RIYA, "STOP")),
        (incoming(message_type=0, content=None), Reply(RIYA)),
        (incoming(conversation=None, sender={"phone_number": RIYA}), Reply(RIYA, "STOP")),
        (
            incoming(content_attributes={"in_reply_to": 4711}, created_at="2026-11-22T04:30:00Z"),
            Reply(RIYA, "STOP", provider_message_id="4711", at=1_795_321_800_000),
        ),
        (incoming(conversation={}), None),
        (incoming(private=True), None),
        (incoming(message_type="outgoing"), None),
        (incoming(message_type="template"), None),
        (incoming(event="message_updated"), None),
        (incoming(event="conversation_created"), None),
    ],
)
def test_chatwoots_incoming_messages_are_replies(
    build_account: Callable[..., Provider], event: Any, expected: Reply | None
) -> None:
    provider = build_account("bitespeed")
    assert read(provider, event) == ((expected,) if expected else ())
    assert read(provider, [event, {}]) == ((expected,) if expected else ())


def meta(**value: Any) -> Any:
    return {"entry": [{"changes": [{"field": "messages", "value": value}]}]}


def chosen(value: str, category: str = "marketing_messages") -> Mapping[str, str]:
    return {"wa_id": RIYA[1:], "detail": "…", "category": category, "value": value, "timestamp": "1790000000"}


@pytest.mark.parametrize("name", ["bitespeed", "http"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            meta(messages=[{"from": RIYA[1:], "type": "button", "button": {"text": "Yes"}, "context": {"id": "m-1"}}]),
            [Reply(RIYA, "Yes", True, None, "m-1")],
        ),
        (
            meta(messages=[{"from": RIYA, "type": "button", "button": {"text": "Not for me", "payload": "STOP"}}]),
            [Reply(RIYA, "Not for me", True, payload="STOP")],
        ),
        (
            meta(messages=[{"from": RIYA[1:], "type": "interactive", "interactive": {"type": "nfm_reply"}}]),
            [Reply(RIYA, "", True)],
        ),
        (meta(messages=[7, {"type": "text"}, {"from": RIYA, "text": {"body": "a"}}]), [Reply(RIYA, "a")]),
        (meta(user_preferences=[chosen("stop")]), [Reply(RIYA, at=1_790_000_000_000, wish="stop")]),
        (meta(user_preferences=[chosen("RESUME")]), [Reply(RIYA, at=1_790_000_000_000, wish="resume")]),
        (meta(user_preferences=[chosen("maybe"), chosen("stop", "utility_messages"), None]), []),
        (meta(messages=[{"from": "nobody", "text": {"body": "stop"}}]), []),
    ],
)
def test_whatsapps_own_form_is_read_through_any_provider(
    build_account: Callable[..., Provider], name: str, body: Any, expected: list[Reply]
) -> None:
    assert list(read(build_account(name), body)) == expected
