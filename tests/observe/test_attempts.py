from __future__ import annotations

import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Uncertain
from app.observe.attempts import describe_outcome


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Accepted("m-1"), ("accepted", "", "")),
        (Retryable(Reason.UNAVAILABLE, detail="HTTP 503"), ("retryable", "unavailable", "HTTP 503")),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 400"), ("rejected", "request_refused", "HTTP 400")),
        (Uncertain(Reason.TIMED_OUT), ("uncertain", "timed_out", "")),
    ],
)
def test_an_outcome_is_told_in_three_words(outcome: Outcome, expected: tuple[str, str, str]) -> None:
    assert describe_outcome(outcome) == expected
