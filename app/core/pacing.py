"""How fast a lane may go: its rate, its pause and its luck, in one value that outlasts a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.core.deciding import LONGEST_PAUSE_MS
from app.core.models import Outcome
from app.core.rates import Bucket, next_token_at, take
from app.core.recovery import Recovery, allowed_rate, count_places, note_outcome, note_probe, recall_recovery

# What a lane may catch up at once after it looked away for a moment; at 16/s that is less than one message. Of the
# rate allowed just now: a fast lane, too, begins again with single messages after an outage.
BURST_S = 0.05
_NO_TROUBLE = Recovery()


@dataclass(frozen=True, slots=True)
class Pace:
    """A lane's speed. `paused_until`: nothing before then (the provider said so)."""

    full_per_s: float
    bucket: Bucket
    recovery: Recovery = _NO_TROUBLE
    paused_until: int = 0


def start_pace(full_per_s: float, now: int) -> Pace:
    """Return the pace of a lane of which nothing is remembered."""
    burst = _burst(full_per_s)
    return Pace(full_per_s, Bucket(full_per_s, burst, burst, now))


def recall_pace(full_per_s: float, recovery: Recovery, paused_until: int, last_claim_at: int | None, now: int) -> Pace:
    """Return the pace of a lane after a restart: nothing goes that would not have gone without it.

    What was saved up since the last claim is earned at the rate of then, which is never above today's.
    """
    fresh = start_pace(full_per_s, now)
    recovery = recall_recovery(recovery, last_claim_at, now)
    bucket = fresh.bucket
    if last_claim_at is not None:
        bucket = Bucket(allowed_rate(recovery, full_per_s, last_claim_at), bucket.burst, 0, last_claim_at)
    return Pace(full_per_s, bucket, recovery, min(paused_until, now + LONGEST_PAUSE_MS))


def grant(pace: Pace, free: int, busy: int, now: int) -> tuple[Pace, int]:
    """Return the pace after up to `free` messages were let go beside the `busy` ones, and how many were."""
    places = count_places(pace.recovery, free, busy, now) if now >= pace.paused_until else 0
    rate = allowed_rate(pace.recovery, pace.full_per_s, now)
    bucket = replace(pace.bucket.at_rate(rate, now), burst=_burst(rate))
    bucket, granted = take(bucket, now, places)
    return replace(pace, bucket=bucket), granted


def settle_grant(pace: Pace, granted: int, used: int, now: int) -> Pace:
    """Return the pace once it is known how many of the granted messages there were."""
    recovery = note_probe(pace.recovery, now) if used else pace.recovery
    return replace(pace, bucket=pace.bucket.give_back(granted - used), recovery=recovery)


def note_attempt(pace: Pace, outcome: Outcome, pause_until: int | None, now: int) -> Pace:
    """Return the pace after an attempt's end, which may pause the lane."""
    paused_until = max(pace.paused_until, pause_until or 0)
    return replace(pace, recovery=note_outcome(pace.recovery, outcome, now), paused_until=paused_until)


def ready_at(pace: Pace, now: int) -> int:
    """Return from when on `grant` lets a message go if nothing else is open: `now` or later."""
    probe_at = (pace.recovery.probe_at or 0) if pace.recovery.down else 0
    return max(next_token_at(pace.bucket, now), pace.paused_until, probe_at)


def _burst(rate_per_s: float) -> float:
    return max(rate_per_s * BURST_S, 1)
