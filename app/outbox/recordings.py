"""The last events of each topic, with invented values: what people write mappings and examples from."""

from __future__ import annotations

from collections.abc import Sequence

from app.outbox.store import Tx
from app.outbox.values import Recording

KEEP_PER_TOPIC = 20
MOST_TOPICS = 200  # whoever may post events could invent topics for ever

_IS_KNOWN = "SELECT 1 AS known FROM recordings WHERE topic = :topic LIMIT 1"
_COUNT_TOPICS = "SELECT count(DISTINCT topic) AS n FROM recordings"
_ADD = """
INSERT INTO recordings (topic, n, at, payload)
SELECT :topic, 1 + coalesce(max(n), 0), :at, :payload FROM recordings WHERE topic = :topic
ON CONFLICT DO NOTHING
"""
_TRIM = """
DELETE FROM recordings
WHERE topic = :topic AND n <= (SELECT max(n) FROM recordings WHERE topic = :topic) - :kept
"""
_LIST = """
SELECT topic, at, payload FROM recordings WHERE CAST(:topic AS TEXT) IS NULL OR topic = :topic ORDER BY topic, n DESC
"""


def record_event(tx: Tx, recording: Recording) -> None:
    """Keep an event as its topic's newest; the oldest beyond KEEP_PER_TOPIC goes."""
    topic = recording.topic
    if not tx.rows(_IS_KNOWN, topic=topic) and tx.rows(_COUNT_TOPICS)[0].n >= MOST_TOPICS:
        return
    tx.run(_ADD, topic=topic, at=recording.at, payload=recording.payload)
    tx.run(_TRIM, topic=topic, kept=KEEP_PER_TOPIC)


def list_recordings(tx: Tx, topic: str | None) -> Sequence[Recording]:
    """Return what is kept of a topic, or of all; topic by topic, newest first."""
    return [Recording(*row) for row in tx.rows(_LIST, topic=topic)]
