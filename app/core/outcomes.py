"""What an attempt came to, in three words for logs and metrics."""

from __future__ import annotations

from app.core.models import Accepted, Outcome


def describe_outcome(outcome: Outcome) -> tuple[str, str, str]:
    """Return (word, reason, detail) of an outcome; "" for what it does not have."""
    word = type(outcome).__name__.lower()
    return (word, "", "") if isinstance(outcome, Accepted) else (word, outcome.reason.value, outcome.detail)
