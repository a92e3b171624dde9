"""Taking an event in: it, its deliveries and their first timeline rows, all or nothing."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.message.freeze import checksum, encode_message
from app.model.delivery import DEDUP_WINDOW_MS, Delivery, Reason, State
from app.model.event import Customer, Event
from app.outbox.people import adopt_person, hash_customer, hash_other_form, hash_person
from app.outbox.suppressions import stops_delivery
from app.outbox.values import DeliveryState, Enqueued
from app.values.phone import find_other_form

_ADD_EVENT = """
INSERT INTO events (id, source, source_delivery_id, topic, received_at, body, person, customer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_ADD_DELIVERY = """
INSERT INTO deliveries (
    id, event_seq, route, provider, template, rank, recipient, message, checksum, state, reason, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, config_line, marketing, trace, person
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# A repeat that was suppressed does not lengthen the window, else a monthly message would be silenced for ever.
_SEE_KEY = """
INSERT INTO dedup_keys (hash, seen_at, event_seq) VALUES (?, ?, ?) ON CONFLICT (hash) DO UPDATE
SET seen_at = excluded.seen_at, event_seq = excluded.event_seq WHERE seen_at <= excluded.seen_at - ?
"""
# A replay of the event whose key it is: the message goes out now, so the window begins anew.
_SEE_KEY_AGAIN = f"{_SEE_KEY} OR event_seq = excluded.event_seq"
_ADD_ACT = "INSERT INTO acts (event_seq, act, at, person, customer) VALUES (?, ?, ?, ?, ?)"
_FIND_BY_SOURCE = "SELECT seq, id FROM events WHERE source = ? AND source_delivery_id = ? AND topic = ?"
_FIND_BY_ID = "SELECT seq, id FROM events WHERE id = ?"
_FIND_DELIVERIES = "SELECT id, route, provider, state FROM deliveries WHERE event_seq = ? ORDER BY seq"


@dataclass(frozen=True, slots=True)
class FrozenEvent:
    """An event with the hashes of whom it is about."""

    event: Event
    person: bytes | None
    customer: bytes | None


@dataclass(frozen=True, slots=True)
class FrozenDelivery:
    """A delivery with what can be worked out before the transaction: message bytes and hashes.

    `former` and `former_key`: by which an earlier release knew the person and the key; None for most.
    """

    delivery: Delivery
    message: bytes | None
    checksum: str | None
    key_hash: bytes | None
    person: bytes | None
    former: bytes | None = None
    former_key: bytes | None = None


def freeze_delivery(delivery: Delivery, people_key: bytes) -> FrozenDelivery:
    """Encode the message and sum it up."""
    message = None if delivery.message is None else encode_message(delivery.message)
    return FrozenDelivery(
        delivery=delivery,
        message=message,
        checksum=None if message is None else checksum(message),
        key_hash=hash_dedup_key(delivery),
        person=hash_person(people_key, delivery.recipient),
        former=hash_other_form(people_key, delivery.recipient),
        former_key=hash_former_key(delivery),
    )


def hash_former_key(delivery: Delivery) -> bytes | None:
    """Return the hash of the key with the recipient as an earlier release may have written it."""
    other = find_other_form(delivery.recipient)
    return hash_dedup_key(replace(delivery, recipient=other)) if other else None


def hash_dedup_key(delivery: Delivery) -> bytes | None:
    """Return a hash of (mode, route, recipient, key); None if the delivery takes no part in dedup.

    Lengths go in, too, so that ("1", "23") and ("12", "3") differ; a shadow never silences a live message.
    One that could not be rendered was never going to be sent, so it silences nothing.
    """
    if delivery.dedup_key is None or delivery.state not in (State.PENDING, State.SHADOW):
        return None
    total = hashlib.sha256()
    for part in (delivery.state, delivery.route, delivery.recipient, delivery.dedup_key):
        text = part.encode("utf-8", "surrogatepass")
        total.update(len(text).to_bytes(8, "big"))
        total.update(text)
    return total.digest()


def freeze_event(event: Event, people_key: bytes) -> FrozenEvent:
    """Hash whom the event is about."""
    customer = event.customer or Customer()
    return FrozenEvent(event, hash_person(people_key, customer.number), hash_customer(people_key, customer.id))


def add_event(db: sqlite3.Connection, frozen: FrozenEvent, deliveries: Sequence[FrozenDelivery]) -> Enqueued:
    """Insert an event with its deliveries, or find the first one with its (source, delivery_id, topic) or its id."""
    event = frozen.event
    row = (event.id, event.source, event.delivery_id, event.topic, event.received_at, event.body)
    cursor = db.execute(_ADD_EVENT, (*row, frozen.person, frozen.customer))
    if not cursor.rowcount:
        return _find_first(db, event)
    seq = cursor.lastrowid
    db.executemany(
        _ADD_ACT, [(seq, act, event.received_at, frozen.person, frozen.customer) for act in dict.fromkeys(event.acts)]
    )
    return Enqueued(event.id, tuple(_take_delivery(db, seq, frozen) for frozen in deliveries), duplicate=False)


def see_key_again(db: sqlite3.Connection, event_seq: int, frozen: FrozenDelivery) -> bool:
    """Tell whether a replayed delivery's key is new in its window or its own event's, and remember it."""
    _adopt(db, frozen)
    values = (frozen.key_hash, frozen.delivery.created_at, event_seq, DEDUP_WINDOW_MS)
    return frozen.key_hash is None or db.execute(_SEE_KEY_AGAIN, values).rowcount > 0


def _adopt(db: sqlite3.Connection, frozen: FrozenDelivery) -> None:
    adopt_person(db, frozen.person, frozen.former)
    if frozen.former_key is not None:
        db.execute("UPDATE OR IGNORE dedup_keys SET hash = ? WHERE hash = ?", (frozen.key_hash, frozen.former_key))


def _take_delivery(db: sqlite3.Connection, event_seq: int | None, frozen: FrozenDelivery) -> DeliveryState:
    it = frozen.delivery
    _adopt(db, frozen)
    if stops_delivery(db, it, frozen.person):  # before its key is seen: it silences nothing that may be sent later
        return add_delivery(db, event_seq, frozen, State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT)
    values = (frozen.key_hash, it.created_at, event_seq, DEDUP_WINDOW_MS)
    if frozen.key_hash is not None and not db.execute(_SEE_KEY, values).rowcount:
        return add_delivery(db, event_seq, frozen, State.SUPPRESSED, Reason.DUPLICATE)
    return add_delivery(db, event_seq, frozen, it.state, it.reason)


def add_delivery(
    db: sqlite3.Connection, event_seq: int | None, frozen: FrozenDelivery, state: State, reason: Reason | None
) -> DeliveryState:
    """Insert a delivery of an event; the trigger writes its first timeline row."""
    it = frozen.delivery
    db.execute(
        _ADD_DELIVERY,
        (
            it.id, event_seq, it.route, it.provider, it.template, -it.priority, it.recipient,
            frozen.message, frozen.checksum, state, reason, it.detail,
            it.due_at, it.deadline_at, it.created_at, it.created_at, it.on_unknown, it.config_hash,
            it.config_line, it.marketing, it.trace, frozen.person,
        ),
    )  # fmt: skip
    return DeliveryState(it.id, it.route, it.provider, state)


def _find_first(db: sqlite3.Connection, event: Event) -> Enqueued:
    found = None
    if event.delivery_id is not None:
        found = db.execute(_FIND_BY_SOURCE, (event.source, event.delivery_id, event.topic)).fetchone()
    if found is None:
        found = db.execute(_FIND_BY_ID, (event.id,)).fetchone()
    rows = db.execute(_FIND_DELIVERIES, (found[0],)).fetchall()
    states = tuple(DeliveryState(id_, route, provider, State(state)) for id_, route, provider, state in rows)
    return Enqueued(found[1], states, duplicate=True)
