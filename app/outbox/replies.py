"""What customers sent back: a wish for less or more, a tap on a button of ours; their words are not kept."""

from __future__ import annotations

import sqlite3

from app.model.receipt import Receipt, ReceiptStatus, Reply, Wish
from app.outbox.people import adopt_people, hash_person
from app.outbox.receipts import Known, find_known, note_step, take_receipt
from app.outbox.suppressions import lift, suppress
from app.outbox.values import Heard
from app.values.stop_words import OptOut

_ADD_CLICK = "INSERT INTO clicks VALUES (?, ?) ON CONFLICT DO NOTHING"


def apply_reply(db: sqlite3.Connection, key: bytes, provider: str, reply: Reply, wish: Wish | None, now: int) -> Heard:
    """Do what a customer wished, and note what they tapped on; a reply that comes again changes nothing."""
    known = find_known(db, provider, reply.delivery_id, (reply.provider_message_id,))
    adopt_people(db, key, (reply.sender,))
    person = hash_person(key, reply.sender) or (known.person if known else None)
    changed = False
    if wish == "stop":
        changed = suppress(db, person, OptOut.PREFERENCE if reply.wish else OptOut.STOP_REPLY, reply.at, now)
    elif wish == "resume":
        changed = lift(db, person, reply.at, now)
    if known is None:
        return Heard(changed=changed)
    clicked = reply.tapped and _take_tap(db, provider, known, reply, now, counts=wish is None)
    return Heard(known.id, known.event_id, known.route, clicked=clicked, changed=changed)


def _take_tap(db: sqlite3.Connection, provider: str, known: Known, reply: Reply, now: int, *, counts: bool) -> bool:
    """Note a tap, which proves that the message was read; one on "Stop" does not count as a click."""
    said_at = now if reply.at is None else min(reply.at, now)
    clicked = counts and db.execute(_ADD_CLICK, (known.seq, said_at)).rowcount > 0
    if clicked:
        note_step(db, known.seq, now, "reply", "clicked")
    take_receipt(db, provider, known, Receipt(ReceiptStatus.READ, known.id, None, said_at), now)
    return clicked
