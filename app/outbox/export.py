"""Everything that is kept of one person, unmasked, for that person: exactly what erasing would find."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from app.outbox.find import Person, find_person
from app.outbox.read import read_delivery
from app.outbox.sqlite.reader import AnyReader
from app.values.instant import format_instant
from app.values.phone import mask_phone, to_one_form

EXPORT_LIMIT = 100  # events a read

_EVENT = "SELECT id, source, source_delivery_id, topic, received_at, body FROM events WHERE seq = ?"
_ACTS = "SELECT act, at FROM acts WHERE event_seq = ? ORDER BY act"
_DELIVERIES = """
SELECT d.id, d.recipient, d.message, d.marketing, c.at FROM deliveries d LEFT JOIN clicks c ON c.delivery_seq = d.seq
WHERE d.event_seq = ? ORDER BY d.seq
"""
_OF_EVENT = ("event", "event_id", "topic")
_SUPPRESSED = "SELECT reason, since FROM suppressions WHERE person = ?"
_UNREACHABLE = "SELECT since FROM unreachable WHERE person = ?"


async def export_person(reader: AnyReader, person: Person) -> Mapping[str, Any]:
    """Return what is kept of a person; see Outbox. Raises StoreError."""
    seqs = sorted(await find_person(reader, person))
    events: list[Mapping[str, Any]] = []
    for start in range(0, len(seqs), EXPORT_LIMIT):
        events += await reader.run(partial(_read_events, seqs=seqs[start : start + EXPORT_LIMIT], person=person))
    return {"phone": person.number, **await reader.run(partial(_read_marks, person=person)), "events": events}


def _read_marks(db: sqlite3.Connection, person: Person) -> dict[str, Any]:
    suppressed = db.execute(_SUPPRESSED, (person.hash,)).fetchone()
    unreachable = db.execute(_UNREACHABLE, (person.hash,)).fetchone()
    reason, since = suppressed or (None, None)
    return {
        "marketing": {"suppressed": suppressed is not None, "reason": reason, "since": _show_instant(since)},
        "unreachable_since": _show_instant(unreachable[0] if unreachable else None),
    }


def _read_events(db: sqlite3.Connection, seqs: Sequence[int], person: Person) -> list[Mapping[str, Any]]:
    return [_read_event(db, seq, *row, person=person) for seq in seqs for row in db.execute(_EVENT, (seq,))]


def _read_event(
    db: sqlite3.Connection,
    seq: int,
    id_: str,
    source: str,
    source_delivery_id: str | None,
    topic: str,
    received_at: int,
    body: bytes | None,
    *,
    person: Person,
) -> Mapping[str, Any]:
    return {
        "id": id_,
        "source": source,
        "source_delivery_id": source_delivery_id,
        "topic": topic,
        "received_at": format_instant(received_at),
        "body": _read_json(body),
        "acts": [{"act": act, "at": format_instant(at)} for act, at in db.execute(_ACTS, (seq,))],
        "deliveries": [_read_delivery(db, person, row) for row in db.execute(_DELIVERIES, (seq,)).fetchall()],
    }


def _read_delivery(db: sqlite3.Connection, person: Person, row: tuple[Any, ...]) -> Mapping[str, Any]:
    """Return a delivery as `explain` shows it, but unmasked."""
    id_, recipient, frozen, marketing, clicked_at = row
    message = _read_json(frozen)
    if to_one_form(recipient) not in ("", person.number):  # somebody else's, whose event names this person
        recipient = mask_phone(recipient)
        message = message and {**message, "recipient": recipient, "recipient_name": "***"}
    story = {name: value for name, value in (read_delivery(db, id_) or {}).items() if name not in _OF_EVENT}
    return {
        **story,
        "recipient": recipient,
        "message": message,
        "marketing": bool(marketing),
        "clicked_at": _show_instant(clicked_at),
    }


def _read_json(data: bytes | None) -> Any:
    """Return a body or a message, None if it was wiped; as a text where it is no JSON."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _show_instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)
