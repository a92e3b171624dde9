"""How a lane behaves around an outage: one request at a time while its provider is down, gently once it is back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.core.models import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.core.rates import RAMP_START_PER_S, ramped_rate

OUTAGE_FAILURES = 5
"""So many failures in a row make an outage; fewer are the everyday noise of a network."""
PROBE_EVERY_MS = 30_000

# What a provider that is down, or that has enough of us, answers. What it says of one message or one recipient
# shows that it is up.
_TROUBLE = frozenset(
    {
        Reason.CONNECT_FAILED,
        Reason.UNAVAILABLE,
        Reason.RATE_LIMITED,
        Reason.SERVER_ERROR,
        Reason.TIMED_OUT,
        Reason.CONNECTION_LOST,
        Reason.GATEWAY_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """A lane's recent luck: failures in a row, and when the last outage ended (None: there was none).

    `probe_at`: while the provider is down, when the next request may feel for it.
    """

    failures: int = 0
    probe_at: int | None = None
    resumed_at: int | None = None

    @property
    def down(self) -> bool:
        """Whether the provider seems to be down."""
        return self.failures >= OUTAGE_FAILURES


def note_outcome(recovery: Recovery, outcome: Outcome, now: int) -> Recovery:
    """Return the lane's luck after one more attempt."""
    match outcome:
        case Accepted() | Rejected() | Retryable(scope=Scope.RECIPIENT):
            return Recovery(resumed_at=now) if recovery.down else replace(recovery, failures=0)
        case Retryable(reason=reason) | Uncertain(reason=reason) if reason in _TROUBLE:
            return _note_failure(recovery, now)
        case _:
            return recovery


def note_probe(recovery: Recovery, now: int) -> Recovery:
    """Return the lane's luck once a request leaves; while the provider is down it is the only one for 30 s."""
    return replace(recovery, probe_at=now + PROBE_EVERY_MS) if recovery.down else recovery


def count_places(recovery: Recovery, free: int, busy: int, now: int) -> int:
    """Return how many of the `free` places may be used beside the `busy` ones.

    While the provider is down: one, every 30 s, and nothing beside it.
    """
    if not recovery.down:
        return max(free, 0)
    return int(free > 0 and busy == 0 and now >= (recovery.probe_at or 0))


def recall_recovery(recovery: Recovery, last_claim_at: int | None, now: int) -> Recovery:
    """Return what is left of a lane's luck after a restart.

    A probe that left just before the end counts, and no instant lies further ahead than it can, even if the
    clock was set back meanwhile.
    """
    resumed_at = None if recovery.resumed_at is None else min(recovery.resumed_at, now)
    if not recovery.down:
        return Recovery(recovery.failures, resumed_at=resumed_at)
    probe_at = max(recovery.probe_at or 0, (last_claim_at or 0) + PROBE_EVERY_MS)
    return Recovery(recovery.failures, min(probe_at, now + PROBE_EVERY_MS), resumed_at)


def allowed_rate(recovery: Recovery, full_per_s: float, now: int) -> float:
    """Return how fast the lane may go now."""
    if recovery.down:
        return min(RAMP_START_PER_S, full_per_s)
    return ramped_rate(full_per_s, recovery.resumed_at, now)


def _note_failure(recovery: Recovery, now: int) -> Recovery:
    failures = recovery.failures + 1
    # Those that were open when the provider went down fail after it: they put no probe off.
    probe_at = now + PROBE_EVERY_MS if failures == OUTAGE_FAILURES else recovery.probe_at
    return replace(recovery, failures=failures, probe_at=probe_at)
