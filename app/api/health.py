"""`GET /healthz` and `GET /readyz`, for the container's supervisor and its load balancer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.problems import unavailable


def build_router(
    is_alive: Callable[[], bool], can_commit: Callable[[], Awaitable[bool]], config_hash: Callable[[], str]
) -> APIRouter:
    """Return the two paths. A provider that is down leaves the relay ready: its outbox goes on taking events."""
    router = APIRouter()

    @router.get("/healthz", summary="Does the process work?")
    async def show_health() -> Response:
        return JSONResponse({"status": "ok"}) if is_alive() else unavailable("a lane has stopped looking at the outbox")

    @router.get("/readyz", summary="Can it take an event now?")
    async def show_readiness() -> Response:
        if not await can_commit():
            return unavailable("the outbox cannot commit")
        return JSONResponse({"status": "ready", "config": config_hash()})

    return router
