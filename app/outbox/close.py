"""Ending attempts: with what they came to, or at start, with what a dead process left open."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from app.delivery.decide import Decision, probe_wait_ms
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, Reason, Rejected, Scope, State, Uncertain
from app.model.receipt import ReceiptStatus
from app.outbox.holds import count_refusal, forget_refusals, put_new, release_probed
from app.outbox.people import HASH_ID
from app.outbox.receipts import apply_early, settles
from app.outbox.suppressions import note_refusal
from app.outbox.values import Closed, NewHold

DEATHS_LIMIT = 3  # a delivery that was open in so many dead processes may be what kills them
RESENDS_LIMIT = 1  # who answers nothing twice may take every one of them: the customer would get it every 15 minutes
REFUSALS_LIMIT = 5  # in a row, for one reason: then it is the route's fault rather than the messages'
UNREADABLE_LIMIT = 5  # answers in a row: each may be a message that nobody gets, or one that everybody gets

_FIND = "SELECT seq, state, attempts, receipt, reason, person FROM deliveries WHERE id = ?"
# Whoever closes an attempt says how many requests it took; whoever gives it up as lost cannot.
_WAS_LOST = "SELECT 1 FROM attempts WHERE delivery_seq = ? AND number = ? AND tries IS NULL"
_COUNT_UNCERTAIN = """
SELECT count(*) FROM attempts
WHERE delivery_seq = ? AND number < ? AND outcome = 'uncertain' AND reason <> 'process_died'
"""
# Whoever answers after its delivery was wiped leaves no number in an id.
_CLOSE = f"""
UPDATE deliveries SET state = ?1, reason = ?2, detail = ?3, due_at = ?4, spent = spent + ?5, lease_until = NULL,
    provider_message_id = coalesce(iif(recipient <> '', ?6, {HASH_ID.format("?6")}), provider_message_id),
    updated_at = ?7 WHERE seq = ?8
"""  # noqa: S608  # our own words only
_END_ATTEMPT = """
UPDATE attempts SET ended_at = ?, outcome = ?, reason = ?, detail = ?, tries = ? WHERE delivery_seq = ? AND number = ?
"""
# The fencing of close_attempt: `sending` and the attempt's number; the two recoveries differ only in which rows.
_LOSE_ATTEMPTS = """
UPDATE attempts SET ended_at = ?1, outcome = 'uncertain', reason = 'process_died', detail = ''
WHERE (delivery_seq, number) IN
    (SELECT seq, attempts FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= ?2)
"""
_LOSE_DELIVERIES = """
UPDATE deliveries SET lease_until = NULL, updated_at = ?1, spent = spent + 1,
    state = iif(receipt IS NULL, 'unknown', 'accepted'),
    reason = iif(receipt IS NULL, 'process_died', NULL),
    due_at = iif(receipt IS NULL AND on_unknown = 'resend' AND
        (SELECT count(*) FROM attempts WHERE delivery_seq = seq AND reason = 'process_died') < ?4, ?1 + ?3, NULL)
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= ?2
"""
# An open attempt may have reached its recipient at any moment until now, whenever it was claimed.
_RENEW_TURNS = """
INSERT INTO recipient_turns SELECT provider, recipient, ?1 FROM deliveries INDEXED BY deliveries_sending
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= ?2
ON CONFLICT (provider, recipient) DO UPDATE SET last_at = max(last_at, excluded.last_at)
"""
_ALL_LEASES = 2**62
# Of an attempt `a`: a 2xx is told at the beginning of its detail. What refused with one may have taken it all the same.
PERHAPS_TAKEN = "(a.outcome = 'uncertain' OR (a.outcome = 'rejected' AND a.detail GLOB 'HTTP 2[0-9][0-9]*'))"


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt came to this outcome, then this follows; `tries` are its HTTP requests."""

    outcome: Outcome
    decision: Decision
    now: int
    tries: int


def close_attempt(db: sqlite3.Connection, attempt: Attempt, ending: Ending) -> Closed:
    """Record an attempt's end and what follows; nothing changes if it is neither open nor the last and given up."""
    found = db.execute(_FIND, (attempt.delivery.id,)).fetchone()
    if found is None or found[2] != attempt.number:
        return Closed(recorded=False)
    seq, state, _, receipt, reason, person = found
    late = state == State.UNKNOWN and reason == Reason.PROCESS_DIED and _was_lost(db, seq, attempt.number)
    if state != State.SENDING and not late:
        return Closed(recorded=False)
    outcome = ending.outcome
    message_id = outcome.provider_message_id if isinstance(outcome, Accepted | Uncertain) else None
    _move_delivery(db, seq, attempt.number, receipt, ending, message_id, late=late)
    _end_attempt(db, seq, attempt.number, ending)
    if not isinstance(ending.outcome, Accepted):
        note_refusal(db, person, ending.outcome.reason, ending.now)
    early = apply_early(db, attempt.delivery.provider, attempt.delivery.id, message_id, ending.now)
    released = release_probed(db, attempt.probes, ending.now) if isinstance(ending.outcome, Accepted) else ()
    hold_set = _set_hold(db, ending) or _hold_repeated(db, attempt.delivery, ending)
    return Closed(True, early if hold_set is None else (hold_set, *early), released)


def _was_lost(db: sqlite3.Connection, seq: int, number: int) -> bool:
    return db.execute(_WAS_LOST, (seq, number)).fetchone() is not None


def _set_hold(db: sqlite3.Connection, ending: Ending) -> NewHold | None:
    """Set the hold that the decision asks for; return it if it is new."""
    scope = ending.decision.hold_scope
    if scope is None:
        return None
    # Not the decision's reason: that may be that the message expired.
    reason = Reason.REQUEST_REFUSED if isinstance(ending.outcome, Accepted) else ending.outcome.reason
    return put_new(db, scope, reason, ending.now, ending.decision.hold_probe_at)


def _hold_repeated(db: sqlite3.Connection, delivery: Delivery, ending: Ending) -> NewHold | None:
    """Count a route's refusals and a provider's unreadable answers in a row; return the hold that the fifth sets."""
    of_route, of_provider = f"route:{delivery.route}", f"provider:{delivery.provider}"
    match ending.outcome:
        case Accepted():
            forget_refusals(db, delivery.route, of_provider)
        case Rejected(reason=reason, scope=Scope.MESSAGE):
            forget_refusals(db, "", of_provider)
            if count_refusal(db, delivery.route, reason) >= REFUSALS_LIMIT:
                probe_at = ending.now + probe_wait_ms(of_route)
                return put_new(db, of_route, Reason.REFUSED_REPEATEDLY, ending.now, probe_at)
        case Uncertain(reason=Reason.ANSWER_UNREADABLE as reason):
            if count_refusal(db, of_provider, reason) >= UNREADABLE_LIMIT:
                probe_at = ending.now + probe_wait_ms(of_provider)
                return put_new(db, of_provider, Reason.ANSWERS_UNREADABLE, ending.now, probe_at)
        case _:
            pass
    return None


def recover_open_attempts(db: sqlite3.Connection, now: int, settle_ms: int) -> int:
    """Make every open attempt's delivery unknown, or accepted if a receipt came."""
    return _lose(db, now, _ALL_LEASES, settle_ms)


def recover_lost_attempts(db: sqlite3.Connection, now: int, settle_ms: int) -> int:
    """The same for attempts whose lease has run out: whoever opened them will not close them any more."""
    return _lose(db, now, now, settle_ms)


def _move_delivery(
    db: sqlite3.Connection,
    seq: int,
    number: int,
    receipt: str | None,
    ending: Ending,
    message_id: str | None,
    *,
    late: bool,
) -> None:
    state, reason, due_at = ending.decision.state, ending.decision.reason, ending.decision.due_at
    detail = _read_detail(ending.outcome)
    if receipt is not None and settles(state, ReceiptStatus(receipt)):
        state, reason, due_at, detail = State.ACCEPTED, None, None, ""
    if state is State.PENDING and due_at is None:
        due_at = ending.now  # without a due time it would wait for ever
    if state is State.UNKNOWN and due_at is not None and _was_resent(db, seq, number):
        due_at = None  # it waits for its receipt, or a person
    spent = int(ending.decision.attempt_spent) - late  # giving it up has spent it already
    db.execute(_CLOSE, (state, reason, detail, due_at, spent, message_id, ending.now, seq))


def _was_resent(db: sqlite3.Connection, seq: int, number: int) -> bool:
    """Tell whether an earlier attempt of the delivery was uncertain, too; deaths of ours are counted elsewhere."""
    return bool(db.execute(_COUNT_UNCERTAIN, (seq, number)).fetchone()[0] >= RESENDS_LIMIT)


def _end_attempt(db: sqlite3.Connection, seq: int, number: int, ending: Ending) -> None:
    reason = None if isinstance(ending.outcome, Accepted) else ending.outcome.reason
    name = type(ending.outcome).__name__.lower()
    db.execute(_END_ATTEMPT, (ending.now, name, reason, _read_detail(ending.outcome), ending.tries, seq, number))


def _read_detail(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Accepted) else outcome.detail


def _lose(db: sqlite3.Connection, now: int, leases_until: int, settle_ms: int) -> int:
    db.execute(_RENEW_TURNS, (now, leases_until))
    db.execute(_LOSE_ATTEMPTS, (now, leases_until))
    return db.execute(_LOSE_DELIVERIES, (now, leases_until, settle_ms, DEATHS_LIMIT)).rowcount
