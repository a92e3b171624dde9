"""Nector on the wire: topics, headers and the body of a webhook, as pure functions.

https://help.nector.io/en/article/webhook-details-sent-to-delivery-url-1ffmto
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from app.values.instant import read_epoch
from app.values.number import SentFloat, read_decimal

TOPICS: Mapping[str, str] = {
    "walletreward_create": 'Coins were earned. In Nector\'s dashboard: "Wallet Coins Rewarded".',
    "coupon_create": 'A coupon was made. In Nector\'s dashboard: "Coupon Is Created".',
    "coinexpirynotify_create": "Coins are about to expire.",
    "unusedwalletcoinrequest_create": "Coins lie unused.",
    "unusedcouponrequest_create": "A coupon lies unused.",
    "reviewrequest_create": "A review is asked for.",
    "review_create": "A review was written.",
    "review_update": "A review was changed.",
    "referrernotify_create": "A referral is complete: to the customer who invited.",
    "refereenotify_create": "A friend was invited: to the friend.",
    "incompletereferralrequest_create": "A friend was invited, and the referral is not complete yet.",
    "viptier_create": "The VIP tier changed.",
    "wallettrasaction_update": "A transaction of the wallet changed, as Nector's pages spell it.",
    "coupon_update": "A coupon was changed.",
    "order_create": "An order was placed.",
    "order_update": "An order was changed.",
    "lead_create": "A customer was added.",
    "lead_update": "A customer was changed.",
}
"""What each topic tells; the names on Nector's screens where they are known."""
_OTHER_SPELLINGS = {
    "wallettransaction_update": "wallettrasaction_update",
    # As the dashboard's event list has them: https://help.nector.io/en/article/events-1wetiqa
    "wallet coins rewarded": "walletreward_create",
    "coupon is created": "coupon_create",
}

# https://help.nector.io/en/article/event-details-sent-to-external-integrations-frcz1t
COMMON_PROPERTIES = (
    "business_name",
    "business_uri",
    "nector_business_uri",
    "business_coin_name",
    "business_currency_code",
    "business_currency_symbol",
    "user_customer_id",
    "user_name",
    "user_email",
    "user_mobile",
    "user_tier",
    "user_type",
    "user_referral_code",
    "user_referred_by_referral_code",
    "user_referral_link",
)
# Not documented for webhooks: the names in Nector's API objects and set-up guides. Good enough to say "did you mean".
_BALANCE = ("available", "user_available", "balance")
_PERSON = ("customer", "customer.id", "customer.name", "customer.mobile", "customer.email", "customer.country")
_LEAD = ("_id", "customer_id", "name", "mobile", "email", "country", "pending", "tier", "referral_code")
_COUPON = ("value", "type", "offer", "expire", "fiat_value", "fiat_class", "minimumcart_amount", "status")
_WALLET = ("title", "description", "amount", "operation")
_LIKELY: Mapping[str, tuple[str, ...]] = {
    "lead": _LEAD,
    "coupon": _COUPON,
    "unusedcouponrequest": _COUPON,
    "walletreward": _WALLET,
    "wallettrasaction": _WALLET,
    "unusedwalletcoinrequest": _WALLET,
    "coinexpirynotify": (*_WALLET, "expire"),
    "viptier": ("tier",),
}
KNOWN_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    topic: (*COMMON_PROPERTIES, *_PERSON, *_BALANCE, *_LIKELY.get(topic.partition("_")[0], ())) for topic in TOPICS
}
"""By topic: the properties its event may well hold. An open list: others may come."""


def canonical_topic(text: str) -> str:
    """Return the topic under its one name; a text that is no known topic comes back stripped."""
    text = text.strip()
    folded = " ".join(text.split()).casefold()
    return _OTHER_SPELLINGS.get(folded, folded if folded in TOPICS else text)


# -- headers --------------------------------------------------------------------------------------

_TOPIC_LIMIT = 100
_DELIVERY_ID_LIMIT = 200


@dataclass(frozen=True, slots=True)
class EventHeaders:
    """What a webhook's headers say. `topic` is canonical, "" if unsaid; `sent_at` is ms since the epoch."""

    topic: str
    delivery_id: str | None
    sent_at: int | None


def read_headers(headers: Mapping[str, str]) -> EventHeaders:
    """Read Nector's headers; the names in `headers` are lower case. Never raises."""
    topic = "".join(sign for sign in headers.get("x-nector-topic", "") if sign.isprintable())
    delivery_id = headers.get("x-nector-delivery-id", "").strip()
    if len(delivery_id) > _DELIVERY_ID_LIMIT:  # cutting could make two ids one, and lose an event as a duplicate
        delivery_id = "sha256:" + hashlib.sha256(delivery_id.encode(errors="replace")).hexdigest()
    return EventHeaders(
        topic=canonical_topic(topic[:_TOPIC_LIMIT]),
        delivery_id=delivery_id or None,
        sent_at=parse_timestamp(headers.get("x-nector-timestamp", "")),
    )


def parse_timestamp(text: str) -> int | None:
    """Return Unix time, in seconds or ms (Nector does not say which), as ms; None if it is neither."""
    number = read_decimal(text)
    return None if number is None else read_epoch(float(number))


# -- body -----------------------------------------------------------------------------------------

_DEPTH_LIMIT = 32
_INT_DIGITS = 18  # beyond them other programs round, so the text is kept
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # possessive: linear on any bytes
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


class BodyFaultKind(StrEnum):
    """Which answer a bad body gets."""

    NOT_JSON = "not_json"  # 400
    NOT_OBJECT = "not_object"  # 422


@dataclass(frozen=True, slots=True)
class BodyFault:
    """Why a body cannot be read; `detail` names a place or a key, never a value."""

    kind: BodyFaultKind
    detail: str

    @property
    def http_status(self) -> int:
        """The status that answers it."""
        return 400 if self.kind is BodyFaultKind.NOT_JSON else 422


class _RefusedError(ValueError):
    """A body that Python's parser would take, or that we must not."""


def parse_body(body: bytes) -> dict[str, Any] | BodyFault:
    """Return the JSON object in `body`; numbers keep the text they were sent with. Never raises.

    Stricter than Python's parser: UTF-8, no NaN or Infinity, no number beyond the range, no key twice,
    at most 32 levels, no half characters.
    """
    try:
        payload = _decode(body)
    except UnicodeDecodeError as error:
        return BodyFault(BodyFaultKind.NOT_JSON, f"the body is not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        return BodyFault(BodyFaultKind.NOT_JSON, f"the body is not JSON at {place}: {error.msg}")
    except _RefusedError as error:
        return BodyFault(BodyFaultKind.NOT_JSON, str(error))
    if not isinstance(payload, dict):
        return BodyFault(BodyFaultKind.NOT_OBJECT, "the body is JSON, but not an object")
    return payload


def _decode(body: bytes) -> Any:
    # Counting is quick and mostly enough; only a body with many brackets is worth a careful look.
    if body.count(b"{") + body.count(b"[") > _DEPTH_LIMIT and _measure_depth(body) > _DEPTH_LIMIT:
        raise _RefusedError(f"the body is nested deeper than {_DEPTH_LIMIT} levels")
    payload = _DECODER.decode(body.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    if _HALF_CHARACTER.search(body):
        _refuse_half_characters(payload)
    return payload


def _measure_depth(body: bytes) -> int:
    """Return how deep the brackets outside of strings go."""
    steps = (1 if token in b"[{" else -1 for token in _BRACKETS.findall(body) if token in b"[]{}")
    return max(accumulate(steps), default=0)


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # the set remembers
        raise _RefusedError(f"{_name_key(twice)} is there twice in one object")
    return found


def _read_float(text: str) -> SentFloat:
    number = SentFloat(text)
    if number - number != 0:
        raise _RefusedError("a number is too large")
    return number


def _read_int(text: str) -> Any:
    if text == "-0":
        return SentFloat(text)
    return int(text) if len(text.lstrip("-")) <= _INT_DIGITS else text


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(  # made once: it holds no state, and making it takes a fifth of the time of a body
    object_pairs_hook=_read_object, parse_float=_read_float, parse_int=_read_int, parse_constant=_refuse_constant
)


def _refuse_half_characters(value: Any) -> None:
    """Refuse surrogates without their other half: they pass the parser and then break in databases and on the wire."""
    if isinstance(value, str):
        if not _is_whole(value):
            raise _RefusedError("a text holds half a character (a lone surrogate)")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_half_characters(key)
            _refuse_half_characters(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_half_characters(item)


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _name_key(key: str) -> str:
    """Return a key to print; one that is no plain name may hold anything."""
    return f"the key `{key}`" if _PLAIN_KEY.fullmatch(key) else "a key"
