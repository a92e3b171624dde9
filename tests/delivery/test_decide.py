from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.decide import LONGEST_PAUSE_MS, Decision, decide, probe_wait_ms
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain

NOW = 1_790_000_000_000
DAY = 86_400_000
FAR = NOW + 30 * DAY


def decided(outcome: Outcome, **changes: Any) -> Decision:
    arguments: dict[str, Any] = {
        "attempt_number": 1,
        "now": NOW,
        "deadline_at": FAR,
        "on_unknown": "hold",
        "provider": "gallabox",
        "template": "coins_earned",
        "random": lambda: 0.5,
    }
    return decide(outcome, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Accepted("m1"), Decision(State.ACCEPTED)),
        (Rejected(Reason.PARAMETERS_REFUSED), Decision(State.DEAD, Reason.PARAMETERS_REFUSED)),
        (
            Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT),
            Decision(State.DEAD, Reason.RECIPIENT_OPTED_OUT),
        ),
        (
            Rejected(Reason.TEMPLATE_PAUSED, Scope.TEMPLATE),
            Decision(
                State.PENDING,
                Reason.TEMPLATE_PAUSED,
                NOW,
                "template:gallabox/coins_earned",
                NOW + 900_000,
                attempt_spent=False,
            ),
        ),
        (
            Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
            Decision(
                State.PENDING,
                Reason.CREDENTIALS_REFUSED,
                NOW,
                "provider:gallabox",
                NOW + 300_000,
                attempt_spent=False,
            ),
        ),
        (Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT)),
    ],
)
def test_outcome_leads_to_one_decision(outcome: Outcome, expected: Decision) -> None:
    assert decided(outcome) == expected


REFUSED = Rejected(Reason.PARAMETERS_REFUSED)


@pytest.mark.parametrize(
    ("outcome", "probes", "changes", "expected"),
    [
        (REFUSED, ("provider:gallabox",), {}, Decision(State.DEAD, Reason.PARAMETERS_REFUSED)),
        (REFUSED, ("template:gallabox/coins_earned",), {}, Decision(State.DEAD, Reason.PARAMETERS_REFUSED)),
        (
            REFUSED,
            ("provider:gallabox", "route:coins"),
            {},
            Decision(State.PENDING, Reason.PARAMETERS_REFUSED, NOW, attempt_spent=False),
        ),
        (REFUSED, ("route:coins",), {"deadline_at": NOW}, Decision(State.EXPIRED, Reason.DEADLINE_PASSED)),
        (
            Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
            ("route:coins",),
            {},
            Decision(State.DEAD, Reason.RECIPIENT_UNREACHABLE),
        ),
        (Accepted(), ("route:coins",), {}, Decision(State.ACCEPTED)),
    ],
)
def test_a_message_that_tried_a_held_route_is_not_lost_to_what_the_route_is_held_for(
    outcome: Outcome, probes: tuple[str, ...], changes: dict[str, Any], expected: Decision
) -> None:
    assert decided(outcome, probes=probes, **changes) == expected


@pytest.mark.parametrize(
    ("scope", "wait_ms"),
    [("provider:gallabox", 300_000), ("template:gallabox/coins_earned", 900_000), ("route:coins", 900_000)],
)
def test_a_hold_is_probed_every_five_or_fifteen_minutes(scope: str, wait_ms: int) -> None:
    assert probe_wait_ms(scope) == wait_ms


@pytest.mark.parametrize(
    ("wish_ms", "wait_ms"),
    [
        (None, 30_000),  # absent, or not to be read
        (-5_000, 1_000),
        (0, 1_000),
        (999, 1_000),
        (1_000, 1_000),
        (120_000, 120_000),
        (3_600_000, 3_600_000),
        (86_400_000, 3_600_000),
        (999_999_999_999_999_000, 3_600_000),
    ],
)
@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.UNAVAILABLE])
def test_the_lane_pauses_as_long_as_the_provider_wishes_within_bounds(
    reason: Reason, wish_ms: int | None, wait_ms: int
) -> None:
    decision = decided(Retryable(reason, Scope.PROVIDER, wish_ms), random=lambda: 0.0)
    assert decision.lane_pause_until == NOW + wait_ms
    latest = decided(Retryable(reason, Scope.PROVIDER, wish_ms), random=lambda: 0.999).lane_pause_until
    assert latest is not None
    assert NOW + wait_ms < latest <= NOW + LONGEST_PAUSE_MS


@pytest.mark.parametrize(("on_unknown", "due_at"), [("hold", None), ("resend", NOW + 900_000)])
def test_unknown_is_due_again_only_where_the_route_says_resend(on_unknown: str, due_at: int | None) -> None:
    decision = decided(Uncertain(Reason.CONNECTION_LOST), on_unknown=on_unknown)
    assert (decision.state, decision.due_at) == (State.UNKNOWN, due_at)


@pytest.mark.parametrize(
    ("retryable", "attempt_number", "drawn", "wait_ms"),
    [
        (Retryable(Reason.CONNECT_FAILED), 1, 0.0, 0),
        (Retryable(Reason.CONNECT_FAILED), 1, 0.5, 1_000),
        (Retryable(Reason.CONNECT_FAILED), 4, 0.5, 8_000),
        (Retryable(Reason.SERVER_ERROR), 10, 0.5, 450_000),  # capped at 15 min before the draw
        (Retryable(Reason.SERVER_ERROR), 1_000_000, 0.5, 450_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER), 1, 0.0, 30_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER), 2, 0.5, 63_000),
        (Retryable(Reason.UNAVAILABLE, Scope.PROVIDER), 99, 0.0, 900_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms=0), 1, 0.0, 1_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms=120_000), 1, 0.0, 120_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms=120_000), 7, 0.5, 126_000),
        (Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms=10**18), 1, 0.0, 3_600_000),
        (Retryable(Reason.RATE_LIMITED, Scope.RECIPIENT), 1, 0.0, 4_000),
        (Retryable(Reason.RATE_LIMITED, Scope.RECIPIENT), 3, 0.0, 64_000),
        (Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT), 1, 0.0, DAY),
        (Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT, retry_after_ms=2 * DAY), 1, 0.0, 2 * DAY),
    ],
)
def test_retry_waits_as_long_as_it_should(
    retryable: Retryable, attempt_number: int, drawn: float, wait_ms: int
) -> None:
    decision = decided(retryable, attempt_number=attempt_number, random=lambda: drawn)
    assert (decision.state, decision.reason, decision.due_at) == (State.PENDING, retryable.reason, NOW + wait_ms)
    assert decision.lane_pause_until == (NOW + wait_ms if retryable.scope is Scope.PROVIDER else None)


@pytest.mark.parametrize(
    ("outcome", "deadline_at", "state"),
    [
        (Retryable(Reason.SERVER_ERROR), NOW + 1_001, State.PENDING),
        (Retryable(Reason.SERVER_ERROR), NOW + 1_000, State.EXPIRED),
        (Retryable(Reason.UNAVAILABLE, Scope.PROVIDER, 120_000), NOW + 60_000, State.EXPIRED),
        (Retryable(Reason.DEADLINE_PASSED), NOW, State.EXPIRED),
        (Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), NOW, State.EXPIRED),
        (Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), NOW + 1, State.PENDING),
        (Rejected(Reason.REQUEST_REFUSED), NOW, State.DEAD),
        (Uncertain(Reason.TIMED_OUT), NOW, State.UNKNOWN),
    ],
)
def test_nothing_is_planned_past_the_deadline(outcome: Outcome, deadline_at: int, state: State) -> None:
    decision = decided(outcome, deadline_at=deadline_at)
    assert decision.state is state
    if state is State.EXPIRED:
        assert decision.reason is Reason.DEADLINE_PASSED


def test_lane_pauses_and_holds_stand_even_where_the_one_message_expires() -> None:
    assert decided(Retryable(Reason.UNAVAILABLE, Scope.PROVIDER), deadline_at=NOW).lane_pause_until is not None
    assert decided(Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), deadline_at=NOW).hold_scope == "provider:gallabox"


@given(
    st.builds(
        Retryable,
        st.sampled_from(Reason),
        st.sampled_from(Scope),
        st.none() | st.integers(min_value=0, max_value=10**18),
    ),
    st.integers(min_value=1, max_value=10**9),
    st.integers(min_value=-DAY, max_value=60 * DAY),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_retry_is_due_between_now_and_the_deadline_whatever_comes(
    retryable: Retryable, attempt_number: int, left_ms: int, drawn: float
) -> None:
    decision = decided(retryable, attempt_number=attempt_number, deadline_at=NOW + left_ms, random=lambda: drawn)
    assert decision.state in (State.PENDING, State.EXPIRED)
    if decision.due_at is not None:
        assert NOW <= decision.due_at < NOW + left_ms
