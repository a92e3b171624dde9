"""One webhook's way in: verify, parse, route, render, commit. Then, and only then, the 2xx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from app.clock import Clock
from app.delivery.plan import plan_deliveries
from app.errors import Mistake, Refusal
from app.ids import NewId
from app.message.recipient import find_customer
from app.model.delivery import Delivery, State
from app.model.event import Event
from app.observe.logs import LineLimit, Log
from app.observe.metrics import OTHER, Metrics, topic_label
from app.observe.tracing import NoTracer, Tracer
from app.outbox.add import NewEvent, add_events
from app.outbox.store import Job, Store
from app.outbox.values import DeliveryState
from app.relay.snapshot import Snapshot
from app.settings import Settings
from app.sources import SOURCE
from app.sources.base import Verified
from app.values.phone import mask_phone


@dataclass(frozen=True, slots=True)
class Answer:
    """What the source is told: `status` goes into the body beside the ids."""

    http_status: int
    event_id: str
    status: Literal["accepted", "unrouted", "duplicate", "failed"]
    deliveries: Sequence[DeliveryState]


class Taker(Protocol):
    """Takes over the responsibility for an event: into the outbox, or straight to the provider."""

    async def take(self, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        """Return once the event is safe (or surely is not); raises StoreError if it cannot be known."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What the webhook endpoint needs. `snapshot` returns the rules in force at this moment."""

    settings: Settings
    snapshot: Callable[[], Snapshot]
    taker: Taker
    clock: Clock
    new_id: NewId
    metrics: Metrics
    log: Log
    note: Callable[[Event], None] | None = None  # the recorder's
    tracer: Tracer = field(default_factory=NoTracer)
    lines: LineLimit = field(default_factory=LineLimit)


class OutboxTaker:
    """Commits an event with its deliveries, then wakes their lanes."""

    def __init__(self, outbox: Store, wake: Callable[[str], None], tracer: Tracer) -> None:
        self._outbox = outbox
        self._wake = wake
        self._tracer = tracer

    async def take(self, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        """Return after the commit; the first answer's ids again where the event is known."""
        with self._tracer.open_span("outbox.commit", {"relay.deliveries": len(deliveries)}):
            enqueued = await self._outbox.write(Job(add_events, NewEvent(event, deliveries)))
        if enqueued.duplicate:
            return Answer(200, enqueued.event_id, "duplicate", enqueued.deliveries)
        for provider in sorted({row.provider for row in enqueued.deliveries if row.state is State.PENDING}):
            self._wake(provider)
        return Answer(202, enqueued.event_id, "accepted" if enqueued.deliveries else "unrouted", enqueued.deliveries)


async def accept_event(intake: Intake, headers: Mapping[str, str], body: bytes) -> Answer | Refusal:
    """Return the answer to one webhook whose secret has been checked. `headers`: names in lower case.

    Raises StoreError where the outbox cannot commit (503).
    """
    now = intake.clock()
    event = read_event(intake, headers, body, now)
    if isinstance(event, Refusal):
        report_refusal(intake, event.http_status, event.detail)
        return event
    snapshot = intake.snapshot()
    planned = plan_deliveries(event, snapshot.config, snapshot.table, intake.new_id)
    deliveries = _join_trace(planned, intake.tracer.read_traceparent())
    customer = find_customer(event, deliveries, snapshot.config.store)
    event = replace(event, customer=customer, acts=SOURCE.read_acts(event.topic, event.payload))
    answer = await intake.taker.take(event, deliveries)
    _report_event(intake, event, answer, deliveries)
    if intake.note is not None and answer.status != "duplicate":
        intake.note(event)
    return answer


def report_refusal(intake: Intake, http_status: int, detail: str) -> None:
    """Count a webhook that is not taken, and tell of the first of a minute what is wrong with it, never a value."""
    intake.metrics.events.labels(OTHER, "refused").inc()
    if (untold := intake.lines.count(http_status, intake.clock())) is not None:
        intake.log.warning("event.refused", http_status=http_status, detail=detail, untold=untold)


def read_event(intake: Intake, headers: Mapping[str, str], body: bytes, now: int) -> Event | Refusal:
    """Return the verified event in a webhook, or what is wrong with it."""
    if not _check_hmac(intake, headers, body):
        return Refusal(401, "not authorised")
    sent = SOURCE.read(headers, body)
    if isinstance(sent, Refusal):
        return sent
    id_ = intake.new_id(now)
    person = SOURCE.find_person(sent.payload)
    return Event(id_, SOURCE.name, sent.topic, sent.source_id, body, sent.payload, now, person=person, notes=sent.notes)


def _join_trace(deliveries: Sequence[Delivery], trace: str) -> Sequence[Delivery]:
    """Have the sends, however much later, belong to the trace of their webhook."""
    return [replace(delivery, trace=trace) for delivery in deliveries] if trace else deliveries


def _check_hmac(intake: Intake, headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether the signature stops no webhook: until a capture shows what is signed, the default only counts."""
    mode = intake.settings.nector_hmac
    if mode == "off" or not intake.settings.secrets:
        return True
    found = SOURCE.verify(headers, body, intake.settings.secrets, only=intake.settings.nector_hmac_scheme)
    absent = found is Mistake.MISSING
    intake.metrics.hmac.labels(found.recipe if isinstance(found, Verified) else "absent" if absent else "none").inc()
    return isinstance(found, Verified) or mode == "log"


def _report_event(intake: Intake, event: Event, answer: Answer, deliveries: Sequence[Delivery]) -> None:
    label = topic_label(event.topic)
    intake.metrics.events.labels(label, answer.status).inc()
    intake.metrics.last_event.labels(label).set(event.received_at / 1000)
    intake.log.info(
        "event.received",
        event_id=answer.event_id,
        topic=event.topic,
        source_delivery_id=event.delivery_id,
        result=answer.status,
        deliveries=[row.id for row in answer.deliveries],
        routes=[row.route for row in answer.deliveries],
        providers=[row.provider for row in answer.deliveries],
        recipients=sorted({mask_phone(row.recipient) for row in deliveries if row.recipient}),
        dead=[f"{row.route}: {row.detail}" for row in deliveries if row.state is State.DEAD],
        accept_ms=max(intake.clock() - event.received_at, 0),
        **({"notes": event.notes} if event.notes else {}),
    )
