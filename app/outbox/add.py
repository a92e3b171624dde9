"""Taking an event in: it, its deliveries and their first timeline rows, all or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.delivery.transitions import Cause
from app.message.freeze import checksum, encode_message
from app.model.delivery import DEDUP_WINDOW_MS, Delivery, Reason, State
from app.model.event import Customer, Event
from app.outbox.move import begin
from app.outbox.people import adopt_person, hash_customer, hash_other_form, hash_person
from app.outbox.store import Tx, first
from app.outbox.suppressions import stops_delivery
from app.outbox.values import DeliveryState, Enqueued
from app.values.phone import find_other_form

_ADD_EVENT = """
INSERT INTO events (id, source, source_delivery_id, topic, received_at, body, person, customer)
VALUES (:id, :source, :delivery_id, :topic, :received_at, :body, :person, :customer) ON CONFLICT DO NOTHING
RETURNING seq
"""
_ADD_DELIVERY = """
INSERT INTO deliveries (
    id, event_seq, route, provider, template, rank, recipient, message, checksum, state, reason, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, config_line, marketing, trace, person
) VALUES (
    :id, :event_seq, :route, :provider, :template, :rank, :recipient, :message, :checksum, :state, :reason, :detail,
    :due_at, :deadline_at, :created_at, :created_at, :on_unknown, :config_hash, :config_line, :marketing, :trace,
    :person
) RETURNING seq
"""
# A repeat that was suppressed does not lengthen the window, else a monthly message would be silenced for ever.
_SEE_KEY = """
INSERT INTO dedup_keys (hash, seen_at, event_seq) VALUES (:hash, :now, :event_seq) ON CONFLICT (hash) DO UPDATE
SET seen_at = excluded.seen_at, event_seq = excluded.event_seq WHERE dedup_keys.seen_at <= excluded.seen_at - :window_ms
"""
# A replay of the event whose key it is: the message goes out now, so the window begins anew.
_SEE_KEY_AGAIN = f"{_SEE_KEY} OR dedup_keys.event_seq = excluded.event_seq"
# The key as an earlier release wrote it becomes the one of today, unless that is known already.
_ADOPT_KEY = """
UPDATE dedup_keys SET hash = :hash WHERE hash = :former AND NOT EXISTS (SELECT 1 FROM dedup_keys WHERE hash = :hash)
"""
_ADD_ACT = """
INSERT INTO acts (event_seq, act, at, person, customer) VALUES (:event_seq, :act, :at, :person, :customer)
"""
_FIND_BY_SOURCE = """
SELECT seq, id FROM events WHERE source = :source AND source_delivery_id = :delivery_id AND topic = :topic
"""
_FIND_BY_ID = "SELECT seq, id FROM events WHERE id = :id"
_FIND_DELIVERIES = "SELECT id, route, provider, state FROM deliveries WHERE event_seq = :event_seq ORDER BY seq"


@dataclass(frozen=True, slots=True)
class FrozenDelivery:
    """A delivery with what is made of it: message bytes and hashes.

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


def add_event(tx: Tx, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
    """Commit the event, its dedup row, its deliveries and their first timeline rows, all or nothing.

    A known (source, delivery_id, topic) changes nothing and answers with the first one's. A delivery whose
    (route, recipient, dedup_key) was seen within 30 days is stored `suppressed`, reason `duplicate`.
    """
    customer = event.customer or Customer()
    hashes = {
        "person": hash_person(tx.people_key, customer.number),
        "customer": hash_customer(tx.people_key, customer.id),
    }
    added = first(
        tx.rows(
            _ADD_EVENT,
            id=event.id,
            source=event.source,
            delivery_id=event.delivery_id,
            topic=event.topic,
            received_at=event.received_at,
            body=event.body,
            **hashes,
        )
    )
    if added is None:
        return _find_first(tx, event)
    acts = [{"event_seq": added.seq, "act": act, "at": event.received_at} for act in dict.fromkeys(event.acts)]
    if acts:
        tx.run_many(_ADD_ACT, [{**act, **hashes} for act in acts])
    frozen = (freeze_delivery(delivery, tx.people_key) for delivery in deliveries)
    return Enqueued(event.id, tuple(_take_delivery(tx, added.seq, each) for each in frozen), duplicate=False)


def see_key(tx: Tx, event_seq: int, frozen: FrozenDelivery, statement: str = _SEE_KEY) -> bool:
    """Tell whether a delivery's key is new in its window, and remember it."""
    if frozen.key_hash is None:
        return True
    now = frozen.delivery.created_at
    return tx.run(statement, hash=frozen.key_hash, now=now, event_seq=event_seq, window_ms=DEDUP_WINDOW_MS) > 0


def see_key_again(tx: Tx, event_seq: int, frozen: FrozenDelivery) -> bool:
    """Tell whether a replayed delivery's key is new in its window or its own event's, and remember it."""
    _adopt(tx, frozen)
    return see_key(tx, event_seq, frozen, _SEE_KEY_AGAIN)


def _adopt(tx: Tx, frozen: FrozenDelivery) -> None:
    adopt_person(tx, frozen.person, frozen.former)
    if frozen.former_key is not None:
        tx.run(_ADOPT_KEY, hash=frozen.key_hash, former=frozen.former_key)
        tx.run("DELETE FROM dedup_keys WHERE hash = :former", former=frozen.former_key)


def _take_delivery(tx: Tx, event_seq: int, frozen: FrozenDelivery) -> DeliveryState:
    it = frozen.delivery
    _adopt(tx, frozen)
    if stops_delivery(tx, it, frozen.person):  # before its key is seen: it silences nothing that may be sent later
        return add_delivery(tx, event_seq, frozen, State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT)
    if not see_key(tx, event_seq, frozen):
        return add_delivery(tx, event_seq, frozen, State.SUPPRESSED, Reason.DUPLICATE)
    return add_delivery(tx, event_seq, frozen, it.state, it.reason)


def add_delivery(
    tx: Tx,
    event_seq: int,
    frozen: FrozenDelivery,
    state: State,
    reason: Reason | None,
    cause: Cause = Cause.MADE,
) -> DeliveryState:
    """Insert a delivery of an event, with its first timeline row."""
    it = frozen.delivery
    row = _list_columns(event_seq, frozen, state, reason)
    (made,) = tx.rows(_ADD_DELIVERY, **row)
    begin(tx, made.seq, row, cause)
    return DeliveryState(it.id, it.route, it.provider, state)


def _list_columns(event_seq: int, frozen: FrozenDelivery, state: State, reason: Reason | None) -> dict[str, Any]:
    it = frozen.delivery
    return {
        "id": it.id,
        "event_seq": event_seq,
        "route": it.route,
        "provider": it.provider,
        "template": it.template,
        "rank": -it.priority,
        "recipient": it.recipient,
        "message": frozen.message,
        "checksum": frozen.checksum,
        "state": state,
        "reason": reason,
        "detail": it.detail,
        "due_at": it.due_at,
        "deadline_at": it.deadline_at,
        "created_at": it.created_at,
        "on_unknown": it.on_unknown,
        "config_hash": it.config_hash,
        "config_line": it.config_line,
        "marketing": int(it.marketing),
        "trace": it.trace,
        "person": frozen.person,
    }


def _find_first(tx: Tx, event: Event) -> Enqueued:
    found = None
    if event.delivery_id is not None:
        found = first(tx.rows(_FIND_BY_SOURCE, source=event.source, delivery_id=event.delivery_id, topic=event.topic))
    if found is None:
        (found,) = tx.rows(_FIND_BY_ID, id=event.id)
    rows = tx.rows(_FIND_DELIVERIES, event_seq=found.seq)
    states = tuple(DeliveryState(row.id, row.route, row.provider, State(row.state)) for row in rows)
    return Enqueued(found.id, states, duplicate=True)
