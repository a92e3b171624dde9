"""Nector's events hold these properties, a model a family of topics, and tell of these acts of their customers.

Properties of the user and the business are documented, and all of them are texts:
https://help.nector.io/en/article/event-details-sent-to-external-integrations-frcz1t
The others are not: they have the names of Nector's API objects and set-up guides, good enough to say "did you mean".
A body may be flat or hold the person as an object, as handlers in use read it. Where several properties say the same of
a customer, their number, name or id, the first of them here counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field

from app.model.event import Act
from app.sources.properties import (
    Anything,
    Country,
    Id,
    Instant,
    Kind,
    Mobile,
    Name,
    Number,
    OwnId,
    Properties,
    Text,
    list_properties,
)
from app.values.text import look_up


class Wallet(Properties):
    """The coins of a customer."""

    available: Number = None


class Lead(Properties):
    """A customer, as Nector calls one."""

    customer_id: Id = Field(None, description="The store's id of the customer.")
    name: Name = None
    mobile: Mobile = None
    email: Text = None
    country: Country = None
    own_id: OwnId = Field(None, alias="_id")


class Customer(Lead):
    """A customer, as handlers in use read one."""

    id: Id = None


class NectorEvent(Properties):
    """Any event."""

    business_name: Text = None
    business_uri: Text = None
    nector_business_uri: Text = None
    business_coin_name: Text = Field(None, description="What the store calls its coins.")
    business_currency_code: Text = None
    business_currency_symbol: Text = None
    user_customer_id: Id = Field(None, description="The store's id of the customer.")
    user_name: Name = None
    user_email: Text = None
    user_mobile: Mobile = None
    user_tier: Text = None
    user_type: Text = None
    user_referral_code: Text = None
    user_referred_by_referral_code: Text = None
    user_referral_link: Text = None
    available: Number = Field(None, description="Perhaps the balance of coins.")
    user_available: Number = Field(None, description="Perhaps the balance of coins.")
    balance: Number = Field(None, description="Perhaps the balance of coins.")
    wallet: Wallet | None = None
    mobile: Mobile = None
    customer: Customer | None = None
    name: Name = None
    customer_id: Id = None
    country: Country = None
    lead: Lead | None = None


class LeadEvent(NectorEvent):
    """A customer was added or changed."""

    own_id: OwnId = Field(None, alias="_id")
    email: Text = None
    pending: Number = None
    tier: Text = None
    referral_code: Text = None
    referred_by_referral_code: Text = None


class CouponEvent(NectorEvent):
    """A coupon was made or changed, or lies unused."""

    value: Text = Field(None, description="The coupon's code.")
    type: Text = None
    offer: Anything = None
    expire: Instant = None
    fiat_value: Number = Field(None, description="How much the coupon takes off.")
    fiat_class: Text = Field(None, description="percent or fixed.")
    minimumcart_amount: Number = None
    status: Text = None


class WalletEvent(NectorEvent):
    """Coins came, went or lie unused."""

    title: Text = None
    description: Text = None
    amount: Number = Field(None, description="How many coins.")
    operation: Text = Field(None, description="cr or dr.")


class CoinExpiryEvent(WalletEvent):
    """Coins are about to expire."""

    expire: Instant = None


class TierEvent(NectorEvent):
    """The VIP tier changed."""

    tier: Text = None


def list_places(kind: Kind) -> tuple[tuple[str, ...], ...]:
    """Return where an event may say something of its customer, the first to count first."""
    return tuple(path for path, found, _ in list_properties(NectorEvent) if found is kind)


_FAMILIES: Mapping[str, type[Properties]] = {
    "lead": LeadEvent,
    "coupon": CouponEvent,
    "unusedcouponrequest": CouponEvent,
    "walletreward": WalletEvent,
    "wallettrasaction": WalletEvent,
    "unusedwalletcoinrequest": WalletEvent,
    "coinexpirynotify": CoinExpiryEvent,
    "viptier": TierEvent,
}


@lru_cache(maxsize=256)
def find_model(topic: str) -> type[Properties]:
    """Return what the events of a topic are expected to hold."""
    return _FAMILIES.get(topic.partition("_")[0], NectorEvent)


# -- what the customer did ------------------------------------------------------------------------

aims: Mapping[str, Act] = {
    "walletreward_create": Act.COINS_SPENT,
    "coinexpirynotify_create": Act.COINS_SPENT,
    "unusedwalletcoinrequest_create": Act.COINS_SPENT,
    "coupon_create": Act.COUPON_USED,
    "unusedcouponrequest_create": Act.COUPON_USED,
    "reviewrequest_create": Act.REVIEW_WRITTEN,
    "incompletereferralrequest_create": Act.REFERRAL_DONE,
}

tellers: Mapping[Act, str] = {
    Act.COUPON_USED: "coupon_update",
    Act.COINS_SPENT: "wallettrasaction_update",
    Act.ORDER_PLACED: "order_create",
    Act.REVIEW_WRITTEN: "review_create",
    Act.REFERRAL_DONE: "referrernotify_create",
}
# An order is counted when it is made. `order_update` comes for the same order when it is paid, packed, sent or
# cancelled, so it would count orders of before the message as if that had brought them about. So with a review's.
_TOLD_BY_TOPIC = {tellers[act]: act for act in (Act.ORDER_PLACED, Act.REVIEW_WRITTEN, Act.REFERRAL_DONE)}
_OF_COUPON, _OF_TRANSACTION = ("coupon", "data"), ("wallettransaction", "wallettrasaction", "transaction", "data")
_USED = frozenset({"used", "redeemed", "applied"})
_DEBIT = frozenset({"dr", "debit"})
# Coins that ran out, or were taken back with a returned order, leave the wallet by a debit, too: nobody spent them.
_NOT_SPENT = re.compile(r"expir|laps|revers|revert|revok|refund|returned|cancel|fail", re.IGNORECASE)


def read_acts(topic: str, payload: Mapping[str, Any]) -> tuple[Act, ...]:
    """Return what an event tells that its customer did. See Source."""
    if topic in _TOLD_BY_TOPIC:
        return (_TOLD_BY_TOPIC[topic],)
    if topic == "coupon_update" and not _USED.isdisjoint(_read_words(payload, _OF_COUPON, "status", "coupon_status")):
        return (Act.COUPON_USED,)
    if topic == "wallettrasaction_update" and _spends(payload):
        return (Act.COINS_SPENT,)
    return ()


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
