"""The file stays bounded: events whose deliveries have all ended are wiped of personal data, and later forgotten.

What nobody has a use for yet is bounded in number: bodies of events for which there is no route, kept for a replay, and
the last events of each topic with invented values, from which people write mappings and examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from app.outbox.batch import Apart
from app.outbox.holds import forget_changes
from app.outbox.move import forget
from app.outbox.people import hash_message_id
from app.outbox.store import Row, Store, Tx, first
from app.outbox.values import Recording, UnroutedBodies

FORGET_LIMIT = 300  # events a transaction, so that intake never waits long behind it

DROP_ROW = "DELETE FROM unrouted WHERE event_seq = :seq"
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
    """Delete events received before `before` with all that hangs on them, if every delivery is over; return how many.

    Each must have been last changed before `before`, too. What hangs on no event and is older goes as well.
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
    if forgotten := sum(_forget_event(tx, seq, before) for seq in old):
        tx.run(NOTE_TRACES)
    return forgotten, found[-1].seq if old and len(found) == FORGET_LIMIT else None


def forget_others(tx: Tx, before: int) -> None:
    """Delete what hangs on no event and is older, but for holds that still stand."""
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


# -- personal data -----------------------------------------------------------------------------------

WIPE_LIMIT = 500  # events a transaction

# To empty the log means to read every page of the file: only where something was wiped since that was last done.
NOTE_TRACES = "INSERT INTO marks VALUES ('traces', 1) ON CONFLICT (name) DO UPDATE SET at = marks.at + 1"
_READ_TRACES = "SELECT at FROM marks WHERE name = 'traces'"
_CLEAR_TRACES = "DELETE FROM marks WHERE name = 'traces' AND at = :at"

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
    """Wipe bodies, messages and recipients of deliveries that are over and were last changed before `before`.

    Return how many deliveries. What was wiped stays readable in no log.
    """
    total = 0
    after: tuple[int, int] | None = (-(2**62), 0)
    while after is not None:
        deliveries, after = await store.write(Apart(partial(wipe_events, before=before, after=after)))
        total += deliveries
    traces = first(await store.read(lambda tx: tx.rows(_READ_TRACES)))
    if traces is not None and await store.empty_log():
        await store.write(lambda tx: tx.run(_CLEAR_TRACES, at=traces.at))
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
        tx.run(NOTE_TRACES)
    last = events[-1] if len(events) == WIPE_LIMIT else None
    return len(deliveries), last and (last.received_at, last.seq)


def hash_ids(tx: Tx, row: Row) -> dict[str, str | None]:
    """Return what stands for a delivery's ids of its message once they are wiped."""
    key = tx.people_key
    return {"message_id": hash_message_id(key, row.provider_message_id), "wamid": hash_message_id(key, row.wamid)}


# -- events without a route: anybody may post them ---------------------------------------------------

# Each row says how many there were and how long they were together, itself included: so the oldest that are too many
# are found at the beginning of the table, without counting.
MOST_BODIES = 10_000
MOST_BYTES = 64 * 1024 * 1024

_LAST_BODY = "SELECT n, total FROM unrouted ORDER BY /*sqlite event_seq*//*postgres n*/ DESC LIMIT 1"
_ADD_BODY = "INSERT INTO unrouted VALUES (:seq, :bytes, :n, :total)"
_OLDEST_BODIES = "SELECT event_seq AS seq, n, total - bytes AS before FROM unrouted ORDER BY event_seq LIMIT :limit"
# One that a replay has found a route for meanwhile is no longer ours to drop.
_DROP_BODY = """
UPDATE events SET body = NULL WHERE seq = :seq AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event_seq = :seq)
"""
_TALLY_DROPPED = "UPDATE tallies SET n = n + :n WHERE name = 'unrouted_dropped'"
_COUNT_BODIES = """
SELECT count(*) AS bodies, CAST(coalesce(sum(bytes), 0) AS BIGINT) AS bytes,
    (SELECT n FROM tallies WHERE name = 'unrouted_dropped') AS dropped FROM unrouted
"""


def keep_unrouted(tx: Tx, added: Sequence[tuple[int, int]]) -> None:
    """Note (seq, bytes) of events without a delivery, and drop the oldest bodies of too many; the events stay known."""
    tx.lock("unrouted", wait=True)  # each goes on from what the one before has counted
    last = first(tx.rows(_LAST_BODY))
    n, total = (last.n, last.total) if last is not None else (0, 0)
    rows = []
    for seq, size in added:
        n, total = n + 1, total + size
        rows.append({"seq": seq, "bytes": size, "n": n, "total": total})
    tx.run_many(_ADD_BODY, rows)
    limit, is_more = len(added) + 1, True
    while is_more:
        oldest = tx.rows(_OLDEST_BODIES, limit=limit)
        surplus = [{"seq": row.seq} for row in oldest if n - row.n >= MOST_BODIES or total - row.before > MOST_BYTES]
        if surplus:
            tx.run(NOTE_TRACES)
            tx.run(_TALLY_DROPPED, n=tx.run_many(_DROP_BODY, surplus))
            tx.run_many(DROP_ROW, surplus)
        is_more = len(surplus) == limit


def count_unrouted(tx: Tx) -> UnroutedBodies:
    """Return how many bodies of unrouted events are kept, how long they are, and how many were dropped for others."""
    return UnroutedBodies(*tx.rows(_COUNT_BODIES)[0])


# -- recordings --------------------------------------------------------------------------------------

KEEP_PER_TOPIC = 20
MOST_TOPICS = 200  # whoever may post events could invent topics for ever

_IS_TOPIC_KNOWN = "SELECT 1 AS known FROM recordings WHERE topic = :topic LIMIT 1"
_COUNT_TOPICS = "SELECT count(DISTINCT topic) AS n FROM recordings"
_ADD_RECORDING = """
INSERT INTO recordings (topic, n, at, payload)
SELECT :topic, 1 + coalesce(max(n), 0), :at, :payload FROM recordings WHERE topic = :topic
ON CONFLICT DO NOTHING
"""
_TRIM_RECORDINGS = """
DELETE FROM recordings
WHERE topic = :topic AND n <= (SELECT max(n) FROM recordings WHERE topic = :topic) - :kept
"""
_LIST_RECORDINGS = """
SELECT topic, at, payload FROM recordings WHERE CAST(:topic AS TEXT) IS NULL OR topic = :topic ORDER BY topic, n DESC
"""


def record_event(tx: Tx, recording: Recording) -> None:
    """Keep an event as its topic's newest; the oldest beyond KEEP_PER_TOPIC goes."""
    topic = recording.topic
    if not tx.rows(_IS_TOPIC_KNOWN, topic=topic) and tx.rows(_COUNT_TOPICS)[0].n >= MOST_TOPICS:
        return
    tx.run(_ADD_RECORDING, topic=topic, at=recording.at, payload=recording.payload)
    tx.run(_TRIM_RECORDINGS, topic=topic, kept=KEEP_PER_TOPIC)


def list_recordings(tx: Tx, topic: str | None) -> Sequence[Recording]:
    """Return what is kept of a topic, or of all; topic by topic, newest first."""
    return [Recording(*row) for row in tx.rows(_LIST_RECORDINGS, topic=topic)]
