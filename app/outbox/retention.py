"""Forgetting: events whose deliveries have all ended go, with all that hangs on them: the file stays bounded.

Before that, their personal data is wiped.
"""

from __future__ import annotations

from functools import partial

from app.outbox.batch import Apart
from app.outbox.holds import forget_changes
from app.outbox.move import forget
from app.outbox.people import hash_message_id
from app.outbox.store import Row, Store, Tx
from app.outbox.unrouted import DROP_ROW

FORGET_LIMIT = 300  # events a transaction, so that intake never waits long behind it

_NEXT = "SELECT seq, received_at FROM events WHERE seq > :after ORDER BY seq LIMIT :limit"
_IS_OVER = """
    (state IN ('accepted', 'expired', 'suppressed', 'shadow', 'dead') OR (state = 'unknown' AND deadline_at < :before))
"""  # an unknown delivery long past its deadline is sent by nobody any more
# What a person, a receipt or a replay touched lately is kept with its event, however old that is.
_IS_KEPT = f"""
SELECT 1 AS kept FROM deliveries WHERE event_seq = :seq AND (updated_at >= :before OR NOT {_IS_OVER}) LIMIT 1
"""  # noqa: S608  # our own words only
# What hangs on no event: invented values, and that a number was not on WhatsApp.
_FORGET_OTHERS = (
    "DELETE FROM recordings WHERE at < :before",
    "DELETE FROM unreachable WHERE since < :before",
    "DELETE FROM lifted_suppressions WHERE at < :before",
)
_FORGET = (
    "DELETE FROM attempts_kept WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = :seq)",
    "DELETE FROM timeline_kept WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = :seq)",
    "DELETE FROM receipts WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = :seq)",
    "DELETE FROM clicks WHERE delivery_seq IN (SELECT seq FROM deliveries WHERE event_seq = :seq)",
    "DELETE FROM acts WHERE event_seq = :seq",
    DROP_ROW,
    "DELETE FROM events WHERE seq = :seq",
)


_FORGET_DELIVERIES = "DELETE FROM deliveries WHERE event_seq = :seq RETURNING route, provider, state"


async def forget_records(store: Store, before: int) -> int:
    """Delete events received before `before` with all that hangs on them, if every delivery is in a last state.

    And only if each was last changed before `before`, too. An `unknown` one counts as in a last state once its
    deadline is before `before`. What changed with the holds before then goes, but for what still stands; so do
    recordings, and who was unreachable. Returns how many events.
    """
    await store.write(Apart(partial(forget_others, before=before)))
    total = 0
    after: int | None = 0
    while after is not None:
        events, after = await store.write(Apart(partial(forget_events, before=before, after=after)))
        total += events
    return total


def forget_events(tx: Tx, before: int, after: int) -> tuple[int, int | None]:
    """Delete what may be forgotten of the next FORGET_LIMIT events; return how many, and after which to go on, if any.

    Events lie in the order they came in: the first step that finds none so old is the last. (Where a clock was
    set back they are not quite in order; what is passed over goes once its neighbours are old enough, too.)
    """
    if not tx.lock("sweep"):
        return 0, None  # another replica is at it
    found = tx.rows(_NEXT, after=after, limit=FORGET_LIMIT)
    old = [event.seq for event in found if event.received_at < before]
    forgotten = sum(_forget_event(tx, seq, before) for seq in old)
    return forgotten, found[-1].seq if old and len(found) == FORGET_LIMIT else None


def forget_others(tx: Tx, before: int) -> None:
    """Delete what hangs on no event and is older."""
    forget_changes(tx, before)
    for statement in _FORGET_OTHERS:
        tx.run(statement, before=before)


def _forget_event(tx: Tx, seq: int, before: int) -> bool:
    """Delete one event with its deliveries, unless one of them is not over."""
    if tx.rows(_IS_KEPT, seq=seq, before=before):
        return False
    for statement in _FORGET:
        tx.run(statement, seq=seq)
    forget(tx, tx.rows(_FORGET_DELIVERIES, seq=seq))
    return True


WIPE_LIMIT = 500  # events a transaction

_FIND = """
SELECT seq, received_at FROM events /*sqlite INDEXED BY events_unwiped*/
WHERE body IS NOT NULL AND received_at < :before
    AND (received_at > :received_at OR (received_at = :received_at AND seq > :seq))
ORDER BY received_at, seq LIMIT :limit
"""
_FIND_DELIVERIES = f"""
SELECT seq, provider_message_id, wamid FROM deliveries
WHERE event_seq = :seq AND updated_at < :before AND (recipient <> '' OR message IS NOT NULL) AND {_IS_OVER}
"""  # noqa: S608  # our own words only
WIPE_DELIVERY = """
UPDATE deliveries SET message = NULL, checksum = NULL, recipient = '', provider_message_id = :message_id, wamid = :wamid
WHERE seq = :seq
"""
_WIPE_EVENT = """
UPDATE events SET body = NULL WHERE seq = :seq AND NOT EXISTS (
    SELECT 1 FROM deliveries
    WHERE event_seq = :seq AND (recipient <> '' OR message IS NOT NULL OR updated_at >= :before))
"""


async def wipe_payloads(store: Store, before: int) -> int:
    """Wipe bodies, messages and recipients of deliveries last changed before `before` and in a last state.

    An `unknown` one whose deadline passed before `before` counts as in a last state. Returns how many deliveries.
    What was wiped stays readable in no log.
    """
    total = 0
    after: tuple[int, int] | None = (-(2**62), 0)
    while after is not None:
        deliveries, after = await store.write(Apart(partial(wipe_events, before=before, after=after)))
        total += deliveries
    await store.empty_log()
    return total


def wipe_events(tx: Tx, before: int, after: tuple[int, int]) -> tuple[int, tuple[int, int] | None]:
    """Wipe what may be wiped of the next WIPE_LIMIT events; return how many deliveries, and after which to go on."""
    if not tx.lock("sweep"):
        return 0, None
    events = tx.rows(_FIND, before=before, received_at=after[0], seq=after[1], limit=WIPE_LIMIT)
    steps = [{"seq": event.seq, "before": before} for event in events]
    deliveries = [row for rows in tx.rows_many(_FIND_DELIVERIES, steps) for row in rows]
    if deliveries:
        tx.run_many(WIPE_DELIVERY, [{"seq": row.seq, **hash_ids(tx, row)} for row in deliveries])
    if events:
        tx.run_many(_WIPE_EVENT, steps)
        tx.run_many(DROP_ROW, steps)
    last = events[-1] if len(events) == WIPE_LIMIT else None
    return len(deliveries), last and (last.received_at, last.seq)


def hash_ids(tx: Tx, row: Row) -> dict[str, str | None]:
    """Return what stands for a delivery's ids of its message once they are wiped."""
    key = tx.people_key
    return {"message_id": hash_message_id(key, row.provider_message_id), "wamid": hash_message_id(key, row.wamid)}
