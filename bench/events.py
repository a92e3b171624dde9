"""The requests that the load generator sends: Nector's webhooks, as bytes, made when they are needed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Sequence

SECRET, RECEIPT_SECRET = "bench-secret", "bench-receipt-secret"
# The relay leaves 6 s between two messages to one recipient, so every event needs one of its own, and the hundred
# example numbers are too few. These are made at run time, sent to the fake provider on the loopback and never printed.
FIRST_PHONE = 6_000_000_000

_SECRET_HASH = hashlib.sha256(SECRET.encode()).hexdigest()
_PHONE_MARK = "PHONE"
_BODY = json.dumps(
    {
        "business_name": "Acme",
        "business_uri": "acme.example",
        "nector_business_uri": "acme.nector.example",
        "business_coin_name": "Acme Coins",
        "business_currency_code": "INR",
        "business_currency_symbol": "\u20b9",
        "user_customer_id": "7018273645",
        "user_name": "Riya",
        "user_email": "riya@acme.example",
        "user_mobile": _PHONE_MARK,
        "user_tier": "Gold",
        "user_type": "customer",
        "user_referral_code": "RIYA-7Q2P",
        "user_referred_by_referral_code": "ARUN-3K9D",
        "user_referral_link": "https://acme.example/r/RIYA-7Q2P",
        "title": "Order placed",
        "description": "Coins for your order of this week",
        "amount": 120,
        "operation": "cr",
    }
)


def phone_of(number: int) -> str:
    """Return the recipient of event `number`, as providers are told it: digits with the country code."""
    return f"91{FIRST_PHONE + number}"


def name_in_order(number: int) -> str:
    """Return an event's id that stands behind those of the events before it."""
    return f"bench-{number:09}"


def name_at_random(number: int) -> str:
    """Return an event's id that may stand anywhere among those of the events before it, as a UUID does."""
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def build_event(number: int, name_id: Callable[[int], str] = name_in_order) -> bytes:
    """Return event `number` as one HTTP/1.1 request, with the headers that Nector documents."""
    body = _BODY.replace(_PHONE_MARK, str(FIRST_PHONE + number)).encode()
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    return (
        "POST /webhooks/nector HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: nector\r\naccept: */*\r\n"
        "content-type: application/json\r\nx-nector-topic: walletreward_create\r\n"
        f"x-nector-delivery-id: {name_id(number)}\r\nx-nector-timestamp: {int(time.time())}\r\n"
        f"x-nector-webhook-secret: {_SECRET_HASH}\r\nx-nector-webhook-hmac: {signature}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def build_events(first: int, count: int, name_id: Callable[[int], str] = name_in_order) -> Iterator[bytes]:
    """Return the events from `first` on, one after another: 100,000 at once would be 100 MB."""
    return (build_event(number, name_id) for number in range(first, first + count))


def build_receipts(ids: Sequence[str]) -> list[bytes]:
    """Return Gallabox's webhooks for these messages: sent, then delivered, then read."""
    return [_build_receipt(status, id_) for status in ("sent", "delivered", "read") for id_ in ids]


def _build_receipt(status: str, id_: str) -> bytes:
    told = {"id": f"gallabox-{id_}", "localMessageId": id_, "whatsapp": {"status": status, "time": "1790000000000"}}
    body = json.dumps({"event": "Message.WA.Status.Received", "accountId": "bench", **told}).encode()
    signature = base64.b64encode(hmac.digest(RECEIPT_SECRET.encode(), body, "sha256")).decode()
    return (
        "POST /webhooks/gallabox HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: gallabox\r\naccept: */*\r\n"
        "content-type: application/json\r\nx-event-name: Message.WA.Status.Received\r\n"
        f"x-gallabox-signature: {signature}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def build_message(number: int) -> bytes:
    """Return what a relay would send for event `number`: the load generator alone, without any relay."""
    body = json.dumps({"localMessageId": str(number), "recipient": {"phone": phone_of(number)}}).encode()
    return f"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
