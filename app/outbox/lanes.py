"""What a lane must still know after a restart: its pause, its provider's health, and when it claimed last."""

from __future__ import annotations

import sqlite3

from app.outbox.values import LaneState, StoreTime

_READ = "SELECT last_claim_at, paused_until, failures, probe_at, resumed_at FROM lanes WHERE provider = ?"
_SAVE = """
INSERT INTO lanes (provider, paused_until, failures, probe_at, resumed_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (provider) DO UPDATE SET paused_until = excluded.paused_until, failures = excluded.failures,
    probe_at = excluded.probe_at, resumed_at = excluded.resumed_at
"""
_CLAIMED = """
INSERT INTO lanes (provider, last_claim_at) VALUES (?, ?)
ON CONFLICT (provider) DO UPDATE SET last_claim_at = excluded.last_claim_at
"""


def read_lane(db: sqlite3.Connection, provider: str) -> LaneState:
    """Return what is remembered of a lane."""
    row = db.execute(_READ, (provider,)).fetchone()
    return LaneState(*row) if row else LaneState()


def save_lane(db: sqlite3.Connection, provider: str, state: LaneState) -> None:
    """Remember a lane's pause and luck."""
    db.execute(_SAVE, (provider, state.paused_until, state.failures, state.probe_at, state.resumed_at))


def note_claim(db: sqlite3.Connection, provider: str, now: int) -> None:
    """Remember when a lane claimed last, so that a restart grants it no extra message."""
    db.execute(_CLAIMED, (provider, now))


NOTE_EVERY_MS = 60_000  # one small commit a minute, to know at the next start if the clock was set back

# Each index that leads to what waits is small; what is finished is not touched.
_SHIFTS = (
    "UPDATE deliveries SET due_at = due_at + ?1 WHERE state = 'pending'",
    "UPDATE deliveries SET due_at = due_at + ?1 WHERE state = 'unknown' AND due_at IS NOT NULL",
    "UPDATE deliveries SET lease_until = lease_until + ?1 WHERE state = 'sending'",
    "UPDATE holds SET probe_at = probe_at + ?1 WHERE probe_at IS NOT NULL",
    """UPDATE lanes SET last_claim_at = last_claim_at + ?1, paused_until = paused_until + ?1,
        probe_at = probe_at + ?1, resumed_at = resumed_at + ?1""",
    "UPDATE recipient_turns SET last_at = last_at + ?1",
    "UPDATE marks SET at = at + ?1 WHERE name = 'clock'",
)
# How far the waits were moved in all, so that a call which is made again because nobody knows if it worked is harmless.
_READ_SHIFTED = "SELECT coalesce(max(at), 0) FROM marks WHERE name = 'shifted'"
_NOTE_SHIFTED = "INSERT INTO marks VALUES ('shifted', ?1) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
_NOTE = """
INSERT INTO marks VALUES ('clock', ?1)
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE at <= excluded.at - ?2
"""
# Only what moves with a step: a row that says when something happened may lie in the future for good.
_NEWEST = "SELECT max(at) FROM (SELECT at FROM marks WHERE name = 'clock' UNION ALL SELECT last_claim_at FROM lanes)"


def shift_waits(db: sqlite3.Connection, total_ms: int) -> None:
    """Move every wait, so that it was moved by `total_ms` in all since the store was made."""
    by_ms = total_ms - _read_shifted(db)
    if by_ms:
        for statement in _SHIFTS:
            db.execute(statement, (by_ms,))
        db.execute(_NOTE_SHIFTED, (total_ms,))


def note_time(db: sqlite3.Connection, now: int) -> None:
    """Note that the store was in use at `now`, if that was not done within the last minute."""
    db.execute(_NOTE, (now, NOTE_EVERY_MS))


def read_time(db: sqlite3.Connection) -> StoreTime:
    """Return when the store was last seen in use, and by how much its waits were moved."""
    newest: int | None = db.execute(_NEWEST).fetchone()[0]
    return StoreTime(newest, _read_shifted(db))


def _read_shifted(db: sqlite3.Connection) -> int:
    return int(db.execute(_READ_SHIFTED).fetchone()[0])
