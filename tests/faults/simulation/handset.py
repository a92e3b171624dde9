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


def build_receipt(provider: str, delivery_id: str, message_id: str, status: str) -> Webhook:
    """Return the webhook by which a provider reports a status; only the first sends our own id back."""
    if provider == "main":
        body = json.dumps({"localMessageId": delivery_id, "id": message_id, "whatsapp": {"status": status}}).encode()
        signature = base64.b64encode(hmac.digest(SECRETS["WEBHOOK"].encode(), body, hashlib.sha256)).decode()
        return {"x-event-name": "Message.WA.Status.Received", "x-gallabox-signature": signature}, {}, body
    told = {"event": "message_updated", "status": status, "id": message_id, "message_type": "outgoing"}
    return {}, {"token": SECRETS["WEBHOOK"]}, json.dumps(told).encode()
