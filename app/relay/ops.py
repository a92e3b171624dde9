"""Ops are told how the relay stands, in ms until shown, and may have a test message sent, made of a route's example."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, Field

from app.delivery.pace import Pace
from app.delivery.plan import make_delivery
from app.delivery.status import RECENT_MS, ConfigStatus, HoldStatus, LaneStatus, Status, list_needs, show_lane
from app.errors import Refusal
from app.mapping.rules import Config, Example, Route
from app.message.render import render_message
from app.model.delivery import State
from app.model.event import TEST_SOURCE, Event
from app.model.message import Message
from app.outbox.add import add_event
from app.outbox.claim import find_oldest_due
from app.outbox.holds import list_holds
from app.outbox.read import count_deliveries, count_reasons, count_reported, read_last_event
from app.outbox.store import Tx
from app.outbox.values import DeliveryState, Hold
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


async def read_status(context: Context, paces: Mapping[str, Pace], config: ConfigStatus) -> Status:
    """Return how the relay stands. Raises StoreError where the outbox does not answer."""
    outbox, now, event = context.outbox, context.clock(), await context.outbox.read(read_last_event)
    told = {
        "version": version("nector-relay"),
        "now": now,
        "started_at": context.started_at,
        "config": config,
        "last_event": event and {"id": event.id, "topic": event.topic, "at": event.received_at},
        "refused": [
            {
                "kind": kind,
                "reason": reason,
                "count": count,
                "last_at": at,
                "recent": now - at < RECENT_MS,
                "cure": cure,
            }
            for (kind, reason), (count, at, cure) in sorted(context.turned_away.counts.items())
        ],
        "lanes": await outbox.read(partial(_read_lanes, context=context, paces=paces, now=now)),
        "holds": [show_hold(hold) for hold in await outbox.read(list_holds)],
        "unhandled": await outbox.read(partial(_list_unhandled, context=context, now=now)),
        "store": _look_at_store(context, can_commit=await outbox.can_commit()),
    }
    status = Status.model_validate(told)
    return status.model_copy(update={"needs": list(list_needs(status))})


def show_hold(hold: Hold) -> HoldStatus:
    """Return a hold as the ops API shows it."""
    return HoldStatus.model_validate({**asdict(hold), "until": hold.ends_at})


def _read_lanes(tx: Tx, context: Context, paces: Mapping[str, Pace], now: int) -> list[dict[str, Any]]:
    counts, reported = count_deliveries(tx), count_reported(tx)
    waiting = {provider: n for (provider, state), n in counts.items() if state is State.PENDING and n}
    providers = context.snapshot.config.providers
    lanes = [show_lane(name, paces[name], providers[name].rate, now) for name in providers if name in paces]
    lanes += [LaneStatus(provider=name, state="gone", rate="-") for name in sorted(waiting.keys() - providers.keys())]
    told = []
    for lane in lanes:
        row = reported.get(lane.provider)
        seen = {"accepted": row.accepted, "reported": row.reported, "last_receipt_at": row.last_at} if row else {}
        due_at = find_oldest_due(tx, lane.provider)
        told.append({**dict(lane), "waiting": waiting.get(lane.provider, 0), "oldest_due_at": due_at, **seen})
    return told


def _list_unhandled(tx: Tx, context: Context, now: int) -> list[dict[str, Any]]:
    """Return what is dead or unknown for good, of the time for which it can still be mended: payloads go after that."""
    since, settled = now - context.settings.payload_retention, now - context.settings.settle_after
    groups = {
        "dead": count_reasons(tx, "dead", since=since),
        "unknown": count_reasons(tx, "unknown", since=since, until=settled),
    }
    return [{"state": state, **row} for state, rows in groups.items() for row in rows]


def _look_at_store(context: Context, *, can_commit: bool) -> dict[str, Any]:
    settings, size, free = context.settings, None, None
    if not settings.shares_database and (path := settings.database_path).is_file():
        size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    return {"place": settings.database_place, "can_commit": can_commit, "size_bytes": size, "free_bytes": free}
