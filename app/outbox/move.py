"""Every change of a delivery's state: the statements that make it, what its timeline tells, what is counted of it.

The usual way (made, claimed once, accepted) is told by the delivery's own columns: `steps` says how far it went, and
the views `timeline` and `attempts` show it. What goes another way is first written out, into the tables of what is
kept. The timeline is read here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any

from app.delivery.policy import Cause
from app.delivery.transitions import Move
from app.errors import StoreError
from app.model.delivery import Reason, State
from app.outbox.store import Row, Tx

_MAKE = """
INSERT INTO deliveries (
    id, event_seq, route, provider, template, rank, recipient, message, checksum, state, reason, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, config_line, marketing, trace, person, steps,
    attempts, lease_until, last_attempt_at
) VALUES (
    :id, :event_seq, :route, :provider, :template, :rank, :recipient, :message, :checksum, :state, :reason, :detail,
    :due_at, :deadline_at, :created_at, :updated_at, :on_unknown, :config_hash, :config_line, :marketing, :trace,
    :person, :steps, :attempts, :lease_until, :last_attempt_at
)
"""
_MOVE = """
UPDATE deliveries SET state = :state, reason = :reason, detail = :detail, due_at = :due_at, lease_until = :lease_until,
    spent = spent + :spent, attempts = :attempt, updated_at = :now,
    steps = CASE WHEN :is_usual = 1 THEN steps + 1 ELSE 0 END,
    last_attempt_at = CASE WHEN :state = 'sending' THEN :now ELSE last_attempt_at END,
    accepted_at = CASE WHEN :state = 'accepted' THEN :now ELSE accepted_at END,
    provider_message_id = coalesce(CAST(:message_id AS TEXT), provider_message_id)
WHERE seq = :seq AND state = :was
"""
# The same for what goes on as most do; `{where}` is what else must hold of it.
_OPEN_FIRST = """
UPDATE deliveries SET state = 'sending', reason = NULL, lease_until = :lease_until, attempts = 1, updated_at = :now,
    steps = 2, last_attempt_at = :now /*postgres FROM MANY*/
WHERE seq = :seq AND state = 'pending' AND steps = 1
"""
ACCEPT = """
UPDATE deliveries SET state = 'accepted', reason = NULL, detail = '', due_at = NULL, lease_until = NULL,
    spent = spent + 1, updated_at = :now, steps = 3, accepted_at = :now,
    provider_message_id = coalesce(nullif(CAST(:message_id AS TEXT), ''), provider_message_id) /*postgres FROM MANY*/
WHERE id = :delivery_id AND state = 'sending' AND steps = 2 AND attempts = :attempt AND {where}
"""
_WAS_ACCEPTED = """
SELECT 1 AS found FROM deliveries
WHERE id = :delivery_id AND steps = 3 AND attempts = :attempt AND accepted_at = :now AND updated_at = :now
"""
_WRITE_OUT = (
    """
INSERT INTO timeline_kept (delivery_seq, n, at, kind, value, reason, detail, cause, attempt)
SELECT delivery_seq, n, at, kind, value, reason, detail, cause, attempt FROM timeline
WHERE delivery_seq = :seq AND n <= (SELECT steps FROM deliveries WHERE seq = :seq AND steps < 3)
""",
    """
INSERT INTO attempts_kept (delivery_seq, number, started_at)
SELECT seq, 1, last_attempt_at FROM deliveries WHERE seq = :seq AND steps = 2
""",
)
_TELL = """
INSERT INTO timeline_kept (delivery_seq, n, at, kind, value, reason, detail, cause, attempt) VALUES (
    :seq, 1 + coalesce((SELECT max(n) FROM timeline WHERE delivery_seq = :seq), 0), :now, :kind, :value, :reason,
    :detail, :cause, :attempt)
"""
_READ = """
SELECT at, kind, value, reason, detail, cause, attempt FROM timeline WHERE delivery_seq = :seq ORDER BY n
"""
# A replay made the event's message anew: the later one is the duty now, and this one is nobody's work any more.
MENDED = """d.state IN ('dead', 'expired') AND EXISTS (SELECT 1 FROM deliveries o /*sqlite INDEXED BY deliveries_event*/
    WHERE o.event_seq = d.event_seq AND o.seq > d.seq AND o.created_at <> d.created_at
    AND (o.route = d.route OR (o.provider, o.template) = (d.provider, d.template)))"""
# The very condition of the index that stays small: only where it stands in a query is a partial index used.
UNUSUAL = """(d.state = 'unknown' OR d.state = 'expired' OR d.state = 'suppressed' OR d.state = 'shadow'
    OR d.state = 'dead')"""
# A person's reading of a state is a count of its rows; the indexes of these are small enough to be counted, which
# spares most of the writes.
STATES = {str(state): state for state in State}  # `State(word)` takes three times as long
_STEPS = itemgetter("steps")
_INDEXED = (State.PENDING, State.SENDING)
_REACH = """
INSERT INTO reached (/*postgres slot, */route, provider, state, n)
VALUES (/*postgres :slot, */:route, :provider, :state, :n) ON CONFLICT (/*postgres slot, */route, provider, state)
DO UPDATE SET n = reached.n + excluded.n
"""
_STAND = """
INSERT INTO counts/*postgres _by_slot*/ AS kept (/*postgres slot, */provider, state, n)
VALUES (/*postgres :slot, */:provider, :state, :n)
ON CONFLICT (/*postgres slot, */provider, state) DO UPDATE SET n = kept.n + excluded.n
"""
_MOVED = "a delivery was moved by somebody else meanwhile"
_BY_HAND = "retried by hand"  # how the detail of a retry begins


def make_move(row: Row, state: State, cause: Cause, **more: Any) -> Move:
    """Return the way of a delivery from where it was read to be: its seq, route, provider, state and attempts."""
    return Move(row.seq, row.route, row.provider, STATES[row.state], state, cause, row.attempts, **more)


def move(tx: Tx, moves: Sequence[Move], now: int | None = None) -> int:
    """Move deliveries from one state to the next; return how many.

    Raises StoreError, so that all is rolled back, if one is not any more where it was read to be.
    """
    if not moves:
        return 0
    at = tx.now if now is None else now
    rows = [_list_values(each, at) for each in moves]
    unusual = [(each, row) for each, row in zip(moves, rows, strict=True) if not each.is_usual]
    for statement in _WRITE_OUT if unusual else ():
        tx.send(statement, [row for _, row in unusual])
    if tx.run_many(_MOVE, rows) != len(moves):
        raise StoreError(_MOVED)
    if told := [row for each, row in unusual if each.is_told]:
        tx.send(_TELL, told)
    for each, row in zip(moves, rows, strict=True):
        if each.state is not each.was:
            if each.was not in _INDEXED:
                tx.left[each.route, each.provider, row["was"]] += 1
            if each.state is not State.SENDING:
                tx.tally[each.route, each.provider, row["value"]] += 1
    return len(moves)


def open_first(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Open the first attempt of deliveries that went no other way than most; raises as `move` does.

    `rows`: seq, now and lease_until of each.
    """
    if rows and tx.run_many(_OPEN_FIRST, rows) != len(rows):
        raise StoreError(_MOVED)


def open_unwritten(row: dict[str, Any], now: int, lease_until: int) -> None:
    """Do the same to the columns of one that is made and not written yet, see Tx.unwritten."""
    row.update(state="sending", lease_until=lease_until, attempts=1, updated_at=now, steps=2, last_attempt_at=now)


def accept(tx: Tx, rows: Sequence[dict[str, Any]], where: str) -> Sequence[bool]:
    """End open attempts of deliveries that went no other way than most; tell of each whether it did and is accepted.

    Raises StoreError where that cannot be told of each: alone in a transaction, as the writer tries then, it can.
    `rows`: its route, provider, delivery_id (each once), attempt and message_id ("" for none), and what `where` asks
    for.
    """
    for row in rows:
        row["now"] = tx.now
    n = tx.run_many(ACCEPT.format(where=where), rows)
    done = [n > 0] * len(rows)
    if 0 < n < len(rows):  # to ask of each how it went costs as much again
        done = [bool(found) for found in tx.rows_many(_WAS_ACCEPTED, rows)]
        if sum(done) != n:  # some of them in this very millisecond, before: alone each is told exactly
            raise StoreError(_MOVED)
    for row in compress(rows, done):
        tx.tally[row["route"], row["provider"], "accepted"] += 1
    return done


def _list_values(made: Move, at: int) -> dict[str, Any]:
    """Return the columns of a delivery and of its timeline. SQLite takes a plain text at once, an enum's slowly."""
    state = str(made.state)
    return {
        "seq": made.seq,
        "was": str(made.was),
        "state": state,
        "reason": None if made.reason is None else str(made.reason),
        "detail": made.detail,
        "due_at": made.due_at,
        "lease_until": made.lease_until,
        "spent": made.spent,
        "message_id": made.message_id,
        "attempt": made.attempt,
        "is_usual": int(made.is_usual),
        "now": at,
        "kind": "state",
        "value": state,
        "cause": str(made.cause),
    }


def count_made(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Count the states in which deliveries are made. `rows`: their columns."""
    for row in rows:
        tx.tally[row["route"], row["provider"], row["state"]] += 1


def write_made(tx: Tx, rows: Sequence[dict[str, Any]], cause: Cause) -> None:
    """Insert deliveries, and begin the timelines of those that do not begin as most do. `rows`: their columns."""
    if all(map(_STEPS, rows)):
        tx.send(_MAKE, rows)
        return
    more = {"kind": "state", "cause": str(cause), "attempt": None}
    made = zip(rows, tx.add_many("deliveries", _MAKE, rows), strict=True)
    told = [{**row, **more, "seq": seq, "value": row["state"], "now": row["created_at"]} for row, seq in made]
    tx.send(_TELL, [row for row in told if not row["steps"]])


def write_unwritten(tx: Tx) -> None:
    """Insert what was made in this transaction and has waited for its claim, see Tx.unwritten."""
    if tx.unwritten:
        write_made(tx, tx.unwritten, Cause.MADE)
        tx.unwritten.clear()


def count_steps(row: Mapping[str, Any], cause: Cause) -> int:
    """Return the first `steps` of a delivery that is about to be made: 1 if it begins as most do."""
    return int(row["state"] == State.PENDING and cause is Cause.MADE and not row["reason"] and not row["detail"])


def forget(tx: Tx, rows: Sequence[Row]) -> None:
    """Count deliveries that are no more. `rows`: route, provider and state of each."""
    for row in rows:
        if row.state not in _INDEXED:
            tx.left[row.route, row.provider, row.state] += 1


def write_counts(tx: Tx) -> None:
    """Write what a transaction has counted: the last thing before its commit, so that a rollback drops it."""
    if not tx.tally and not tx.left:
        return
    standing: defaultdict[tuple[str, str], int] = defaultdict(int)
    for (_, provider, state), n in tx.tally.items():
        if state not in _INDEXED:
            standing[provider, state] += n
    for (_, provider, state), n in tx.left.items():
        standing[provider, state] -= n
    if tx.tally:
        tx.send(_REACH, [_name_count(*key, n) for key, n in sorted(tx.tally.items())])
    if changed := [_name_count("", *key, n) for key, n in sorted(standing.items()) if n]:
        tx.send(_STAND, changed)
    tx.tally.clear()
    tx.left.clear()


def _name_count(route: str, provider: str, state: str, n: int) -> dict[str, Any]:
    return {"route": route, "provider": provider, "state": state, "n": n}


def note_step(tx: Tx, seq: int, kind: str, value: str, reason: str | None = None, detail: str = "") -> None:
    """Add a row to a delivery's timeline that is no change of its state."""
    row = {"kind": kind, "value": value, "reason": reason, "detail": detail}
    tx.run(_TELL, seq=seq, now=tx.now, **row, cause=None, attempt=None)


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
