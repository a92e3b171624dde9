"""The state machine: from which state a delivery may come into which, and why. The outbox only executes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.delivery.decide import Decision, probe_wait_ms
from app.delivery.policy import Cause
from app.model.delivery import Accepted, OnUnknown, Outcome, Reason, Rejected, Retryable, Scope, State, Uncertain
from app.model.message import ReceiptStatus
from app.model.value import dataclass

BORN: Mapping[State, frozenset[Cause]] = {
    state: frozenset({Cause.MADE, Cause.REPLAYED})
    for state in (State.PENDING, State.SHADOW, State.SUPPRESSED, State.EXPIRED, State.DEAD)
}
"""The states in which a delivery may begin."""

ALLOWED: Mapping[State, Mapping[State, frozenset[Cause]]] = {
    State.PENDING: {
        State.SENDING: frozenset({Cause.CLAIMED}),
        State.ACCEPTED: frozenset({Cause.RECEIPT}),
        State.EXPIRED: frozenset({Cause.DEADLINE}),
        State.SUPPRESSED: frozenset({Cause.OPTED_OUT, Cause.ERASED}),
        State.DEAD: frozenset({Cause.DAMAGED}),
        State.UNKNOWN: frozenset({Cause.RESTORED}),
    },
    State.SENDING: {
        State.PENDING: frozenset({Cause.ENDED, Cause.LOST}),
        State.ACCEPTED: frozenset({Cause.ENDED, Cause.RECEIPT, Cause.LOST, Cause.RESTORED}),
        State.UNKNOWN: frozenset({Cause.ENDED, Cause.LOST, Cause.RESTORED}),
        State.EXPIRED: frozenset({Cause.ENDED}),
        State.DEAD: frozenset({Cause.ENDED}),
    },
    State.UNKNOWN: {
        State.PENDING: frozenset({Cause.RESENT, Cause.RETRIED, Cause.ENDED_LATE}),
        State.ACCEPTED: frozenset({Cause.RECEIPT, Cause.ENDED_LATE}),
        State.UNKNOWN: frozenset({Cause.RESTORED, Cause.ENDED_LATE}),
        State.EXPIRED: frozenset({Cause.ENDED_LATE}),
        State.SUPPRESSED: frozenset({Cause.ERASED}),
        State.DEAD: frozenset({Cause.ENDED_LATE}),
    },
    State.EXPIRED: {State.PENDING: frozenset({Cause.RETRIED}), State.ACCEPTED: frozenset({Cause.RECEIPT})},
    State.DEAD: {State.PENDING: frozenset({Cause.RETRIED}), State.ACCEPTED: frozenset({Cause.RECEIPT})},
    State.SUPPRESSED: {State.ACCEPTED: frozenset({Cause.RECEIPT})},
    State.ACCEPTED: {},
    State.SHADOW: {},
}
"""From each state, the states that may follow it, and the causes that may lead there."""

RETRIABLE = frozenset(state for state, nexts in ALLOWED.items() if Cause.RETRIED in nexts.get(State.PENDING, ()))
"""The states from which a person may have a delivery sent again."""

DEATHS_LIMIT = 3  # a delivery that was open in so many dead processes may be what kills them
RESENDS_LIMIT = 1  # who answers nothing twice may take every one of them: the customer would get it every 15 minutes
REFUSALS_LIMIT = 5  # in a row, for one reason: then it is the route's fault rather than the messages'
UNREADABLE_LIMIT = 5  # answers in a row: each may be a message that nobody gets, or one that everybody gets


@dataclass(frozen=True, slots=True)
class Standing:
    """The standing of a delivery whose attempt ends: all that the outbox knows beside the outcome."""

    route: str
    provider: str
    receipt: ReceiptStatus | None = None
    silences: int = 0  # earlier attempts that were uncertain
    refusals: int = 0  # so many of its route's messages in a row, this one included, were refused for this reason
    unreadable: int = 0  # so many answers of its provider in a row nobody could read
    deaths: int = 0  # in so many dead processes it was open, this one included


def end_attempt(outcome: Outcome, decision: Decision, standing: Standing, now: int) -> Decision:
    """Return what follows from an attempt's end, given what was decided from its outcome alone.

    A receipt that came meanwhile says that it was sent. What may have been sent is sent again by itself only once.
    The fifth message of a route in a row that is refused for the same reason holds the route; the fifth answer in a
    row that nobody can read holds the provider.
    """
    if standing.receipt is not None and settles(decision.state, standing.receipt):
        decision = replace(decision, state=State.ACCEPTED, reason=None, due_at=None)
    if decision.state is State.PENDING and decision.due_at is None:
        decision = replace(decision, due_at=now)  # without a due time it would wait for ever
    if decision.state is State.UNKNOWN and standing.silences >= RESENDS_LIMIT:
        decision = replace(decision, due_at=None)  # it waits for its receipt, or a person
    if decision.hold_scope is not None:
        # Not the decision's reason: that may be that the message expired.
        why = Reason.REQUEST_REFUSED if isinstance(outcome, Accepted) else outcome.reason
        return replace(decision, hold_reason=why)
    if standing.refusals >= REFUSALS_LIMIT:
        return _hold(decision, f"route:{standing.route}", Reason.REFUSED_REPEATEDLY, now)
    if standing.unreadable >= UNREADABLE_LIMIT:
        return _hold(decision, f"provider:{standing.provider}", Reason.ANSWERS_UNREADABLE, now)
    return decision


def _hold(decision: Decision, scope: str, reason: Reason, now: int) -> Decision:
    return replace(decision, hold_scope=scope, hold_reason=reason, hold_probe_at=now + probe_wait_ms(scope))


def lose_attempt(
    standing: Standing, on_unknown: OnUnknown, now: int, settle_ms: int, *, never_left: bool = False
) -> Decision:
    """Return what follows for a delivery whose attempt nobody will end any more; `never_left`: that is known of it."""
    if standing.receipt is not None:
        return Decision(State.ACCEPTED)
    if never_left and standing.deaths < DEATHS_LIMIT:
        return Decision(State.PENDING, Reason.PROCESS_DIED, now, attempt_spent=False)
    resends = on_unknown == "resend" and standing.deaths < DEATHS_LIMIT
    return Decision(State.UNKNOWN, Reason.PROCESS_DIED, now + settle_ms if resends else None)


def restore(state: State, receipt: ReceiptStatus | None) -> Decision:
    """Return what follows for a delivery that had not ended in a backup: a handset that has reported settles it."""
    if state is State.SENDING and receipt is not None:
        return Decision(State.ACCEPTED)
    return Decision(State.UNKNOWN, Reason.RESTORED)


def name_end(outcome: Outcome, state: State, *, is_late: bool) -> Cause:
    """Return why a delivery whose attempt ended comes into a state: by its outcome, or by a receipt that came first."""
    if state is State.ACCEPTED and not isinstance(outcome, Accepted):
        return Cause.RECEIPT
    return Cause.ENDED_LATE if is_late else Cause.ENDED


def is_refusal(outcome: Outcome) -> bool:
    """Tell whether a message was refused for what it is, which its route may be to blame for."""
    return isinstance(outcome, Rejected) and outcome.scope is Scope.MESSAGE


def was_never_sent(outcome: Outcome) -> bool:
    """Tell whether nobody got a message by an attempt. What was refused with a 2xx may have been taken all the same."""
    if isinstance(outcome, Rejected):
        return not outcome.detail.startswith("HTTP 2")
    return isinstance(outcome, Retryable)


def read_refusal(outcome: Outcome) -> str | None:
    """Return why a message was refused for itself, "" where it was accepted; None says nothing of its route."""
    if isinstance(outcome, Accepted):
        return ""
    return outcome.reason.value if is_refusal(outcome) else None


def read_unreadable(outcome: Outcome) -> str | None:
    """Return the reason of an answer that nobody could read, "" where it was a plain yes or no; None says nothing."""
    if isinstance(outcome, Uncertain) and outcome.reason is Reason.ANSWER_UNREADABLE:
        return outcome.reason.value
    return "" if isinstance(outcome, Accepted) or is_refusal(outcome) else None


# Never backwards. `failed` outranks `sent` (the usual order); a later sign of arrival outranks `failed`.
_RANK = {None: 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}
ARRIVED = (ReceiptStatus.DELIVERED, ReceiptStatus.READ)


def rises(before: str | None, status: ReceiptStatus) -> bool:
    """Tell whether a receipt says more than the one that a delivery has."""
    return _RANK[status] > _RANK[before]


def settles(state: State, status: ReceiptStatus) -> bool:
    """Tell whether a receipt proves that the provider took the message of a delivery that was tried.

    While an attempt is open its own end decides. A failed receipt proves it only where nothing else is
    known; a pending one may go out again, since the handset has nothing.
    """
    if state is State.UNKNOWN:
        return True
    wrong = (State.PENDING, State.DEAD, State.EXPIRED, State.SUPPRESSED)
    return status is not ReceiptStatus.FAILED and state in wrong


@dataclass(frozen=True, slots=True)
class Move:
    """One delivery's way from a state to the next."""

    seq: int
    route: str
    provider: str
    was: State
    state: State
    cause: Cause
    attempt: int  # the number of its last attempt, this one included
    reason: str | None = None
    detail: str = ""
    due_at: int | None = None
    lease_until: int | None = None
    spent: int = 0  # by so much grows the number of attempts that count towards backing off
    message_id: str | None = None
    is_usual: bool = False  # the next step of the way that most deliveries go, and so far this one has gone no other

    def __post_init__(self) -> None:
        """Refuse what no rule allows: a fault of ours must not become a fact."""
        if self.cause not in ALLOWED[self.was].get(self.state, ()):
            raise ValueError(f"no delivery goes from {self.was} to {self.state} because of: {self.cause}")

    @property
    def is_told(self) -> bool:
        """Tell whether it needs a row in the timeline: a restored backup does, even where the state stays."""
        return not self.is_usual and (self.state is not self.was or self.cause is Cause.RESTORED)


# -- what a person wants sent again ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retry:
    """A delivery that a person wants sent again, with all that the rule asks of it."""

    state: State
    has_message: bool
    deadline_at: int
    is_replayed: bool  # a later delivery of its event does its work
    perhaps_taken: bool  # by what its attempts came to


def judge_retry(asked: Retry, now: int, *, careful: bool) -> str | None:
    """Return why a delivery cannot be sent again, None if it can; `careful`: not if it ended and may be taken."""
    if asked.state not in RETRIABLE:
        return asked.state
    if not asked.has_message:
        return "payload_gone"
    if asked.deadline_at <= now:
        return "deadline_passed"
    if asked.is_replayed:
        return "replayed"
    return "perhaps_taken" if careful and asked.perhaps_taken and asked.state is not State.UNKNOWN else None
