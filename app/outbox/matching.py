"""Of which delivery a webhook speaks: by our id, else by any id that the provider or WhatsApp gave the message."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from app.outbox.people import HASH_ID

_FIND = """
SELECT d.seq, d.id, e.id, d.route, d.template, d.state, d.receipt, d.attempts, d.provider_message_id, d.wamid, d.person,
    d.recipient, d.created_at
FROM deliveries d CROSS JOIN events e ON e.seq = d.event_seq WHERE
"""
_BY_ID = f"{_FIND} d.id = ?1 AND d.provider = ?2"
_NEWEST = "AND d.provider = ?2 ORDER BY d.seq DESC LIMIT 1"
# Of what was wiped the ids are kept as hashes.
_ID, _KEPT_ID = f"(?1, {HASH_ID.format('?1')})", f"iif(recipient <> '', ?1, {HASH_ID.format('?1')})"
_BY_MESSAGE_ID = f"{_FIND} d.provider_message_id IS NOT NULL AND d.provider_message_id IN {_ID} {_NEWEST}"
_BY_WAMID = f"{_FIND} d.wamid IS NOT NULL AND d.wamid IN {_ID} {_NEWEST}"
_LEARN_MESSAGE_ID = f"UPDATE deliveries SET provider_message_id = {_KEPT_ID} WHERE seq = ?2"  # noqa: S608  # our own words only
_LEARN_WAMID = f"UPDATE deliveries SET wamid = {_KEPT_ID} WHERE seq = ?2"  # noqa: S608  # our own words only


@dataclass(frozen=True, slots=True)
class Known:
    """A delivery that a webhook speaks of."""

    seq: int
    id: str
    event_id: str
    route: str
    template: str
    state: str
    receipt: str | None
    attempts: int
    message_id: str | None
    wamid: str | None
    person: bytes | None
    recipient: str
    created_at: int


def find_known(
    db: sqlite3.Connection, provider: str, delivery_id: str | None, message_ids: Iterable[str | None]
) -> Known | None:
    """Return the delivery with our id, else the newest one with the first of the other ids that any has."""
    lookups = [(_BY_ID, delivery_id)]
    lookups += [(query, id_) for id_ in message_ids for query in (_BY_MESSAGE_ID, _BY_WAMID)]
    for query, id_ in lookups:
        row = db.execute(query, (id_, provider)).fetchone() if id_ else None
        if row is not None:
            return Known(*row)
    return None


def learn_ids(db: sqlite3.Connection, known: Known, message_id: str | None, wamid: str | None) -> None:
    """Keep the ids by which later webhooks may speak of a delivery; one that is known stays."""
    if known.message_id is None and message_id:
        db.execute(_LEARN_MESSAGE_ID, (message_id, known.seq))
    if known.wamid is None and wamid:
        db.execute(_LEARN_WAMID, (wamid, known.seq))
