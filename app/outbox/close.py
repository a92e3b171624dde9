"""Ending attempts: with what they came to, or at start, with what a dead process left open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.delivery.decide import Decision
from app.delivery.transitions import Cause, Move, Standing, end_attempt, is_refusal, is_unreadable, lose_attempt
from app.model.delivery import Accepted, Attempt, Outcome, Reason, Rejected, State, Uncertain
from app.model.receipt import ReceiptStatus
from app.outbox.holds import count_refusal, forget_refusals, put_new, release_probed
from app.outbox.move import move
from app.outbox.people import hash_message_id
from app.outbox.receipts import apply_early
from app.outbox.store import Row, Tx, first
from app.outbox.suppressions import note_refusal
from app.outbox.values import Closed

_COLUMNS = "seq, route, provider, state, reason, detail, receipt, attempts, on_unknown"
_FIND = f"SELECT {_COLUMNS}, person, recipient FROM deliveries WHERE id = :id"  # noqa: S608  # our own words only
# Whoever closes an attempt says how many requests it took; whoever gives it up as lost cannot.
_WAS_LOST = "SELECT 1 AS lost FROM attempts WHERE delivery_seq = :seq AND number = :number AND tries IS NULL"
_COUNT_SILENCES = """
SELECT count(*) AS n FROM attempts
WHERE delivery_seq = :seq AND number < :number AND outcome = 'uncertain' AND reason <> 'process_died'
"""
_END_ATTEMPT = """
UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason, detail = :detail, tries = :tries
WHERE delivery_seq = :seq AND number = :number
"""
# The fencing of close_attempt: `sending` and the attempt's number; the two recoveries differ only in which rows.
_FIND_LOST = f"""
SELECT {_COLUMNS},
    (SELECT count(*) FROM attempts WHERE delivery_seq = seq AND reason = 'process_died') AS deaths
FROM deliveries /*sqlite INDEXED BY deliveries_sending*/
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= :until ORDER BY seq
"""  # noqa: S608  # our own words only
_LOSE_ATTEMPT = """
UPDATE attempts SET ended_at = :now, outcome = 'uncertain', reason = :reason, detail = ''
WHERE delivery_seq = :seq AND number = :attempt
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
# What had not ended; what is unknown and not to be sent again waits for a person already.
_FIND_OPEN = f"""
SELECT {_COLUMNS} FROM deliveries
WHERE state IN ('pending', 'sending') OR (state = 'unknown' AND due_at IS NOT NULL) ORDER BY seq
"""  # noqa: S608  # our own words only
# Of an attempt `a`: a 2xx is told at the beginning of its detail. What refused with one may have taken it all the same.
PERHAPS_TAKEN = "(a.outcome = 'uncertain' OR (a.outcome = 'rejected' AND substr(a.detail, 1, 6) = 'HTTP 2'))"


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
    message_id = outcome.provider_message_id if isinstance(outcome, Accepted | Uncertain) else None
    decision = end_attempt(outcome, ending.decision, _read_standing(tx, found, outcome), tx.now)
    _move_delivery(tx, found, outcome, decision, message_id, late=late)
    _end_attempt(tx, found.seq, attempt.number, ending)
    if not isinstance(outcome, Accepted):
        note_refusal(tx, found.person, outcome.reason)
    early = apply_early(tx, attempt.delivery.provider, attempt.delivery.id, message_id)
    released = release_probed(tx, attempt.probes) if isinstance(outcome, Accepted) else ()
    hold_set = None
    if decision.hold_scope is not None and decision.hold_reason is not None:
        hold_set = put_new(tx, decision.hold_scope, decision.hold_reason, decision.hold_probe_at)
    return Closed(True, early if hold_set is None else (hold_set, *early), released)


def _read_standing(tx: Tx, found: Row, outcome: Outcome) -> Standing:
    """Return what the outbox knows beside the outcome. Refusals in a row are counted here, and answers nobody can read.

    An accepted message ends both counts; a refusal could be read, and ends the second.
    """
    silences = refusals = unreadable = 0
    of_provider = f"provider:{found.provider}"
    if isinstance(outcome, Uncertain):
        silences = tx.rows(_COUNT_SILENCES, seq=found.seq, number=found.attempts)[0].n
    if is_unreadable(outcome):
        unreadable = count_refusal(tx, of_provider, Reason.ANSWER_UNREADABLE)
    elif isinstance(outcome, Accepted):
        forget_refusals(tx, found.route, of_provider)
    elif isinstance(outcome, Rejected) and is_refusal(outcome):
        forget_refusals(tx, "", of_provider)
        refusals = count_refusal(tx, found.route, outcome.reason)
    receipt = found.receipt and ReceiptStatus(found.receipt)
    return Standing(found.route, found.provider, receipt, silences, refusals, unreadable)


def _move_delivery(
    tx: Tx, found: Row, outcome: Outcome, decision: Decision, message_id: str | None, *, late: bool
) -> None:
    had_receipt = decision.state is State.ACCEPTED and not isinstance(outcome, Accepted)
    if not found.recipient:  # whoever answers after its delivery was wiped leaves no number in an id
        message_id = hash_message_id(tx.people_key, message_id)
    made = _make_move(
        found,
        decision.state,
        Cause.RECEIPT if had_receipt else Cause.ENDED_LATE if late else Cause.ENDED,
        reason=decision.reason,
        detail="" if had_receipt else _read_detail(outcome),
        due_at=decision.due_at,
        spent=int(decision.attempt_spent) - late,  # giving it up has spent it already
        message_id=message_id,
    )
    move(tx, [made])


def _make_move(found: Row, state: State, cause: Cause, **more: Any) -> Move:
    return Move(found.seq, found.route, found.provider, State(found.state), state, cause, found.attempts, **more)


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


def recover_open_attempts(tx: Tx, settle_ms: int) -> int:
    """At start: make every delivery with an open attempt `unknown` (reason `process_died`). Return how many.

    `on_unknown: resend` makes it due after `settle_ms`, unless that was the third such death: what may kill
    the process waits for a person. One that already has a receipt becomes `accepted`.
    """
    return _lose(tx, tx.now, _ALL_LEASES, settle_ms)


def recover_lost_attempts(tx: Tx, now: int, settle_ms: int) -> int:
    """The same for attempts whose lease has run out: whoever opened them will not close them any more."""
    return _lose(tx, now, now, settle_ms)


def _lose(tx: Tx, now: int, until: int, settle_ms: int) -> int:
    found = tx.rows(_FIND_LOST, until=until)
    if not found:
        return 0
    tx.run(_RENEW_TURNS, now=now, until=until)
    _lose_attempts(tx, found, Reason.PROCESS_DIED, now)
    moves = []
    for row in found:
        standing = Standing(row.route, row.provider, row.receipt and ReceiptStatus(row.receipt), deaths=row.deaths + 1)
        decision = lose_attempt(standing, row.on_unknown, now, settle_ms)
        more = {"reason": decision.reason, "detail": row.detail, "due_at": decision.due_at, "spent": 1}
        moves.append(_make_move(row, decision.state, Cause.LOST, **more))
    return move(tx, moves, now)


def _lose_attempts(tx: Tx, rows: Sequence[Row], reason: Reason, now: int) -> None:
    """End what nobody will end any more; how many requests it took nobody knows."""
    if rows:
        lost = [{"now": now, "seq": row.seq, "attempt": row.attempts, "reason": reason} for row in rows]
        tx.run_many(_LOSE_ATTEMPT, lost)


def settle_restored(tx: Tx) -> int | None:
    """If the store is a backup that was put back, stop what had not ended in it and clear its mark; None if it is none.

    Everything pending, sending or waiting to be resent becomes `unknown`, reason `restored`, and is sent only by
    hand. Plans are dropped, for they may have been applied since. Returns how many deliveries were stopped.
    """
    if not tx.run(_CLEAR_MARK, name=BACKUP_MARK):
        return None
    tx.run("DELETE FROM reached")  # a count that went back would be taken for one that began again at 0
    tx.run("DELETE FROM plans")
    found = tx.rows(_FIND_OPEN)
    sending = [row for row in found if row.state == State.SENDING]
    _lose_attempts(tx, sending, Reason.RESTORED, tx.now)
    sent = {row.seq for row in sending if row.receipt is not None}  # a handset has reported on it
    move(tx, [_make_move(row, State.ACCEPTED, Cause.RESTORED) for row in found if row.seq in sent])
    reason = Reason.RESTORED
    stopped = [_make_move(row, State.UNKNOWN, Cause.RESTORED, reason=reason) for row in found if row.seq not in sent]
    return move(tx, stopped)
