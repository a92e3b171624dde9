"""An event tells of a customer and what they did; a message is meant to bring something about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.mapping.rules import Store
from app.message.recipient import find_phone, find_recipient
from app.model.delivery import Delivery
from app.model.event import Act, Customer
from app.values.path import Path, look_up
from app.values.phone import PhoneFault

NOTE = (
    "acted and ordered count messages whose customer did that within the window after the message was accepted: "
    "a correlation, not proof that the message brought it about"
)

AIMS: Mapping[str, Act] = {
    "walletreward_create": Act.COINS_SPENT,
    "coinexpirynotify_create": Act.COINS_SPENT,
    "unusedwalletcoinrequest_create": Act.COINS_SPENT,
    "coupon_create": Act.COUPON_USED,
    "unusedcouponrequest_create": Act.COUPON_USED,
    "reviewrequest_create": Act.REVIEW_WRITTEN,
    "incompletereferralrequest_create": Act.REFERRAL_DONE,
}
"""What a message about a topic is meant to bring about; for any other topic: an order."""
OTHER_AIM = Act.ORDER_PLACED

# An order is counted when it is made. `order_update` comes for the same order when it is paid, packed, sent or
# cancelled, so it would count orders of before the message as if that had brought them about. So with a review's.
_TOLD_BY_TOPIC: Mapping[str, Act] = {
    "order_create": Act.ORDER_PLACED,
    "review_create": Act.REVIEW_WRITTEN,
    "referrernotify_create": Act.REFERRAL_DONE,
}
_OF_COUPON, _OF_TRANSACTION = ("coupon", "data"), ("wallettransaction", "wallettrasaction", "transaction", "data")
_USED = frozenset({"used", "redeemed", "applied"})
_DEBIT = frozenset({"dr", "debit"})
# Coins that ran out, or were taken back with a returned order, leave the wallet by a debit, too: nobody spent them.
_NOT_SPENT = re.compile(r"expir|laps|revers|revert|revok|refund|returned|cancel|fail", re.IGNORECASE)

# The source's id of a customer in both shapes of body; its own key comes last, since other shapes leave it out.
_CUSTOMER_PATHS: tuple[Path, ...] = (
    ("user_customer_id",),
    ("customer", "customer_id"),
    ("customer", "id"),
    ("customer_id",),
    ("lead", "customer_id"),
    ("customer", "_id"),
    ("lead", "_id"),
)
_SHORTEST_NUMBER = 8  # fewer digits are the end of many numbers
_NOT_DIGITS = re.compile(r"[^0-9]")


def read_acts(topic: str, payload: Mapping[str, Any]) -> tuple[Act, ...]:
    """Return what an event tells that its customer did; () for most. `topic` under its one name."""
    told = _TOLD_BY_TOPIC.get(topic)
    if told is not None:
        return (told,)
    if topic == "coupon_update" and not _USED.isdisjoint(_read_words(payload, _OF_COUPON, "status", "coupon_status")):
        return (Act.COUPON_USED,)
    if topic == "wallettrasaction_update" and _spends(payload):
        return (Act.COINS_SPENT,)
    return ()


def find_customer(payload: Mapping[str, Any], deliveries: Sequence[Delivery], store: Store) -> Customer:
    """Return whom an event is about. `deliveries`: those it led to, whose number need not be read twice."""
    return Customer(_find_number(payload, deliveries, store), _find_id(payload))


def _spends(payload: Mapping[str, Any]) -> bool:
    if _DEBIT.isdisjoint(_read_words(payload, _OF_TRANSACTION, "operation")):
        return False
    texts = _read_words(payload, _OF_TRANSACTION, "title", "description", "type", "status")
    return not any(_NOT_SPENT.search(text) for text in texts)


def _read_words(payload: Mapping[str, Any], parents: Sequence[str], *names: str) -> Iterator[str]:
    """Yield the texts under these names, in small letters: of the payload, or of the object it keeps them in."""
    for path in ((), *((parent,) for parent in parents)):
        for name in names:
            value = look_up(payload, (*path, name))
            if isinstance(value, str):
                yield value.strip().casefold()


def _find_number(payload: Mapping[str, Any], deliveries: Sequence[Delivery], store: Store) -> str:
    # A route's own `recipient:` may be somebody else: a delivery speaks for the customer only if its number is the one
    # that the event names.
    found = find_phone(payload, None, store)
    if isinstance(found, PhoneFault):
        return ""
    digits = _NOT_DIGITS.sub("", str(found.value)).lstrip("0")
    if len(digits) >= _SHORTEST_NUMBER:
        for delivery in deliveries:
            if delivery.recipient.endswith(digits):
                return delivery.recipient
    recipient = find_recipient(payload, store, None)
    return "" if isinstance(recipient, PhoneFault) else recipient.number


def _find_id(payload: Mapping[str, Any]) -> str:
    for path in _CUSTOMER_PATHS:
        value = look_up(payload, path)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value).strip()
    return ""
