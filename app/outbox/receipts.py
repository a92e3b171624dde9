"""Receipts: what the handset side reported, in any order, more than once, early or late."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from app.delivery.decide import probe_wait_ms, scope_to_hold
from app.message.redact import strike_message
from app.model.delivery import Reason, Scope, State
from app.model.receipt import Receipt, ReceiptStatus
from app.outbox.claim import thaw_message
from app.outbox.holds import put_new
from app.outbox.people import HASH_ID
from app.outbox.suppressions import clear_unreachable, note_refusal
from app.outbox.values import NewHold, Noted

KEEP_EARLY_MS = 24 * 3_600_000

# Never backwards. `failed` outranks `sent` (the usual order); a later sign of arrival outranks `failed`.
_RANK = {None: 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}
_ARRIVED = (ReceiptStatus.DELIVERED, ReceiptStatus.READ)

_EARLY = "delivery_id, provider_message_id, status, at, reason, detail, scope, wamid"
_KEEP_EARLY = f"""
INSERT INTO early_receipts (provider, {_EARLY}, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""  # noqa: S608  # our own words only
_FIND_EARLY = f"""
SELECT {_EARLY} FROM early_receipts WHERE provider = ?1 AND provider_message_id = ?2 AND ?2 <> ''
UNION ALL
SELECT {_EARLY} FROM early_receipts WHERE provider = ?1 AND delivery_id = ?3 AND delivery_id <> ''
"""  # noqa: S608  # our own words only
_DROP_EARLY = (
    "DELETE FROM early_receipts WHERE provider = ? AND provider_message_id = ? AND delivery_id = ? AND status = ?"
)
_FIND_MESSAGE = "SELECT message, checksum FROM deliveries WHERE seq = ?"
_ADD = "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_NOTE = """
INSERT INTO timeline
VALUES (?1, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = ?1), 0), ?2, ?3, ?4, ?5, ?6)
"""
_MOVE = "UPDATE deliveries SET receipt = ?, updated_at = ? WHERE seq = ?"
_SETTLE = """
UPDATE deliveries SET state = 'accepted', reason = NULL, detail = '', due_at = NULL, lease_until = NULL, updated_at = ?
WHERE seq = ?
"""


def apply_receipt(db: sqlite3.Connection, provider: str, receipt: Receipt, now: int) -> Noted:
    """Record a receipt on its delivery; if there is none yet, it is kept aside."""
    known = find_known(db, provider, receipt.delivery_id, (receipt.provider_message_id, receipt.wamid))
    if known is None:
        _keep_early(db, provider, receipt, now)
        return Noted()
    learn_ids(db, known, receipt.provider_message_id, receipt.wamid)
    holds_set = take_receipt(db, provider, known, receipt, now)
    return Noted(known.id, known.event_id, known.route, known.recipient, known.created_at, holds_set)


def apply_receipts(db: sqlite3.Connection, provider: str, receipts: Sequence[Receipt], now: int) -> tuple[Noted, ...]:
    """Record receipts, in their order."""
    return tuple(apply_receipt(db, provider, receipt, now) for receipt in receipts)


def take_receipt(
    db: sqlite3.Connection, provider: str, known: Known, receipt: Receipt, now: int
) -> tuple[NewHold, ...]:
    """Record a receipt of a delivery that is known; return the hold that it set, if any."""
    is_new = _record(db, known, _strike_detail(db, known, receipt), now)
    if known.attempts and settles(State(known.state), receipt.status):
        db.execute(_SETTLE, (now, known.seq))
    return _draw_conclusions(db, provider, known, receipt, now) if is_new else ()


def _strike_detail(db: sqlite3.Connection, known: Known, receipt: Receipt) -> Receipt:
    """Return the receipt without the message's values in its words; without words where the message was wiped."""
    if not receipt.detail:
        return receipt
    message = thaw_message(*db.execute(_FIND_MESSAGE, (known.seq,)).fetchone())
    return replace(receipt, detail="" if message is None else strike_message(receipt.detail, message))


def _draw_conclusions(
    db: sqlite3.Connection, provider: str, known: Known, receipt: Receipt, now: int
) -> tuple[NewHold, ...]:
    """Do what a receipt says beyond its message; a repeated one says nothing new."""
    if receipt.status in _ARRIVED:
        clear_unreachable(db, known.person)
    if receipt.status is not ReceiptStatus.FAILED or receipt.reason is None:
        return ()
    if receipt.reason is not Reason.RECIPIENT_UNREACHABLE or known.receipt not in _ARRIVED:
        note_refusal(db, known.person, receipt.reason, now, receipt.at)
    scope = scope_to_hold(receipt.scope, provider, known.template)
    hold = scope and put_new(db, scope, receipt.reason, now, now + probe_wait_ms(scope))
    return (hold,) if hold else ()


def settles(state: State, status: ReceiptStatus) -> bool:
    """Tell whether a receipt proves that the provider took the message of a delivery that was tried.

    While an attempt is open its own end decides. A failed receipt proves it only where nothing else is
    known; a pending one may go out again, since the handset has nothing.
    """
    if state is State.UNKNOWN:
        return True
    wrong = (State.PENDING, State.DEAD, State.EXPIRED, State.SUPPRESSED)
    return status is not ReceiptStatus.FAILED and state in wrong


def apply_early(
    db: sqlite3.Connection, provider: str, delivery_id: str, message_id: str | None, now: int
) -> tuple[NewHold, ...]:
    """Apply the receipts that came before the delivery could be told from its provider's id; return the new holds."""
    holds_set: list[NewHold] = []
    rows = db.execute(_FIND_EARLY, (provider, message_id or "", delivery_id)).fetchall()
    for our_id, its_id, status, at, reason, detail, scope, wamid in rows:
        db.execute(_DROP_EARLY, (provider, its_id, our_id, status))
        why = None if reason is None else Reason(reason)
        receipt = Receipt(ReceiptStatus(status), delivery_id, its_id or None, at, why, detail, Scope(scope), wamid)
        holds_set += apply_receipt(db, provider, receipt, now).holds_set
    return tuple(holds_set)


def note_step(
    db: sqlite3.Connection, seq: int, now: int, kind: str, value: str, reason: Reason | None = None, detail: str = ""
) -> None:
    """Add a row to a delivery's timeline that is no change of its state."""
    db.execute(_NOTE, (seq, now, kind, value, reason, detail))


def _keep_early(db: sqlite3.Connection, provider: str, receipt: Receipt, now: int) -> None:
    it = receipt
    # Without an id of the provider's own, WhatsApp's is what its answer may have named.
    message_id = it.provider_message_id or it.wamid
    if not (it.delivery_id or message_id):
        return  # can never be matched
    ids = (it.delivery_id or "", message_id or "")
    db.execute(_KEEP_EARLY, (provider, *ids, it.status, it.at, it.reason, it.detail, it.scope, it.wamid, now))


def _record(db: sqlite3.Connection, known: Known, receipt: Receipt, now: int) -> bool:
    """Keep a receipt once: as history, as a timeline row, and as the delivery's standing one if it rises."""
    at = now if receipt.at is None else receipt.at
    added = db.execute(_ADD, (known.seq, receipt.status, at, now, receipt.reason, receipt.detail)).rowcount > 0
    if added:
        note_step(db, known.seq, now, "receipt", receipt.status, receipt.reason, receipt.detail)
    if _RANK[receipt.status] > _RANK[known.receipt]:
        db.execute(_MOVE, (receipt.status, now, known.seq))
    return added


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
