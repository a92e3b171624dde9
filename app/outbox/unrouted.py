"""Bodies of events for which there is no route: they are kept for a replay, and bounded, for anybody may post them.

Each row says how many there were and how long they were together, itself included: so the oldest that are too many
are found at the beginning of the table, without counting.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.outbox.store import Tx, first
from app.outbox.values import UnroutedBodies

MOST_BODIES = 10_000
MOST_BYTES = 64 * 1024 * 1024

_LAST = "SELECT n, total FROM unrouted ORDER BY /*sqlite event_seq*//*postgres n*/ DESC LIMIT 1"
_ADD = "INSERT INTO unrouted VALUES (:seq, :bytes, :n, :total)"
_OLDEST = "SELECT event_seq AS seq, n, total - bytes AS before FROM unrouted ORDER BY event_seq LIMIT :limit"
# One that a replay has found a route for meanwhile is no longer ours to drop.
_DROP_BODY = """
UPDATE events SET body = NULL WHERE seq = :seq AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event_seq = :seq)
"""
DROP_ROW = "DELETE FROM unrouted WHERE event_seq = :seq"
_TALLY = "UPDATE tallies SET n = n + :n WHERE name = 'unrouted_dropped'"
_COUNT = """
SELECT count(*) AS bodies, CAST(coalesce(sum(bytes), 0) AS BIGINT) AS bytes,
    (SELECT n FROM tallies WHERE name = 'unrouted_dropped') AS dropped FROM unrouted
"""


def keep_unrouted(tx: Tx, added: Sequence[tuple[int, int]]) -> None:
    """Note events that have no delivery, (seq, bytes of the body) of each, and drop the oldest bodies of too many.

    The events stay: one that comes again is still known.
    """
    tx.lock("unrouted", wait=True)  # each goes on from what the one before has counted
    last = first(tx.rows(_LAST))
    n, total = (last.n, last.total) if last is not None else (0, 0)
    rows = []
    for seq, size in added:
        n, total = n + 1, total + size
        rows.append({"seq": seq, "bytes": size, "n": n, "total": total})
    tx.run_many(_ADD, rows)
    limit, is_more = len(added) + 1, True
    while is_more:
        oldest = tx.rows(_OLDEST, limit=limit)
        surplus = [{"seq": row.seq} for row in oldest if n - row.n >= MOST_BODIES or total - row.before > MOST_BYTES]
        if surplus:
            tx.run(_TALLY, n=tx.run_many(_DROP_BODY, surplus))
            tx.run_many(DROP_ROW, surplus)
        is_more = len(surplus) == limit


def count_unrouted(tx: Tx) -> UnroutedBodies:
    """Return how many bodies of unrouted events are kept, how long they are, and how many were dropped for others."""
    return UnroutedBodies(*tx.rows(_COUNT)[0])
