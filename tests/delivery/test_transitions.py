"""The state machine: what may follow what, and what an attempt's end comes to beside its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.delivery.decide import Decision, probe_wait_ms
from app.delivery.policy import Cause
from app.delivery.transitions import (
    ALLOWED,
    BORN,
    DEATHS_LIMIT,
    REFUSALS_LIMIT,
    UNREADABLE_LIMIT,
    Move,
    Standing,
    end_attempt,
    is_refusal,
    lose_attempt,
    name_end,
    read_refusal,
    read_unreadable,
    restore,
    rises,
    settles,
    was_never_sent,
)
from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.model.message import ReceiptStatus
from tests.faults.simulation.oracle import CAUSES, MOVES

NOW = 1_790_000_000_000
ROUTE_PROBE_MS, PROVIDER_PROBE_MS = probe_wait_ms("route:coins"), probe_wait_ms("provider:gallabox")
ARCHITECTURE = Path(__file__).parents[2] / "docs/architecture.md"


def test_every_state_has_its_place() -> None:
    assert set(ALLOWED) == set(State)
    reached = set(BORN) | {state for nexts in ALLOWED.values() for state in nexts}
    assert reached == set(State)


def test_every_cause_leads_somewhere() -> None:
    led = {cause for nexts in ALLOWED.values() for causes in nexts.values() for cause in causes}
    assert led | {cause for causes in BORN.values() for cause in causes} == set(Cause)


def test_the_simulations_own_table_is_the_same() -> None:
    table = {(was, state): causes for was, nexts in ALLOWED.items() for state, causes in nexts.items()}
    assert {(str(was), str(state)): {*map(str, causes)} for (was, state), causes in table.items()} == CAUSES


def test_what_goes_by_itself_in_the_simulation_is_allowed() -> None:
    for was, nexts in MOVES.items():
        assert set(nexts) <= {str(state) for state in ALLOWED[State(was)]}


def draw_diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in BORN]
    for state, nexts in ALLOWED.items():
        for following, causes in nexts.items():
            lines.append(f"    {state} --> {following}: {', '.join(sorted(causes))}")
    lines += [f"    {state} --> [*]" for state, nexts in ALLOWED.items() if set(nexts) <= {State.ACCEPTED}]
    return "\n".join(lines)


def test_the_drawn_diagram_is_the_table() -> None:
    assert f"```mermaid\n{draw_diagram()}\n```" in ARCHITECTURE.read_text()


@pytest.mark.parametrize(
    ("was", "state", "cause"),
    [
        (State.ACCEPTED, State.PENDING, Cause.RETRIED),
        (State.PENDING, State.ACCEPTED, Cause.ENDED),
        (State.SHADOW, State.SENDING, Cause.CLAIMED),
        (State.DEAD, State.PENDING, Cause.RESENT),
        (State.PENDING, State.PENDING, Cause.RETRIED),
    ],
)
def test_what_no_rule_allows_is_refused(was: State, state: State, cause: Cause) -> None:
    with pytest.raises(ValueError, match=f"from {was} to {state}"):
        Move(1, "a", "p", was, state, cause, 1)


@pytest.mark.parametrize(
    ("state", "cause", "told"),
    [
        (State.ACCEPTED, Cause.RECEIPT, True),
        (State.UNKNOWN, Cause.RESTORED, True),
        (State.UNKNOWN, Cause.ENDED_LATE, False),
    ],
)
def test_a_state_that_stays_is_told_only_of_a_backup(state: State, cause: Cause, told: bool) -> None:
    assert Move(1, "a", "p", State.UNKNOWN, state, cause, 1).is_told == told


REFUSED = Rejected(Reason.PARAMETERS_REFUSED)
DEAD = Decision(State.DEAD, Reason.PARAMETERS_REFUSED)
ENDS: list[tuple[Outcome, Decision, dict[str, Any], Decision]] = [
    (Accepted(), Decision(State.ACCEPTED), {}, Decision(State.ACCEPTED)),
    (Accepted(), Decision(State.ACCEPTED), {"receipt": ReceiptStatus.FAILED}, Decision(State.ACCEPTED)),
    (REFUSED, DEAD, {"receipt": ReceiptStatus.FAILED}, DEAD),
    (REFUSED, DEAD, {"receipt": ReceiptStatus.READ}, Decision(State.ACCEPTED)),
    (
        Uncertain(Reason.TIMED_OUT),
        Decision(State.UNKNOWN, Reason.TIMED_OUT, NOW + 5),
        {},
        Decision(State.UNKNOWN, Reason.TIMED_OUT, NOW + 5),
    ),
    (
        Uncertain(Reason.TIMED_OUT),
        Decision(State.UNKNOWN, Reason.TIMED_OUT, NOW + 5),
        {"silences": 1},
        Decision(State.UNKNOWN, Reason.TIMED_OUT),
    ),
    (
        Uncertain(Reason.TIMED_OUT),
        Decision(State.UNKNOWN, Reason.TIMED_OUT, NOW + 5),
        {"receipt": ReceiptStatus.FAILED},
        Decision(State.ACCEPTED),
    ),
    (
        Retryable(Reason.UNAVAILABLE),
        Decision(State.PENDING, Reason.UNAVAILABLE),
        {},
        Decision(State.PENDING, Reason.UNAVAILABLE, NOW),
    ),
    (REFUSED, DEAD, {"refusals": REFUSALS_LIMIT - 1}, DEAD),
    (
        REFUSED,
        DEAD,
        {"refusals": REFUSALS_LIMIT},
        Decision(
            State.DEAD,
            Reason.PARAMETERS_REFUSED,
            hold_scope="route:coins",
            hold_reason=Reason.REFUSED_REPEATEDLY,
            hold_probe_at=NOW + ROUTE_PROBE_MS,
        ),
    ),
    (
        Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER),
        Decision(State.EXPIRED, Reason.DEADLINE_PASSED, hold_scope="provider:p", hold_probe_at=NOW + 9),
        {},
        Decision(
            State.EXPIRED,
            Reason.DEADLINE_PASSED,
            hold_scope="provider:p",
            hold_probe_at=NOW + 9,
            hold_reason=Reason.BALANCE_EMPTY,
        ),
    ),
    (
        Uncertain(Reason.ANSWER_UNREADABLE),
        Decision(State.UNKNOWN, Reason.ANSWER_UNREADABLE),
        {"unreadable": UNREADABLE_LIMIT},
        Decision(
            State.UNKNOWN,
            Reason.ANSWER_UNREADABLE,
            hold_scope="provider:gallabox",
            hold_reason=Reason.ANSWERS_UNREADABLE,
            hold_probe_at=NOW + PROVIDER_PROBE_MS,
        ),
    ),
    (
        Accepted(),
        Decision(State.ACCEPTED, hold_scope="provider:p"),
        {},
        Decision(State.ACCEPTED, hold_scope="provider:p", hold_reason=Reason.REQUEST_REFUSED),
    ),
]


@pytest.mark.parametrize(("outcome", "decision", "standing", "expected"), ENDS)
def test_what_stands_already_changes_what_an_outcome_alone_would_come_to(
    outcome: Outcome, decision: Decision, standing: dict[str, Any], expected: Decision
) -> None:
    assert end_attempt(outcome, decision, Standing("coins", "gallabox", **standing), NOW) == expected


@pytest.mark.parametrize(
    ("receipt", "on_unknown", "deaths", "expected"),
    [
        (ReceiptStatus.SENT, "resend", 1, Decision(State.ACCEPTED)),
        (None, "hold", 1, Decision(State.UNKNOWN, Reason.PROCESS_DIED)),
        (None, "resend", 1, Decision(State.UNKNOWN, Reason.PROCESS_DIED, NOW + 7)),
        (None, "resend", DEATHS_LIMIT - 1, Decision(State.UNKNOWN, Reason.PROCESS_DIED, NOW + 7)),
        (None, "resend", DEATHS_LIMIT, Decision(State.UNKNOWN, Reason.PROCESS_DIED)),
    ],
)
def test_what_a_dead_process_left_open_is_unknown_and_not_resent_for_ever(
    receipt: ReceiptStatus | None, on_unknown: Any, deaths: int, expected: Decision
) -> None:
    assert lose_attempt(Standing("coins", "gallabox", receipt, deaths=deaths), on_unknown, NOW, 7) == expected


@pytest.mark.parametrize(
    ("receipt", "deaths", "expected"),
    [
        (ReceiptStatus.SENT, 1, Decision(State.ACCEPTED)),
        (None, DEATHS_LIMIT - 1, Decision(State.PENDING, Reason.PROCESS_DIED, NOW, attempt_spent=False)),
        (None, DEATHS_LIMIT, Decision(State.UNKNOWN, Reason.PROCESS_DIED)),
    ],
)
def test_what_a_dead_process_never_sent_is_sent_but_not_for_ever(
    receipt: ReceiptStatus | None, deaths: int, expected: Decision
) -> None:
    standing = Standing("coins", "gallabox", receipt, deaths=deaths)
    assert lose_attempt(standing, "hold", NOW, 7, never_left=True) == expected


@pytest.mark.parametrize(
    ("state", "receipt", "expected"),
    [
        (State.SENDING, ReceiptStatus.SENT, Decision(State.ACCEPTED)),
        (State.SENDING, None, Decision(State.UNKNOWN, Reason.RESTORED)),
        (State.PENDING, ReceiptStatus.SENT, Decision(State.UNKNOWN, Reason.RESTORED)),
    ],
)
def test_what_had_not_ended_in_a_backup_is_unknown_unless_a_handset_reported(
    state: State, receipt: ReceiptStatus | None, expected: Decision
) -> None:
    assert restore(state, receipt) == expected


@pytest.mark.parametrize(
    ("outcome", "state", "is_late", "expected"),
    [
        (Accepted(), State.ACCEPTED, False, Cause.ENDED),
        (Accepted(), State.ACCEPTED, True, Cause.ENDED_LATE),
        (REFUSED, State.ACCEPTED, True, Cause.RECEIPT),
        (REFUSED, State.DEAD, False, Cause.ENDED),
    ],
)
def test_an_attempts_end_is_named_by_its_outcome_or_by_the_receipt_that_came_first(
    outcome: Outcome, state: State, is_late: bool, expected: Cause
) -> None:
    assert name_end(outcome, state, is_late=is_late) is expected


@pytest.mark.parametrize(
    ("outcome", "refusal", "unreadable"),
    [
        (Accepted(), "", ""),
        (REFUSED, "parameters_refused", ""),
        (Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), None, None),
        (Uncertain(Reason.TIMED_OUT), None, None),
        (Uncertain(Reason.ANSWER_UNREADABLE), None, "answer_unreadable"),
    ],
)
def test_what_an_outcome_adds_to_a_streak_of_a_route_and_of_a_provider(
    outcome: Outcome, refusal: str | None, unreadable: str | None
) -> None:
    assert (read_refusal(outcome), read_unreadable(outcome)) == (refusal, unreadable)


@pytest.mark.parametrize(
    ("before", "status", "expected"),
    [
        (None, ReceiptStatus.SENT, True),
        ("sent", ReceiptStatus.SENT, False),
        ("sent", ReceiptStatus.FAILED, True),
        ("failed", ReceiptStatus.READ, True),
        ("read", ReceiptStatus.DELIVERED, False),
    ],
)
def test_a_receipt_never_goes_back(before: str | None, status: ReceiptStatus, expected: bool) -> None:
    assert rises(before, status) == expected


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (REFUSED, True),
        (Rejected(Reason.BALANCE_EMPTY, Scope.PROVIDER), False),
        (Uncertain(Reason.TIMED_OUT), False),
        (Accepted(), False),
    ],
)
def test_only_what_is_refused_for_itself_speaks_against_its_route(outcome: Outcome, expected: bool) -> None:
    assert is_refusal(outcome) == expected


@pytest.mark.parametrize("state", list(State))
def test_a_failed_receipt_settles_only_what_is_unknown(state: State) -> None:
    assert settles(state, ReceiptStatus.FAILED) == (state is State.UNKNOWN)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("status", [ReceiptStatus.SENT, ReceiptStatus.DELIVERED, ReceiptStatus.READ])
def test_a_sign_of_arrival_settles_what_says_otherwise(state: State, status: ReceiptStatus) -> None:
    wrong = {State.UNKNOWN, State.PENDING, State.DEAD, State.EXPIRED, State.SUPPRESSED}
    assert settles(state, status) == (state in wrong)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Retryable(Reason.CONNECT_FAILED), True),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 400: no"), True),
        (Rejected(Reason.REQUEST_REFUSED, detail="HTTP 200: no"), False),
        (Uncertain(Reason.TIMED_OUT), False),
        (Accepted(), False),
    ],
)
def test_what_surely_was_not_sent_is_told_from_what_may_have_been(outcome: Outcome, expected: bool) -> None:
    assert was_never_sent(outcome) is expected
