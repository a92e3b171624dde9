"""The last events of each topic, with invented values: what people write mappings and examples from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from app.outbox.values import Recording

KEEP_PER_TOPIC = 20
MOST_TOPICS = 200  # whoever may post events could invent topics for ever

_IS_KNOWN = "SELECT 1 FROM recordings WHERE topic = ? LIMIT 1"
_COUNT_TOPICS = "SELECT count(DISTINCT topic) FROM recordings"
_ADD = """
INSERT INTO recordings SELECT ?1, 1 + coalesce(max(n), 0), ?2, ?3 FROM recordings WHERE topic = ?1
"""
_TRIM = "DELETE FROM recordings WHERE topic = ?1 AND n <= (SELECT max(n) FROM recordings WHERE topic = ?1) - ?2"
_LIST = """
SELECT topic, at, payload FROM recordings WHERE ?1 IS NULL OR topic = ?1 ORDER BY topic, n DESC
"""


def add_recording(db: sqlite3.Connection, recording: Recording) -> None:
    """Keep an event as its topic's newest; the oldest beyond KEEP_PER_TOPIC goes."""
    if not db.execute(_IS_KNOWN, (recording.topic,)).fetchone():
        (topics,) = db.execute(_COUNT_TOPICS).fetchone()
        if topics >= MOST_TOPICS:
            return
    db.execute(_ADD, (recording.topic, recording.at, recording.payload))
    db.execute(_TRIM, (recording.topic, KEEP_PER_TOPIC))


def list_recordings(db: sqlite3.Connection, topic: str | None) -> Sequence[Recording]:
    """Return what is kept, topic by topic, newest first."""
    return [Recording(*row) for row in db.execute(_LIST, (topic,))]
