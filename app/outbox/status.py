"""The status reads these of the outbox: the newest event, and which receipts come; all of it in a bounded time."""

from __future__ import annotations

from collections.abc import Mapping

from app.model.event import TEST_SOURCE
from app.outbox.store import Row, Tx, first

LOOKED_AT = 1_000  # deliveries, of the newest
_LAST_EVENT = "SELECT id, topic, received_at FROM events WHERE source <> :test ORDER BY seq DESC LIMIT 1"
_RECEIPTS = """
SELECT provider, count(*) AS accepted, sum(CASE WHEN receipt IS NOT NULL THEN 1 ELSE 0 END) AS reported,
    max(CASE WHEN receipt IS NOT NULL THEN updated_at END) AS last_at
FROM (SELECT provider, state, receipt, updated_at FROM deliveries ORDER BY seq DESC LIMIT :limit) AS newest
WHERE state = 'accepted' GROUP BY provider
"""


def read_last_event(tx: Tx) -> Row | None:
    """Return the newest event but those of `send-test`: id, topic, received_at."""
    return first(tx.rows(_LAST_EVENT, test=TEST_SOURCE))


def count_reported(tx: Tx) -> Mapping[str, Row]:
    """Return by provider how many of the newest 1,000 deliveries were accepted, and how many of those were reported."""
    return {row.provider: row for row in tx.rows(_RECEIPTS, limit=LOOKED_AT)}
