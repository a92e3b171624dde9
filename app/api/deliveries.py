"""`/deliveries`, `/events` and `/report`: finding what became of what, by id, person, time and name; counting it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import JSONResponse, Response

from app.api import PROBLEMS, Refused, problem
from app.delivery.pace import Pace
from app.delivery.replay import read_bound
from app.delivery.status import ConfigStatus, show_lane
from app.mapping import ask_similar, find_similar
from app.mapping.rules import Config
from app.model.delivery import Reason, State
from app.model.event import Act
from app.outbox.find import find_ids
from app.outbox.read import count_reasons, is_known, list_deliveries, read_delivery, read_event
from app.outbox.report import find_unheard, read_ledger, sum_rows
from app.outbox.values import DeliveryFilter, LedgerQuery
from app.relay import Context
from app.sources import SOURCE
from app.values.instant import format_duration, format_instant, parse_duration
from app.values.phone import PhoneFault, read_phone

_LANE = {"provider", "state", "rate", "paused_until", "down_since", "next_probe_at"}
Table = Literal["deliveries", "events"]
ShowPaces = Callable[[], Mapping[str, Pace]]


def _fold(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class ReasonQuery(BaseModel, extra="forbid"):
    """Which state to group. Not `accepted`, of which there are too many, and which need nobody."""

    state: Annotated[
        Literal["pending", "held", "unknown", "expired", "suppressed", "shadow", "dead"], BeforeValidator(_fold)
    ]


class DeliveryQuery(BaseModel, extra="forbid"):
    """The filters of `GET /deliveries`. `since` and `until`: how long ago (`7d`), a date or an instant."""

    state: Annotated[Literal["held"] | State | None, BeforeValidator(_fold)] = None
    route: str | None = None
    provider: str | None = None
    template: str | None = None
    topic: str | None = None
    reason: str | None = None
    event_id: str | None = None
    provider_message_id: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


class FindOrder(DeliveryQuery):
    """The filters of `POST /deliveries/find`: a number stands in a body, since URLs are kept in logs."""

    phone: str | None = Field(None, max_length=40)


def build_router(context: Context, show_config: Callable[[], ConfigStatus], show_paces: ShowPaces) -> APIRouter:
    """Return the paths that find deliveries and events. `show_config`: in which file a delivery's route stands."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/deliveries", summary="Deliveries, newest first")
    async def show_deliveries(wanted: Annotated[DeliveryQuery, Query()]) -> Response:
        return await _list_found(context, FindOrder(**wanted.model_dump()))

    @router.post("/deliveries/find", summary="Deliveries, newest first; also those of a person")
    async def find_deliveries(order: FindOrder) -> Response:
        return await _list_found(context, order)

    # Before the path that would take `reasons` for an id.
    @router.get("/deliveries/reasons", summary="Deliveries of a state by reason, the largest group first")
    async def show_reasons(wanted: Annotated[ReasonQuery, Query()]) -> Response:
        return JSONResponse({"reasons": list(await context.outbox.read(partial(count_reasons, state=wanted.state)))})

    @router.get("/deliveries/{delivery_id}", summary="One delivery with its whole timeline")
    async def show_delivery(delivery_id: str) -> Response:
        found = await find_id(context, "deliveries", delivery_id)
        row = await context.outbox.read(partial(read_delivery, delivery_id=found))
        if row is None:  # forgotten meanwhile
            return problem(404, "no delivery has this id")
        beside = {"config": _place(show_config(), row), "lane": _show_lane(context, show_paces(), row)}
        return JSONResponse({**row, **beside})

    @router.get("/events/{event_id}", summary="One event with its deliveries; `last` is the newest")
    async def show_event(event_id: str) -> Response:
        found = await find_id(context, "events", event_id)
        event = await context.outbox.read(partial(read_event, event_id=found))
        if event is None:  # forgotten meanwhile
            return problem(404, "no event has this id")
        topic, routes = SOURCE.canonical_topic(event["topic"]), context.snapshot.config.routes
        names = [route.name for route in routes if SOURCE.canonical_topic(route.topic) == topic]
        return JSONResponse({**event, "routes_today": names})

    return router


async def find_id(context: Context, table: Table, name: str) -> str:
    """Return the whole id that a name or its end means; raises Refused with the candidates where it is not one."""
    ids = await context.outbox.read(partial(find_ids, table=table, name=name, source=SOURCE.name), slow=True)
    one = "delivery" if table == "deliveries" else "event"
    if not ids:
        raise Refused(problem(404, f"no {one} has this id"))
    if len(ids) > 1:
        raise Refused(problem(409, f"more than one {one} has an id that ends so: {', '.join(ids)}"))
    return ids[0]


async def find_all_ids(context: Context, table: Table, names: Iterable[str]) -> list[str]:
    """Return the whole ids that names mean; what means none is left for whoever is asked. Raises Refused."""
    ids: list[str] = []
    for name in names:
        try:
            ids.append(await find_id(context, table, name))
        except Refused as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            ids.append(name)
    return ids


def read_time(context: Context, name: str, text: str) -> int:
    """Return the instant of a query's field: a date's last moment for `until`. Raises Refused naming the field."""
    timezone = context.snapshot.config.store.timezone
    try:
        return read_bound(text, context.clock(), timezone, end_of_day=name == "until")
    except ValueError as error:
        raise Refused(problem(422, f"{name}: {error}")) from None


def read_number(context: Context, phone: str) -> str:
    """Return a number as one of the store's country where it has no code of its own; raises Refused."""
    store = context.snapshot.config.store
    number = read_phone(phone, store.country, landlines=store.landlines)
    if isinstance(number, PhoneFault):
        raise Refused(problem(422, f"phone: the number {number.detail}; write it with + and its country code"))
    return number


async def _list_found(context: Context, order: FindOrder) -> Response:
    number = None if order.phone is None else read_number(context, order.phone)
    given = {"since": order.since, "until": order.until}
    times: Any = {name: read_time(context, name, text) for name, text in given.items() if text is not None}
    wanted = DeliveryFilter(**order.model_dump(exclude={"since", "until", "phone"}), **times, phone=number)
    if order.event_id:
        wanted = replace(wanted, event_id=(await find_all_ids(context, "events", [order.event_id]))[0])
    try:
        rows, next_cursor = await context.outbox.read(partial(list_deliveries, wanted=wanted))
    except ValueError as error:
        return problem(422, f"cursor: {error}")
    if not rows and (fault := await _find_wrong_name(context, order)) is not None:
        return problem(422, fault)
    return JSONResponse({"deliveries": list(rows), "next_cursor": next_cursor})


async def _find_wrong_name(context: Context, order: FindOrder) -> str | None:
    """Return which filter names what there never was, since nothing was found; None if each may."""
    routes = context.snapshot.config.routes
    known: Mapping[str, Iterable[str]] = {
        "route": {route.name for route in routes},
        "provider": context.snapshot.config.providers,
        "template": {route.template for route in routes},
        "topic": {*SOURCE.topics, *(route.topic for route in routes)},
        "reason": Reason,
    }
    for name, words in known.items():
        asked = getattr(order, name)
        if asked is None or asked in set(words):
            continue
        if name == "reason" or not await context.outbox.read(partial(is_known, name=name, value=asked), slow=True):
            # A word that is near to none may be a customer's, written into the wrong filter: it is not repeated.
            told = f"there is no {asked!r}" if find_similar(asked, words) else f"there is no such {name}"
            return f"{name}: {told}; {ask_similar(asked, sorted(words), quote=chr(39))}"
    return None


def _place(config: ConfigStatus, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where a delivery's route stands in the YAML, which may be another one by now."""
    in_force = row["config_hash"] == config.hash
    return {"hash": row["config_hash"], "line": row["config_line"], "name": config.path, "in_force": in_force}


def _show_lane(context: Context, paces: Mapping[str, Pace], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how the lane of a delivery that waits stands, None of one that does not, or that has no lane."""
    provider = row["provider"]
    if row["state"] != State.PENDING or provider not in paces:
        return None
    rate = context.snapshot.config.providers[provider].rate
    now = context.clock()
    lane = show_lane(provider, paces[provider], rate, now).model_dump(include=_LANE)
    return {**lane, "now": format_instant(now)}


NOTE = (
    "acted and ordered count messages whose customer did that within the window after the message was accepted: "
    "a correlation, not proof that the message brought it about"
)


class ReportQuery(BaseModel, extra="forbid"):
    """Which deliveries to count, and how to group them.

    `since` and `until`: how long ago (`7d`), a date or an instant. `window`: how long after a message was accepted what
    its customer did counts for it.
    """

    since: str = "7d"
    until: str = ""
    by: Literal["route", "topic", "day"] = "route"
    window: str = "7d"


def build_report_router(context: Context) -> APIRouter:
    """Return `GET /report`."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/report", summary="How far messages came, and what their customers did after")
    async def report(asked: Annotated[ReportQuery, Query()]) -> Response:
        wanted = _read_query(asked, context)
        rows, unheard = await read_ledger(context.outbox, wanted), await context.outbox.read(find_unheard, slow=True)
        return JSONResponse(
            {
                "since": format_instant(wanted.since),
                "until": format_instant(wanted.until),
                "by": wanted.by,
                "window": format_duration(wanted.window_ms),
                "rows": [asdict(row) for row in rows],
                "total": {name: count for name, count in asdict(sum_rows("", rows)).items() if name != "key"},
                "note": NOTE,
                "unheard": list(_list_unheard([row.key for row in rows], wanted.by, unheard, context.snapshot.config)),
            }
        )

    return router


def _list_unheard(keys: Sequence[str], by: str, unheard: Collection[str], config: Config) -> Iterator[dict[str, Any]]:
    """Yield what nobody can know: the topic that would tell it and never came, the column, and the rows."""
    topics = {route.name: route.topic for route in config.routes}
    of_all = {_find_teller(topic) for topic in topics.values()}
    waited = {key: of_all if by == "day" else {_find_teller(topics.get(key, key))} for key in keys}
    for teller in sorted({teller for tellers in waited.values() for teller in tellers} & set(unheard)):
        rows = [key for key, tellers in waited.items() if teller in tellers and tellers <= set(unheard)]
        if rows:
            yield {"topic": teller, "column": "acted", "rows": rows}
    if keys and (ordering := SOURCE.tellers[Act.ORDER_PLACED]) in unheard:
        yield {"topic": ordering, "column": "ordered", "rows": list(keys)}


def _find_teller(topic: str) -> str:
    return SOURCE.tellers[SOURCE.aims.get(topic, Act.ORDER_PLACED)]


def _read_query(asked: ReportQuery, context: Context) -> LedgerQuery:
    """Return what is wanted, with instants; raises Refused naming the field."""
    now = context.clock()
    since = max(read_time(context, "since", asked.since), 0)
    until = read_time(context, "until", asked.until) if asked.until else now + 1
    until = min(until, now + 1)  # what is made in this very millisecond counts, too
    try:
        window, fault = parse_duration(asked.window), ""
    except ValueError as error:
        window, fault = 0, f"window: {error}"
    if since > now:
        fault = "since: must not be in the future"
    elif until <= since:
        fault = "until: must be later than since"
    elif not window:
        fault = fault or "window: must be longer than nothing"
    if fault:
        raise Refused(problem(422, fault))
    return LedgerQuery(since, until, asked.by, window, context.snapshot.config.store.timezone)
