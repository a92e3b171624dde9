"""What a replay does with an event's route, given what today's YAML makes of it and what it already has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.delivery.replay import (
    Judgement,
    PastDelivery,
    Verdict,
    explain_no_retry,
    find_obstacle,
    judge_delivery,
    read_bound,
)
from app.model.delivery import Delivery, Reason, State
from app.model.message import Message

NOW = 1_790_000_000_000
TODAY = Delivery(
    id="d-new",
    event_id="e-1",
    route="coins",
    provider="gallabox",
    template="coins_earned",
    recipient="+919800000001",
    message=Message("+919800000001", "coins_earned"),
    state=State.PENDING,
    reason=None,
    created_at=NOW,
    due_at=NOW,
    deadline_at=NOW + 1,
)
DEAD = PastDelivery("d-1", "coins", "gallabox", "coins_earned", "+919800000001", State.DEAD, Reason.VARIABLE_MISSING)
OTHER = replace(DEAD, id="d-9", route="coupons", template="coupon_ready")


def past(**changes: Any) -> PastDelivery:
    return replace(DEAD, reason=changes.pop("reason", None), **changes)


@pytest.mark.parametrize(
    ("today", "before", "expected"),
    [
        ({}, [], Judgement(Verdict.SEND)),
        ({}, [OTHER], Judgement(Verdict.SEND)),
        ({}, [replace(OTHER, state=State.ACCEPTED)], Judgement(Verdict.SEND)),
        ({}, [DEAD], Judgement(Verdict.SEND, Reason.VARIABLE_MISSING, "d-1")),
        ({}, [past(state=State.EXPIRED)], Judgement(Verdict.SEND, None, "d-1")),
        ({}, [past(state=State.SUPPRESSED)], Judgement(Verdict.SEND, None, "d-1")),
        ({}, [past(state=State.ACCEPTED)], Judgement(Verdict.ACCEPTED, None, "d-1")),
        ({}, [past(state=State.PENDING)], Judgement(Verdict.OPEN, None, "d-1")),
        ({}, [past(state=State.SENDING)], Judgement(Verdict.OPEN, None, "d-1")),
        (
            {},
            [past(state=State.UNKNOWN, reason=Reason.TIMED_OUT)],
            Judgement(Verdict.UNKNOWN, Reason.TIMED_OUT, "d-1"),
        ),
        # it died after all, but an attempt before may have arrived
        (
            {},
            [past(ambiguous=True, reason=Reason.REQUEST_REFUSED)],
            Judgement(Verdict.UNKNOWN, Reason.REQUEST_REFUSED, "d-1"),
        ),
        ({}, [DEAD, past(id="d-2", state=State.ACCEPTED)], Judgement(Verdict.ACCEPTED, None, "d-2")),
        (
            {},
            [past(state=State.UNKNOWN), past(id="d-2", state=State.ACCEPTED)],
            Judgement(Verdict.ACCEPTED, None, "d-2"),
        ),
        # the route was renamed: the customer would get the same text twice
        ({}, [past(state=State.ACCEPTED, route="old-name")], Judgement(Verdict.ACCEPTED, None, "d-1")),
        ({}, [past(state=State.ACCEPTED, route="o", provider="bitespeed")], Judgement(Verdict.SEND)),
        # the template was changed under the same route
        ({"template": "coins_v2"}, [past(state=State.ACCEPTED)], Judgement(Verdict.ACCEPTED, None, "d-1")),
        (
            {"state": State.DEAD, "reason": Reason.VARIABLE_MISSING},
            [DEAD],
            Judgement(Verdict.DEAD, Reason.VARIABLE_MISSING),
        ),
        (
            {"state": State.DEAD, "reason": Reason.VARIABLE_MISSING},
            [past(state=State.ACCEPTED)],
            Judgement(Verdict.ACCEPTED, None, "d-1"),
        ),
        ({"deadline_at": NOW}, [DEAD], Judgement(Verdict.EXPIRED, Reason.DEADLINE_PASSED)),
        (
            {"state": State.EXPIRED, "reason": Reason.DEADLINE_PASSED, "deadline_at": NOW + 9},
            [],
            Judgement(Verdict.EXPIRED, Reason.DEADLINE_PASSED),
        ),
        ({"state": State.SHADOW}, [], Judgement(Verdict.SHADOW)),
        ({"state": State.SHADOW, "reason": Reason.NOT_LIVE}, [], Judgement(Verdict.NOT_LIVE, Reason.NOT_LIVE)),
        # going live sends no backlog
        ({}, [past(state=State.SHADOW)], Judgement(Verdict.SHADOW, None, "d-1")),
        (
            {},
            [past(state=State.SHADOW, reason=Reason.NOT_LIVE)],
            Judgement(Verdict.SHADOW, Reason.NOT_LIVE, "d-1"),
        ),
        (
            {},
            [past(reason=Reason.RECIPIENT_OPTED_OUT)],
            Judgement(Verdict.DEAD, Reason.RECIPIENT_OPTED_OUT, "d-1"),
        ),
        (
            {"recipient": "+919800000002"},
            [past(reason=Reason.RECIPIENT_OPTED_OUT)],
            Judgement(Verdict.SEND, Reason.RECIPIENT_OPTED_OUT, "d-1"),
        ),
    ],
)
def test_a_verdict_follows_from_today_and_from_what_was(
    today: dict[str, Any], before: list[PastDelivery], expected: Judgement
) -> None:
    assert judge_delivery(replace(TODAY, **today), before, NOW) == expected


def test_what_was_recorded_in_shadow_is_sent_where_it_is_asked_for() -> None:
    before = [past(state=State.SHADOW)]
    assert judge_delivery(TODAY, before, NOW, shadow_wanted=True) == Judgement(Verdict.SEND, None, "d-1")
    sent = [*before, past(id="d-2", state=State.ACCEPTED)]
    assert judge_delivery(TODAY, sent, NOW, shadow_wanted=True).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("state", State)
def test_nothing_is_sent_beside_what_has_arrived_or_may_have(state: State) -> None:
    may = state not in (State.ACCEPTED, State.PENDING, State.SENDING, State.UNKNOWN)
    assert (find_obstacle(TODAY, [past(state=state)]) is None) == may


@pytest.mark.parametrize(
    ("text", "end_of_day", "expected"),
    [
        ("7d", False, NOW - 7 * 86_400_000),
        ("90s", True, NOW - 90_000),
        ("2026-09-21T18:53:20+05:30", False, 1_789_997_000_000),
        ("2026-09-21T13:23:20Z", True, 1_789_997_000_000),
        ("2026-09-21", False, 1_789_929_000_000),  # midnight in India
        (" 2026-09-21 ", True, 1_789_929_000_000 + 86_400_000),
    ],
)
def test_a_bound_is_how_long_ago_a_date_or_an_instant(text: str, end_of_day: bool, expected: int) -> None:
    assert read_bound(text, NOW, "Asia/Kolkata", end_of_day=end_of_day) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7 days", "31/12/2026"])
def test_any_other_bound_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(ValueError, match="how long ago"):
        read_bound(text, NOW, "Asia/Kolkata", end_of_day=False)


def test_why_there_is_no_retry_is_said_in_words() -> None:
    assert explain_no_retry("accepted") == "it is accepted"
    assert "deadline" in explain_no_retry("deadline_passed")
