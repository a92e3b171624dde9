"""A lane tells of itself: an attempt's log line, counters and span, one line of a hold and of an outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager

from app.delivery.decide import Decision
from app.delivery.pace import Recovery
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, State
from app.observe import Span, Tracer
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.outbox.values import NewHold
from app.values.phone import mask_phone


def describe_outcome(outcome: Outcome) -> tuple[str, str, str]:
    """Return (word, reason, detail) of an outcome; "" for what it does not have."""
    if isinstance(outcome, Accepted):
        return "accepted", "", ""
    return type(outcome).__name__.lower(), outcome.reason.value, outcome.detail


def report_attempt(
    log: Log,
    metrics: Metrics,
    attempt: Attempt,
    outcome: Outcome,
    decision: Decision,
    now: int,
    tries: int,
    took_ms: int,
) -> None:
    """Tell what an attempt came to; the recipient is masked. `took_ms`: from the claim to the provider's answer."""
    delivery = attempt.delivery
    word, reason, detail = describe_outcome(outcome)
    metrics.attempts.inc(delivery.provider, word, reason)
    metrics.send_seconds.observe(took_ms / 1000, delivery.provider)
    age_ms = max(now - delivery.created_at, 0)
    if decision.state is State.ACCEPTED:
        metrics.event_to_accepted_seconds.observe(age_ms / 1000)
    log.info(
        "delivery.attempted",
        delivery_id=delivery.id,
        event_id=delivery.event_id,
        route=delivery.route,
        provider=delivery.provider,
        recipient=mask_phone(delivery.recipient),
        attempt=attempt.number,
        tries=tries,
        outcome=word,
        reason=reason or None,
        detail=detail or None,
        state=str(decision.state),
        due_at=decision.due_at,
        send_ms=took_ms,
        age_ms=age_ms,
    )


def report_holds(log: Log, holds_set: Sequence[NewHold], released: Sequence[str] = ()) -> None:
    """Tell once of a hold, not once of a delivery that meets it."""
    for hold in holds_set:
        log.error("hold.set", scope=hold.scope, reason=hold.reason)
    for scope in released:
        log.warning("hold.released", scope=scope, by="probe")


def report_limits(log: Log, metrics: Metrics, holds_set: Sequence[NewHold], limited: Sequence[str]) -> None:
    """Tell of what a claim found full: each scope, and once a route how many of its messages wait for a person's."""
    report_holds(log, holds_set)
    for hold in holds_set:
        metrics.limits_reached.labels(hold.scope.partition(":")[0]).inc()
    for route, count in Counter(limited).items():
        metrics.limits_reached.labels("person").inc(count)
        log.warning("limit.person", route=route, deliveries=count)


def report_outage(log: Log, provider: str, before: Recovery, after: Recovery, outcome: Outcome) -> None:
    """Tell when an outage begins and when it ends."""
    if after is before:
        return
    if after.down and not before.down:
        log.error("lane.down", provider=provider, reason=describe_outcome(outcome)[1])
    if before.down and not after.down:
        log.warning("lane.up", provider=provider)


def open_attempt_span(tracer: Tracer, delivery: Delivery, number: int) -> AbstractContextManager[Span]:
    """Return the span of an attempt: a part of its webhook's trace, however much later and in whichever process."""
    return tracer.open_span(
        "delivery.attempt",
        {
            "relay.delivery_id": delivery.id,
            "relay.event_id": delivery.event_id,
            "relay.route": delivery.route,
            "relay.provider": delivery.provider,
            "relay.attempt": number,
        },
        parent=delivery.trace,
    )


def note_outcome(span: Span, outcome: Outcome, state: State | None = None) -> None:
    """Say in a span what came of its attempt; the detail stays out, for it may quote the provider.

    `state`: None without an outbox, where a delivery has none that lasts.
    """
    word, reason, _ = describe_outcome(outcome)
    span.note({"relay.outcome": word})
    if state is not None:
        span.note({"relay.state": state.value})
    if not isinstance(outcome, Accepted):
        span.note({"relay.reason": reason})
        span.fail(reason)
