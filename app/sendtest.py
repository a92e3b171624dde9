"""One real message built from a route's example, to a number of ours: through outbox and lane like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.clock import Clock
from app.core.models import TEST_SOURCE, Event, Message, State
from app.core.phone import PhoneFault, mask_phone, read_phone
from app.core.planning import make_delivery
from app.core.rendering import render_message
from app.core.routing import Example, Route
from app.ids import NewId
from app.logs import Log
from app.outbox.base import DeliveryState, Outbox
from app.snapshot import Snapshot

VALID_MS = 10 * 60_000  # whoever waits for it is at the screen now


@dataclass(frozen=True, slots=True)
class Tester:
    """What a test message needs. `numbers`: those that may get one, as written in the settings."""

    snapshot: Callable[[], Snapshot]
    outbox: Outbox
    wake: Callable[[str], None]
    clock: Clock
    new_id: NewId
    numbers: Sequence[str]
    log: Log


@dataclass(frozen=True, slots=True)
class NotSent:
    """Why nothing is sent, with the HTTP status for it and the cure."""

    http_status: int
    detail: str


async def send_test(tester: Tester, route_name: str, to: str, number: int | None) -> DeliveryState | NotSent:
    """Queue the message of a route's example (its first that sends, or the `number`th) for `to`, and nobody else.

    The mode, `live_from`, `only` and `dedup_by` of the route do not stop it; a hold does.
    """
    snapshot, now = tester.snapshot(), tester.clock()
    route = next((route for route in snapshot.config.routes if route.name == route_name), None)
    if route is None:
        names = ", ".join(sorted(route.name for route in snapshot.config.routes))
        return NotSent(422, f"route: the YAML has no route of this name; it has {names}")
    recipient = _read_recipient(tester, to, snapshot.config.store.country)
    if isinstance(recipient, NotSent):
        return recipient
    example = _choose_example(route, number)
    if isinstance(example, NotSent):
        return example
    body = json.dumps(example.event, default=str).encode()
    event = Event(tester.new_id(now), TEST_SOURCE, route.topic, None, body, example.event, now)
    message = render_message(route, event, snapshot.config.store)
    if not isinstance(message, Message):
        return NotSent(422, f"example: no message comes of it: {message.reason.value} ({message.detail})")
    delivery = make_delivery(
        route,
        event,
        snapshot.config,
        tester.new_id,
        recipient=recipient,
        message=replace(message, recipient=recipient),
        state=State.PENDING,
        reason=None,
        deadline_at=now + VALID_MS,
    )
    (queued,) = (await tester.outbox.add_event(event, [delivery])).deliveries
    tester.log.info("test.queued", delivery_id=queued.id, route=route.name, recipient=mask_phone(recipient), by="ops")
    tester.wake(route.provider)
    return queued


def _read_recipient(tester: Tester, to: str, country: str) -> str | NotSent:
    """Return the number if it is one of those allowed; a customer must never get a test."""
    recipient = read_phone(to, country)
    if isinstance(recipient, PhoneFault):
        return NotSent(422, f"to: the number {recipient.detail}")
    if not tester.numbers:
        return NotSent(403, "to: no number may get tests; write yours into RELAY_TEST_NUMBERS and restart the relay")
    if recipient not in {read_phone(number, country) for number in tester.numbers}:
        return NotSent(403, "to: this number is not among those of RELAY_TEST_NUMBERS, which alone may get tests")
    return recipient


def _choose_example(route: Route, number: int | None) -> Example | NotSent:
    if number is not None:
        if 1 <= number <= len(route.examples):
            return route.examples[number - 1]
        return NotSent(422, f"example: the route has {len(route.examples)}; they are counted from 1")
    sending = (example for example in route.examples if example.hits and example.dead is None)
    return next(sending, NotSent(422, "example: the route has none that sends; add one under its `examples:`"))
