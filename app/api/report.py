"""`GET /report`: how far messages came, and what their customers did after."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from app.api.deliveries import read_time
from app.api.errors import PROBLEMS, Refused, problem
from app.mapping.rules import Config
from app.model.event import Act
from app.outbox.report import find_unheard, read_ledger, sum_rows
from app.outbox.values import LedgerQuery
from app.relay.context import Context
from app.sources import SOURCE
from app.values.instant import format_duration, format_instant, parse_duration

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


def build_router(context: Context) -> APIRouter:
    """Return `GET /report`."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/report", summary="How far messages came, and what their customers did after")
    async def report(asked: Annotated[ReportQuery, Query()]) -> Response:
        wanted = _read_query(asked, context)
        rows, unheard = await read_ledger(context.outbox, wanted), await find_unheard(context.outbox)
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
