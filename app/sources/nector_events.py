"""Nector's events hold these properties: a model a family of topics.

Properties of the user and the business are documented, and all of them are texts:
https://help.nector.io/en/article/event-details-sent-to-external-integrations-frcz1t
The others are not: they have the names of Nector's API objects and set-up guides, good enough to say "did you mean".
A body may be flat or hold the person as an object, as handlers in use read it. Where several properties say the same of
a customer, their number, name or id, the first of them here counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pydantic import Field

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
