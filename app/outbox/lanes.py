"""One row a lane, where several replicas serve it: its lock, its rate for all of them, its pause, its luck, its turn.

Whoever has the row claims for the lane; a peer that finds it taken comes again in a few ms. To lock it is a statement
of its own: what the next one sees is then newer than the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from app.delivery.pace import Pace, Recovery, at_tat, grant, note_attempt, read_tat, settle_grant
from app.model.delivery import Outcome
from app.model.message import NO_LIMITS
from app.outbox.claim import Claim, open_due
from app.outbox.store import Tx, first
from app.outbox.values import Claimed, LaneState

_READ = """
SELECT last_claim_at, paused_until, failures, probe_at, resumed_at, down_since FROM lanes WHERE provider = :provider
"""
_SAVE = """
INSERT INTO lanes (provider, paused_until, failures, probe_at, resumed_at, down_since)
VALUES (:provider, :paused_until, :failures, :probe_at, :resumed_at, :down_since)
ON CONFLICT (provider) DO UPDATE SET paused_until = excluded.paused_until, failures = excluded.failures,
    probe_at = excluded.probe_at, resumed_at = excluded.resumed_at, down_since = excluded.down_since
"""
_ADD = "INSERT INTO lanes (provider) VALUES (:provider) ON CONFLICT DO NOTHING"
_LOCK = """
SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS now,
    tat, served, paused_until, failures, probe_at, resumed_at, down_since
FROM lanes WHERE provider = :provider FOR UPDATE SKIP LOCKED
"""
_KEEP = """
UPDATE lanes SET last_claim_at = :now, tat = :tat, served = :served, paused_until = :paused_until, failures = :failures,
    probe_at = :probe_at, resumed_at = :resumed_at, down_since = :down_since WHERE provider = :provider
"""


def read_lane(tx: Tx, provider: str) -> LaneState:
    """Return what a lane must still know after a restart; the default if nothing is remembered."""
    rows = tx.rows(_READ, provider=provider)
    return LaneState(*rows[0]) if rows else LaneState()


def save_lane(tx: Tx, provider: str, state: LaneState) -> None:
    """Remember a lane's pause and luck; its `last_claim_at` is the claims' to write."""
    tx.run(_SAVE, provider=provider, **asdict(state))


def add_lane(tx: Tx, provider: str) -> None:
    """Make the row of a lane that has none."""
    tx.run(_ADD, provider=provider)


def claim_shared(
    tx: Tx, claim: Claim, full_per_s: float, busy: int, shown: Sequence[tuple[Outcome, int | None]]
) -> tuple[Claimed, Pace] | None:
    """Claim for a lane at the pace of its row, and return that, too; None while another replica has it.

    The time is the database's, read with the lock: no replica's own clock grants anything. `claim.limit`: the places
    that are free beside the `busy` ones. `shown`: what the replica's sends have shown of the provider, and until when
    each would pause the lane.
    """
    row = first(tx.rows(_LOCK, provider=claim.provider))
    if row is None:
        return None
    now = row.now
    recovery = Recovery(row.failures, row.probe_at, row.resumed_at, row.down_since)
    pace = before = at_tat(full_per_s, recovery, row.paused_until, row.tat, now)
    for outcome, pause_until in shown:
        pace = note_attempt(pace, outcome, pause_until, now)
    pace, granted = grant(pace, claim.limit, busy, now)
    claimed = Claimed((), next_due=now)
    if granted:
        if claim.limits is not NO_LIMITS:
            tx.lock("limits", wait=True)  # some are of all lanes: one lane's claim waits for another's
        claimed = open_due(tx, replace(claim, now=now, limit=granted, after=row.served))
        pace = settle_grant(pace, granted, len(claimed.attempts), now)
    if claimed.attempts or (pace.recovery, pace.paused_until) != (before.recovery, before.paused_until):
        ordinary = [attempt.delivery.route for attempt in claimed.attempts if not attempt.probes]
        row_after = {"tat": read_tat(pace), "served": ordinary[-1] if ordinary else row.served, **asdict(pace.recovery)}
        tx.send(_KEEP, [{"provider": claim.provider, "now": now, "paused_until": pace.paused_until, **row_after}])
    return claimed, pace


# -- what of several replicas one tells the shop -----------------------------------------------------

NOTICE_MS = 86_400_000  # all see a change within seconds
_TAKE_NOTICE = "INSERT INTO marks VALUES (:name, :now) ON CONFLICT DO NOTHING"
_FORGET_NOTICES = "DELETE FROM marks WHERE name > 'told ' AND name < 'told!' AND at < :before"


def take_notice(tx: Tx, what: str) -> bool:
    """Tell whether this replica is the first to tell of something, and so the one to do it."""
    tx.send(_FORGET_NOTICES, [{"before": tx.now - NOTICE_MS}])
    return bool(tx.run(_TAKE_NOTICE, name=f"told {what}", now=tx.now))
