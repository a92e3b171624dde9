"""Ending attempts: with what they came to, or at start, with what a dead process left open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.delivery.decide import ACCEPTED, Decision
from app.delivery.policy import Cause
from app.delivery.transitions import (
    Move,
    Standing,
    end_attempt,
    lose_attempt,
    name_end,
    read_refusal,
    read_unreadable,
    restore,
    was_never_sent,
)
from app.model.delivery import Accepted, Attempt, Outcome, Reason, State, Uncertain
from app.model.message import NO_LIMITS, Limits, ReceiptStatus
from app.model.value import dataclass
from app.outbox.holds import count_refusals, give_back, list_counted, put_new, release_probed
from app.outbox.move import accept, make_move, move
from app.outbox.people import hash_message_id, note_refusal
from app.outbox.receipts import HAS_EARLY, apply_early
from app.outbox.store import Flights, Row, Tx, first
from app.outbox.values import Closed

_COLUMNS = "seq, route, provider, state, reason, detail, receipt, attempts, on_unknown"
_HAS_REFUSALS = "EXISTS (SELECT 1 FROM refusals r WHERE r.route IN (deliveries.route, 'provider:' || provider))"
# Most deliveries have no receipt that came early, and most routes were refused nothing.
_IS_PLAIN = "receipt IS NULL AND recipient <> ''"
IS_PLAIN_AMONG = f"{_IS_PLAIN} AND NOT {HAS_EARLY} AND NOT {_HAS_REFUSALS}"
# One look for all that end together, which mostly finds none.
_IS_ANY = """
SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM early_receipts) OR EXISTS (SELECT 1 FROM refusals)
"""
_FIND = f"""
SELECT {_COLUMNS}, person, recipient, steps = 2 AND receipt IS NULL AS is_usual, {HAS_EARLY} AS has_early,
    {_HAS_REFUSALS} AS has_refusals
FROM deliveries WHERE id = :delivery_id /*postgres FOR UPDATE*/
"""  # noqa: S608  # our own words only
# Whoever closes an attempt says how many requests it took; whoever gives it up as lost cannot.
_WAS_LOST = "SELECT 1 AS lost FROM attempts_kept WHERE delivery_seq = :seq AND number = :number AND tries IS NULL"
_COUNT_SILENCES = """
SELECT count(*) AS n FROM attempts_kept
WHERE delivery_seq = :seq AND number < :number AND outcome = 'uncertain' AND reason <> 'process_died'
"""
_END_ATTEMPT = """
UPDATE attempts_kept SET ended_at = :now, outcome = :outcome, reason = :reason, detail = :detail, tries = :tries
WHERE delivery_seq = :seq AND number = :number
"""
# The fencing of close_attempt: `sending` and the attempt's number; the two recoveries differ only in which rows.
_FIND_LOST = f"""
SELECT {_COLUMNS}, id, person, last_attempt_at,
    (SELECT count(*) FROM attempts_kept WHERE delivery_seq = seq AND reason = 'process_died') AS deaths
FROM deliveries /*sqlite INDEXED BY deliveries_sending*/
WHERE state = 'sending' AND lease_until IS NOT NULL AND lease_until <= :until ORDER BY seq
/*postgres FOR UPDATE SKIP LOCKED*/
"""  # noqa: S608  # our own words only
_LOSE_ATTEMPT = """
UPDATE attempts_kept SET ended_at = :now, outcome = :outcome, reason = :reason, detail = :detail
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
NEVER_LEFT = "the process died before the request's first byte left"
BACKUP_MARK = "backup"
_READ_RUN = "SELECT at FROM marks WHERE name = 'flights'"
_NOTE_RUN = """
INSERT INTO marks VALUES ('flights', :run) ON CONFLICT (name) DO UPDATE SET at = excluded.at
"""
_FIND_STANDING = "SELECT state, attempts FROM deliveries WHERE id = :id"
_CLEAR_MARK = "DELETE FROM marks WHERE name = :name"
# What had not ended; what is unknown and not to be sent again waits for a person already.
_FIND_OPEN = f"""
SELECT {_COLUMNS} FROM deliveries
WHERE state IN ('pending', 'sending') OR (state = 'unknown' AND due_at IS NOT NULL) ORDER BY seq /*postgres FOR UPDATE*/
"""  # noqa: S608  # our own words only
# Of a kept attempt `a`: a 2xx is told at the beginning of its detail. What refused with one may have taken it all the
# same.
_RECORDED = Closed(recorded=True)
PERHAPS_TAKEN = "(a.outcome = 'uncertain' OR (a.outcome = 'rejected' AND substr(a.detail, 1, 6) = 'HTTP 2'))"


@dataclass(frozen=True, slots=True)
class Ending:
    """An attempt came to this outcome, then this follows; `tries` are its HTTP requests."""

    attempt: Attempt
    outcome: Outcome
    decision: Decision
    tries: int

    @property
    def message_id(self) -> str | None:
        """The provider's own id of the message."""
        return self.outcome.provider_message_id if isinstance(self.outcome, Accepted | Uncertain) else None


def close_attempts(tx: Tx, endings: Sequence[Ending]) -> Sequence[Closed]:
    """Record what attempts came to and what follows; not `recorded` what is no longer the open one.

    One that was meanwhile given up as lost (`unknown`, its lease ran out) is still recorded if no other followed.
    The fifth message of a route in a row that is refused for the same reason sets a hold on the route. An accepted
    one ends the holds that it probed, but for those that a person has set meanwhile.
    """
    ids = {each.attempt.delivery.id for each in endings}
    if len(ids) < len(endings) or not all(_is_plain(each) for each in endings):  # then their order counts
        return _close_in_order(tx, endings)
    rows = [
        {**_list_ids(each), "route": each.attempt.delivery.route, "attempt": each.attempt.number} for each in endings
    ]
    plain = accept(tx, rows, IS_PLAIN_AMONG if len(rows) == 1 or tx.rows(_IS_ANY) else _IS_PLAIN)
    left = [each for each, is_done in zip(endings, plain, strict=True) if not is_done]
    others = iter(_close_in_order(tx, left) if left else ())
    return [_RECORDED if is_done else next(others) for is_done in plain]


def _is_plain(ending: Ending) -> bool:
    return (
        type(ending.outcome) is Accepted
        and (ending.decision is ACCEPTED or ending.decision == ACCEPTED)
        and ending.tries == ending.attempt.number == 1
        and not ending.attempt.probes
    )


def _close_in_order(tx: Tx, endings: Sequence[Ending]) -> Sequence[Closed]:
    found = [first(rows) for rows in tx.rows_many(_FIND, [_list_ids(each) for each in endings])]
    ours = {
        place: row
        for place, (ending, row) in enumerate(zip(endings, found, strict=True))
        if row is not None and row.attempts == ending.attempt.number and _is_open(tx, row)
    }
    if not ours:
        return [Closed(recorded=False)] * len(endings)
    open_ = [(endings[place], row) for place, row in ours.items()]
    standings = _read_standings(tx, open_)
    decided = [
        end_attempt(ending.outcome, ending.decision, standing, tx.now)
        for (ending, _), standing in zip(open_, standings, strict=True)
    ]
    moves = [_make_end(tx, *each, decision) for each, decision in zip(open_, decided, strict=True)]
    move(tx, moves)
    kept = [_list_end(*each, tx.now) for each, made in zip(open_, moves, strict=True) if not made.is_usual]
    if kept:
        tx.send(_END_ATTEMPT, kept)
    closed = iter([_conclude(tx, *each) for each in zip(open_, decided, strict=True)])
    return [next(closed) if place in ours else Closed(recorded=False) for place in range(len(endings))]


def _is_open(tx: Tx, row: Row) -> bool:
    """Tell whether a delivery's last attempt is open, or was given up by somebody who could not know its end."""
    return row.state == State.SENDING or (_is_late(row) and bool(tx.rows(_WAS_LOST, seq=row.seq, number=row.attempts)))


def _is_late(row: Row) -> bool:
    return bool(row.state == State.UNKNOWN and row.reason == Reason.PROCESS_DIED)


def _read_standings(tx: Tx, open_: Sequence[tuple[Ending, Row]]) -> Sequence[Standing]:
    """Return what the outbox knows beside the outcomes.

    Refusals in a row are counted here, and answers that nobody can read. An accepted message ends both counts; a
    refusal could be read, and ends the second.
    """
    asked = [row for ending, row in open_ if isinstance(ending.outcome, Uncertain)]
    found = tx.rows_many(_COUNT_SILENCES, [{"seq": row.seq, "number": row.attempts} for row in asked]) if asked else ()
    silences = {row.seq: counted[0].n for row, counted in zip(asked, found, strict=True)}
    ended = [
        ((row.route, read_refusal(of.outcome)), (f"provider:{row.provider}", read_unreadable(of.outcome)))
        for of, row in open_
    ]
    are_counted = any([why for both in ended for _, why in both] + [row.has_refusals for _, row in open_])
    streaks = count_refusals(tx, ended) if are_counted else [(0, 0)] * len(open_)
    return [
        Standing(row.route, row.provider, _read_receipt(row), silences.get(row.seq, 0), *counted)
        for (_, row), counted in zip(open_, streaks, strict=True)
    ]


def _read_receipt(row: Row) -> ReceiptStatus | None:
    return None if row.receipt is None else ReceiptStatus(row.receipt)


def _make_end(tx: Tx, ending: Ending, found: Row, decision: Decision) -> Move:
    late, message_id = _is_late(found), ending.message_id
    if not found.recipient:  # whoever answers after its delivery was wiped leaves no number in an id
        message_id = hash_message_id(tx.people_key, message_id)
    cause = name_end(ending.outcome, decision.state, is_late=late)
    return make_move(
        found,
        decision.state,
        cause,
        reason=decision.reason,
        detail="" if cause is Cause.RECEIPT else _read_detail(ending.outcome),
        due_at=decision.due_at,
        spent=int(decision.attempt_spent) - late,  # giving it up has spent it already
        message_id=message_id,
        is_usual=bool(found.is_usual) and decision.state is State.ACCEPTED and ending.tries == 1,
    )


def _conclude(tx: Tx, closing: tuple[Ending, Row], decision: Decision) -> Closed:
    """Do what an attempt's end says beyond its delivery."""
    ending, found = closing
    if not isinstance(ending.outcome, Accepted):
        note_refusal(tx, found.person, ending.outcome.reason)
    if ending.attempt.counted and was_never_sent(ending.outcome):
        give_back(tx, found.seq, ending.attempt.counted, is_over=decision.state is not State.PENDING)
    holds_set = apply_early(tx, **_list_ids(ending)) if found.has_early else ()
    probes = ending.attempt.probes
    released = release_probed(tx, probes) if probes and isinstance(ending.outcome, Accepted) else ()
    hold_set = None
    if decision.hold_scope is not None and decision.hold_reason is not None:
        hold_set = put_new(tx, decision.hold_scope, decision.hold_reason, decision.hold_probe_at)
    return Closed(True, holds_set if hold_set is None else (hold_set, *holds_set), released)


def _list_ids(ending: Ending) -> dict[str, Any]:
    it = ending.attempt.delivery
    return {"provider": it.provider, "delivery_id": it.id, "message_id": ending.message_id or ""}


def _list_end(ending: Ending, found: Row, now: int) -> dict[str, Any]:
    return {
        "now": now,
        "outcome": type(ending.outcome).__name__.lower(),
        "reason": None if isinstance(ending.outcome, Accepted) else str(ending.outcome.reason),
        "detail": _read_detail(ending.outcome),
        "tries": ending.tries,
        "seq": found.seq,
        "number": found.attempts,
    }


def _read_detail(outcome: Outcome) -> str:
    return "" if isinstance(outcome, Accepted) else outcome.detail


def recover_open_attempts(tx: Tx, settle_ms: int, flights: Flights | None = None, limits: Limits = NO_LIMITS) -> int:
    """At start: make every delivery with an open attempt `unknown` (reason `process_died`). Return how many.

    `on_unknown: resend` makes it due after `settle_ms`, unless that was the third such death: what may kill
    the process waits for a person. One that already has a receipt becomes `accepted`; one whose request surely never
    left, as `flights` tell, `pending`, and counts in its `limits` no more.
    """
    flights = flights or Flights()
    never_left = _find_never_left(tx, flights)
    tx.run(_NOTE_RUN, run=flights.run)
    return _lose(tx, tx.now, _ALL_LEASES, settle_ms, never_left, limits)


def _find_never_left(tx: Tx, flights: Flights) -> Callable[[Row], bool]:
    """Return what tells of a delivery with an open attempt whether that surely never left.

    Flights that do not fit the outbox (it was copied by hand, perhaps, and put back) tell nothing.
    """
    noted = first(tx.rows(_READ_RUN))
    left = None if noted is None else flights.list_left(noted.at)
    if left is None:
        return lambda _row: False
    flying, landed = left
    if not all(_fits(tx, *each, is_over=each in landed) for each in flying | landed):
        return lambda _row: False
    return lambda row: (row.id, row.attempts) not in flying


def _fits(tx: Tx, id_: str, number: int, *, is_over: bool) -> bool:
    row = first(tx.rows(_FIND_STANDING, id=id_))
    if row is None or row.attempts < number:
        return False
    return not is_over or row.attempts > number or row.state != State.SENDING


def recover_lost_attempts(tx: Tx, now: int, settle_ms: int) -> int:
    """The same for attempts whose lease has run out: whoever opened them will not close them any more."""
    return _lose(tx, now, now, settle_ms, lambda _row: False)


def _lose(
    tx: Tx, now: int, until: int, settle_ms: int, never_left: Callable[[Row], bool], limits: Limits = NO_LIMITS
) -> int:
    found = tx.rows(_FIND_LOST, until=until)
    if not found:
        return 0
    tx.run(_RENEW_TURNS, now=now, until=until)
    moves = []
    for row in found:
        standing = Standing(row.route, row.provider, _read_receipt(row), deaths=row.deaths + 1)
        decision = lose_attempt(standing, row.on_unknown, now, settle_ms, never_left=never_left(row))
        more = {"reason": decision.reason, "detail": row.detail, "due_at": decision.due_at}
        moves.append(make_move(row, decision.state, Cause.LOST, **more, spent=int(decision.attempt_spent)))
        uncounts = never_left(row) and decision.state is not State.ACCEPTED
        if uncounts and (counted := list_counted(limits, row, row.last_attempt_at)):
            give_back(tx, row.seq, counted, is_over=decision.state is not State.PENDING)
    move(tx, moves, now)
    _lose_attempts(tx, [row for row in found if not never_left(row)], Reason.PROCESS_DIED, now)
    _lose_attempts(tx, [row for row in found if never_left(row)], Reason.PROCESS_DIED, now, never_left=True)
    return sum(made.state is not State.PENDING for made in moves)


def _lose_attempts(tx: Tx, rows: Sequence[Row], reason: Reason, now: int, *, never_left: bool = False) -> None:
    """End what nobody will end any more; how many requests it took nobody knows."""
    end = {"now": now, "reason": str(reason), "outcome": "uncertain", "detail": ""}
    if never_left:
        end |= {"outcome": "retryable", "detail": NEVER_LEFT}
    if rows:
        tx.send(_LOSE_ATTEMPT, [{**end, "seq": row.seq, "attempt": row.attempts} for row in rows])


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
    decided = [(row, restore(State(row.state), _read_receipt(row))) for row in found]
    moves = [make_move(row, it.state, Cause.RESTORED, reason=it.reason) for row, it in decided]
    move(tx, moves)
    _lose_attempts(tx, [row for row in found if row.state == State.SENDING], Reason.RESTORED, tx.now)
    return sum(it.state is State.UNKNOWN for _, it in decided)
