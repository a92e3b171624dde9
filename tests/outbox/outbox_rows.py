"""What the model of the outbox is made of: events, deliveries, attempts and holds, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.delivery.replay import PastDelivery
from app.model.delivery import Delivery, Reason, State
from app.model.event import Event
from app.model.message import ReceiptStatus
from app.outbox.values import DeliveryState

LAST_STATES = frozenset({State.ACCEPTED, State.EXPIRED, State.SUPPRESSED, State.SHADOW, State.DEAD})


@dataclass
class Tried:
    """An attempt: `reason` once it ended, `lost` if it was given up rather than closed."""

    reason: str | None = None
    outcome: str | None = None
    lost: bool = False


@dataclass
class Row:
    """A delivery as it stands."""

    seq: int
    given: Delivery
    state: State
    reason: Reason | None
    recipient: str
    due_at: int | None
    updated_at: int
    sendable: bool
    receipt: ReceiptStatus | None = None
    spent: int = 0
    opened_at: int = 0
    lease_until: int | None = None
    message_id: str | None = None
    wamid: str | None = None
    clicked: bool = False
    tried: list[Tried] = field(default_factory=list)
    receipts: dict[ReceiptStatus, Reason | None] = field(default_factory=dict)

    @property
    def scopes(self) -> tuple[str, str, str]:
        it = self.given
        return f"provider:{it.provider}", f"route:{it.route}", f"template:{it.provider}/{it.template}"

    @property
    def shown_reason(self) -> Reason | None:
        if self.reason is None and self.receipt is ReceiptStatus.FAILED:
            return self.receipts[ReceiptStatus.FAILED]
        return self.reason

    def is_over(self, before: int) -> bool:
        return self.state in LAST_STATES or (self.state is State.UNKNOWN and self.given.deadline_at < before)

    def move(self, state: State, reason: Reason | None, due_at: int | None, now: int) -> None:
        self.state, self.reason, self.due_at, self.updated_at = state, reason, due_at, now


@dataclass
class Kept:
    """An event."""

    event: Event
    rows: list[Row]
    wiped: bool = False


@dataclass
class Standing:
    """A hold."""

    reason: str
    since: int
    probe_at: int | None
    by_hand: bool


def settles(state: State, status: ReceiptStatus) -> bool:
    """Tell whether a receipt proves that a tried delivery in this state was taken."""
    if state is State.UNKNOWN:
        return True
    return status is not ReceiptStatus.FAILED and state in {
        State.PENDING, State.DEAD, State.EXPIRED, State.SUPPRESSED,
    }  # fmt: skip


def key_of(it: Delivery) -> tuple[str, ...] | None:
    if it.dedup_key is None or it.state not in {State.PENDING, State.SHADOW}:
        return None
    return it.state, it.route, it.recipient, it.dedup_key


def show_state(row: Row) -> DeliveryState:
    return DeliveryState(row.given.id, row.given.route, row.given.provider, row.state)


def is_same(one: Row, other: Row) -> bool:
    a, b = one.given, other.given
    return a.route == b.route or (a.provider, a.template) == (b.provider, b.template)


def show_past(row: Row) -> PastDelivery:
    it = row.given
    ambiguous = any(each.outcome == "uncertain" for each in row.tried)
    return PastDelivery(it.id, it.route, it.provider, it.template, row.recipient, row.state, row.reason, ambiguous)


def move_instant(at: int | None, by_ms: int, now: int) -> int | None:
    """Return when what lies ahead of a clock that was set back to `now` comes."""
    return at + by_ms if at is not None and at > now else at
