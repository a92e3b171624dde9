"""A suffix names what it ends: whoever reads an id off a screen types its last characters only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from app.outbox.store import Tx

SHORTEST = 4
MOST_SHOWN = 6  # candidates
_EXACT = "SELECT id FROM {table} WHERE id = :name"
_BY_SOURCE = (
    "SELECT id FROM events WHERE source = :source AND source_delivery_id = :name ORDER BY seq DESC LIMIT :limit"
)
_BY_SUFFIX = """
SELECT id FROM {table} WHERE substr(id, length(id) - :length + 1) = :name ORDER BY id DESC LIMIT :limit
"""
_LAST = "SELECT id FROM events ORDER BY seq DESC LIMIT 1"


def find_ids(tx: Tx, table: Literal["deliveries", "events"], name: str, source: str) -> Sequence[str]:
    """Return the ids that a name means, newest first: the one that it is, else those that it ends.

    An event goes by its source's id, too, and the newest one by `last`. No delivery does: what names an event so is no
    suffix of a delivery's id.
    """
    if found := tx.rows(_EXACT.format(table=table), name=name):
        return [row.id for row in found]
    named = tx.rows(_BY_SOURCE, source=source, name=name, limit=MOST_SHOWN)
    if table == "events" and name == "last":
        named = tx.rows(_LAST)
    if named or len(name) < SHORTEST:
        return [row.id for row in named] if table == "events" else []
    query, end = _BY_SUFFIX.format(table=table), name.lower()
    return [row.id for row in tx.rows(query, length=len(end), name=end, limit=MOST_SHOWN)]
