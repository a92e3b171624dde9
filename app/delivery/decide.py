"""One pure function tells from an outcome what happens after an attempt."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import assert_never

from app.model.delivery import (
    Accepted,
    OnUnknown,
    Outcome,
    Reason,
    Rejected,
    Retryable,
    Scope,
    State,
    Uncertain,
)
from app.model.value import dataclass

BASE_WAIT_MS = 2_000
LONGEST_WAIT_MS = 900_000
SHORTEST_WISH_MS = 1_000  # bounds of a provider's Retry-After
LONGEST_WISH_MS = 3_600_000
JITTER = 0.1  # of a wait that is not drawn at random as a whole
LONGEST_PAUSE_MS = int(LONGEST_WISH_MS * (1 + JITTER))
LANE_PAUSE_MS = 30_000  # after a 429 or 503 that names no time; doubles
PAIR_BASE_MS = 4_000
CAPPED_WAIT_MS = 86_400_000
PROVIDER_PROBE_MS = 300_000
NARROW_PROBE_MS = 900_000  # a template's or a route's hold: mended by a person's work, not by a payment
REINSTATED = "reinstated"  # why a hold is released: WhatsApp says that what it stood for may be sent again
END_REACHED = "end_reached"  # or: it was set for so long
MOST_DOUBLINGS = 20  # keeps the arithmetic small whatever the attempt number


@dataclass(frozen=True, slots=True)
class Decision:
    """The delivery's next state. `due_at`: when it may be claimed (`pending`) or settled (`unknown`)."""

    state: State
    reason: Reason | None = None
    due_at: int | None = None
    hold_scope: str | None = None  # set this hold, too
    hold_probe_at: int | None = None
    lane_pause_until: int | None = None  # nothing of this lane before then (429, 503)
    attempt_spent: bool = True  # False: the attempt does not count towards backing off
    hold_reason: Reason | None = None  # of `hold_scope`; transitions.end_attempt fills it in


ACCEPTED = Decision(State.ACCEPTED)


def probe_wait_ms(scope: str) -> int:
    """Return how long a hold stands between two probes."""
    return PROVIDER_PROBE_MS if scope.startswith("provider:") else NARROW_PROBE_MS


def scope_to_hold(scope: Scope, provider: str, template: str) -> str | None:
    """Return what to hold where the provider spoke of more than one message or person, None where it did not."""
    match scope:
        case Scope.MESSAGE | Scope.RECIPIENT:
            return None
        case Scope.TEMPLATE:
            return f"template:{provider}/{template}"
        case Scope.PROVIDER:
            return f"provider:{provider}"
        case _:  # pragma: no cover - mypy proves that there is no other
            assert_never(scope)


def decide(
    outcome: Outcome,
    *,
    attempt_number: int,
    now: int,
    deadline_at: int,
    on_unknown: OnUnknown,
    provider: str,
    template: str,
    random: Callable[[], float],
    settle_ms: int = 900_000,
    probes: Collection[str] = (),
) -> Decision:
    """Return what follows from `outcome`. Nothing is planned at or after `deadline_at`: that is `expired` at once.

    `attempt_number` is 1-based and counts the spent attempts; `probes`: the holds that the attempt tries.
    """
    match outcome:
        case Accepted():
            return ACCEPTED
        case Retryable():
            return _plan_retry(outcome, attempt_number, now, deadline_at, random)
        case Rejected():
            return _plan_refused(outcome, now, deadline_at, provider, template, probes)
        case Uncertain():
            due_at = now + settle_ms if on_unknown == "resend" else None
            return Decision(State.UNKNOWN, outcome.reason, due_at)
        case _:  # pragma: no cover - mypy proves that there is no other
            assert_never(outcome)


def _plan_retry(
    outcome: Retryable, attempt_number: int, now: int, deadline_at: int, random: Callable[[], float]
) -> Decision:
    wait_ms = _retry_wait_ms(outcome, attempt_number, random)
    # A 429 or 503 speaks of the whole account: the rest of the lane would only hear the same.
    pause_until = now + wait_ms if outcome.scope is Scope.PROVIDER else None
    if now + wait_ms >= deadline_at:
        return Decision(State.EXPIRED, Reason.DEADLINE_PASSED, lane_pause_until=pause_until)
    return Decision(State.PENDING, outcome.reason, now + wait_ms, lane_pause_until=pause_until)


def _retry_wait_ms(outcome: Retryable, attempt_number: int, random: Callable[[], float]) -> int:
    doublings = min(attempt_number - 1, MOST_DOUBLINGS)
    if outcome.reason is Reason.RECIPIENT_CAPPED:
        return _stretched(max(CAPPED_WAIT_MS, outcome.retry_after_ms or 0), random)
    if outcome.retry_after_ms is not None:
        return _stretched(min(max(outcome.retry_after_ms, SHORTEST_WISH_MS), LONGEST_WISH_MS), random)
    if outcome.scope is Scope.PROVIDER:
        return _stretched(min(LANE_PAUSE_MS << doublings, LONGEST_WAIT_MS), random)
    if outcome.scope is Scope.RECIPIENT:
        # https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput: back off 4^n s
        return _stretched(min(PAIR_BASE_MS << 2 * doublings, LONGEST_WAIT_MS), random)
    return int(random() * min(BASE_WAIT_MS << doublings, LONGEST_WAIT_MS))


def _stretched(wait_ms: int, random: Callable[[], float]) -> int:
    # Never shorter than asked for, yet not everyone at the same instant.
    return int(wait_ms * (1 + JITTER * random()))


def _plan_refused(
    outcome: Rejected, now: int, deadline_at: int, provider: str, template: str, probes: Collection[str]
) -> Decision:
    scope = scope_to_hold(outcome.scope, provider, template)
    # What a route is held for was just seen again: the message that tried it is no worse than those behind it.
    again = outcome.scope is Scope.MESSAGE and any(probe.startswith("route:") for probe in probes)
    if scope is None and not again:
        return Decision(State.DEAD, outcome.reason)
    probe_at = None if scope is None else now + probe_wait_ms(scope)
    if now >= deadline_at:
        return Decision(State.EXPIRED, Reason.DEADLINE_PASSED, hold_scope=scope, hold_probe_at=probe_at)
    return Decision(State.PENDING, outcome.reason, now, scope, probe_at, attempt_spent=False)
