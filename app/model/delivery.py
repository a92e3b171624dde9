"""The duty to get one message accepted: its states and reasons, its attempts, and what an attempt comes to.

Every instant is an ``int``: milliseconds since the Unix epoch, UTC. Every duration is an ``int`` of
milliseconds, too, and its name ends in ``_ms``. Words are those of docs/glossary.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from app.model.value import dataclass

if TYPE_CHECKING:
    from app.model.message import Message

DEDUP_WINDOW_MS = 30 * 86_400_000
"""For so long a `dedup_by` value is known for a route and a recipient."""


class State(StrEnum):
    """A delivery stands in exactly one of these at any time. `held` is a view of `pending`, not a state."""

    PENDING = "pending"  # waits for its due time and a free place in its lane
    SENDING = "sending"  # an attempt is open
    ACCEPTED = "accepted"  # the provider took it
    UNKNOWN = "unknown"  # the request may have arrived
    EXPIRED = "expired"  # its deadline passed first
    SUPPRESSED = "suppressed"  # deliberately not sent (a repeat)
    SHADOW = "shadow"  # recorded only: the route is in shadow mode
    DEAD = "dead"  # cannot be sent; the reason says why


class Reason(StrEnum):
    """A reason says why a delivery, attempt or hold is as it is. The closed set: labels, rows and docs use these."""

    # decided at intake, before anything is sent
    VARIABLE_MISSING = "variable_missing"
    VARIABLE_INVALID = "variable_invalid"
    RECIPIENT_MISSING = "recipient_missing"
    RECIPIENT_INVALID = "recipient_invalid"
    EXPRESSION_FAILED = "expression_failed"
    DEADLINE_INVALID = "deadline_invalid"
    DUPLICATE = "duplicate"
    NOT_LIVE = "not_live"  # before the route's live_from
    NOT_CHOSEN = "not_chosen"  # not among the numbers of `only`
    # decided in the lane
    STALLED = "stalled"  # the relay stood still after the claim: not sent, for its attempt may count as lost
    DEADLINE_PASSED = "deadline_passed"
    MESSAGE_DAMAGED = "message_damaged"
    LIMIT_PERSON = "limit_person"  # as many went to this person as `limits` allows: it waits
    LIMIT_REACHED = "limit_reached"  # a hold: as many went by this route, or in all
    REQUEST_UNBUILT = "request_unbuilt"  # a fault of ours: the message could not be made into a request
    # surely not sent
    CONNECT_FAILED = "connect_failed"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server_error"
    # perhaps sent
    TIMED_OUT = "timed_out"
    CONNECTION_LOST = "connection_lost"
    GATEWAY_FAILED = "gateway_failed"
    ANSWER_UNREADABLE = "answer_unreadable"
    PROCESS_DIED = "process_died"
    # refused by the provider or by WhatsApp
    CREDENTIALS_REFUSED = "credentials_refused"
    BALANCE_EMPTY = "balance_empty"
    ACCOUNT_BLOCKED = "account_blocked"
    TEMPLATE_REFUSED = "template_refused"
    TEMPLATE_PAUSED = "template_paused"
    PARAMETERS_REFUSED = "parameters_refused"
    RECIPIENT_UNREACHABLE = "recipient_unreachable"
    RECIPIENT_OPTED_OUT = "recipient_opted_out"
    RECIPIENT_CAPPED = "recipient_capped"  # WhatsApp's cap on marketing to one person
    REQUEST_REFUSED = "request_refused"  # any other final refusal
    REDIRECTED = "redirected"
    ANSWERS_UNREADABLE = "answers_unreadable"  # a hold: five answers of a provider in a row
    REFUSED_REPEATEDLY = "refused_repeatedly"  # a hold: five of a route's messages in a row, for one reason
    # everything of the recipient was erased
    ERASED = "erased"
    # a backup was put back: what had not ended in it may have been sent since
    RESTORED = "restored"
    # set by hand
    BY_HAND = "by_hand"
    # a later delivery of the same event, which a replay made, does the work: how what has died or expired shows then
    REPLAYED = "replayed"


INTAKE_REASONS = tuple(Reason)[:6]
"""An event alone can lead to these deaths: what an example may expect."""


class Scope(StrEnum):
    """A provider's answer reaches so far beyond the one message."""

    MESSAGE = "message"
    RECIPIENT = "recipient"
    TEMPLATE = "template"
    PROVIDER = "provider"


OnUnknown = Literal["hold", "resend"]
Mode = Literal["live", "shadow"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The duty to get one message accepted, as intake hands it to the outbox."""

    id: str
    event_id: str
    route: str
    provider: str
    template: str
    recipient: str  # E.164, or "" where none could be read
    message: Message | None  # None where it could not be rendered; then `state` is final and `reason` says why
    state: State
    reason: Reason | None
    created_at: int
    due_at: int
    deadline_at: int  # not sent from this instant on
    detail: str = ""  # what was wrong, naming fields and never values
    dedup_key: str | None = None  # the route's `dedup_by` value, None where the route has none
    priority: int = 0  # higher first
    on_unknown: OnUnknown = "hold"
    config_hash: str = ""
    config_line: int = 0  # the route's, in the YAML of `config_hash`
    marketing: bool = True  # not sent to who has opted out
    trace: str = ""  # a W3C traceparent, by which the send belongs to the webhook's trace


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim of a delivery is committed before its request may leave."""

    delivery: Delivery
    number: int  # 1-based
    started_at: int
    spent: int = 0  # so many attempts before this one count towards backing off
    probes: tuple[str, ...] = ()  # the holds that it tries, () mostly; whoever sees it accepted releases them
    counted: tuple[tuple[str, int], ...] = ()  # where the limits count it


# -- what a provider's answer means ---------------------------------------------------------------

MAX_DETAIL = 200
"""The longest text that is kept of what a provider says: so long, it may have been cut in the middle of a value."""
STRUCK = "***"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message; `provider_message_id` is its own id, if it gave one."""

    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Retryable:
    """Surely not sent: try again. `retry_after_ms` is the provider's wish, unclamped, None if unsaid."""

    reason: Reason
    scope: Scope = Scope.MESSAGE
    retry_after_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused for good as it stands; the scope says what else will be refused the same way."""

    reason: Reason
    scope: Scope = Scope.MESSAGE
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Perhaps sent: only a receipt (by the id that was given), the route's `on_unknown` or a person may settle it."""

    reason: Reason
    detail: str = ""
    provider_message_id: str | None = None


Outcome = Accepted | Retryable | Rejected | Uncertain
