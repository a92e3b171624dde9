"""The ops API: how the relay stands, its holds and YAML, and test messages. Every path asks for the token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api import PROBLEMS, problem
from app.authoring.preview import TEST_VALID_MS, TestOrder, make_test_message
from app.delivery.pace import Pace
from app.delivery.status import RECENT_MS, ConfigStatus, HoldStatus, LaneStatus, Status, list_needs, show_lane
from app.errors import Refusal
from app.mapping import ask_similar
from app.mapping.rules import Config
from app.message.render import make_delivery
from app.model.delivery import Reason, State
from app.outbox.add import add_event
from app.outbox.claim import find_oldest_due
from app.outbox.holds import list_holds, put_hold, release_hold
from app.outbox.read import count_deliveries, count_reasons, count_reported, read_last_event, show_instant
from app.outbox.retention import list_recordings
from app.outbox.store import Tx
from app.outbox.values import Hold
from app.relay import Context
from app.relay.reload import Rules
from app.values.instant import parse_duration
from app.values.phone import mask_phone
from app.values.text import clean_text

_LONGEST_HOLD_MS = 90 * 86_400_000


class HoldOrder(BaseModel, extra="forbid"):
    """The order may say why the scope is stopped, by whom and for how long (`2h`; else until somebody ends it)."""

    reason: Annotated[str, AfterValidator(clean_text), Field(max_length=200)] = Reason.BY_HAND.value
    by: Annotated[str, AfterValidator(clean_text), Field(max_length=100)] = ""
    lasts: Annotated[str, Field(alias="for", max_length=20)] = ""


def build_router(
    context: Context, wake_all: Callable[[], None], show_paces: Callable[[], Mapping[str, Pace]], rules: Rules
) -> APIRouter:
    """Return the paths about how it is, holds and the YAML. `wake_all`: something may be due."""
    router = APIRouter(responses=PROBLEMS)
    _add_holds(router, context, wake_all)

    @router.get("/status", summary="How it is now, and what needs a person", response_model=Status)
    async def show_status() -> Status:
        return await read_status(context, show_paces(), rules.show())

    @router.post("/reload", summary="Read the YAML again")
    async def reload() -> Response:
        fault = await rules.reload()
        if fault is not None:
            return problem(422, fault)
        return JSONResponse({"hash": rules.read_hash()})

    return router


def _add_holds(router: APIRouter, context: Context, wake_all: Callable[[], None]) -> None:
    outbox, log = context.outbox, context.log

    @router.get("/holds", summary="What is stopped, and why")
    async def show_holds() -> Response:
        return JSONResponse({"holds": [_show_hold(hold) for hold in await outbox.read(list_holds)]})

    @router.put("/holds/{scope:path}", summary="Stop a provider, a route or a template")
    async def set_hold(scope: str, order: HoldOrder | None = None) -> Response:
        order = order or HoldOrder()
        if (fault := _find_fault(scope, context.snapshot.config)) is not None:
            return problem(422, fault)
        try:
            ends_at = context.clock() + _read_length(order.lasts) if order.lasts else None
        except ValueError as error:
            return problem(422, f"for: {error}")
        author, reason = order.by or None, order.reason or Reason.BY_HAND.value
        hold = partial(put_hold, scope=scope, reason=reason, by_hand=True, author=author, ends_at=ends_at)
        await outbox.write(hold)
        log.warning("hold.set", scope=scope, reason=reason, by=author or "ops", until=show_instant(ends_at))
        held = [hold for hold in await outbox.read(list_holds) if hold.scope == scope]
        return JSONResponse(_show_hold(held[0]) if held else {"scope": scope})

    @router.delete("/holds/{scope:path}", summary="Let it go on", status_code=204)
    async def end_hold(scope: str, by: Annotated[str, Query(max_length=100)] = "") -> Response:
        author = clean_text(by) or None
        if not await outbox.write(partial(release_hold, scope=scope, author=author)):
            held = ", ".join(hold.scope for hold in await outbox.read(list_holds))
            return problem(404, f"there is no such hold; on hold: {held or 'nothing'}")
        log.warning("hold.released", scope=scope, by=author or "ops")
        wake_all()
        return Response(status_code=204)


def build_trials_router(context: Context) -> APIRouter:
    """Return the two paths for whoever writes the YAML."""
    router = APIRouter()

    @router.get("/examples", summary="The last events of each topic, with invented values")
    async def list_examples(topic: str | None = None) -> Response:
        rows = await context.outbox.read(partial(list_recordings, topic=topic))
        shown = [{"topic": row.topic, "at": show_instant(row.at), "event": json.loads(row.payload)} for row in rows]
        return JSONResponse({"examples": shown})

    refusals = {**PROBLEMS, 403: {"description": "Not a number that may get tests"}}

    @router.post("/send-test", summary="Send one test message", status_code=202, responses=refusals)
    async def order_test(order: TestOrder) -> Response:
        config, now = context.snapshot.config, context.clock()
        test = make_test_message(config, order, context.settings.test_numbers, context.new_id(now), now)
        if isinstance(test, Refusal):
            return problem(test.http_status, test.detail)
        # The mode, `live_from`, `only` and `dedup_by` of the route do not stop it; a hold does.
        made = partial(make_delivery, test.route, test.event, config, context.new_id, message=test.message)
        delivery = made(state=State.PENDING, reason=None, deadline_at=now + TEST_VALID_MS)
        enqueued = await context.outbox.write(partial(add_event, event=test.event, deliveries=[delivery]))
        (queued,) = enqueued.deliveries
        recipient = mask_phone(test.message.recipient)
        context.log.info("test.queued", delivery_id=queued.id, route=test.route.name, recipient=recipient, by="ops")
        context.wake(test.route.provider)
        return JSONResponse(asdict(queued), 202)

    return router


def _read_length(text: str) -> int:
    """Return how long a hold is to stand; raises ValueError with the cure."""
    length_ms = parse_duration(text)
    if not 0 < length_ms <= _LONGEST_HOLD_MS:
        raise ValueError("must be more than nothing and at most 90d; leave it out to end the hold by hand")
    return length_ms


def _find_fault(scope: str, config: Config) -> str | None:
    kind, _, name = scope.partition(":")
    known: Mapping[str, set[str]] = {
        "provider": set(config.providers),
        "route": {route.name for route in config.routes},
        "template": {f"{route.provider}/{route.template}" for route in config.routes},
    }
    if kind not in known or not name:
        return "a scope is provider:NAME, route:NAME or template:PROVIDER/NAME"
    if name not in known[kind]:
        near = ask_similar(name, known[kind], "", quote="'")
        return f"the YAML has no {kind} of this name; {near or 'it has ' + (', '.join(sorted(known[kind])) or 'none')}"
    return None


def _show_hold(hold: Hold) -> dict[str, Any]:
    return _read_hold(hold).model_dump(exclude={"by_hand"})


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
            {"kind": kind, "reason": reason, "count": n, "last_at": at, "recent": now - at < RECENT_MS, "cure": cure}
            for (kind, reason), (n, at, cure) in sorted(context.turned_away.counts.items())
        ],
        "lanes": await outbox.read(partial(_read_lanes, context=context, paces=paces, now=now)),
        "holds": [_read_hold(hold) for hold in await outbox.read(list_holds)],
        "unhandled": await outbox.read(partial(_list_unhandled, context=context, now=now)),
        "store": _look_at_store(context, can_commit=await outbox.can_commit()),
    }
    status = Status.model_validate(told)
    return status.model_copy(update={"needs": list(list_needs(status))})


def _read_hold(hold: Hold) -> HoldStatus:
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
    dead, unknown = count_reasons(tx, "dead", since), count_reasons(tx, "unknown", since, settled)
    return [{"state": state, **row} for state, rows in (("dead", dead), ("unknown", unknown)) for row in rows]


def _look_at_store(context: Context, *, can_commit: bool) -> dict[str, Any]:
    settings, size, free = context.settings, None, None
    if not settings.shares_database and (path := settings.database_path).is_file():
        size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    return {"place": settings.database_place, "can_commit": can_commit, "size_bytes": size, "free_bytes": free}
