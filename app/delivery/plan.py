"""An event leads to the deliveries that its routes ask for, rendered and frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.mapping.rules import Broken, Config, Hit, Route, match_route
from app.message.render import Unrendered, compute_deadline, compute_dedup_key, render_message
from app.model.delivery import Delivery, Reason, State
from app.model.event import Event
from app.model.message import Message


def plan_deliveries(event: Event, config: Config, new_id: Callable[[int], str]) -> tuple[Delivery, ...]:
    """Return one delivery for every route that the event hits; () where it hits none."""
    planned = []
    for route in config.find_routes(event.topic):
        if route.when is None or isinstance(found := match_route(route, event), Hit):
            planned.append(_plan_route(route, event, config, new_id))
        elif isinstance(found, Broken):
            fault = Unrendered(Reason.EXPRESSION_FAILED, found.detail)
            planned.append(_dead(route, event, config, new_id, fault))
    return tuple(planned)


def _plan_route(route: Route, event: Event, config: Config, new_id: Callable[[int], str]) -> Delivery:
    """Render first, then the deadline, then the key: the first fault that a person has to mend is the one shown."""
    store = config.store
    parts: Any = (
        render_message(route, event, store),
        compute_deadline(route, event, store),
        compute_dedup_key(route, event),
    )
    if Unrendered in map(type, parts):
        return _dead(route, event, config, new_id, next(part for part in parts if isinstance(part, Unrendered)))
    message, deadline_at, dedup_key = parts
    state, reason = _first_state(route, event, config, deadline_at, message.recipient)
    return make_delivery(route, event, config, new_id, message, state, reason, deadline_at, dedup_key)


def _dead(route: Route, event: Event, config: Config, new_id: Callable[[int], str], fault: Unrendered) -> Delivery:
    """Return a delivery that shows its fault. Its number is not kept: it may be the very thing that is wrong."""
    deadline_at = event.received_at + route.valid_for
    return make_delivery(route, event, config, new_id, None, State.DEAD, fault.reason, deadline_at, detail=fault.detail)


def _first_state(
    route: Route, event: Event, config: Config, deadline_at: int, recipient: str
) -> tuple[State, Reason | None]:
    if deadline_at <= event.received_at:
        return State.EXPIRED, Reason.DEADLINE_PASSED
    if config.mode == "shadow" or route.mode == "shadow":
        return State.SHADOW, None
    if route.live_from is not None and event.received_at < route.live_from:
        return State.SHADOW, Reason.NOT_LIVE
    for only in (config.only, route.only):
        if only is not None and recipient not in only:
            return State.SHADOW, Reason.NOT_CHOSEN
    return State.PENDING, None


def make_delivery(
    route: Route,
    event: Event,
    config: Config,
    new_id: Callable[[int], str],
    message: Message | None,
    state: State,
    reason: Reason | None,
    deadline_at: int,
    dedup_key: str | None = None,
    detail: str = "",
) -> Delivery:
    """Return the duty to get one message of a route accepted, due at once."""
    now = event.received_at
    return Delivery(
        id=new_id(now),
        event_id=event.id,
        route=route.name,
        provider=route.provider,
        template=route.template,
        recipient=message.recipient if message else "",
        message=message,
        state=state,
        reason=reason,
        created_at=now,
        due_at=now,
        deadline_at=deadline_at,
        detail=detail,
        dedup_key=dedup_key,
        priority=route.priority,
        on_unknown=route.on_unknown,
        config_hash=config.hash,
        config_line=route.line,
        marketing=route.marketing,
    )
