"""What a lane must still know after a restart: its pause, its provider's health, and when it claimed last."""

from __future__ import annotations

from app.outbox.store import Tx
from app.outbox.values import LaneState, StoreTime

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


NOTE_EVERY_MS = 60_000  # one small commit a minute, to know at the next start if the clock was set back

# Each index that leads to what waits is small; what is finished is not touched.
_SHIFTS = (
    "UPDATE deliveries SET due_at = due_at + :by_ms WHERE state = 'pending'",
    "UPDATE deliveries SET due_at = due_at + :by_ms WHERE state = 'unknown' AND due_at IS NOT NULL",
    "UPDATE deliveries SET lease_until = lease_until + :by_ms WHERE state = 'sending'",
    "UPDATE holds SET probe_at = probe_at + :by_ms WHERE probe_at IS NOT NULL",
    """UPDATE lanes SET last_claim_at = last_claim_at + :by_ms, paused_until = paused_until + :by_ms,
        probe_at = probe_at + :by_ms, resumed_at = resumed_at + :by_ms""",
    "UPDATE recipient_turns SET last_at = last_at + :by_ms",
    "UPDATE marks SET at = at + :by_ms WHERE name = 'clock'",
)
# How far the waits were moved in all, so that a call which is made again because nobody knows if it worked is harmless.
_READ_SHIFTED = "SELECT coalesce(max(at), 0) AS total FROM marks WHERE name = 'shifted'"
_NOTE_SHIFTED = "INSERT INTO marks VALUES ('shifted', :total) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
_NOTE = """
INSERT INTO marks VALUES ('clock', :now)
ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE marks.at <= excluded.at - :every_ms
"""
# Only what moves with a step: a row that says when something happened may lie in the future for good.
_NEWEST = """
SELECT max(at) AS newest FROM
    (SELECT at FROM marks WHERE name = 'clock' UNION ALL SELECT last_claim_at AS at FROM lanes) AS seen
"""


def shift_waits(tx: Tx, total_ms: int) -> None:
    """The wall clock was set: move everything that was counted from "now", so that it lasts as long as before.

    Due times of pending and unknown deliveries, leases, probes, pauses and recipients' gaps. What names an
    instant of the world stays: deadlines, when things happened, dedup keys. `total_ms`: by how much they are
    to have been moved in all since the store was made, see `read_time`; a second such call changes nothing.
    """
    by_ms = total_ms - _read_shifted(tx)
    if by_ms:
        for statement in _SHIFTS:
            tx.run(statement, by_ms=by_ms)
        tx.run(_NOTE_SHIFTED, total=total_ms)


def note_time(tx: Tx, now: int) -> None:
    """Note that the store was in use at `now`, if that was not done within the last minute."""
    tx.run(_NOTE, now=now, every_ms=NOTE_EVERY_MS)


def read_time(tx: Tx) -> StoreTime:
    """Return when the store was last seen in use, and by how much its waits were moved."""
    return StoreTime(tx.rows(_NEWEST)[0].newest, _read_shifted(tx))


def _read_shifted(tx: Tx) -> int:
    return int(tx.rows(_READ_SHIFTED)[0].total)
