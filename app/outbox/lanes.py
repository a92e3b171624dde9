"""What a lane must still know after a restart: its pause, its provider's health, and when it claimed last."""

from __future__ import annotations

from app.outbox.store import Tx
from app.outbox.values import LaneState

_READ = "SELECT last_claim_at, paused_until, failures, probe_at, resumed_at FROM lanes WHERE provider = :provider"
_SAVE = """
INSERT INTO lanes (provider, paused_until, failures, probe_at, resumed_at)
VALUES (:provider, :paused_until, :failures, :probe_at, :resumed_at)
ON CONFLICT (provider) DO UPDATE SET paused_until = excluded.paused_until, failures = excluded.failures,
    probe_at = excluded.probe_at, resumed_at = excluded.resumed_at
"""
_CLAIMED = """
INSERT INTO lanes (provider, last_claim_at) VALUES (:provider, :now)
ON CONFLICT (provider) DO UPDATE SET last_claim_at = excluded.last_claim_at
"""


def read_lane(tx: Tx, provider: str) -> LaneState:
    """Return what is remembered of a lane; the default if nothing is."""
    rows = tx.rows(_READ, provider=provider)
    return LaneState(*rows[0]) if rows else LaneState()


def save_lane(tx: Tx, provider: str, state: LaneState) -> None:
    """Remember a lane's pause and luck; its `last_claim_at` is the claims' to write."""
    tx.run(
        _SAVE,
        provider=provider,
        paused_until=state.paused_until,
        failures=state.failures,
        probe_at=state.probe_at,
        resumed_at=state.resumed_at,
    )


def note_claim(tx: Tx, provider: str, now: int) -> None:
    """Remember when a lane claimed last, so that a restart grants it no extra message."""
    tx.run(_CLAIMED, provider=provider, now=now)
