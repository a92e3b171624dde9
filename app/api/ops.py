"""The ops API: what operators and the `nector-relay` commands read and change. Every path asks for the token."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from app.api.problems import problem
from app.delivery.replay import explain_no_retry
from app.model.delivery import Reason, State
from app.observe.metrics import Metrics
from app.outbox.holds import list_holds, put_hold, release_hold
from app.outbox.read import count_reasons, list_deliveries, read_delivery
from app.outbox.store import Store
from app.outbox.sweep import explain_retry, retry_deliveries
from app.outbox.values import DeliveryFilter, Hold
from app.relay.context import Context
from app.relay.reload import Rules
from app.values.instant import format_instant

_PAGE = 500
# For the description of the API: what api/problems.py answers with.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/problem+json": {}}}
    for status, meaning in {
        404: "There is no such thing, or no ops API",
        409: "Not in its state",
        422: "The request is wrong; the detail names the field",
    }.items()
}


class RetryOrder(BaseModel, extra="forbid"):
    """Which deliveries to send again as they are: these ids, or all in a state (of a route)."""

    ids: list[str] = Field(default=[], max_length=1000)
    state: Literal["dead", "unknown", "expired"] | None = None
    route: str | None = None


class HoldOrder(BaseModel, extra="forbid"):
    """Why the scope is stopped, for the people who find it so."""

    reason: str = Field(default=Reason.BY_HAND.value, max_length=200)


def build_metrics_router(metrics: Metrics, count: Callable[[], Any]) -> APIRouter:
    """Return `GET /metrics`, which the stateless mode has, too."""
    router = APIRouter()
    metrics.set_build()

    @router.head("/metrics", include_in_schema=False)
    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        await count()
        return Response(metrics.show(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def build_router(desk: Context) -> APIRouter:
    """Return the paths about deliveries, holds and the YAML."""
    router = APIRouter(responses=PROBLEMS)
    _add_deliveries(router, desk)
    _add_retries(router, desk)
    _add_holds(router, desk)

    @router.post("/reload", summary="Read the YAML again")
    async def reload() -> Response:
        fault = await desk.rules.reload(desk.dispatcher.use)
        if fault is not None:
            return problem(422, fault)
        return JSONResponse({"hash": desk.rules.current().config.hash})

    return router


def add_docs(app: FastAPI, describe_more: Callable[[], Mapping[str, Any]]) -> None:
    """Serve `/docs` and `/openapi.json` behind the token, too: they tell a stranger where to knock.

    `describe_more` returns the description of a path that is not FastAPI's.
    """

    @app.get("/openapi.json", include_in_schema=False)
    async def show_openapi() -> Response:
        described, more = app.openapi(), describe_more()
        schemas = {**described["components"]["schemas"], **more["components"]["schemas"]}
        components = {**described["components"], "schemas": schemas}
        return JSONResponse({**described, "paths": {**more["paths"], **described["paths"]}, "components": components})

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)


def _add_deliveries(router: APIRouter, desk: Context) -> None:
    @router.get("/deliveries", summary="Deliveries, newest first")
    async def show_deliveries(wanted: Annotated[DeliveryQuery, Query()]) -> Response:
        try:
            rows, next_cursor = await desk.outbox.read(
                partial(list_deliveries, wanted=DeliveryFilter(**wanted.model_dump()))
            )
        except ValueError as error:
            return problem(422, f"cursor: {error}")
        return JSONResponse({"deliveries": list(rows), "next_cursor": next_cursor})

    # Before the path that would take `reasons` for an id.
    @router.get("/deliveries/reasons", summary="Deliveries of a state by reason, the largest group first")
    async def show_reasons(wanted: Annotated[ReasonQuery, Query()]) -> Response:
        return JSONResponse({"reasons": list(await desk.outbox.read(partial(count_reasons, state=wanted.state)))})

    @router.get("/deliveries/{delivery_id}", summary="One delivery with its whole timeline")
    async def show_delivery(delivery_id: str) -> Response:
        row = await desk.outbox.read(partial(read_delivery, delivery_id=delivery_id))
        if row is None:
            return problem(404, "no delivery has this id")
        return JSONResponse({**row, "config": _show_config(row, desk.rules)})


def _add_retries(router: APIRouter, desk: Context) -> None:
    @router.post("/deliveries/retry", summary="Send deliveries again as they are")
    async def retry_some(order: RetryOrder) -> Response:
        if bool(order.ids) == bool(order.state):
            return problem(422, "give either ids or a state")
        retried: list[str] = []
        skipped: dict[str, str] = {}
        async for ids in _list_pages(desk.outbox, order):
            done, left = await _retry(desk, ids, careful=not order.ids)
            retried += done
            skipped |= left
        # Of a whole state it would be a long list: there the counts say enough, but for what a person has to look at.
        why = {id_: why for id_, why in skipped.items() if order.ids or why == "perhaps_taken"}
        return JSONResponse({"retried": retried, "skipped": Counter(skipped.values()), "why": why})

    @router.post("/deliveries/{delivery_id}/retry", summary="Send one delivery again as it is")
    async def retry_delivery(delivery_id: str) -> Response:
        if await desk.outbox.read(partial(read_delivery, delivery_id=delivery_id)) is None:
            return problem(404, "no delivery has this id")
        retried, skipped = await _retry(desk, [delivery_id])
        if not retried:
            return problem(409, f"not retried: {explain_no_retry(skipped.get(delivery_id, 'changed'))}")
        return JSONResponse({"retried": [delivery_id]})


class ReasonQuery(BaseModel, extra="forbid"):
    """Which state to group. Not `accepted`, of which there are too many, and which need nobody."""

    state: Literal["pending", "held", "unknown", "expired", "suppressed", "shadow", "dead"]


class DeliveryQuery(BaseModel, extra="forbid"):
    """The filters of `GET /deliveries`."""

    state: Literal["held"] | State | None = None
    route: str | None = None
    provider: str | None = None
    event_id: str | None = None
    provider_message_id: str | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


def _add_holds(router: APIRouter, desk: Context) -> None:
    @router.get("/holds", summary="What is stopped, and why")
    async def show_holds() -> Response:
        return JSONResponse({"holds": [_show_hold(hold) for hold in await desk.outbox.read(list_holds)]})

    @router.put("/holds/{scope:path}", summary="Stop a provider, a route or a template")
    async def set_hold(scope: str, order: HoldOrder | None = None) -> Response:
        if (fault := _scope_fault(scope, desk)) is not None:
            return problem(422, fault)
        reason = (order or HoldOrder()).reason
        await desk.outbox.write(partial(put_hold, scope=scope, reason=reason, by_hand=True))
        desk.log.warning("hold.set", scope=scope, reason=reason, by="ops")
        held = [hold for hold in await desk.outbox.read(list_holds) if hold.scope == scope]
        return JSONResponse(_show_hold(held[0]) if held else {"scope": scope})

    @router.delete("/holds/{scope:path}", summary="Let it go on", status_code=204)
    async def end_hold(scope: str) -> Response:
        if not await desk.outbox.write(partial(release_hold, scope=scope)):
            return problem(404, "there is no such hold")
        desk.log.warning("hold.released", scope=scope, by="ops")
        desk.dispatcher.wake_all()
        return Response(status_code=204)


def _scope_fault(scope: str, desk: Context) -> str | None:
    kind, _, name = scope.partition(":")
    config = desk.rules.current().config
    known: Mapping[str, set[str]] = {
        "provider": set(config.providers),
        "route": {route.name for route in config.routes},
        "template": {f"{route.provider}/{route.template}" for route in config.routes},
    }
    if kind not in known or not name:
        return "a scope is provider:NAME, route:NAME or template:PROVIDER/NAME"
    if name not in known[kind]:
        return f"the YAML has no {kind} of this name; it has {', '.join(sorted(known[kind])) or 'none'}"
    return None


def _show_config(row: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Return where the delivery's route stands in the YAML, which may be another one by now."""
    in_force = row["config_hash"] == rules.current().config.hash
    return {"hash": row["config_hash"], "line": row["config_line"], "name": rules.name, "in_force": in_force}


def _show_hold(hold: Hold) -> dict[str, Any]:
    return {
        "scope": hold.scope,
        "reason": hold.reason,
        "since": format_instant(hold.since),
        "deliveries": hold.deliveries,
        "probe_at": None if hold.probe_at is None else format_instant(hold.probe_at),
    }


async def _list_pages(outbox: Store, order: RetryOrder) -> AsyncIterator[Sequence[str]]:
    """Yield the ids to retry: those given, or those of a state, page by page so that intake never waits long."""
    if order.ids:
        yield order.ids
        return
    cursor: str | None = None
    while True:
        rows, cursor = await outbox.read(
            partial(
                list_deliveries,
                wanted=DeliveryFilter(state=order.state, route=order.route, limit=_PAGE, cursor=cursor),
            )
        )
        yield [row["id"] for row in rows]
        if cursor is None:
            return


async def _retry(
    desk: Context, ids: Sequence[str], *, careful: bool = False
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Retry deliveries; return those that will be sent again, and why the others will not.

    Each page is a line in the log: sending again what is `unknown` is a person's decision, to be found later.
    """
    retried = await desk.outbox.write(partial(retry_deliveries, ids=ids, careful=careful))
    skipped = await desk.outbox.read(partial(explain_retry, ids=set(ids).difference(retried)))
    desk.log.info("deliveries.retried", asked=len(ids), retried=len(retried), ids=list(retried), by="ops")
    desk.dispatcher.wake_all()
    return retried, skipped
