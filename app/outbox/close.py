"""Ending attempts: with what they came to, or at start, with what a dead process left open."""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.decide import Decision, probe_wait_ms
from app.model.delivery import Accepted, Attempt, Outcome, Reason, Rejected, Scope, State
from app.model.receipt import ReceiptStatus
from app.outbox.holds import count_refusal, forget_refusals, put_new, release_probed
from app.outbox.people import hash_message_id
from app.outbox.receipts import apply_early, settles
from app.outbox.store import Row, Tx, first
from app.outbox.suppressions import note_refusal
from app.outbox.values import Closed, NewHold

DEATHS_LIMIT = 3  # a delivery that was open in so many dead processes may be what kills them
RESENDS_LIMIT = 1  # who answers nothing twice may take every one of them: the customer would get it every 15 minutes
REFUSALS_LIMIT = 5  # in a row, for one reason: then it is the route's fault rather than the messages'

_FIND = "SELECT seq, state, attempts, receipt, reason, person, recipient FROM deliveries WHERE id = :id"
# Whoever closes an attempt says how many requests it took; whoever gives it up as lost cannot.
_WAS_LOST = "SELECT 1 AS lost FROM attempts WHERE delivery_seq = :seq AND number = :number AND tries IS NULL"
_COUNT_UNCERTAIN = """
SELECT count(*) AS n FROM attempts
WHERE delivery_seq = :seq AND number < :number AND outcome = 'uncertain' AND reason <> 'process_died'
"""
_CLOSE = """
UPDATE deliveries SET state = :state, reason = :reason, detail = :detail, due_at = :due_at, spent = spent + :spent,
    lease_until = NULL, provider_message_id = coalesce(CAST(:message_id AS TEXT), provider_message_id),
    updated_at = :now WHERE seq = :seq
"""
_END_ATTEMPT = """
UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason, detail = :detail, tries = :tries
WHERE delivery_seq = :seq AND number = :number
"""
# The fencing of close_attempt: `sending` and the attempt's number; the two recoveries differ only in which rows.
_LOSE_ATTEMPTS = """
UPDATE attempts SET ended_at = :now, outcome = 'uncertain', reason = 'process_died', detail = ''
WHERE (delivery_seq, number) IN
    (SELECT seq, attempts FROM deliveries WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= :until)
"""
_LOSE_DELIVERIES = """
UPDATE deliveries SET lease_until = NULL, updated_at = :now, spent = spent + 1,
    state = CASE WHEN receipt IS NULL THEN 'unknown' ELSE 'accepted' END,
    reason = CASE WHEN receipt IS NULL THEN 'process_died' END,
    due_at = CASE WHEN receipt IS NULL AND on_unknown = 'resend' AND
        (SELECT count(*) FROM attempts WHERE delivery_seq = seq AND reason = 'process_died') < :deaths
        THEN :now + :settle_ms END
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= :until
"""
# An open attempt may have reached its recipient at any moment until now, whenever it was claimed.
_RENEW_TURNS = """
INSERT INTO recipient_turns SELECT DISTINCT provider, recipient, CAST(:now AS BIGINT)
FROM deliveries /*sqlite INDEXED BY deliveries_sending*/
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= :until
ON CONFLICT (provider, recipient) DO UPDATE SET last_at = excluded.last_at
WHERE recipient_turns.last_at < excluded.last_at
"""
_ALL_LEASES = 2**62
BACKUP_MARK = "backup"
_CLEAR_MARK = "DELETE FROM marks WHERE name = :name"
# In this order each sees only what those before it left.
_END_ATTEMPTS = """
UPDATE attempts SET ended_at = :now, outcome = 'uncertain', reason = 'restored', detail = ''
WHERE (delivery_seq, number) IN (SELECT seq, attempts FROM deliveries WHERE state = 'sending')
"""
# A handset has reported on it, so it was sent.
_ACCEPT_REPORTED = """
UPDATE deliveries SET state = 'accepted', lease_until = NULL, due_at = NULL, updated_at = :now
WHERE state = 'sending' AND receipt IS NOT NULL
"""
_NOTE_UNKNOWN = """
INSERT INTO timeline (delivery_seq, n, at, kind, value, reason, detail)
SELECT seq, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = seq), 0), CAST(:now AS BIGINT),
    'state', 'unknown', 'restored', '' FROM deliveries WHERE state = 'unknown' AND due_at IS NOT NULL
"""
_STOP_UNKNOWN = """
UPDATE deliveries SET reason = 'restored', detail = '', due_at = NULL, updated_at = :now
WHERE state = 'unknown' AND due_at IS NOT NULL
"""
_STOP_OTHERS = """
UPDATE deliveries SET state = 'unknown', reason = 'restored', detail = '', due_at = NULL, lease_until = NULL,
    updated_at = :now WHERE state IN ('pending', 'sending')
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """What an attempt came to, and what follows; `tries` are its HTTP requests."""

    outcome: Outcome
    decision: Decision
    tries: int


def close_attempt(tx: Tx, attempt: Attempt, ending: Ending) -> Closed:
    """Record what an attempt came to and what follows; not `recorded` if it is no longer the open one.

    One that was meanwhile given up as lost (`unknown`, its lease ran out) is still recorded if no other followed.
    The fifth message of a route in a row that is refused for the same reason sets a hold on the route. An accepted
    one ends the holds that it probed, but for those that a person has set meanwhile.
    """
    found = first(tx.rows(_FIND, id=attempt.delivery.id))
    if found is None or found.attempts != attempt.number:
        return Closed(recorded=False)
    given_up = found.state == State.UNKNOWN and found.reason == Reason.PROCESS_DIED
    late = given_up and bool(tx.rows(_WAS_LOST, seq=found.seq, number=attempt.number))
    if found.state != State.SENDING and not late:
        return Closed(recorded=False)
    outcome = ending.outcome
    message_id = outcome.provider_message_id if isinstance(outcome, Accepted) else None
    _move_delivery(tx, found, ending, message_id, late=late)
    _end_attempt(tx, found.seq, attempt.number, ending)
    if not isinstance(outcome, Accepted):
        note_refusal(tx, found.person, outcome.reason)
    early = apply_early(tx, attempt.delivery.provider, attempt.delivery.id, message_id)
    released = release_probed(tx, attempt.probes) if isinstance(outcome, Accepted) else ()
    hold_set = _set_hold(tx, ending) or _hold_route(tx, attempt.delivery.route, outcome)
    return Closed(True, early if hold_set is None else (hold_set, *early), released)


def _set_hold(tx: Tx, ending: Ending) -> NewHold | None:
    """Set the hold that the decision asks for; return it if it is new."""
    scope = ending.decision.hold_scope
    if scope is None:
        return None
    # Not the decision's reason: that may be that the message expired.
    reason = Reason.REQUEST_REFUSED if isinstance(ending.outcome, Accepted) else ending.outcome.reason
    return put_new(tx, scope, reason, ending.decision.hold_probe_at)


def _hold_route(tx: Tx, route: str, outcome: Outcome) -> NewHold | None:
    """Count a route's refusals in a row, and hold it at the fifth; return that hold if it is new."""
    match outcome:
        case Accepted():
            forget_refusals(tx, route)
        case Rejected(reason=reason, scope=Scope.MESSAGE) if count_refusal(tx, route, reason) >= REFUSALS_LIMIT:
            scope = f"route:{route}"
            return put_new(tx, scope, Reason.REFUSED_REPEATEDLY, tx.now + probe_wait_ms(scope))
        case _:
            pass
    return None


def recover_open_attempts(tx: Tx, settle_ms: int) -> int:
    """At start: make every delivery with an open attempt `unknown` (reason `process_died`). Return how many.

    `on_unknown: resend` makes it due after `settle_ms`, unless that was the third such death: what may kill
    the process waits for a person. One that already has a receipt becomes `accepted`.
    """
    return _lose(tx, tx.now, _ALL_LEASES, settle_ms)


def recover_lost_attempts(tx: Tx, now: int, settle_ms: int) -> int:
    """The same for attempts whose lease has run out: whoever opened them will not close them any more."""
    return _lose(tx, now, now, settle_ms)


def settle_restored(tx: Tx) -> int | None:
    """If the store is a backup that was put back, stop what had not ended in it and clear its mark; None if it is none.

    Everything pending, sending or waiting to be resent becomes `unknown`, reason `restored`, and is sent only by
    hand. Plans are dropped, for they may have been applied since. Returns how many deliveries were stopped.
    """
    if not tx.run(_CLEAR_MARK, name=BACKUP_MARK):
        return None
    tx.run("DELETE FROM reached")  # a count that went back would be taken for one that began again at 0
    tx.run(_END_ATTEMPTS, now=tx.now)
    tx.run(_ACCEPT_REPORTED, now=tx.now)
    tx.run(_NOTE_UNKNOWN, now=tx.now)
    stopped = tx.run(_STOP_UNKNOWN, now=tx.now) + tx.run(_STOP_OTHERS, now=tx.now)
    tx.run("DELETE FROM plans")
    return stopped


def _move_delivery(tx: Tx, found: Row, ending: Ending, message_id: str | None, *, late: bool) -> None:
    state, reason, due_at = ending.decision.state, ending.decision.reason, ending.decision.due_at
    detail = _read_detail(ending.outcome)
    if found.receipt is not None and settles(state, ReceiptStatus(found.receipt)):
        state, reason, due_at, detail = State.ACCEPTED, None, None, ""
    if state is State.PENDING and due_at is None:
        due_at = tx.now  # without a due time it would wait for ever
    if state is State.UNKNOWN and due_at is not None and _was_resent(tx, found):
        due_at = None  # it waits for its receipt, or a person
    if not found.recipient:  # whoever answers after its delivery was wiped leaves no number in an id
        message_id = hash_message_id(tx.people_key, message_id)
    tx.run(
        _CLOSE,
        state=state,
        reason=reason,
        detail=detail,
        due_at=due_at,
        spent=int(ending.decision.attempt_spent) - late,  # giving it up has spent it already
        message_id=message_id,
        now=tx.now,
        seq=found.seq,
    )


def _was_resent(tx: Tx, found: Row) -> bool:
    """Tell whether an earlier attempt of the delivery was uncertain, too; deaths of ours are counted elsewhere."""
    return bool(tx.rows(_COUNT_UNCERTAIN, seq=found.seq, number=found.attempts)[0].n >= RESENDS_LIMIT)


def _end_attempt(tx: Tx, seq: int, number: int, ending: Ending) -> None:
    tx.run(
        _END_ATTEMPT,
        now=tx.now,
        outcome=type(ending.outcome).__name__.lower(),
        reason=None if isinstance(ending.outcome, Accepted) else ending.outcome.reason,
        detail=_read_detail(ending.outcome),
        tries=ending.tries,
        seq=seq,
        number=number,
    )


def _read_detail(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Accepted) else outcome.detail


def _lose(tx: Tx, now: int, until: int, settle_ms: int) -> int:
    tx.run(_RENEW_TURNS, now=now, until=until)
    tx.run(_LOSE_ATTEMPTS, now=now, until=until)
    return tx.run(_LOSE_DELIVERIES, now=now, until=until, settle_ms=settle_ms, deaths=DEATHS_LIMIT)
