"""A lane goes slowly while its provider fails, and gently once it is back."""

from __future__ import annotations

from functools import reduce

import pytest

from app.core.models import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.core.rates import RAMP_MS
from app.core.recovery import OUTAGE_FAILURES, Recovery, allowed_rate, note_outcome

FULL = 16.0
DOWN = Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)
LOST = Uncertain(Reason.TIMED_OUT)


def live_through(*outcomes: Outcome, now: int = 1_000) -> Recovery:
    return reduce(lambda recovery, outcome: note_outcome(recovery, outcome, now), outcomes, Recovery())


def test_a_lane_without_an_outage_goes_at_its_full_rate() -> None:
    assert allowed_rate(live_through(Accepted()), FULL, 1_000) == FULL


@pytest.mark.parametrize("failure", [DOWN, LOST, Retryable(Reason.CONNECT_FAILED), Retryable(Reason.SERVER_ERROR)])
def test_failures_in_a_row_slow_the_lane_to_one_a_second(failure: Outcome) -> None:
    almost = live_through(*[failure] * (OUTAGE_FAILURES - 1))
    assert allowed_rate(almost, FULL, 1_000) == FULL
    assert allowed_rate(note_outcome(almost, failure, 1_000), FULL, 1_000) == 1.0


def test_one_acceptance_among_failures_begins_the_count_again() -> None:
    assert not live_through(*[DOWN] * (OUTAGE_FAILURES - 1), Accepted(), DOWN).down


@pytest.mark.parametrize("answer", [Accepted(), Rejected(Reason.REQUEST_REFUSED)])
def test_after_an_outage_the_rate_rises_over_a_minute(answer: Outcome) -> None:
    back = live_through(*[DOWN] * OUTAGE_FAILURES, answer, now=1_000)
    rates = [allowed_rate(back, FULL, 1_000 + at) for at in (0, RAMP_MS // 2, RAMP_MS, 10 * RAMP_MS)]
    assert rates == [1.0, 8.5, FULL, FULL]


@pytest.mark.parametrize(
    "outcome", [Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT), Uncertain(Reason.PROCESS_DIED)]
)
def test_what_says_nothing_of_the_provider_changes_nothing(outcome: Outcome) -> None:
    before = live_through(DOWN, DOWN)
    assert note_outcome(before, outcome, 2_000) == before


def test_a_lane_slower_than_one_a_second_does_not_become_faster() -> None:
    assert allowed_rate(live_through(*[DOWN] * OUTAGE_FAILURES), 0.5, 1_000) == 0.5
