"""Time alone changes this: deadlines, settled unknowns, lost leases, rows nobody needs any more, a clock set back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from app.delivery.pace import RECIPIENT_GAP_MS
from app.delivery.policy import Cause
from app.delivery.replay import KEEP_PLAN_MS
from app.delivery.transitions import Retry, judge_retry
from app.model.delivery import DEDUP_WINDOW_MS, Reason, State
from app.outbox.batch import Apart
from app.outbox.close import PERHAPS_TAKEN, recover_lost_attempts
from app.outbox.holds import LONGEST_MS, end_overdue, shift_sends
from app.outbox.move import make_move, move
from app.outbox.receipts import KEEP_EARLY_MS, apply_overlooked
from app.outbox.store import Row, Store, Tx, first
from app.outbox.values import SweepCounts

EARLY_LIMIT = 100_000  # receipts of no delivery: a flood of them must not fill the disk
SWEEP_LIMIT = 1_000  # deliveries a transaction, so that intake never waits long behind a sweep

_COLUMNS = "seq, route, provider, state, reason, detail, due_at, attempts, spent"
_FIND_OVERDUE = f"""
SELECT {_COLUMNS} FROM deliveries WHERE state = 'pending' AND deadline_at <= :now ORDER BY deadline_at LIMIT :limit
/*postgres FOR UPDATE SKIP LOCKED*/
"""  # noqa: S608  # our own words only
_DROP_SURPLUS = """
DELETE FROM early_receipts WHERE received_at <
    (SELECT received_at FROM early_receipts ORDER BY received_at DESC LIMIT 1 OFFSET :kept)
"""
# Past its deadline an unknown one waits for a receipt or a person only, so it leaves the index of what is due.
_LEAVE_UNKNOWN = """
UPDATE deliveries SET due_at = NULL WHERE state = 'unknown' AND due_at <= :now AND deadline_at <= :now
"""
_FIND_DUE = f"""
SELECT {_COLUMNS} FROM deliveries WHERE state = 'unknown' AND due_at <= :now ORDER BY due_at LIMIT :limit
/*postgres FOR UPDATE SKIP LOCKED*/
"""  # noqa: S608  # our own words only
# A replay made the event's message anew: while that is open or arrived, the old one is not sent beside it.
_REPLAYED = """EXISTS (SELECT 1 FROM deliveries o /*sqlite INDEXED BY deliveries_event*/
    WHERE o.event_seq = deliveries.event_seq AND o.created_at <> deliveries.created_at
    AND o.state IN ('pending', 'sending', 'unknown', 'accepted')
    AND (o.route = deliveries.route OR (o.provider, o.template) = (deliveries.provider, deliveries.template)))"""
_FIND_RETRIED = f"""
SELECT {_COLUMNS}, message IS NOT NULL AS has_message, deadline_at, {_REPLAYED} AS is_replayed,
    EXISTS (SELECT 1 FROM attempts_kept a WHERE a.delivery_seq = seq AND {PERHAPS_TAKEN}) AS perhaps_taken
FROM deliveries WHERE id = :id
"""  # noqa: S608  # our own words only

# A claim of another replica may be at them: whoever sweeps waits for nobody.
_DROP_TURNS = """
DELETE FROM recipient_turns WHERE last_at <= :before /*postgres AND (provider, recipient) IN (
    SELECT provider, recipient FROM recipient_turns WHERE last_at <= :before FOR UPDATE SKIP LOCKED)*/
"""

BEHIND_MS = 5_000  # a clock that shows less than this before what it once showed was corrected, not set back
NOTE_EVERY_MS = 60_000  # one small commit a minute, to know at the next start if the clock was set back

# Only what lies ahead of the clock waits for it. Each index that leads to it is small; what is finished is not touched.
# What is sent again, or given up, moves only if it was reckoned ahead of the clock: it must never be too soon.
_SHIFTS = (
    "UPDATE deliveries SET due_at = due_at + :by_ms WHERE state = 'pending' AND due_at > :now",
    "UPDATE deliveries SET due_at = due_at + :by_ms WHERE state = 'unknown' AND due_at > :now AND updated_at > :now",
    """UPDATE deliveries SET lease_until = lease_until + :by_ms
    WHERE state = 'sending' AND lease_until > :now AND last_attempt_at > :now""",
    "UPDATE holds SET probe_at = probe_at + :by_ms WHERE probe_at > :now",
    "UPDATE holds SET ends_at = ends_at + :by_ms WHERE ends_at > :now",
    """UPDATE lanes SET last_claim_at = last_claim_at + :by_ms /*postgres , tat = tat + :by_ms*/
    WHERE last_claim_at > :now""",
    "UPDATE lanes SET paused_until = paused_until + :by_ms WHERE paused_until > :now",
    "UPDATE lanes SET probe_at = probe_at + :by_ms WHERE probe_at > :now",
    "UPDATE lanes SET resumed_at = resumed_at + :by_ms WHERE resumed_at > :now",
    "UPDATE lanes SET down_since = down_since + :by_ms WHERE down_since > :now",
    "UPDATE recipient_turns SET last_at = last_at + :by_ms WHERE last_at > :now",
    "UPDATE marks SET at = :now WHERE name = 'clock' AND at > :now",
)
# What came since the clock was last noted is due when it came, until it is shifted.
_NEWEST = """
SELECT coalesce(max(at), 0) AS at FROM
    (SELECT at FROM marks WHERE name = 'clock' UNION ALL SELECT last_claim_at AS at FROM lanes
    UNION ALL SELECT created_at AS at FROM deliveries /*sqlite INDEXED BY deliveries_pending*/
        WHERE state = 'pending' AND due_at > :now AND due_at = created_at) AS seen
"""
_NOTE = """
INSERT INTO marks VALUES ('clock', :now)
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE marks.at <= excluded.at - :every_ms
"""


def shift_waits(tx: Tx, newest: int | None) -> int:
    """Move every wait back with a clock that was set back; return by how many ms, 0 if it was not.

    `newest`: the latest that the clock has shown; None where that is not known: then what the store has noted decides,
    to a minute. So whoever cannot tell whether the waits were moved asks again with None, and they move once. What
    names an instant of the world stays: deadlines, when things happened, dedup keys.
    """
    tx.lock("sweep", wait=True)
    by_ms = tx.now - (newest or tx.rows(_NEWEST, now=tx.now)[0].at)
    if by_ms >= -BEHIND_MS:
        return 0
    for statement in _SHIFTS:
        tx.run(statement, by_ms=by_ms, now=tx.now)
    shift_sends(tx)
    return by_ms


async def sweep(store: Store, now: int, settle_ms: int, gap_ms: int = RECIPIENT_GAP_MS) -> SweepCounts:
    """Expire what is past its deadline (held ones too) and make `unknown` ones that are due `pending` again.

    Only `on_unknown: resend` makes an unknown delivery due; past its deadline it stays `unknown`.
    """
    lost, ended = await store.write(Apart(partial(tidy, now=now, gap_ms=gap_ms, settle_ms=settle_ms)))
    expired = resent = 0
    more = True
    while more:
        some = await store.write(Apart(partial(expire_overdue, now=now)))
        others = await store.write(Apart(partial(resend_unknown, now=now)))
        expired, resent = expired + some, resent + others
        more = max(some, others) == SWEEP_LIMIT
    return SweepCounts(expired, resent, lost, ended)


def expire_overdue(tx: Tx, now: int) -> int:
    """Expire pending deliveries past their deadline, held ones too. Return how many: call again while SWEEP_LIMIT."""
    if not tx.lock("sweep"):
        return 0  # another replica is at it
    rows = tx.rows(_FIND_OVERDUE, now=now, limit=SWEEP_LIMIT)
    reason = Reason.DEADLINE_PASSED
    moves = [make_move(row, State.EXPIRED, Cause.DEADLINE, reason=reason, detail=row.detail) for row in rows]
    return move(tx, moves, now)


def resend_unknown(tx: Tx, now: int) -> int:
    """Make unknown deliveries that are due pending again. Return how many: call again while SWEEP_LIMIT."""
    if not tx.lock("sweep"):
        return 0
    tx.run(_LEAVE_UNKNOWN, now=now)
    rows = tx.rows(_FIND_DUE, now=now, limit=SWEEP_LIMIT)
    kept = [{"reason": row.reason, "detail": row.detail, "due_at": row.due_at} for row in rows]
    moves = [make_move(row, State.PENDING, Cause.RESENT, **more) for row, more in zip(rows, kept, strict=True)]
    return move(tx, moves, now)


def tidy(tx: Tx, now: int, gap_ms: int, settle_ms: int) -> tuple[int, tuple[str, ...]]:
    """Drop what has served its time; return how many attempts became unknown by lease, and which holds ended."""
    if not tx.lock("sweep"):
        return 0, ()
    apply_overlooked(tx)
    tx.run("DELETE FROM early_receipts WHERE received_at <= :before", before=now - KEEP_EARLY_MS)
    tx.run(_DROP_SURPLUS, kept=EARLY_LIMIT - 1)
    tx.run("DELETE FROM dedup_keys WHERE seen_at <= :before", before=now - DEDUP_WINDOW_MS)
    tx.run("DELETE FROM plans WHERE created_at <= :before", before=now - KEEP_PLAN_MS)
    tx.run("DELETE FROM sends WHERE at <= :before", before=now - LONGEST_MS)
    tx.run(_DROP_TURNS, before=now - gap_ms)
    tx.run(_NOTE, now=now, every_ms=NOTE_EVERY_MS)
    return recover_lost_attempts(tx, now, settle_ms), end_overdue(tx)


def retry_deliveries(tx: Tx, ids: Collection[str], *, careful: bool = False) -> Sequence[str]:
    """Make `dead`, `unknown` or `expired` deliveries with a message `pending`; return the ids that changed.

    `careful`: leave out what has ended and may have been taken all the same.
    """
    # One after the other: what the first one becomes may be in the way of the next.
    return [id_ for id_ in dict.fromkeys(ids) if _retry(tx, id_, careful=careful)]


def _retry(tx: Tx, id_: str, *, careful: bool) -> int:
    row = first(tx.rows(f"{_FIND_RETRIED} /*postgres FOR UPDATE*/", id=id_))
    if row is None or _judge_retry(tx, row, careful=careful) is not None:
        return 0
    detail = f"retried by hand{', though it may have arrived' if row.state == State.UNKNOWN else ''}"
    return move(tx, [make_move(row, State.PENDING, Cause.RETRIED, detail=detail, due_at=tx.now, spent=-row.spent)])


def explain_retry(tx: Tx, ids: Collection[str]) -> Mapping[str, str]:
    """Return, for each of these deliveries that cannot be retried carefully, why.

    `not_found`, `deadline_passed`, `payload_gone`, `replayed` (a later delivery of its event does its work),
    `perhaps_taken`, or the state in which there is nothing to retry.
    """
    found = {id_: first(tx.rows(_FIND_RETRIED, id=id_)) for id_ in ids}
    whys = {id_: "not_found" if row is None else _judge_retry(tx, row, careful=True) for id_, row in found.items()}
    return {id_: why for id_, why in whys.items() if why is not None}


def _judge_retry(tx: Tx, row: Row, *, careful: bool) -> str | None:
    asked = Retry(State(row.state), row.has_message, row.deadline_at, row.is_replayed, row.perhaps_taken)
    return judge_retry(asked, tx.now, careful=careful)
