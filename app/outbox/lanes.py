"""What a lane must still know after a restart: its pause, its provider's health, and when it claimed last."""

from __future__ import annotations

import sqlite3

from app.outbox.values import LaneState

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
