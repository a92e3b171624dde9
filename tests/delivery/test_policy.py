"""Whether a delivery that is due may leave: its deadline, its recipient's wish, and the gap to the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.delivery.policy import (
    GO,
    TOO_LATE,
    UNWANTED,
    Candidate,
    End,
    Go,
    Group,
    Retry,
    Streaks,
    Wait,
    count_streaks,
    find_free,
    find_start,
    heeds_opt_out,
    judge_candidate,
    judge_new,
    judge_retry,
    list_blocking,
    order_turns,
)
from app.model.delivery import Delivery, Reason, State

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


DEAD = Retry(State.DEAD, has_message=True, deadline_at=NOW + 1, is_replayed=False, perhaps_taken=False)


@pytest.mark.parametrize(
    ("changes", "careful", "expected"),
    [
        ({}, True, None),
        ({"state": State.ACCEPTED, "has_message": False}, False, "accepted"),
        ({"has_message": False, "deadline_at": NOW}, False, "payload_gone"),
        ({"deadline_at": NOW, "is_replayed": True}, False, "deadline_passed"),
        ({"is_replayed": True, "perhaps_taken": True}, True, "replayed"),
        ({"perhaps_taken": True}, True, "perhaps_taken"),
        ({"perhaps_taken": True}, False, None),
        ({"perhaps_taken": True, "state": State.UNKNOWN}, True, None),  # that is why it is asked for
    ],
)
def test_what_cannot_be_sent_again_says_why(changes: dict[str, Any], careful: bool, expected: str | None) -> None:
    assert judge_retry(replace(DEAD, **changes), NOW, careful=careful) == expected


GROUP = Group("coins", "coins_v1", 0, NOW)


@pytest.mark.parametrize(
    ("holds", "blocking", "start"),
    [
        ({}, (), NOW),
        ({"route:other": None}, (), NOW),
        ({"route:coins": NOW - 1}, ("route:coins",), NOW),
        ({"template:p/coins_v1": NOW + 9, "provider:p": NOW + 5}, ("provider:p", "template:p/coins_v1"), NOW + 9),
        ({"route:coins": None, "provider:p": NOW}, ("provider:p", "route:coins"), None),
    ],
)
def test_a_group_starts_when_each_of_its_holds_may_be_probed(
    holds: dict[str, int | None], blocking: tuple[str, ...], start: int | None
) -> None:
    assert list_blocking(holds, "p", GROUP) == blocking
    assert find_start(holds, "p", GROUP) == start


@pytest.mark.parametrize(
    ("after", "expected"),
    [(None, "abc"), ("a", "bca"), ("bb", "cab"), ("c", "abc")],
)
def test_the_route_after_the_last_served_comes_first(after: str | None, expected: str) -> None:
    groups = [Group("c", "t", 0, 1), Group("a", "t", 0, 2), Group("b", "t", 0, 3)]
    assert "".join(turn[0].route for turn in order_turns(groups, after)) == expected


def test_in_a_route_the_rank_goes_before_the_due_time() -> None:
    late, early, first = Group("a", "t", 0, 9), Group("a", "u", 0, 1), Group("a", "v", -1, 9)
    assert order_turns([late, early, first], None) == [[first, early, late]]


@pytest.mark.parametrize(
    ("before", "ended", "after", "answers"),
    [
        ({}, [("a", "bad"), ("a", "bad")], {"a": ("bad", 2)}, [1, 2]),
        ({"a": ("bad", 4)}, [("a", None), ("a", "bad")], {"a": ("bad", 5)}, [0, 5]),
        ({"a": ("bad", 4)}, [("a", "worse")], {"a": ("worse", 1)}, [1]),
        ({"a": ("bad", 4)}, [("a", "bad"), ("a", ""), ("a", "bad")], {"a": ("bad", 1)}, [5, 0, 1]),
        ({"a": ("bad", 4)}, [("b", "")], {"a": ("bad", 4)}, [0]),
    ],
)
def test_refusals_for_one_reason_are_counted_until_one_is_accepted(
    before: Streaks, ended: list[tuple[str, str | None]], after: Streaks, answers: list[int]
) -> None:
    assert count_streaks(before, ended) == (after, answers)


def plan_delivery(**more: Any) -> Delivery:
    planned = {"state": State.PENDING, "reason": None, "marketing": True, **more}
    return Delivery(
        id="d", event_id="e", route="coins", provider="gallabox", template="coins", recipient="+919800000001",
        message=None, due_at=NOW, deadline_at=NOW + 1, created_at=NOW, **planned,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("planned", "unwanted", "repeat", "expected"),
    [
        ({}, False, False, (State.PENDING, None)),
        ({"state": State.DEAD, "reason": Reason.VARIABLE_MISSING}, False, False, (State.DEAD, Reason.VARIABLE_MISSING)),
        ({}, True, True, (State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT)),
        ({}, False, True, (State.SUPPRESSED, Reason.DUPLICATE)),
    ],
)
def test_a_delivery_begins_as_planned_unless_it_is_unwanted_or_a_repeat(
    planned: dict[str, Any], unwanted: bool, repeat: bool, expected: tuple[State, Reason | None]
) -> None:
    assert judge_new(plan_delivery(**planned), is_unwanted=unwanted, is_repeat=repeat) == expected


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        ({}, True),
        ({"state": State.SHADOW}, True),
        ({"marketing": False}, False),
        ({"state": State.DEAD}, False),
    ],
)
def test_an_opt_out_holds_back_marketing_that_would_go_out(planned: dict[str, Any], expected: bool) -> None:
    assert heeds_opt_out(plan_delivery(**planned)) is expected
