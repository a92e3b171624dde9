"""`GET /status`: how the relay stands now, and what needs a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter
from starlette.responses import Response

from app.api.errors import PROBLEMS, unavailable
from app.delivery.pace import Pace
from app.delivery.status import ConfigStatus, Status
from app.errors import StoreError
from app.relay.reload import Rules

ReadStatus = Callable[[Mapping[str, Pace], ConfigStatus], Awaitable[Status]]


def build_router(read_status: ReadStatus, show_paces: Callable[[], Mapping[str, Pace]], rules: Rules) -> APIRouter:
    """Return `GET /status`."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/status", summary="How it is now, and what needs a person", response_model=Status)
    async def show_status() -> Response | Status:
        try:
            return await read_status(show_paces(), rules.show())
        except StoreError as error:
            return unavailable(str(error))

    return router
