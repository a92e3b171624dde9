"""When what was stopped and let go: the history of the holds, told beside the deliveries that met them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

Change = Literal["set", "released"]
KEPT = 500  # changes of a scope: two faults that take turns at every probe must not fill the disk

_ADD = "INSERT INTO hold_changes (scope, at, change, reason, by_hand) VALUES (?, ?, ?, ?, ?)"
_DROP_SURPLUS = """
DELETE FROM hold_changes WHERE scope = ?1 AND n <= (SELECT n FROM hold_changes WHERE scope = ?1
    ORDER BY n DESC LIMIT 1 OFFSET ?2)
"""
# What stood when the delivery came, then what changed until it had ended.
_LIST = """
SELECT scope, change, at, reason, by_hand, n FROM (SELECT * FROM hold_changes WHERE scope = ?1 AND at < ?2
    ORDER BY at DESC, n DESC LIMIT 1) WHERE change = 'set'
UNION ALL SELECT scope, change, at, reason, by_hand, n FROM hold_changes WHERE scope = ?1 AND at BETWEEN ?2 AND ?3
"""
# Of a hold that still stands it stays known since when.
_FORGET = """
DELETE FROM hold_changes WHERE at < ?1 AND NOT (change = 'set' AND n IN
    (SELECT max(n) FROM hold_changes GROUP BY scope))
"""


def note_change(db: sqlite3.Connection, scope: str, now: int, change: Change, reason: str, *, by_hand: bool) -> None:
    """Keep that a hold was set, or set for another reason, or released. `reason`: the hold's own, of either."""
    db.execute(_ADD, (scope, now, change, reason, by_hand))
    db.execute(_DROP_SURPLUS, (scope, KEPT))


def list_changes(db: sqlite3.Connection, scopes: Sequence[str], since: int, until: int) -> Sequence[Any]:
    """Return (scope, change, at, reason, by_hand) of what stood on these scopes at `since` or changed until `until`.

    In the order in which it happened; both bounds included.
    """
    rows = [row for scope in scopes for row in db.execute(_LIST, (scope, since, until))]
    return [tuple(row[:5]) for row in sorted(rows, key=lambda row: row[5])]


def forget_changes(db: sqlite3.Connection, before: int) -> int:
    """Delete what changed before `before`, but for what still stands. Return how many."""
    return db.execute(_FORGET, (before,)).rowcount
