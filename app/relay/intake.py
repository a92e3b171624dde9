"""One webhook's way in: verify, parse, route, render, commit. Then, and only then, the 2xx."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Literal, TypeAlias

from app.errors import Mistake, Refusal
from app.message.recipient import find_customer
from app.message.render import plan_deliveries
from app.model.delivery import Delivery, State
from app.model.event import Event
from app.model.value import dataclass
from app.observe.metrics import OTHER
from app.outbox.add import NewEvent, add_events
from app.outbox.store import Job
from app.outbox.values import DeliveryState
from app.relay import Context, Shared
from app.sources import SOURCE
from app.sources.base import Verified
from app.values.phone import mask_phone


@dataclass(frozen=True, slots=True)
class Answer:
    """The source is told this: `status` goes into the body beside the ids."""

    http_status: int
    event_id: str
    status: Literal["accepted", "unrouted", "duplicate", "failed"]
    deliveries: Sequence[DeliveryState]


Take: TypeAlias = Callable[[Event, Sequence[Delivery]], Awaitable[Answer]]
"""Takes over the responsibility for an event: returns once it is safe (or surely is not).

Raises StoreError if that cannot be known.
"""


async def store_event(
    context: Context, note: Callable[[Event], None], event: Event, deliveries: Sequence[Delivery]
) -> Answer:
    """Commit an event with its deliveries and wake their lanes; the first answer's ids again where it is known.

    `note` is given each event that is new, after the commit.
    """
    # In their order, not a set's: the lane that is woken first claims first.
    lanes = dict.fromkeys(delivery.provider for delivery in deliveries if delivery.state is State.PENDING)
    # Where one thread writes all, whoever is woken now claims behind the event and in its very commit; of those that
    # share a database each claims by a connection of its own, which sees only what is committed.
    shares = context.outbox.fleet is not None
    for lane in () if shares else lanes:
        context.wake(lane)
    with context.tracer.open_span("outbox.commit", {"relay.deliveries": len(deliveries)}):
        enqueued = await context.outbox.write(Job(add_events, NewEvent(event, deliveries)))
    if enqueued.duplicate:
        return Answer(200, enqueued.event_id, "duplicate", enqueued.deliveries)
    for lane in lanes if shares else ():
        context.wake(lane)
    note(event)
    return Answer(202, enqueued.event_id, "accepted" if enqueued.deliveries else "unrouted", enqueued.deliveries)


async def accept_event(shared: Shared, take: Take, headers: Mapping[str, str], body: bytes) -> Answer | Refusal:
    """Return the answer to one webhook whose secret has been checked. `headers`: names in lower case.

    Raises StoreError where the outbox cannot commit (503).
    """
    now = shared.clock()
    event = read_event(shared, headers, body, now)
    if isinstance(event, Refusal):
        report_refusal(shared, event.http_status, event.detail)
        return event
    snapshot = shared.snapshot
    deliveries: Sequence[Delivery] = plan_deliveries(event, snapshot.config, shared.new_id)
    if trace := shared.tracer.read_traceparent():  # the sends, however much later, belong to the trace of their webhook
        deliveries = [replace(delivery, trace=trace) for delivery in deliveries]
    # As `replace` does it, which takes ten times as long; but what was read of the body is let go here: each of the
    # many that wait for a commit together then holds half as much.
    event = Event(
        id=event.id,
        source=event.source,
        topic=event.topic,
        delivery_id=event.delivery_id,
        body=body,
        payload={},
        received_at=now,
        customer=find_customer(event, deliveries, snapshot.config.store),
        acts=event.acts,
        notes=event.notes,
    )
    answer = await take(event, deliveries)
    # Not the event itself, so that its body goes now and not after the next commit.
    told = (event.topic, event.delivery_id, event.received_at, event.notes)
    shared.reports.add(_report_event, shared, told, answer, deliveries, shared.clock())
    return answer


def report_refusal(shared: Shared, http_status: int, detail: str) -> None:
    """Count a webhook that is not taken, and tell of the first of a minute what is wrong with it, never a value."""
    shared.metrics.events.inc(OTHER, "refused")
    shared.turned_away.note("webhook", str(http_status), detail, shared.clock())
    if (untold := shared.refusals.count(http_status, shared.clock())) is not None:
        shared.log.warning("event.refused", http_status=http_status, detail=detail, untold=untold)


def read_event(shared: Shared, headers: Mapping[str, str], body: bytes, now: int) -> Event | Refusal:
    """Return the verified event in a webhook, or what is wrong with it."""
    if not _check_hmac(shared, headers, body):
        return Refusal(401, "not authorised")
    sent = SOURCE.read(headers, body)
    if isinstance(sent, Refusal):
        return sent
    return Event(
        id=shared.new_id(now),
        source=SOURCE.name,
        topic=sent.topic,
        delivery_id=sent.source_id,
        body=body,
        payload=sent.payload,
        received_at=now,
        person=SOURCE.find_person(sent.payload),
        acts=SOURCE.read_acts(sent.topic, sent.payload),
        notes=sent.notes,
    )


def _check_hmac(shared: Shared, headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether the signature stops no webhook: until a capture shows what is signed, the default only counts."""
    mode = shared.settings.nector_hmac
    if mode == "off" or not shared.secrets:
        return True
    found = SOURCE.verify(headers, body, shared.secrets, only=shared.settings.nector_hmac_scheme)
    absent = found is Mistake.MISSING
    shared.metrics.hmac.inc(found.recipe if isinstance(found, Verified) else "absent" if absent else "none")
    return isinstance(found, Verified) or mode == "log"


def topic_label(topic: str) -> str:
    """Return the topic if the source documents it, else "other": strangers must not grow the label."""
    name = SOURCE.canonical_topic(topic)
    return name if name in SOURCE.topics else OTHER


_list_ids, _list_routes, _list_providers = (partial(map, attrgetter(name)) for name in ("id", "route", "provider"))


def _report_event(
    shared: Shared,
    told: tuple[str, str | None, int, Sequence[str]],
    answer: Answer,
    deliveries: Sequence[Delivery],
    now: int,
) -> None:
    topic, delivery_id, received_at, notes = told
    label = topic_label(topic)
    shared.metrics.events.inc(label, answer.status)
    shared.metrics.last_event.put(received_at / 1000, label)
    shared.log.info(
        "event.received",
        event_id=answer.event_id,
        topic=topic,
        source_delivery_id=delivery_id,
        result=answer.status,
        deliveries=[*_list_ids(answer.deliveries)],
        routes=[*_list_routes(answer.deliveries)],
        providers=[*_list_providers(answer.deliveries)],
        recipients=sorted({mask_phone(row.recipient) for row in deliveries if row.recipient}),
        dead=[f"{row.route}: {row.detail}" for row in deliveries if row.state is State.DEAD],
        accept_ms=max(now - received_at, 0),
        **({"notes": [*notes]} if notes else {}),
    )
