"""Forgetting: events whose deliveries have all ended go, with all that hangs on them: the file stays bounded."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from app.outbox.hold_changes import forget_changes

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
