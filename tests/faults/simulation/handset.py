"""Receipts: what handsets report of the messages that were taken, as each provider's webhook says it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from random import Random

from tests.faults.simulation.rules import SECRETS

# Statuses with the seconds after which each is posted: usual, early, out of order, repeated, failed, none at all.
_STORIES = (
    ((2, "sent"), (5, "delivered"), (600, "read")),
    ((2, "sent"), (5, "delivered")),
    ((0, "sent"), (0.001, "delivered")),
    ((3, "delivered"), (9, "sent")),
    ((2, "sent"), (40, "sent"), (90, "sent")),
    ((4, "failed"),),
    ((2, "sent"), (1_200, "failed")),
    ((2_000, "read"),),
    (),
    (),
)

Webhook = tuple[dict[str, str], dict[str, str], bytes]
"""Headers, query and body."""


def draw_story(random: Random) -> tuple[tuple[float, str], ...]:
    """Return what will be reported of a message: (seconds from now, status)."""
    return random.choice(_STORIES)


def draw_code(random: Random) -> int:
    """Return why a message failed after it was taken: for this person, for its template, or for reasons of its own."""
    return random.choice((131026, 131049, 131050, 132001, 131000))


def build_receipt(provider: str, delivery_id: str, message_id: str, status: str, code: int) -> Webhook:
    """Return the webhook by which a provider reports a status; only the first sends our own id back."""
    why = {"errors": [{"code": code}]} if status == "failed" else {}
    if provider == "main":
        return _sign(
            "Message.WA.Status.Received",
            {"localMessageId": delivery_id, "id": message_id, "whatsapp": {"status": status}, **why},
        )
    told = {"event": "message_updated", "status": status, "id": message_id, "message_type": "outgoing"}
    return {}, {"token": SECRETS["WEBHOOK"]}, json.dumps({**told, "content_attributes": why}).encode()


def build_word(number: str, word: str, at_s: int) -> Webhook:
    """Return the webhook by which the first provider tells what a customer wrote, or chose in WhatsApp ("resume")."""
    if word == "resume":
        chosen = {"wa_id": number[1:], "category": "marketing_messages", "value": word, "timestamp": str(at_s)}
        return _sign("Message.Received", {"entry": [{"changes": [{"value": {"user_preferences": [chosen]}}]}]})
    return _sign("message.received", {"whatsapp": {"from": number[1:], "text": {"body": word}, "time": str(at_s)}})


def _sign(event: str, told: object) -> Webhook:
    body = json.dumps(told).encode()
    signature = base64.b64encode(hmac.digest(SECRETS["WEBHOOK"].encode(), body, hashlib.sha256)).decode()
    return {"x-event-name": event, "x-gallabox-signature": signature}, {}, body
