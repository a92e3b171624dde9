"""`POST /send-test`: one message of a route's example, to an allowed number."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.ops import PROBLEMS
from app.api.problems import problem
from app.errors import Refusal
from app.relay.trial import Tester, TestOrder, send_test


class TestBody(BaseModel, extra="forbid"):
    """Which route's example goes to which number. `example`: which of them, from 1; else the first that sends."""

    route: str = Field(max_length=200)
    to: str = Field(max_length=40)
    example: int | None = Field(None, ge=1, le=1000)


def build_router(tester: Tester) -> APIRouter:
    """Return `POST /send-test`."""
    responses = {**PROBLEMS, 403: {"description": "Not a number that may get tests"}}
    router = APIRouter(responses=responses)

    @router.post("/send-test", summary="Send one test message", status_code=202)
    async def order_test(body: TestBody) -> Response:
        queued = await send_test(tester, TestOrder(**body.model_dump()))
        if isinstance(queued, Refusal):
            return problem(queued.http_status, queued.detail)
        row = {"id": queued.id, "route": queued.route, "provider": queued.provider, "state": queued.state}
        return JSONResponse(row, 202)

    return router
