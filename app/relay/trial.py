"""One real message built from a route's example, to a number of ours: through outbox and lane like any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import BaseModel, Field

from app.delivery.plan import make_delivery
from app.errors import Refusal
from app.mapping.rules import Config, Example, Route
from app.message.render import render_message
from app.model.delivery import State
from app.model.event import TEST_SOURCE, Event
from app.model.message import Message
from app.outbox.add import add_event
from app.outbox.values import DeliveryState
from app.relay.context import Context
from app.values.phone import PhoneFault, mask_phone, read_phone

VALID_MS = 10 * 60_000  # whoever waits for it is at the screen now


class TestOrder(BaseModel, extra="forbid"):
    """Which route's example goes to which number. `example`: which of them, from 1; else the first that sends."""

    route: str = Field(max_length=200)
    to: str = Field(max_length=40)
    example: int | None = Field(None, ge=1, le=1000)


@dataclass(frozen=True, slots=True)
class TestMessage:
    """A route's example as a message to one of our own numbers."""

    route: Route
    event: Event
    message: Message


async def send_test(context: Context, order: TestOrder) -> DeliveryState | Refusal:
    """Queue the message of a route's example for one number, and nobody else.

    The mode, `live_from`, `only` and `dedup_by` of the route do not stop it; a hold does.
    """
    config, now = context.snapshot.config, context.clock()
    test = make_test_message(config, order, context.settings.test_numbers, context.new_id(now), now)
    if isinstance(test, Refusal):
        return test
    delivery = make_delivery(
        test.route,
        test.event,
        config,
        context.new_id,
        message=test.message,
        state=State.PENDING,
        reason=None,
        deadline_at=now + VALID_MS,
    )
    enqueued = await context.outbox.write(partial(add_event, event=test.event, deliveries=[delivery]))
    (queued,) = enqueued.deliveries
    recipient = mask_phone(test.message.recipient)
    context.log.info("test.queued", delivery_id=queued.id, route=test.route.name, recipient=recipient, by="ops")
    context.wake(test.route.provider)
    return queued


def make_test_message(
    config: Config, order: TestOrder, numbers: Sequence[str], event_id: str, now: int
) -> TestMessage | Refusal:
    """Return the message that is asked for, if its number may get it. `numbers`: those of RELAY_TEST_NUMBERS."""
    route = next((route for route in config.routes if route.name == order.route), None)
    if route is None:
        names = ", ".join(sorted(route.name for route in config.routes))
        return Refusal(422, f"route: the YAML has no route of this name; it has {names}")
    recipient = _read_recipient(order.to, numbers, config, route)
    if isinstance(recipient, Refusal):
        return recipient
    example = _choose_example(route, order.example)
    if isinstance(example, Refusal):
        return example
    body = json.dumps(example.event, default=str).encode()
    event = Event(event_id, TEST_SOURCE, route.topic, None, body, example.event, now)
    message = render_message(route, event, config.store)
    if not isinstance(message, Message):
        return Refusal(422, f"example: no message comes of it: {message.reason.value} ({message.detail})")
    return TestMessage(route, event, replace(message, recipient=recipient))


def _read_recipient(to: str, numbers: Sequence[str], config: Config, route: Route) -> str | Refusal:
    """Return the number if it is one of those allowed; a customer must never get a test."""
    read = partial(read_phone, country=config.store.country, landlines=config.store.landlines)
    recipient = read(to)
    if isinstance(recipient, PhoneFault):
        return Refusal(422, f"to: the number {recipient.detail}")
    allowed = {read(number) for number in numbers} | (config.only or set()) | (route.only or set())
    if not allowed:
        cure = "write yours into RELAY_TEST_NUMBERS (a running relay: and restart it), or under `only:` of the YAML"
        return Refusal(403, f"to: no number may get tests; {cure}")
    if recipient not in allowed:
        return Refusal(403, "to: this number is not among those of RELAY_TEST_NUMBERS, which alone may get tests")
    return recipient


def _choose_example(route: Route, number: int | None) -> Example | Refusal:
    if number is not None:
        if 1 <= number <= len(route.examples):
            return route.examples[number - 1]
        return Refusal(422, f"example: the route has {len(route.examples)}; they are counted from 1")
    sending = (example for example in route.examples if example.hits and example.dead is None)
    return next(sending, Refusal(422, "example: the route has none that sends; add one under its `examples:`"))
