"""What an attempt came to, in three words for logs and metrics."""

from __future__ import annotations

from app.core.models import Accepted, Outcome, Rejected, Retryable, Uncertain


def describe_outcome(outcome: Outcome) -> tuple[str, str, str]:
    """Return (word, reason, detail) of an outcome; "" for what it does not have."""
    match outcome:
        case Accepted():
            return "accepted", "", ""
        case Retryable(reason=reason, detail=detail):
            return "retryable", reason.value, detail
        case Rejected(reason=reason, detail=detail):
            return "rejected", reason.value, detail
        case Uncertain(reason=reason, detail=detail):
            return "uncertain", reason.value, detail
