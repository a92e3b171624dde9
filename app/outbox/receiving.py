"""Receipts: what the handset side reported, in any order, more than once, early or late."""

from __future__ import annotations

import sqlite3

from app.core.models import Reason, Receipt, ReceiptStatus, State
from app.outbox.people import HASH_ID

KEEP_EARLY_MS = 24 * 3_600_000

# Never backwards. `failed` outranks `sent` (the usual order); a later sign of arrival outranks `failed`.
_RANK = {None: 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}

_FIND_BY_ID = """
SELECT seq, state, receipt, attempts, provider_message_id FROM deliveries WHERE id = ? AND provider = ?
"""
# Of what was wiped the provider's id is kept as a hash.
_FIND_BY_MESSAGE_ID = f"""
SELECT seq, state, receipt, attempts, provider_message_id FROM deliveries
WHERE provider_message_id IS NOT NULL AND provider_message_id IN (?1, {HASH_ID.format("?1")}) AND provider = ?2
ORDER BY seq DESC LIMIT 1
"""  # noqa: S608  # our own words only
_KEEP_EARLY = "INSERT INTO early_receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_FIND_EARLY = """
SELECT status, delivery_id, provider_message_id, at, reason, detail FROM early_receipts
WHERE provider = ?1 AND provider_message_id = ?2 AND ?2 <> ''
UNION ALL
SELECT status, delivery_id, provider_message_id, at, reason, detail FROM early_receipts
WHERE provider = ?1 AND delivery_id = ?3 AND delivery_id <> ''
"""
_DROP_EARLY = (
    "DELETE FROM early_receipts WHERE provider = ? AND provider_message_id = ? AND delivery_id = ? AND status = ?"
)
_ADD = "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_NOTE = """
INSERT INTO timeline
VALUES (?1, 1 + (SELECT max(n) FROM timeline WHERE delivery_seq = ?1), ?2, 'receipt', ?3, ?4, ?5)
"""
_MOVE = "UPDATE deliveries SET receipt = ?, updated_at = ? WHERE seq = ?"
_LEARN_ID = f"""
UPDATE deliveries SET provider_message_id = iif(recipient <> '', ?1, {HASH_ID.format("?1")}) WHERE seq = ?2
"""  # noqa: S608  # our own words only
_SETTLE = """
UPDATE deliveries SET state = 'accepted', reason = NULL, detail = '', due_at = NULL, lease_until = NULL, updated_at = ?
WHERE seq = ?
"""


def apply_receipt(db: sqlite3.Connection, provider: str, receipt: Receipt, now: int) -> bool:
    """Record a receipt on its delivery; False if there is none yet, and the receipt is kept aside."""
    found = _find_delivery(db, provider, receipt)
    if found is None:
        _keep_early(db, provider, receipt, now)
        return False
    seq, state, standing, attempts, message_id = found
    if message_id is None and receipt.provider_message_id:
        db.execute(_LEARN_ID, (receipt.provider_message_id, seq))
    _record(db, seq, standing, receipt, now)
    if attempts and settles(State(state), receipt.status):
        db.execute(_SETTLE, (now, seq))
    return True


def settles(state: State, status: ReceiptStatus) -> bool:
    """Tell whether a receipt proves that the provider took the message of a delivery that was tried.

    While an attempt is open its own end decides. A failed receipt proves it only where nothing else is
    known; a pending one may go out again, since the handset has nothing.
    """
    if state is State.UNKNOWN:
        return True
    return status is not ReceiptStatus.FAILED and state in (State.PENDING, State.DEAD, State.EXPIRED)


def apply_early(db: sqlite3.Connection, provider: str, delivery_id: str, message_id: str | None, now: int) -> None:
    """Apply the receipts that came before the delivery could be told from its provider's id."""
    for status, early_id, early_message_id, at, reason, detail in db.execute(
        _FIND_EARLY, (provider, message_id or "", delivery_id)
    ).fetchall():
        db.execute(_DROP_EARLY, (provider, early_message_id, early_id, status))
        why = None if reason is None else Reason(reason)
        receipt = Receipt(ReceiptStatus(status), delivery_id, early_message_id or None, at, why, detail)
        apply_receipt(db, provider, receipt, now)


def _find_delivery(
    db: sqlite3.Connection, provider: str, receipt: Receipt
) -> tuple[int, str, str | None, int, str] | None:
    found = None
    if receipt.delivery_id:
        found = db.execute(_FIND_BY_ID, (receipt.delivery_id, provider)).fetchone()
    if found is None and receipt.provider_message_id:
        found = db.execute(_FIND_BY_MESSAGE_ID, (receipt.provider_message_id, provider)).fetchone()
    return found


def _keep_early(db: sqlite3.Connection, provider: str, receipt: Receipt, now: int) -> None:
    if not (receipt.delivery_id or receipt.provider_message_id):
        return  # can never be matched
    ids = (receipt.provider_message_id or "", receipt.delivery_id or "")
    db.execute(_KEEP_EARLY, (provider, *ids, receipt.status, receipt.at, now, receipt.reason, receipt.detail))


def _record(db: sqlite3.Connection, seq: int, standing: str | None, receipt: Receipt, now: int) -> None:
    """Keep a receipt once: as history, as a timeline row, and as the delivery's standing one if it rises."""
    at = now if receipt.at is None else receipt.at
    added = db.execute(_ADD, (seq, receipt.status, at, now, receipt.reason, receipt.detail)).rowcount
    if added:
        db.execute(_NOTE, (seq, now, receipt.status, receipt.reason, receipt.detail))
    if _RANK[receipt.status] > _RANK[standing]:
        db.execute(_MOVE, (receipt.status, now, seq))
