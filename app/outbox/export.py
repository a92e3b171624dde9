"""Everything that is kept of one person, unmasked, for that person: exactly what erasing would find."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from app.outbox.find import Person, find_person, seek_person
from app.outbox.read import read_delivery, show_instant
from app.outbox.store import Row, Store, Tx, first
from app.values.instant import format_instant
from app.values.phone import mask_phone, to_one_form

EXPORT_LIMIT = 100  # events a read

_EVENT = "SELECT seq, id, source, source_delivery_id, topic, received_at, body FROM events WHERE seq = :seq"
_ACTS = "SELECT act, at FROM acts WHERE event_seq = :seq ORDER BY act"
_DELIVERIES = """
SELECT d.id, d.recipient, d.message, d.marketing, c.at AS clicked_at
FROM deliveries d LEFT JOIN clicks c ON c.delivery_seq = d.seq WHERE d.event_seq = :seq ORDER BY d.seq
"""
_OF_EVENT = ("event", "event_id", "topic")
_SUPPRESSED = "SELECT reason, since FROM suppressions WHERE person = :person"
_UNREACHABLE = "SELECT since FROM unreachable WHERE person = :person"


async def export_person(store: Store, number: str) -> Mapping[str, Any]:
    """Return everything that is kept of a person (E.164), unmasked: exactly what `erase_person` would find.

    `phone`, `marketing` {suppressed, reason, since}, `unreachable_since`, and `events`, oldest first: `id`,
    `source`, `source_delivery_id`, `topic`, `received_at`, `body` (JSON; None: wiped), `acts`, and `deliveries` as
    by `read_delivery`, with the whole `message`, `marketing` and `clicked_at`. Events are theirs that are about
    them (by number, or by a customer id that an event of that number has), that led to a message to them, or that
    name their number anywhere.
    """
    person = await seek_person(store, number)
    seqs = sorted(await find_person(store, person))
    events: list[Mapping[str, Any]] = []
    for start in range(0, len(seqs), EXPORT_LIMIT):
        some = seqs[start : start + EXPORT_LIMIT]
        events += await store.read(partial(_read_events, seqs=some, person=person), slow=True)
    return {"phone": number, **await store.read(partial(_read_marks, person=person), slow=True), "events": events}


def _read_marks(tx: Tx, person: Person) -> dict[str, Any]:
    suppressed = first(tx.rows(_SUPPRESSED, person=person.hash))
    unreachable = first(tx.rows(_UNREACHABLE, person=person.hash))
    reason, since = suppressed or (None, None)
    return {
        "marketing": {"suppressed": suppressed is not None, "reason": reason, "since": show_instant(since)},
        "unreachable_since": show_instant(unreachable.since if unreachable else None),
    }


def _read_events(tx: Tx, seqs: Sequence[int], person: Person) -> list[Mapping[str, Any]]:
    return [_read_event(tx, row, person) for seq in seqs for row in tx.rows(_EVENT, seq=seq)]


def _read_event(tx: Tx, row: Row, person: Person) -> Mapping[str, Any]:
    return {
        "id": row.id,
        "source": row.source,
        "source_delivery_id": row.source_delivery_id,
        "topic": row.topic,
        "received_at": format_instant(row.received_at),
        "body": _read_json(row.body),
        "acts": [{"act": act, "at": format_instant(at)} for act, at in tx.rows(_ACTS, seq=row.seq)],
        "deliveries": [_read_delivery(tx, person, each) for each in tx.rows(_DELIVERIES, seq=row.seq)],
    }


def _read_delivery(tx: Tx, person: Person, row: Row) -> Mapping[str, Any]:
    """Return a delivery as `explain` shows it, but unmasked."""
    recipient, message = row.recipient, _read_json(row.message)
    if to_one_form(recipient) not in ("", person.number):  # somebody else's, whose event names this person
        recipient = mask_phone(recipient)
        message = message and {**message, "recipient": recipient, "recipient_name": "***"}
    story = {name: value for name, value in (read_delivery(tx, row.id) or {}).items() if name not in _OF_EVENT}
    return {
        **story,
        "recipient": recipient,
        "message": message,
        "marketing": bool(row.marketing),
        "clicked_at": show_instant(row.clicked_at),
    }


def _read_json(data: bytes | None) -> Any:
    """Return a body or a message, None if it was wiped; as a text where it is no JSON."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")
