"""The ops API: what operators and the `nector-relay` commands read and change. Every path asks for the token."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api import PROBLEMS, problem
from app.api.deliveries import find_all_ids, find_id
from app.delivery.pace import Pace
from app.delivery.replay import explain_no_retry
from app.delivery.status import Status
from app.errors import Refusal
from app.mapping import ask_similar
from app.mapping.rules import Config
from app.model.delivery import Reason
from app.outbox.holds import list_holds, put_hold, release_hold
from app.outbox.read import list_deliveries, show_instant
from app.outbox.retention import list_recordings
from app.outbox.sweep import explain_retry, retry_deliveries
from app.outbox.values import DeliveryFilter, Hold
from app.relay.context import Context
from app.relay.ops import TestOrder, read_status, send_test, show_hold
from app.relay.reload import Rules
from app.values.instant import parse_duration
from app.values.text import clean_text

_PAGE = 500
_LONGEST_HOLD_MS = 90 * 86_400_000


class RetryOrder(BaseModel, extra="forbid"):
    """Which deliveries to send again as they are: these ids, or all in a state (of a route)."""

    ids: list[str] = Field(default=[], max_length=1000)
    state: Literal["dead", "unknown", "expired"] | None = None
    route: str | None = None


class HoldOrder(BaseModel, extra="forbid"):
    """The order may say why the scope is stopped, by whom and for how long (`2h`; else until somebody ends it)."""

    reason: Annotated[str, AfterValidator(clean_text), Field(max_length=200)] = Reason.BY_HAND.value
    by: Annotated[str, AfterValidator(clean_text), Field(max_length=100)] = ""
    lasts: Annotated[str, Field(alias="for", max_length=20)] = ""


def build_router(
    context: Context, wake_all: Callable[[], None], show_paces: Callable[[], Mapping[str, Pace]], rules: Rules
) -> APIRouter:
    """Return the paths about how it is, retries, holds and the YAML. `wake_all`: something may be due."""
    router = APIRouter(responses=PROBLEMS)
    _add_retries(router, context, wake_all)
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


def _add_retries(router: APIRouter, context: Context, wake_all: Callable[[], None]) -> None:
    async def retry(ids: Sequence[str], *, careful: bool = False) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the deliveries that will be sent again, and why the others will not.

        Each page is a line in the log: sending again what is `unknown` is a person's decision, to be found later.
        """
        retried = await context.outbox.write(partial(retry_deliveries, ids=ids, careful=careful))
        skipped = await context.outbox.read(partial(explain_retry, ids=set(ids).difference(retried)))
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
        queued = await send_test(context, order)
        if isinstance(queued, Refusal):
            return problem(queued.http_status, queued.detail)
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
    return show_hold(hold).model_dump(exclude={"by_hand"})
