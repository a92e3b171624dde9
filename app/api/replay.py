"""Sending again: deliveries as they are, or stored events by the YAML in force, of which first a plan is made."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api import PROBLEMS, problem, unavailable
from app.api.deliveries import find_all_ids, find_id, read_time
from app.authoring.preview import describe_plan
from app.delivery.replay import explain_no_retry, mask_shape
from app.errors import ConfigError, Refusal, StoreError
from app.model.event import Event
from app.outbox.read import list_deliveries
from app.outbox.replay import EventQuery, find_events
from app.outbox.sweep import explain_retry, retry_deliveries
from app.outbox.values import DeliveryFilter
from app.relay import Context
from app.relay.reload import Rules
from app.relay.replay import apply_plan, compare_rules, make_plan, restore_event
from app.sources import SOURCE
from app.sources.properties import find_notes
from app.values.phone import mask_phone

_LONGEST_YAML = 262_144
_PAGE = 500
_VALUES = {"reads", "variables"}
_WIPED = "what it held was wiped since"
PastState = Literal["dead", "unrouted", "expired", "suppressed", "shadow", "unknown", "accepted"]


class RetryOrder(BaseModel, extra="forbid"):
    """Which deliveries to send again as they are: these ids, or all in a state (of a route)."""

    ids: list[str] = Field(default=[], max_length=1000)
    state: Literal["dead", "unknown", "expired"] | None = None
    route: str | None = None


class ReplayOrder(BaseModel, extra="forbid"):
    """Which stored events to plan a replay of, or the id of the plan to apply.

    `since` and `until`: how long ago (`7d`), a date or an instant.
    """

    apply: str | None = None
    events: list[str] = Field(default=[], max_length=1000)
    topic: str | None = None
    state: PastState | None = None
    route: str | None = None
    since: str | None = None
    until: str | None = None


class DiffOrder(BaseModel, extra="forbid"):
    """A YAML with its templates (else those in force), and the events to compare by.

    `since`: how long ago (`7d`), a date or an instant. `after`: `next` of the last answer. `name`: what messages call
    the YAML.
    """

    yaml: str = Field(max_length=_LONGEST_YAML)
    templates: str | None = Field(None, max_length=_LONGEST_YAML)
    name: str = Field("the proposed YAML", max_length=200)
    since: str = "7d"
    after: int = Field(0, ge=0, lt=2**63)


def build_router(context: Context, wake_all: Callable[[], None], rules: Rules) -> APIRouter:
    """Return the paths that send again, or tell what would be sent. `wake_all`: something may be due."""
    router = APIRouter(responses=PROBLEMS)
    _add_retries(router, context, wake_all)

    @router.post("/replay", summary="Plan a replay of stored events, or apply a plan")
    async def replay(order: ReplayOrder) -> Response:
        asked = order.model_dump(exclude_defaults=True)
        if order.apply is not None and len(asked) > 1:
            return problem(422, "apply: goes alone; the plan says which events")
        if not asked:
            return problem(422, "say which events: events, topic, state, route, since or until")
        if order.events and {"topic", "since", "until"} & set(asked):
            return problem(422, "events: name events already; only state and route go with them")
        order.events = await find_all_ids(context, "events", order.events)
        try:
            answer = await _follow(order, context)
        except StoreError as error:
            return unavailable(f"{error}; nothing was sent by this request, or all of it: ask again")
        return problem(answer.http_status, answer.detail) if isinstance(answer, Refusal) else JSONResponse(answer)

    @router.get("/events/{event_id}/routes", summary="What the YAML in force makes of an event; values are masked")
    async def show_routes(event_id: str) -> Response:
        found = await find_id(context, "events", event_id)
        page = await context.outbox.read(partial(find_events, wanted=EventQuery(ids=[found])))
        event = restore_event(page.events[0]) if page.events else None
        if not isinstance(event, Event):
            return problem(409, f"nothing can be made of it: {event.detail if event and event.detail else _WIPED}")
        rows = [_mask_row(row) for row in describe_plan(event, context.snapshot.config, context.new_id)]
        notes = find_notes(SOURCE.find_model(SOURCE.canonical_topic(event.topic)), event.payload)
        return JSONResponse({"id": event.id, "topic": event.topic, "notes": list(notes), "routes": rows})

    @router.post("/diff", summary="Compare a YAML with the one in force, by stored events")
    async def diff(order: DiffOrder) -> Response:
        since = read_time(context, "since", order.since)
        try:
            proposed = await asyncio.to_thread(partial(rules.propose, order.name, order.yaml, order.templates))
        except ConfigError as error:
            return problem(422, str(error))
        compared = await compare_rules(context, proposed, EventQuery(since=since, after=order.after))
        return JSONResponse({"hash": proposed.config.hash, "in_force": rules.read_hash(), **compared})

    return router


def _add_retries(router: APIRouter, context: Context, wake_all: Callable[[], None]) -> None:
    async def retry(ids: Sequence[str], *, careful: bool = False) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the deliveries that will be sent again, and why the others will not."""
        retried = await context.outbox.write(partial(retry_deliveries, ids=ids, careful=careful))
        skipped = await context.outbox.read(partial(explain_retry, ids=set(ids).difference(retried)))
        # A line a page: sending again what is `unknown` is a person's decision, to be found later.
        context.log.info("deliveries.retried", asked=len(ids), retried=len(retried), ids=list(retried), by="ops")
        wake_all()
        return retried, skipped

    @router.post("/deliveries/retry", summary="Send deliveries again as they are")
    async def retry_some(order: RetryOrder) -> Response:
        if bool(order.ids) == bool(order.state):
            return problem(422, "give either ids or a state")
        order.ids = await find_all_ids(context, "deliveries", order.ids)
        retried: list[str] = []
        skipped: dict[str, str] = {}
        async for ids in _list_pages(context, order):
            done, left = await retry(ids, careful=not order.ids)
            retried += done
            skipped |= left
        # Of a whole state it would be a long list: there the counts say enough, but for what a person has to look at.
        why = {id_: why for id_, why in skipped.items() if order.ids or why == "perhaps_taken"}
        return JSONResponse({"retried": retried, "skipped": Counter(skipped.values()), "why": why})

    @router.post("/deliveries/{delivery_id}/retry", summary="Send one delivery again as it is")
    async def retry_delivery(delivery_id: str) -> Response:
        found = await find_id(context, "deliveries", delivery_id)
        retried, skipped = await retry([found])
        if not retried:
            return problem(409, f"not retried: {explain_no_retry(skipped.get(found, 'changed'))}")
        return JSONResponse({"retried": [found]})


async def _list_pages(context: Context, order: RetryOrder) -> AsyncIterator[Sequence[str]]:
    """Yield the ids to retry: those given, or those of a state, page by page so that intake never waits long."""
    if order.ids:
        yield order.ids
        return
    cursor: str | None = None
    while True:
        wanted = DeliveryFilter(state=order.state, route=order.route, limit=_PAGE, cursor=cursor)
        rows, cursor = await context.outbox.read(partial(list_deliveries, wanted=wanted))
        yield [row["id"] for row in rows]
        if cursor is None:
            return


def _mask_row(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: {key: mask_shape(str(value)) for key, value in row[name].items()} for name in _VALUES & row.keys()}
    return {**row, **values, **({"to": mask_phone(row["to"])} if row.get("to") else {})}


async def _follow(order: ReplayOrder, context: Context) -> dict[str, Any] | Refusal:
    if order.apply is not None:
        return await apply_plan(context, order.apply)
    given = (("since", order.since), ("until", order.until))
    since, until = (None if text is None else read_time(context, name, text) for name, text in given)
    return await make_plan(
        context, EventQuery(order.events or None, order.topic, order.state, order.route, since, until)
    )
