"""Wiping: bodies, messages and recipients go, what happened to them stays."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from app.outbox.people import HASH_ID

WIPE_LIMIT = 500  # events a transaction

_FIND = """
SELECT seq, received_at FROM events INDEXED BY events_unwiped
WHERE body IS NOT NULL AND received_at < ?1 AND (received_at > ?2 OR (received_at = ?2 AND seq > ?3))
ORDER BY received_at, seq LIMIT ?4
"""
_HASHED_ID, _HASHED_WAMID = HASH_ID.format("provider_message_id"), HASH_ID.format("wamid")
# An unknown delivery long past its deadline is sent by nobody any more, so its message goes, too.
_WIPE_DELIVERIES = f"""
UPDATE deliveries SET message = NULL, checksum = NULL, recipient = '', provider_message_id = {_HASHED_ID},
    wamid = {_HASHED_WAMID}
WHERE event_seq = ?1 AND updated_at < ?2 AND (recipient <> '' OR message IS NOT NULL)
  AND (state IN ('accepted', 'expired', 'suppressed', 'shadow', 'dead') OR (state = 'unknown' AND deadline_at < ?2))
"""  # noqa: S608  # our own words only
_WIPE_EVENT = """
UPDATE events SET body = NULL WHERE seq = ?1 AND NOT EXISTS (
    SELECT 1 FROM deliveries WHERE event_seq = ?1 AND (recipient <> '' OR message IS NOT NULL OR updated_at >= ?2))
"""


@dataclass(frozen=True, slots=True)
class Wiped:
    """One step of a wipe: how many deliveries, and after which event (received_at, seq) the next step starts."""

    deliveries: int
    after: tuple[int, int] | None


def wipe_events(db: sqlite3.Connection, before: int, after: tuple[int, int]) -> Wiped:
    """Wipe what may be wiped of the next WIPE_LIMIT events."""
    events = db.execute(_FIND, (before, *after, WIPE_LIMIT)).fetchall()
    deliveries = 0
    for seq, _ in events:
        deliveries += db.execute(_WIPE_DELIVERIES, (seq, before)).rowcount
        db.execute(_WIPE_EVENT, (seq, before))
    return Wiped(deliveries, (events[-1][1], events[-1][0]) if len(events) == WIPE_LIMIT else None)


def empty_log(db: sqlite3.Connection) -> bool:
    """Write the log back and truncate it: what was wiped must not stay readable there. False while it is being read."""
    (is_busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy
