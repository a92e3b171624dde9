"""How a lane behaves around an outage: slowly while its provider fails, gently once it is back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.core.models import Accepted, Outcome, Reason, Rejected, Retryable, Uncertain
from app.core.rates import RAMP_START_PER_S, ramped_rate

OUTAGE_FAILURES = 5
"""So many failures in a row make an outage; fewer are the everyday noise of a network."""

# A refusal of one message, or of one recipient's pace, says nothing about the provider's health.
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
    """A lane's recent luck: failures in a row, and when the last outage ended (None: there was none)."""

    failures: int = 0
    resumed_at: int | None = None

    @property
    def down(self) -> bool:
        """Whether the provider seems to be down."""
        return self.failures >= OUTAGE_FAILURES


def note_outcome(recovery: Recovery, outcome: Outcome, now: int) -> Recovery:
    """Return the lane's luck after one more attempt."""
    match outcome:
        case Retryable(reason=reason) | Uncertain(reason=reason) if reason in _TROUBLE:
            return replace(recovery, failures=recovery.failures + 1)
        case Accepted() | Rejected() if recovery.down:
            return Recovery(0, now)
        case Accepted() | Rejected():
            return replace(recovery, failures=0)
        case _:
            return recovery


def allowed_rate(recovery: Recovery, full_per_s: float, now: int) -> float:
    """Return how fast the lane may go now: one a second feels for a provider that is down."""
    if recovery.down:
        return min(RAMP_START_PER_S, full_per_s)
    return ramped_rate(full_per_s, recovery.resumed_at, now)
