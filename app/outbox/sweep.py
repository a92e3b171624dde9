"""What time alone changes: deadlines, settled unknowns, lost leases, and rows nobody needs any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from app.model.delivery import DEDUP_WINDOW_MS
from app.outbox.close import PERHAPS_TAKEN, recover_lost_attempts
from app.outbox.lanes import note_time
from app.outbox.receipts import KEEP_EARLY_MS
from app.outbox.replay import drop_plans

EARLY_LIMIT = 100_000  # receipts of no delivery: a flood of them must not fill the disk
SWEEP_LIMIT = 1_000  # deliveries a transaction, so that intake never waits long behind a sweep

_EXPIRE = """
UPDATE deliveries SET state = 'expired', reason = 'deadline_passed', due_at = NULL, updated_at = ?1
WHERE seq IN (SELECT seq FROM deliveries WHERE state = 'pending' AND deadline_at <= ?1 ORDER BY deadline_at LIMIT ?2)
"""
_DROP_SURPLUS = """
DELETE FROM early_receipts WHERE received_at <
    (SELECT received_at FROM early_receipts ORDER BY received_at DESC LIMIT 1 OFFSET ?)
"""
# Past its deadline an unknown one waits for a receipt or a person only, so it leaves the index of what is due.
_LEAVE_UNKNOWN = "UPDATE deliveries SET due_at = NULL WHERE state = 'unknown' AND due_at <= ?1 AND deadline_at <= ?1"
_RESEND = """
UPDATE deliveries SET state = 'pending', updated_at = ?1
WHERE seq IN (SELECT seq FROM deliveries WHERE state = 'unknown' AND due_at <= ?1 ORDER BY due_at LIMIT ?2)
"""
# A replay made the event's message anew: while that is open or arrived, the old one is not sent beside it.
_REPLAYED = """EXISTS (SELECT 1 FROM deliveries o INDEXED BY deliveries_event WHERE o.event_seq = deliveries.event_seq
    AND o.created_at <> deliveries.created_at AND o.state IN ('pending', 'sending', 'unknown', 'accepted')
    AND (o.route = deliveries.route OR (o.provider, o.template) = (deliveries.provider, deliveries.template)))"""
_PERHAPS_TAKEN = f"EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_seq = seq AND {PERHAPS_TAKEN})"  # noqa: S608  # our own words only
_RETRY = f"""
UPDATE deliveries SET state = 'pending', reason = NULL, due_at = ?1, spent = 0, updated_at = ?1,
    detail = iif(state = 'unknown', 'retried by hand, though it may have arrived', 'retried by hand')
WHERE id = ?2 AND state IN ('dead', 'unknown', 'expired') AND message IS NOT NULL AND deadline_at > ?1
  AND NOT {_REPLAYED} AND NOT (?3 AND state <> 'unknown' AND {_PERHAPS_TAKEN})
"""  # noqa: S608  # our own words only
_EXPLAIN_RETRY = f"""
SELECT CASE WHEN state NOT IN ('dead', 'unknown', 'expired') THEN state WHEN message IS NULL THEN 'payload_gone'
    WHEN deadline_at <= ?1 THEN 'deadline_passed' WHEN {_REPLAYED} THEN 'replayed'
    WHEN {_PERHAPS_TAKEN} THEN 'perhaps_taken' END FROM deliveries WHERE id = ?2
"""  # noqa: S608  # our own words only


def expire_overdue(db: sqlite3.Connection, now: int) -> int:
    """Expire pending deliveries past their deadline, held ones too. Return how many: call again while SWEEP_LIMIT."""
    return db.execute(_EXPIRE, (now, SWEEP_LIMIT)).rowcount


def resend_unknown(db: sqlite3.Connection, now: int) -> int:
    """Make unknown deliveries that are due pending again. Return how many: call again while SWEEP_LIMIT."""
    db.execute(_LEAVE_UNKNOWN, (now,))
    return db.execute(_RESEND, (now, SWEEP_LIMIT)).rowcount


def tidy(db: sqlite3.Connection, now: int, gap_ms: int, settle_ms: int) -> int:
    """Drop what has served its time; make attempts whose lease ran out unknown. Return how many of those."""
    db.execute("DELETE FROM early_receipts WHERE received_at <= ?", (now - KEEP_EARLY_MS,))
    db.execute(_DROP_SURPLUS, (EARLY_LIMIT - 1,))
    db.execute("DELETE FROM dedup_keys WHERE seen_at <= ?", (now - DEDUP_WINDOW_MS,))
    drop_plans(db, now)
    db.execute("DELETE FROM recipient_turns WHERE last_at <= ?", (now - gap_ms,))
    note_time(db, now)
    return recover_lost_attempts(db, now, settle_ms)


def retry_deliveries(db: sqlite3.Connection, ids: Collection[str], now: int, *, careful: bool) -> Sequence[str]:
    """Make what a person picked pending again; return the ids that changed, in the order given.

    `careful`: leave out what has ended and may have been taken all the same.
    """
    return [id_ for id_ in dict.fromkeys(ids) if db.execute(_RETRY, (now, id_, careful)).rowcount]


def explain_retry(db: sqlite3.Connection, ids: Collection[str], now: int) -> Mapping[str, str]:
    """Return why each of these that cannot be retried cannot."""
    found = {id_: db.execute(_EXPLAIN_RETRY, (now, id_)).fetchone() or ("not_found",) for id_ in ids}
    return {id_: row[0] for id_, row in found.items() if row[0] is not None}
