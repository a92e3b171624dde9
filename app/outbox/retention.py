"""Forgetting: events whose deliveries have all ended go, with all that hangs on them: the file stays bounded."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from app.outbox.holds import forget_changes
from app.outbox.people import HASH_ID

FORGET_LIMIT = 300  # events a transaction, so that intake never waits long behind it

_NEXT = "SELECT seq, received_at FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
# What a person, a receipt or a replay touched lately is kept with its event, however old that is.
_IS_KEPT = """
SELECT EXISTS (SELECT 1 FROM deliveries WHERE event_seq = ?1 AND (updated_at >= ?2 OR NOT (
    state IN ('accepted', 'expired', 'suppressed', 'shadow', 'dead') OR (state = 'unknown' AND deadline_at < ?2))))
"""
# What hangs on no event: invented values, and that a number was not on WhatsApp.
_FORGET_OTHERS = (
    "DELETE FROM recordings WHERE at < ?",
    "DELETE FROM unreachable WHERE since < ?",
    "DELETE FROM lifted_suppressions WHERE at < ?",
)
_FORGET = (
    "DELETE FROM attempts WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = ?)",
    "DELETE FROM timeline WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = ?)",
    "DELETE FROM receipts WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = ?)",
    "DELETE FROM clicks WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = ?)",
    "DELETE FROM deliveries WHERE event_seq = ?",
    "DELETE FROM acts WHERE event_seq = ?",
    "DELETE FROM events WHERE seq = ?",
)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """One step: how many events went, and after which event (seq) the next step starts; None: that was the last."""

    events: int
    after: int | None


def forget_events(db: sqlite3.Connection, before: int, after: int) -> Forgotten:
    """Delete what may be forgotten of the next FORGET_LIMIT events.

    Events lie in the order they came in: the first step that finds none so old is the last. (Where a clock was
    set back they are not quite in order; what is passed over goes once its neighbours are old enough, too.)
    """
    found = db.execute(_NEXT, (after, FORGET_LIMIT)).fetchall()
    old = [seq for seq, received_at in found if received_at < before]
    forgotten = sum(_forget_event(db, seq, before) for seq in old)
    return Forgotten(forgotten, found[-1][0] if old and len(found) == FORGET_LIMIT else None)


def forget_others(db: sqlite3.Connection, before: int) -> None:
    """Delete what hangs on no event and is older."""
    forget_changes(db, before)
    for statement in _FORGET_OTHERS:
        db.execute(statement, (before,))


def _forget_event(db: sqlite3.Connection, seq: int, before: int) -> bool:
    """Delete one event with its deliveries, unless one of them is not over."""
    if db.execute(_IS_KEPT, (seq, before)).fetchone()[0]:
        return False
    for statement in _FORGET:
        db.execute(statement, (seq,))
    return True


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
