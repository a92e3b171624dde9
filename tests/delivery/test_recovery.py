"""A lane asks one thing at a time while its provider is down, and goes gently once it is back."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import pytest

from app.delivery.pace import (
    OUTAGE_FAILURES,
    PROBE_EVERY_MS,
    RAMP_MS,
    Recovery,
    allowed_rate,
    count_places,
    note_outcome,
    note_probe,
    recall_recovery,
)
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain

FULL = 16.0
NOW = 1_000
DOWN = Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)
LOST = Uncertain(Reason.TIMED_OUT)


def live_through(*outcomes: Outcome, now: int = NOW) -> Recovery:
    return reduce(lambda recovery, outcome: note_outcome(recovery, outcome, now), outcomes, Recovery())


OUTAGE = live_through(*[DOWN] * OUTAGE_FAILURES)


def test_a_lane_without_an_outage_goes_at_its_full_rate() -> None:
    well = live_through(Accepted())
    assert allowed_rate(well, FULL, NOW) == FULL
    assert count_places(well, 60, 4, NOW) == 60
    assert count_places(well, -1, 65, NOW) == 0
    assert note_probe(well, NOW) == well


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        LOST,
        Retryable(Reason.CONNECT_FAILED),
        Retryable(Reason.SERVER_ERROR),
        Retryable(Reason.RATE_LIMITED, Scope.PROVIDER),
        Uncertain(Reason.CONNECTION_LOST),
        Uncertain(Reason.GATEWAY_FAILED),
    ],
)
def test_five_failures_in_a_row_leave_one_request_in_thirty_seconds(failure: Outcome) -> None:
    almost = live_through(*[failure] * (OUTAGE_FAILURES - 1))
    assert count_places(almost, 64, 0, NOW) == 64
    down = note_outcome(almost, failure, NOW)
    assert down.down
    assert [count_places(down, 64, 0, NOW + ms) for ms in (0, PROBE_EVERY_MS - 1, PROBE_EVERY_MS)] == [0, 0, 1]
    assert allowed_rate(down, FULL, NOW) == 1.0


@pytest.mark.parametrize(("free", "busy", "places"), [(64, 0, 1), (63, 1, 0), (0, 1, 0), (0, 0, 0)])
def test_a_probe_goes_alone(free: int, busy: int, places: int) -> None:
    assert count_places(OUTAGE, free, busy, NOW + PROBE_EVERY_MS) == places


def test_the_next_probe_is_thirty_seconds_after_the_last_one_left_and_not_after_it_failed() -> None:
    probed = note_probe(OUTAGE, NOW + PROBE_EVERY_MS)
    failed = note_outcome(probed, LOST, NOW + PROBE_EVERY_MS + 10_000)
    assert failed.probe_at == NOW + 2 * PROBE_EVERY_MS


def test_an_outage_is_known_since_when() -> None:
    assert OUTAGE.down_since == NOW
    assert note_outcome(OUTAGE, DOWN, NOW + 9).down_since == NOW
    assert note_outcome(OUTAGE, Accepted(), NOW + 9).down_since is None
    assert recall_recovery(replace(OUTAGE, down_since=NOW + 9), None, NOW).down_since == NOW


def test_one_acceptance_among_failures_begins_the_count_again() -> None:
    assert not live_through(*[DOWN] * (OUTAGE_FAILURES - 1), Accepted(), DOWN).down


@pytest.mark.parametrize(
    "answer", [Accepted(), Rejected(Reason.REQUEST_REFUSED), Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT)]
)
def test_after_an_outage_the_rate_rises_over_a_minute(answer: Outcome) -> None:
    back = note_outcome(OUTAGE, answer, NOW)
    assert back == Recovery(resumed_at=NOW)
    rates = [allowed_rate(back, FULL, NOW + at) for at in (0, RAMP_MS // 2, RAMP_MS, 10 * RAMP_MS)]
    assert rates == [1.0, 8.5, FULL, FULL]


@pytest.mark.parametrize(
    "answer", [Retryable(Reason.RATE_LIMITED, Scope.RECIPIENT), Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT)]
)
def test_what_is_said_of_one_recipient_shows_that_the_provider_is_up(answer: Outcome) -> None:
    assert live_through(*[DOWN] * (OUTAGE_FAILURES - 1), answer, DOWN).failures == 1


@pytest.mark.parametrize(
    "outcome",
    [Retryable(Reason.DEADLINE_PASSED), Uncertain(Reason.PROCESS_DIED), Uncertain(Reason.ANSWER_UNREADABLE)],
)
def test_what_says_nothing_of_the_provider_changes_nothing(outcome: Outcome) -> None:
    before = live_through(DOWN, DOWN)
    assert note_outcome(before, outcome, 2_000) == before


def test_a_lane_slower_than_one_a_second_does_not_become_faster() -> None:
    assert allowed_rate(OUTAGE, 0.5, NOW) == 0.5


@pytest.mark.parametrize(
    ("known", "last_claim_at", "now", "recalled"),
    [
        (Recovery(), None, 9_000, Recovery()),
        (Recovery(resumed_at=5_000), 6_000, 9_000, Recovery(resumed_at=5_000)),
        (Recovery(resumed_at=50_000), None, 9_000, Recovery(resumed_at=9_000)),  # the clock was set back
        (Recovery(5, 31_000), 1_000, 9_000, Recovery(5, 31_000)),
        (Recovery(5, 31_000), 31_000, 32_000, Recovery(5, 61_000)),  # a probe left, and the end came before it was kept
        (Recovery(5, None), None, 90_000, Recovery(5, 30_000)),
        (Recovery(9, 10**12, 7, 8), 10**12, 9_000, Recovery(9, 39_000, 7, 8)),  # the clock was set back
    ],
)
def test_a_restart_brings_no_probe_forward_nor_puts_it_off_for_ever(
    known: Recovery, last_claim_at: int | None, now: int, recalled: Recovery
) -> None:
    assert recall_recovery(known, last_claim_at, now) == recalled
