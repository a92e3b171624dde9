"""Receipts and replies: what the handset side reported, in any order, more than once, early or late.

Of what a customer sent back only a wish for less or more and the first tap on a button of ours are kept, no words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from app.delivery.decide import scope_to_hold
from app.delivery.policy import Cause
from app.delivery.transitions import ARRIVED, Move, rises, settles
from app.message.components import strike_message, thaw_message
from app.model.delivery import Reason, Scope, State
from app.model.message import OptOut, Receipt, ReceiptStatus, Reply, Wish
from app.model.value import dataclass
from app.outbox.holds import put_probed
from app.outbox.move import move, note_step
from app.outbox.people import (
    adopt_people,
    clear_unreachable,
    hash_message_id,
    hash_person,
    lift,
    note_refusal,
    suppress,
)
from app.outbox.store import Row, Tx
from app.outbox.values import Heard, NewHold, ReceiptResult

KEEP_EARLY_MS = 24 * 3_600_000

_EARLY = "delivery_id, provider_message_id, status, at, reason, detail, scope, wamid"
_KEEP_EARLY = f"""
INSERT INTO early_receipts (provider, {_EARLY}, received_at)
VALUES (:provider, :delivery_id, :provider_message_id, :status, :at, :reason, :detail, :scope, :wamid, :now)
ON CONFLICT DO NOTHING
"""  # noqa: S608  # our own words only
_FIND_EARLY = f"""
SELECT {_EARLY} FROM early_receipts
WHERE provider = :provider AND provider_message_id = :message_id AND :message_id <> ''
UNION ALL
SELECT {_EARLY} FROM early_receipts WHERE provider = :provider AND delivery_id = :delivery_id AND delivery_id <> ''
"""  # noqa: S608  # our own words only
# Of a delivery in a query, given the provider's id of it or "".
HAS_EARLY = """(
    EXISTS (SELECT 1 FROM early_receipts e WHERE e.provider = deliveries.provider
        AND e.provider_message_id = :message_id AND :message_id <> '')
    OR EXISTS (SELECT 1 FROM early_receipts e WHERE e.provider = deliveries.provider
        AND e.delivery_id = deliveries.id AND e.delivery_id <> ''))"""
_FIND_OVERLOOKED = """
SELECT DISTINCT d.provider, d.id, coalesce(d.provider_message_id, '') AS message_id
FROM early_receipts e JOIN deliveries d ON d.provider = e.provider AND d.provider_message_id = e.provider_message_id
WHERE d.state <> 'sending' ORDER BY d.id LIMIT 1000
"""
_DROP_EARLY = """
DELETE FROM early_receipts WHERE provider = :provider AND provider_message_id = :message_id
    AND delivery_id = :delivery_id AND status = :status
"""
_FIND_MESSAGE = "SELECT message, checksum FROM deliveries WHERE seq = :seq"
_ADD = """
INSERT INTO receipts (delivery_seq, status, at, received_at, reason, detail, n) VALUES (:seq, :status, :at, :now,
    :reason, :detail, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = :seq), 0)) ON CONFLICT DO NOTHING
"""
_RAISE = "UPDATE deliveries SET receipt = :status, updated_at = :now WHERE seq = :seq"
_ADD_CLICK = "INSERT INTO clicks VALUES (:seq, :at) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class Report:
    """A webhook of a provider holds these receipts."""

    provider: str
    receipts: Sequence[Receipt]


def apply_reports(tx: Tx, reports: Sequence[Report]) -> Sequence[Sequence[ReceiptResult]]:
    """Record the receipts of webhooks, in their order."""
    told = [(each.provider, receipt) for each in reports for receipt in each.receipts]
    results = iter(_apply_plain(tx, told) or [apply_receipt(tx, *one) for one in told])
    return [tuple(islice(results, len(each.receipts))) for each in reports]


def _apply_plain(tx: Tx, told: Sequence[tuple[str, Receipt]]) -> Sequence[ReceiptResult]:
    """Record receipts together; none where one of them does more than to say how far its own message came."""
    ids = {receipt.delivery_id for _, receipt in told if receipt.status is not ReceiptStatus.FAILED}
    if None in ids or len(ids) < len(told):  # of one delivery their order counts
        return ()
    found = tx.rows_many(_BY_ID, [{"id": receipt.delivery_id, "provider": provider} for provider, receipt in told])
    known = [(rows[0], receipt) for rows, (_, receipt) in zip(found, told, strict=True) if rows]
    if len(known) < len(told) or not all(_is_plain(*one) for one in known):
        return ()
    tx.send(_ADD, [_list_columns(row, receipt, tx.now) for row, receipt in known])
    rising = [(row, receipt.status) for row, receipt in known if rises(row.receipt, receipt.status)]
    if rising:
        tx.send(_RAISE, [{"status": status, "now": tx.now, "seq": row.seq} for row, status in rising])
    return [_name_result(row) for row, _ in known]


def _is_plain(row: Row, receipt: Receipt) -> bool:
    return (
        row.state == State.ACCEPTED
        and not row.is_unreachable
        and not (row.provider_message_id is None and receipt.provider_message_id)
        and not (row.wamid is None and receipt.wamid)
        and not receipt.detail
    )


def _name_result(row: Row, holds_set: tuple[NewHold, ...] = ()) -> ReceiptResult:
    return ReceiptResult(row.id, row.event_id, row.route, row.recipient, row.created_at, holds_set)


def apply_receipt(tx: Tx, provider: str, receipt: Receipt) -> ReceiptResult:
    """Record a receipt; one that matches no delivery yet is kept 24 h and applied when one appears.

    So is one that spoke of a delivery by an id of the provider's that only this receipt tells.
    Never moves a receipt back. Any receipt settles an `unknown` delivery as `accepted`; one that says it
    arrived also a tried one that is `pending`, `dead`, `expired` or `suppressed`. While `sending` the attempt's end
    decides. A failed one that is new sets the hold that its scope asks for, suppresses whom it says has opted out
    and marks whom it says cannot be reached, until a message arrives there.
    """
    known = find_known(tx, provider, receipt.delivery_id, (receipt.provider_message_id, receipt.wamid))
    if known is None:
        _keep_early(tx, provider, receipt)
        return ReceiptResult()
    learned = _learn_ids(tx, known, receipt.provider_message_id, receipt.wamid)
    holds_set = [*_take_receipt(tx, provider, known, receipt)]
    for id_ in learned:
        holds_set += apply_early(tx, provider, known.id, id_)
    return _name_result(known, tuple(holds_set))


def apply_reply(tx: Tx, provider: str, reply: Reply, wish: Wish | None) -> Heard:
    """Do what a customer wished, by the time at which they said it; note the first tap on a delivery's button.

    A tap proves `read`. A reply that comes again, or after a newer wish, changes nothing.
    """
    known = find_known(tx, provider, reply.delivery_id, (reply.provider_message_id,))
    adopt_people(tx, (reply.sender,))
    person = hash_person(tx.people_key, reply.sender) or (known.person if known else None)
    changed = False
    if wish == "stop":
        changed = suppress(tx, person, OptOut.PREFERENCE if reply.wish else OptOut.STOP_REPLY, reply.at)
    elif wish == "resume":
        changed = lift(tx, person, reply.at)
    if known is None:
        return Heard(changed=changed)
    clicked = reply.tapped and _take_tap(tx, provider, known, reply, counts=wish is None)
    return Heard(known.id, known.event_id, known.route, clicked=clicked, changed=changed)


def _take_tap(tx: Tx, provider: str, known: Row, reply: Reply, *, counts: bool) -> bool:
    """Note a tap, which proves that the message was read; one on "Stop" does not count as a click."""
    said_at = tx.now if reply.at is None else min(reply.at, tx.now)
    clicked = counts and tx.run(_ADD_CLICK, seq=known.seq, at=said_at) > 0
    if clicked:
        note_step(tx, known.seq, "reply", "clicked")
    _take_receipt(tx, provider, known, Receipt(ReceiptStatus.READ, known.id, None, said_at))
    return clicked


def _take_receipt(tx: Tx, provider: str, known: Row, receipt: Receipt) -> tuple[NewHold, ...]:
    """Record a receipt of a delivery that is known; return the hold that it set, if any."""
    is_new = _record(tx, known, _strike_detail(tx, known, receipt))
    if known.attempts and settles(State(known.state), receipt.status):
        was = State(known.state)
        move(tx, [Move(known.seq, known.route, provider, was, State.ACCEPTED, Cause.RECEIPT, known.attempts)])
    return _draw_conclusions(tx, provider, known, receipt) if is_new else ()


def _strike_detail(tx: Tx, known: Row, receipt: Receipt) -> Receipt:
    """Return the receipt without the message's values in its words; without words where the message was wiped."""
    if not receipt.detail:
        return receipt
    message = thaw_message(*tx.rows(_FIND_MESSAGE, seq=known.seq)[0])
    return replace(receipt, detail="" if message is None else strike_message(receipt.detail, message))


def _draw_conclusions(tx: Tx, provider: str, known: Row, receipt: Receipt) -> tuple[NewHold, ...]:
    """Do what a receipt says beyond its message; a repeated one says nothing new."""
    if receipt.status in ARRIVED and known.is_unreachable:
        clear_unreachable(tx, known.person)
    if receipt.status is not ReceiptStatus.FAILED or receipt.reason is None:
        return ()
    if receipt.reason is not Reason.RECIPIENT_UNREACHABLE or known.receipt not in ARRIVED:
        note_refusal(tx, known.person, receipt.reason, receipt.at)
    scope = scope_to_hold(receipt.scope, provider, known.template)
    hold = scope and put_probed(tx, scope, receipt.reason)
    return (hold,) if hold else ()


def apply_early(tx: Tx, provider: str, delivery_id: str, message_id: str) -> tuple[NewHold, ...]:
    """Apply the receipts that came before a delivery was known by its ids; return the new holds."""
    holds_set: list[NewHold] = []
    for row in tx.rows(_FIND_EARLY, provider=provider, delivery_id=delivery_id, message_id=message_id):
        its_id, why = row.provider_message_id, None if row.reason is None else Reason(row.reason)
        key = {"message_id": its_id, "delivery_id": row.delivery_id, "status": row.status}
        if not tx.run(_DROP_EARLY, provider=provider, **key):
            continue  # one before it taught the id by which it was found already
        status, scope = ReceiptStatus(row.status), Scope(row.scope)
        receipt = Receipt(status, delivery_id, its_id or None, row.at, why, row.detail, scope, row.wamid)
        holds_set += apply_receipt(tx, provider, receipt).holds_set
    return tuple(holds_set)


def apply_overlooked(tx: Tx) -> None:
    """Apply receipts that another replica kept as early just while their delivery became known."""
    if tx.slot is not None:
        for row in tx.rows(_FIND_OVERLOOKED):
            apply_early(tx, row.provider, row.id, row.message_id)


def _keep_early(tx: Tx, provider: str, receipt: Receipt) -> None:
    # Without an id of the provider's own, WhatsApp's is what its answer may have named.
    ids = (receipt.delivery_id or "", receipt.provider_message_id or receipt.wamid or "")
    if any(ids):  # else it can never be matched
        kept = {**asdict(receipt), **dict(zip(("delivery_id", "provider_message_id"), ids, strict=True))}
        tx.run(_KEEP_EARLY, provider=provider, now=tx.now, **kept)


def _record(tx: Tx, known: Row, receipt: Receipt) -> bool:
    """Keep a receipt once: as history, which the timeline shows, and as the delivery's standing one if it rises."""
    added = tx.run(_ADD, **_list_columns(known, receipt, tx.now)) > 0
    if rises(known.receipt, receipt.status):
        tx.run(_RAISE, status=receipt.status, now=tx.now, seq=known.seq)
    return added


def _list_columns(known: Row, receipt: Receipt, now: int) -> dict[str, Any]:
    it, at = receipt, now if receipt.at is None else receipt.at
    return {"seq": known.seq, "status": it.status, "at": at, "now": now, "reason": it.reason, "detail": it.detail}


_FIND = """
SELECT d.seq, d.id, e.id AS event_id, d.route, d.template, d.state, d.receipt, d.attempts, d.provider_message_id,
    d.wamid, d.person, d.recipient, d.created_at,
    EXISTS (SELECT 1 FROM unreachable u WHERE u.person = d.person) AS is_unreachable
FROM deliveries d /*sqlite CROSS*/ JOIN events e ON e.seq = d.event_seq WHERE
"""
_BY_ID = f"{_FIND} d.id = :id AND d.provider = :provider /*postgres FOR UPDATE OF d*/"
_NEWEST = "AND d.provider = :provider ORDER BY d.seq DESC LIMIT 1 /*postgres FOR UPDATE OF d*/"
# Of what was wiped the ids are kept as hashes.
_BY_MESSAGE_ID = f"{_FIND} d.provider_message_id IS NOT NULL AND d.provider_message_id IN (:id, :hash) {_NEWEST}"
_BY_WAMID = f"{_FIND} d.wamid IS NOT NULL AND d.wamid IN (:id, :hash) {_NEWEST}"
_LEARN_MESSAGE_ID = "UPDATE deliveries SET provider_message_id = :id WHERE seq = :seq"
_LEARN_WAMID = "UPDATE deliveries SET wamid = :id WHERE seq = :seq"


def find_known(tx: Tx, provider: str, delivery_id: str | None, message_ids: Iterable[str | None]) -> Row | None:
    """Return the delivery with our id, else the newest one with the first of the other ids that any has."""
    if delivery_id and (rows := tx.rows(_BY_ID, id=delivery_id, provider=provider)):
        return rows[0]
    for query, id_ in [(query, id_) for id_ in message_ids for query in (_BY_MESSAGE_ID, _BY_WAMID)]:
        if id_ and (rows := tx.rows(query, id=id_, hash=hash_message_id(tx.people_key, id_), provider=provider)):
            return rows[0]
    return None


def _learn_ids(tx: Tx, known: Row, message_id: str | None, wamid: str | None) -> Sequence[str]:
    """Keep the ids by which others may speak of a delivery, and return them; one that is known stays."""
    learned = []
    for statement, kept, id_ in (
        (_LEARN_MESSAGE_ID, known.provider_message_id, message_id),
        (_LEARN_WAMID, known.wamid, wamid),
    ):
        if kept is None and id_:
            tx.run(statement, id=id_ if known.recipient else hash_message_id(tx.people_key, id_), seq=known.seq)
            learned.append(id_)
    return learned
