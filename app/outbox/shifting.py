"""The wall clock was set: what was counted from "now" moves along, so that every wait lasts as long as before."""

from __future__ import annotations

import sqlite3

# Each index that leads to what waits is small; what is finished is not touched.
_SHIFTS = (
    "UPDATE deliveries SET due_at = due_at + ?1 WHERE state = 'pending'",
    "UPDATE deliveries SET due_at = due_at + ?1 WHERE state = 'unknown' AND due_at IS NOT NULL",
    "UPDATE deliveries SET lease_until = lease_until + ?1 WHERE state = 'sending'",
    "UPDATE holds SET probe_at = probe_at + ?1 WHERE probe_at IS NOT NULL",
    """UPDATE lanes SET last_claim_at = last_claim_at + ?1, paused_until = paused_until + ?1,
        probe_at = probe_at + ?1, resumed_at = resumed_at + ?1""",
    "UPDATE recipient_turns SET last_at = last_at + ?1",
)


def shift_waits(db: sqlite3.Connection, by_ms: int) -> None:
    """Move every wait by `by_ms`."""
    for statement in _SHIFTS:
        db.execute(statement, (by_ms,))
