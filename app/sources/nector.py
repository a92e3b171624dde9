"""Nector on the wire: topics, headers, the body of a webhook, and what its events tell of a customer.

https://help.nector.io/en/article/webhook-details-sent-to-delivery-url-1ffmto
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.errors import Mistake, Refusal
from app.model.event import Person
from app.sources.base import RAW, Envelope, Verified, find_secret_mistake, list_signed, match_hmac, parse_body
from app.sources.nector_events import aims as aims  # noqa: PLC0414  # a Source has these four
from app.sources.nector_events import find_model as find_model  # noqa: PLC0414
from app.sources.nector_events import list_places
from app.sources.nector_events import read_acts as read_acts  # noqa: PLC0414
from app.sources.nector_events import tellers as tellers  # noqa: PLC0414
from app.sources.properties import Kind, find_notes, list_properties
from app.values.instant import read_epoch
from app.values.text import Path, Unfit, is_plain, look_up, read_decimal, write_path, write_value

name = "nector"
title = "Nector"
topics: Mapping[str, str] = {
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
spellings: Mapping[str, str] = {
    "wallettransaction_update": "wallettrasaction_update",
    # As the dashboard's event list has them: https://help.nector.io/en/article/events-1wetiqa
    "wallet coins rewarded": "walletreward_create",
    "coupon is created": "coupon_create",
}
properties: Mapping[str, Collection[str]] = {
    topic: [write_path(path) for path, _, _ in list_properties(find_model(topic))] for topic in topics
}


@lru_cache(maxsize=256)
def canonical_topic(text: str) -> str:
    """Return the topic under its one name; a text that is no known topic comes back stripped."""
    text = text.strip()
    folded = " ".join(text.split()).casefold()
    return spellings.get(folded, folded if folded in topics else text)


# -- headers --------------------------------------------------------------------------------------

TOPIC_HEADER = "x-nector-topic"
SECRET_HEADER = "x-nector-webhook-secret"  # noqa: S105  # a header's name
HMAC_HEADER = "x-nector-webhook-hmac"
_ID_HEADER = "x-nector-delivery-id"
_TIME_HEADER = "x-nector-timestamp"
_TOPIC_LIMIT = 100
_ID_LIMIT = 200
_TIME_DIGITS = 13
cures: Mapping[Mistake, str] = {
    Mistake.MISSING: f"no {SECRET_HEADER}: set it in Nector's dashboard, let proxies pass it on",
    Mistake.PLAIN: "the secret itself came: send its SHA-256 in hex, as Nector does",
    Mistake.OTHER: "another secret's hash: put that of Nector's dashboard into RELAY_NECTOR_SECRETS",
}


def find_mistake(headers: Mapping[str, str], secrets: Sequence[str]) -> Mistake | None:
    """Return what is wrong with a webhook's secret. See Source."""
    return find_secret_mistake(headers.get(SECRET_HEADER), secrets)


def verify(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], *, only: str = "", thorough: bool = False
) -> Verified | Mistake:
    """Return the recipe by which the body is signed: Nector documents neither key nor encoding nor what it signs."""
    given = headers.get(HMAC_HEADER)
    if not given:
        return Mistake.MISSING
    contents = {RAW: body}
    if only or thorough:
        contents = list_signed(body, headers.get(_TIME_HEADER, ""), headers.get(_ID_HEADER, ""))
    recipe = match_hmac(given, secrets, contents, only)
    return Mistake.OTHER if recipe is None else Verified(recipe)


def read_topic(headers: Mapping[str, str]) -> str:
    """Return the topic that the headers name, "" if none."""
    topic = headers.get(TOPIC_HEADER, "")
    if not topic.isprintable():
        topic = "".join(sign for sign in topic if sign.isprintable())
    return canonical_topic(topic[:_TOPIC_LIMIT])


def read(headers: Mapping[str, str], body: bytes) -> Envelope | Refusal:
    """Return the event in a webhook, or what is wrong with it."""
    payload = parse_body(body)
    if isinstance(payload, Refusal):
        return payload
    topic = read_topic(headers)
    if not topic:
        return Refusal(422, f"the header {TOPIC_HEADER} is missing or empty")
    notes = find_notes(find_model(topic), payload)
    return Envelope(topic, _read_id(headers), _read_time(headers.get(_TIME_HEADER, "")), payload, notes)


def _read_id(headers: Mapping[str, str]) -> str | None:
    id_ = headers.get(_ID_HEADER, "").strip()
    if len(id_) > _ID_LIMIT:  # cutting could make two ids one, and lose an event as a duplicate
        id_ = "sha256:" + hashlib.sha256(id_.encode(errors="replace")).hexdigest()
    return id_ or None


def _read_time(text: str) -> int | None:
    """Return Unix time, in seconds or ms (Nector does not say which), as ms; None if it is neither."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _TIME_DIGITS else read_decimal(text)
    return None if number is None else read_epoch(float(number))


def write_headers(topic: str, id_: str, body: bytes, secret: str, now: int) -> dict[str, str]:
    """Return the headers that Nector sends with a webhook, signed; for trials."""
    return {
        "content-type": "application/json",
        "x-source": "unix",
        TOPIC_HEADER: topic,
        _ID_HEADER: id_,
        _TIME_HEADER: str(now // 1000),
        f"{SECRET_HEADER}-algo": "sha256",
        SECRET_HEADER: hashlib.sha256(secret.encode()).hexdigest(),
        f"{HMAC_HEADER}-algo": "sha256",
        HMAC_HEADER: hmac.new(secret.encode(), body, "sha256").hexdigest(),
    }


# -- the customer ---------------------------------------------------------------------------------

NUMBER_PATHS = list_places(Kind.MOBILE)
_NAME_PATHS = list_places(Kind.NAME)
_ID_PATHS = list_places(Kind.ID) + list_places(Kind.OWN_ID)  # its own keys last: other shapes leave them out
_ID_KEYS = frozenset(path[0] for path in _ID_PATHS)
_NAME_LIMIT = 60


def find_person(payload: Mapping[str, Any]) -> Person:
    """Return whom an event is about: of each the first that it names."""
    place = NUMBER_PATHS[0]
    number, name = payload.get(place[0]), payload.get(_NAME_PATHS[0][0])  # mostly both are there, and plain
    if type(number) is not str or not is_plain(number):
        there = ((found, path) for path in NUMBER_PATHS if (found := look_up(payload, path)) is not None)
        number, place = next(there, (None, ()))
    if type(name) is not str or len(name) > _NAME_LIMIT or not is_plain(name):
        name = _find_text(payload, _NAME_PATHS, _read_name)
    id_ = "" if _ID_KEYS.isdisjoint(payload) else _find_text(payload, _ID_PATHS, _read_own_id)
    return Person(number, place, name, id_)


def _find_text(payload: Mapping[str, Any], paths: Sequence[Path], read: Callable[[Any], str]) -> str:
    for path in paths:
        if path[0] in payload and (found := look_up(payload, path)) is not None and (text := read(found)):
            return text
    return ""


def _read_name(found: Any) -> str:
    text = write_value(found, _NAME_LIMIT)
    return "" if isinstance(text, Unfit) else text


def _read_own_id(found: Any) -> str:
    return "" if isinstance(found, bool) or not isinstance(found, (str, int)) else str(found).strip()
