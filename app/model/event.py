"""A source posted one fact about a customer. Instants are ms since the Unix epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from app.model.value import dataclass

TEST_SOURCE = "send-test"
"""The source of events that `send-test` made of an example: they happened to no customer."""


class Act(StrEnum):
    """A customer did this, as a source tells: what a message may have been meant to bring about."""

    COUPON_USED = "coupon_used"
    COINS_SPENT = "coins_spent"
    ORDER_PLACED = "order_placed"
    REVIEW_WRITTEN = "review_written"
    REFERRAL_DONE = "referral_done"


@dataclass(frozen=True, slots=True)
class Person:
    """A person is whom an event names, as it was sent.

    `number` stands at `place`, None where there is none; `name` is fit to be shown, and `id` the source's own id of
    them: "" where the event has none.
    """

    number: Any = field(repr=False)
    place: tuple[str | int, ...]
    name: str = field(repr=False)
    id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Customer:
    """An event is about this person: E.164, "" if no number can be read; the source's own id, "" if it gives none."""

    number: str = field(default="", repr=False)
    id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """An event is one verified fact from a source.

    `delivery_id` is the source's own id of this webhook, the same on each of its retries; None where
    the source sent none. `body` is the raw JSON as received, `payload` the same parsed (numbers keep
    their text, see sources.body), {} once its messages are planned. `person`, `customer`: None where nobody looked.
    `acts`: what the event tells that they did. `notes`: which properties are of another kind than usual, by name and
    never by value.
    """

    id: str
    source: str
    topic: str
    delivery_id: str | None
    body: bytes
    payload: Mapping[str, Any]
    received_at: int
    person: Person | None = None
    customer: Customer | None = None
    acts: tuple[Act, ...] = ()
    notes: tuple[str, ...] = ()
