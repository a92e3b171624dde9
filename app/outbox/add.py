"""Taking an event in: it, its deliveries and their first timeline rows, all or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import Any

from app.delivery.policy import Cause, judge_new
from app.message.components import checksum, encode_message
from app.model.delivery import DEDUP_WINDOW_MS, Delivery, Reason, State
from app.model.event import Customer, Event
from app.model.value import dataclass
from app.outbox.move import STATES, count_made, count_steps, write_made
from app.outbox.people import adopt_person, find_unwanted, hash_customer, hash_other_form, hash_person
from app.outbox.retention import DROP_ROW, keep_unrouted
from app.outbox.store import Tx, first
from app.outbox.values import DeliveryState, Enqueued
from app.values.phone import TWO_FORMS, find_other_form

_ADD_EVENT = """
INSERT INTO events (id, source, source_delivery_id, topic, received_at, body, person, customer)
VALUES (:id, :source, :delivery_id, :topic, :received_at, :body, :person, :customer) ON CONFLICT DO NOTHING
"""
# A repeat that was suppressed does not lengthen the window, else a monthly message would be silenced for ever.
_UPSERT_KEY = f"""
INSERT INTO dedup_keys (hash, seen_at, event_seq) VALUES (:hash, :now, :event_seq) /*postgres FROM MANY*/
ON CONFLICT (hash) DO UPDATE SET seen_at = excluded.seen_at, event_seq = excluded.event_seq
WHERE dedup_keys.seen_at <= excluded.seen_at - {DEDUP_WINDOW_MS}
"""  # noqa: S608  # our own words only
# A replay of the event whose key it is: the message goes out now, so the window begins anew.
_SEE_KEY_AGAIN = f"{_UPSERT_KEY} OR dedup_keys.event_seq = excluded.event_seq RETURNING hash"
_SEE_KEY = f"{_UPSERT_KEY} RETURNING hash"
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
    has_former = delivery.recipient.startswith(TWO_FORMS)
    return FrozenDelivery(
        delivery=delivery,
        message=message,
        checksum=None if message is None else checksum(message),
        key_hash=hash_dedup_key(delivery),
        person=hash_person(people_key, delivery.recipient),
        former=hash_other_form(people_key, delivery.recipient) if has_former else None,
        former_key=hash_former_key(delivery) if has_former else None,
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
    parts = (delivery.state, delivery.route, delivery.recipient, delivery.dedup_key)
    return hashlib.sha256(b"".join(map(_measure, parts))).digest()


@lru_cache(maxsize=512)  # the first two are the same again and again
def _measure(text: str) -> bytes:
    written = text.encode("utf-8", "surrogatepass")
    return len(written).to_bytes(8, "big") + written


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event, and the deliveries that were planned for it."""

    event: Event
    deliveries: Sequence[Delivery]


def add_event(tx: Tx, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
    """Add one event; see add_events."""
    return add_events(tx, [NewEvent(event, deliveries)])[0]


def add_events(tx: Tx, new: Sequence[NewEvent]) -> Sequence[Enqueued]:
    """Add each event, its dedup rows, its deliveries and their first timeline rows, all or nothing.

    A known (source, delivery_id, topic) changes nothing and answers with the first one's. A delivery whose
    (route, recipient, dedup_key) was seen within 30 days is stored `suppressed`, reason `duplicate`; marketing to
    somebody who opted out `suppressed`, too.
    """
    events = [_list_event(tx, each.event) for each in new]
    seqs = tx.add_many("events", _ADD_EVENT, events)
    added = [(seq, each, row) for seq, each, row in zip(seqs, new, events, strict=True) if seq is not None]
    acts = [
        {**row, "event_seq": seq, "act": act, "at": each.event.received_at}
        for seq, each, row in added
        for act in dict.fromkeys(each.event.acts)
    ]
    if acts:
        tx.send(_ADD_ACT, acts)
    if unrouted := [(seq, len(each.event.body)) for seq, each, _ in added if not each.deliveries]:
        keep_unrouted(tx, unrouted)
    planned = [(seq, freeze_delivery(it, tx.people_key)) for seq, each, _ in added for it in each.deliveries]
    rows = _judge_deliveries(tx, planned)
    # An event that came twice at once asks for what the first one made.
    states = iter(_insert_deliveries(tx, rows, unwritten=None if None in seqs else tx.unwritten))
    return [
        _find_first(tx, each.event)
        if seq is None
        else Enqueued(each.event.id, tuple(islice(states, len(each.deliveries))), duplicate=False)
        for seq, each in zip(seqs, new, strict=True)
    ]


def _list_event(tx: Tx, event: Event) -> dict[str, Any]:
    customer = event.customer or Customer()
    return {
        "id": event.id,
        "source": event.source,
        "delivery_id": event.delivery_id,
        "topic": event.topic,
        "received_at": event.received_at,
        "body": event.body,
        "person": hash_person(tx.people_key, customer.number),
        "customer": hash_customer(tx.people_key, customer.id),
    }


def _judge_deliveries(tx: Tx, planned: Sequence[tuple[int, FrozenDelivery]]) -> list[dict[str, Any]]:
    """Return the rows of planned deliveries, each (seq of its event, delivery), in the state that it begins with."""
    for _, frozen in planned:
        if frozen.former is not None or frozen.former_key is not None:
            _adopt(tx, frozen)
    unwanted = find_unwanted(tx, [(frozen.delivery, frozen.person) for _, frozen in planned])
    # Not of what is unwanted: it silences nothing that may be sent later.
    keys = [
        _list_key(event_seq, frozen)
        for event_seq, frozen in planned
        if frozen.key_hash is not None and frozen.delivery.id not in unwanted
    ]
    firsts = {key["hash"]: key for key in reversed(keys)}
    # In one order for all replicas, so that none waits for another that waits for it.
    added = tx.rows_many(_SEE_KEY, [firsts[each] for each in sorted(firsts)]) if keys else ()
    seen = {key["id"] for key in keys} - {firsts[row.hash]["id"] for rows in added for row in rows}
    return [
        _list_columns(
            event_seq,
            frozen,
            *judge_new(
                frozen.delivery,
                is_unwanted=frozen.delivery.id in unwanted,
                is_repeat=frozen.delivery.id in seen,
            ),
        )
        for event_seq, frozen in planned
    ]


def _list_key(event_seq: int, frozen: FrozenDelivery) -> dict[str, Any]:
    it = frozen.delivery
    return {"hash": frozen.key_hash, "now": it.created_at, "event_seq": event_seq, "id": it.id}


def see_key_again(tx: Tx, event_seq: int, frozen: FrozenDelivery) -> bool:
    """Tell whether a replayed delivery's key is new in its window or its own event's, and remember it."""
    _adopt(tx, frozen)
    return frozen.key_hash is None or bool(tx.rows(_SEE_KEY_AGAIN, **_list_key(event_seq, frozen)))


def _adopt(tx: Tx, frozen: FrozenDelivery) -> None:
    adopt_person(tx, frozen.person, frozen.former)
    if frozen.former_key is not None:
        tx.run(_ADOPT_KEY, hash=frozen.key_hash, former=frozen.former_key)
        tx.run("DELETE FROM dedup_keys WHERE hash = :former", former=frozen.former_key)


def add_delivery(
    tx: Tx,
    event_seq: int,
    frozen: FrozenDelivery,
    state: State,
    reason: Reason | None,
    cause: Cause = Cause.MADE,
) -> DeliveryState:
    """Insert a delivery of an event, with its first timeline row. It has a route now, if it had none before."""
    tx.run(DROP_ROW, seq=event_seq)
    return _insert_deliveries(tx, [_list_columns(event_seq, frozen, state, reason)], cause)[0]


def _insert_deliveries(
    tx: Tx, rows: Sequence[dict[str, Any]], cause: Cause = Cause.MADE, unwritten: list[dict[str, Any]] | None = None
) -> list[DeliveryState]:
    """Insert deliveries, or let them wait in `unwritten` for who claims behind them."""
    for row in rows:
        row["steps"] = count_steps(row, cause)
    count_made(tx, rows)
    if unwritten is None:
        write_made(tx, rows, cause)
    else:
        unwritten += rows
    return [DeliveryState(row["id"], row["route"], row["provider"], STATES[row["state"]]) for row in rows]


_ALIKE = (
    *("id", "route", "provider", "template", "recipient", "detail", "due_at", "deadline_at", "created_at"),
    *("on_unknown", "config_hash", "config_line", "trace"),
)
_list_alike = attrgetter(*_ALIKE)


def _list_columns(event_seq: int, frozen: FrozenDelivery, state: State, reason: Reason | None) -> dict[str, Any]:
    it = frozen.delivery
    return {
        **dict(zip(_ALIKE, _list_alike(it), strict=True)),
        "event_seq": event_seq,
        "rank": -it.priority,
        "message": frozen.message,
        "checksum": frozen.checksum,
        "state": str(state),
        "reason": reason and str(reason),
        "marketing": int(it.marketing),
        "person": frozen.person,
        "updated_at": it.created_at,
        "attempts": 0,
        "lease_until": None,
        "last_attempt_at": None,
        "delivery": it,
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
