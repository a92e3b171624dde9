"""Every change of a delivery's state: the one statement that makes it, its timeline row, and what is counted of it.

The timeline is read here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from app.delivery.transitions import Cause, Move
from app.errors import StoreError
from app.model.delivery import Reason, State
from app.outbox.store import Tx

_MOVE = """
UPDATE deliveries SET state = :state, reason = :reason, detail = :detail, due_at = :due_at, lease_until = :lease_until,
    spent = spent + :spent, attempts = :attempt, updated_at = :now,
    last_attempt_at = CASE WHEN :state = 'sending' THEN :now ELSE last_attempt_at END,
    provider_message_id = coalesce(CAST(:message_id AS TEXT), provider_message_id)
WHERE seq = :seq AND state = :was
"""
_TELL = """
INSERT INTO timeline (delivery_seq, n, at, kind, value, reason, detail, cause, attempt) VALUES (
    :seq, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = :seq), 0), :now, :kind, :value, :reason,
    :detail, :cause, :attempt)
"""
_READ = """
SELECT at, kind, value, reason, detail, cause, attempt FROM timeline WHERE delivery_seq = :seq ORDER BY n
"""
_BY_HAND = "retried by hand"  # how the detail of a retry begins
_OF_STATE = {"kind": "state"}
_COLUMNS = tuple(field.name for field in fields(Move))


def move(tx: Tx, moves: Sequence[Move], now: int | None = None) -> int:
    """Move deliveries from one state to the next; return how many.

    Raises StoreError, so that all is rolled back, if one is not any more where it was read to be.
    """
    if not moves:
        return 0
    at = tx.now if now is None else now
    if tx.run_many(_MOVE, [{**_list_values(each), "now": at} for each in moves]) != len(moves):
        raise StoreError("a delivery was moved by somebody else meanwhile")
    told = [each for each in moves if each.is_told]
    if told:
        tx.run_many(_TELL, [{**_list_values(each), "now": at, **_OF_STATE, "value": each.state} for each in told])
    for each in moves:
        if each.state is not each.was:
            tx.left[each.route, each.provider, each.was] += 1
            tx.tally[each.route, each.provider, each.state] += 1
    return len(moves)


def begin(tx: Tx, rows: Sequence[Mapping[str, Any]], cause: Cause) -> None:
    """Note the states in which deliveries were made. `rows`: their columns."""
    of_all = {**_OF_STATE, "cause": cause, "attempt": None}
    tx.run_many(_TELL, [{**row, **of_all, "value": row["state"], "now": row["created_at"]} for row in rows])
    for row in rows:
        tx.tally[row["route"], row["provider"], row["state"]] += 1


def note_step(tx: Tx, seq: int, kind: str, value: str, reason: str | None = None, detail: str = "") -> None:
    """Add a row to a delivery's timeline that is no change of its state."""
    row = {"kind": kind, "value": value, "reason": reason, "detail": detail}
    tx.run(_TELL, seq=seq, now=tx.now, **row, cause=None, attempt=None)


def _list_values(made: Move) -> dict[str, Any]:
    return {name: getattr(made, name) for name in _COLUMNS}


def read_timeline(tx: Tx, seq: int) -> Sequence[dict[str, Any]]:
    """Return what happened to a delivery, oldest first; each change of its state has its cause and attempt."""
    return name_causes([row._asdict() for row in tx.rows(_READ, seq=seq)])


def name_causes(timeline: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Fill in what a release before causes were kept has not written, as far as its rows tell it."""
    named: list[dict[str, Any]] = []
    was: str | None = None
    attempt = 0
    for row in timeline:
        named.append(row)
        if row["kind"] == "state":
            attempt = row["attempt"] or attempt + (row["value"] == State.SENDING)
            if row["cause"] is None:
                before = named[-2] if was else row
                named[-1] = {**row, "cause": _guess_cause(was, row, before), "attempt": attempt}
            was = row["value"]
    return named


def _guess_cause(was: str | None, row: dict[str, Any], before: dict[str, Any]) -> Cause:
    match row["value"]:
        case _ if was is None:
            return Cause.MADE
        case State.SENDING:
            return Cause.CLAIMED
        case _ if row["reason"] == Reason.RESTORED:
            return Cause.RESTORED
        case _ if was == State.SENDING:
            return Cause.LOST if row["reason"] == Reason.PROCESS_DIED else Cause.ENDED
        case State.PENDING:
            return Cause.RETRIED if row["detail"].startswith(_BY_HAND) else Cause.RESENT
        case State.ACCEPTED:
            return Cause.RECEIPT if before["kind"] == "receipt" else Cause.ENDED_LATE
        case State.EXPIRED:
            return Cause.DEADLINE
        case State.DEAD:
            return Cause.DAMAGED
        case _:
            return Cause.ERASED if row["reason"] == Reason.ERASED else Cause.OPTED_OUT
