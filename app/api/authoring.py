"""`GET /examples` and `POST /send-test`: for whoever writes the YAML."""

from __future__ import annotations

import json
from functools import partial

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.errors import PROBLEMS, problem
from app.errors import Refusal
from app.outbox.recordings import list_recordings
from app.relay.context import Context
from app.relay.trial import TestOrder, send_test
from app.values.instant import format_instant


class TestBody(BaseModel, extra="forbid"):
    """Which route's example goes to which number. `example`: which of them, from 1; else the first that sends."""

    route: str = Field(max_length=200)
    to: str = Field(max_length=40)
    example: int | None = Field(None, ge=1, le=1000)


def build_router(context: Context) -> APIRouter:
    """Return the two paths."""
    router = APIRouter()

    @router.get("/examples", summary="The last events of each topic, with invented values")
    async def list_examples(topic: str | None = None) -> Response:
        rows = [
            {"topic": row.topic, "at": format_instant(row.at), "event": json.loads(row.payload)}
            for row in await context.outbox.read(partial(list_recordings, topic=topic))
        ]
        return JSONResponse({"examples": rows})

    refusals = {**PROBLEMS, 403: {"description": "Not a number that may get tests"}}

    @router.post("/send-test", summary="Send one test message", status_code=202, responses=refusals)
    async def order_test(body: TestBody) -> Response:
        queued = await send_test(context, TestOrder(**body.model_dump()))
        if isinstance(queued, Refusal):
            return problem(queued.http_status, queued.detail)
        row = {"id": queued.id, "route": queued.route, "provider": queued.provider, "state": queued.state}
        return JSONResponse(row, 202)

    return router
