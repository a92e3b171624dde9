"""`POST /replay`: a plan of what a replay would send, and then that plan by its id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.deliveries import find_all_ids, read_time
from app.api.errors import PROBLEMS, problem, unavailable
from app.delivery.replay import Entry
from app.errors import Refusal, StoreError
from app.outbox.values import EventQuery
from app.relay.context import Context
from app.relay.replay import Planned, Replayed, apply_plan, make_plan
from app.values.instant import format_instant

PastState = Literal["dead", "unrouted", "expired", "suppressed", "shadow", "unknown", "accepted"]


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


def build_router(context: Context) -> APIRouter:
    """Return `POST /replay`."""
    router = APIRouter(responses=PROBLEMS)

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
            return _show(await _follow(order, context))
        except StoreError as error:
            return unavailable(f"{error}; nothing was sent by this request, or all of it: ask again")

    return router


async def _follow(order: ReplayOrder, context: Context) -> Planned | Replayed | Refusal:
    if order.apply is not None:
        return await apply_plan(context, order.apply)
    given = (("since", order.since), ("until", order.until))
    since, until = (None if text is None else read_time(context, name, text) for name, text in given)
    return await make_plan(
        context, EventQuery(order.events or None, order.topic, order.state, order.route, since, until)
    )


def _show(answer: Planned | Replayed | Refusal) -> Response:
    if isinstance(answer, Refusal):
        return problem(answer.http_status, answer.detail)
    return JSONResponse(_show_plan(answer) if isinstance(answer, Planned) else _show_replayed(answer))


def _show_plan(planned: Planned) -> dict[str, Any]:
    plan, draft = planned.plan, planned.draft
    return {
        "plan_id": plan.id,
        "config_hash": plan.config_hash,
        "created_at": format_instant(plan.created_at),
        "counts": {verdict.value: count for verdict, count in draft.counts.items()},
        "complete": draft.complete,
        "unlisted": draft.unlisted,
        "entries": _show_entries(draft.entries),
    }


def _show_replayed(replayed: Replayed) -> dict[str, Any]:
    sent = {"send": len(replayed.deliveries)} if replayed.deliveries else {}
    return {
        "plan_id": replayed.plan_id,
        "counts": {**sent, **Counter(entry.verdict.value for entry in replayed.left_out)},
        "deliveries": [
            {"id": row.id, "event_id": event_id, "route": row.route, "provider": row.provider, "state": row.state}
            for event_id, row in replayed.deliveries
        ],
        "left_out": _show_entries(replayed.left_out),
    }


def _show_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    return [{**asdict(entry), "route": entry.route or None} for entry in entries]
