"""`POST /diff`: how the stored events would be sent otherwise by a YAML that is not in force."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.deliveries import read_time
from app.api.errors import PROBLEMS, problem
from app.errors import ConfigError
from app.outbox.values import EventQuery
from app.relay.context import Context
from app.relay.reload import Rules
from app.relay.replay import Differences, compare_rules

_LONGEST_YAML = 262_144


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


def build_router(context: Context, rules: Rules) -> APIRouter:
    """Return `POST /diff`."""
    router = APIRouter(responses=PROBLEMS)

    @router.post("/diff", summary="Compare a YAML with the one in force, by stored events")
    async def diff(order: DiffOrder) -> Response:
        since = read_time(context, "since", order.since)
        try:
            proposed = await asyncio.to_thread(partial(rules.propose, order.name, order.yaml, order.templates))
        except ConfigError as error:
            return problem(422, str(error))
        compared = await compare_rules(context, proposed, EventQuery(since=since, after=order.after))
        return JSONResponse({"hash": proposed.config.hash, "in_force": rules.read_hash(), **_show(compared)})

    return router


def _show(compared: Differences) -> dict[str, Any]:
    changes = [
        {
            "change": each.change,
            "route": each.route,
            "what": each.what or None,
            "count": count,
            "example": {"event_id": event.id, "topic": event.topic, "was": each.was, "now": each.now},
        }
        for count, event, each in compared.found.values()
    ]
    return {"events": compared.events, "wiped": compared.wiped, "changes": changes, "next": compared.next_after}
