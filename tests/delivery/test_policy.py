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
    Stop,
    Streaks,
    Wait,
    count_streaks,
    find_free,
    find_room,
    find_start,
    heeds_opt_out,
    judge_candidate,
    judge_new,
    list_blocking,
    name_bucket,
    order_turns,
)
from app.delivery.transitions import Retry, judge_retry
from app.model.delivery import Delivery, Reason, State
from app.model.message import Account, Limit, Limits

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


DAILY, HOURLY = Limit(2, 86_400_000), Limit(3, 3_600_000)
PERSON, ROUTE = Account("person:00", DAILY), Account("route:coins", HOURLY, "route:coins")
ALL = Account("all", HOURLY, "provider:gallabox")


@pytest.mark.parametrize(
    ("rooms", "free_at", "expected"),
    [
        ([(PERSON, NOW), (ROUTE, NOW), (ALL, NOW)], NOW, GO),
        ([(PERSON, NOW + 9)], NOW, Wait(NOW + 9, Reason.LIMIT_PERSON)),
        ([(PERSON, NOW + 9)], NOW + 12, Wait(NOW + 12, Reason.LIMIT_PERSON)),  # the gap is kept, too
        ([(PERSON, NOW + 5), (PERSON, NOW + 9)], NOW, Wait(NOW + 9, Reason.LIMIT_PERSON)),
        ([(ROUTE, NOW + 9)], NOW, Stop("route:coins", Reason.LIMIT_REACHED)),
        ([(ALL, NOW + 9)], NOW, Stop("provider:gallabox", Reason.LIMIT_REACHED)),
        ([(ROUTE, NOW + 9), (ALL, NOW + 9)], NOW, Stop("provider:gallabox", Reason.LIMIT_REACHED)),  # the wider one
        ([(PERSON, NOW + 1), (ROUTE, NOW + 9)], NOW, Wait(NOW + 1, Reason.LIMIT_PERSON)),  # who waits stops nobody
        ([(ROUTE, NOW + 9)], NOW + 1, Wait(NOW + 1)),
    ],
)
def test_a_candidate_over_a_limit_waits_or_stops_its_scope(rooms: Any, free_at: int, expected: Any) -> None:
    assert judge_candidate(Candidate(NOW + DAILY.window_ms, False, free_at, rooms), NOW) == expected


def test_what_is_too_late_or_unwanted_is_so_over_a_limit_too() -> None:
    assert judge_candidate(Candidate(NOW, False, NOW, [(ROUTE, NOW + 9)]), NOW) == TOO_LATE
    assert judge_candidate(Candidate(NOW + 1, True, NOW, [(PERSON, NOW + 9)]), NOW) == UNWANTED


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ([], NOW),
        ([(NOW - 10, 1)], NOW),
        ([(NOW - 10, 1), (NOW - 5, 1)], NOW - 10 + DAILY.window_ms),
        ([(NOW - 10, 2)], NOW - 10 + DAILY.window_ms),
        ([(NOW - 10, 1), (NOW - 5, 2)], NOW - 5 + DAILY.window_ms),
        ([(NOW - 10, 9), (NOW - 5, 1)], NOW - 10 + DAILY.window_ms),  # of a limit that was higher
    ],
)
def test_a_limit_has_room_once_enough_has_left_its_window(counted: list[tuple[int, int]], expected: int) -> None:
    assert find_room(DAILY, counted, NOW) == expected


def test_what_is_counted_stays_so_for_no_shorter_than_the_window() -> None:
    assert name_bucket(DAILY, NOW + 7) == NOW + 7
    high = Limit(2_000, 3_600_000)
    ends = {name_bucket(high, NOW + after) for after in range(0, 3_600_000, 777)}
    assert len(ends) in (60, 61)
    assert all(0 <= name_bucket(high, NOW + after) - NOW - after < 60_000 for after in range(0, 3_600_000, 777))


def test_a_message_counts_in_each_account_that_has_a_limit() -> None:
    per_route = Limit(1, 60_000)
    limits = Limits(DAILY, HOURLY, HOURLY, {"coins": (per_route, None), "tier": (None, per_route)})
    assert Limits(all=HOURLY).list_accounts("gallabox", "coins", None) == [ALL]
    assert limits.list_accounts("gallabox", "coins", b"\0") == [
        PERSON,
        Account("person:00/coins", per_route),
        ROUTE,
        ALL,
    ]
    assert Account("route:tier", per_route, "route:tier") in limits.list_accounts("gallabox", "tier", b"\0")
    assert len(limits.list_accounts("gallabox", "other", b"\0")) == 3


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
