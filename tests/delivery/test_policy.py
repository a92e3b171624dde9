"""Whether a delivery that is due may leave: its deadline, its recipient's wish, and the gap to the one before."""

from __future__ import annotations

import pytest

from app.delivery.policy import GO, TOO_LATE, UNWANTED, Candidate, End, Go, Wait, find_free, judge_candidate

NOW = 1_790_000_000_000
GAP = 6_000


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (Candidate(NOW + 1, False, NOW), GO),
        (Candidate(NOW, False, NOW), TOO_LATE),
        (Candidate(NOW + 1, True, NOW), UNWANTED),
        (Candidate(NOW + 1, False, NOW + 1), Wait(NOW + 1)),
        (Candidate(NOW, True, NOW + 1), TOO_LATE),  # what is too late is nothing else
        (Candidate(NOW + 1, True, NOW + 1), UNWANTED),
    ],
)
def test_a_candidate_goes_waits_or_ends(candidate: Candidate, expected: Go | Wait | End) -> None:
    assert judge_candidate(candidate, NOW) == expected


@pytest.mark.parametrize(
    ("last_at", "expected"),
    [(None, NOW), (NOW, NOW + GAP), (NOW - 2_000, NOW + 4_000), (NOW + 3_600_000, NOW + GAP)],
)
def test_a_person_is_free_a_gap_after_the_last_message_and_no_later(last_at: int | None, expected: int) -> None:
    assert find_free(last_at, GAP, NOW) == expected
