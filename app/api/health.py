"""`GET /healthz`, `/readyz` and `/metrics`, for the container's supervisor, its load balancer and Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.api import unavailable
from app.clock import Clock
from app.observe.metrics import Metrics

KNOWN_MS = 1_000


class Readiness:
    """Tells whether a commit works, tried at most once a second, however many ask: anybody may."""

    def __init__(self, can_commit: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        self._can_commit = can_commit
        self._clock = clock
        self._trial: asyncio.Future[bool] | None = None
        self._tried_at = 0

    async def __call__(self) -> bool:
        """Return what the last trial showed, or that of a new one."""
        now = self._clock()
        if self._trial is None or (self._trial.done() and now - self._tried_at >= KNOWN_MS):
            self._tried_at, self._trial = now, asyncio.ensure_future(self._can_commit())
        return await asyncio.shield(self._trial)


def build_router(
    is_alive: Callable[[], bool],
    can_commit: Callable[[], Awaitable[bool]],
    config_hash: Callable[[], str],
    clock: Clock,
    show_replicas: Callable[[], dict[str, Any]] = dict,
) -> APIRouter:
    """Return the two public paths. A provider that is down leaves the relay ready: its outbox goes on taking events."""
    router = APIRouter()
    is_ready = Readiness(can_commit, clock)

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="Does the process work?")
    async def show_health() -> Response:
        return JSONResponse({"status": "ok"}) if is_alive() else unavailable("a lane has stopped looking at the outbox")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", summary="Can it take an event now?")
    async def show_readiness() -> Response:
        if not await is_ready():
            return unavailable("the outbox cannot commit")
        return JSONResponse({"status": "ready", "config": config_hash(), **show_replicas()})

    return router


def build_metrics_router(metrics: Metrics, count: Callable[[], Any]) -> APIRouter:
    """Return `GET /metrics`, behind the token."""
    router = APIRouter()
    metrics.set_build()

    @router.head("/metrics", include_in_schema=False)
    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        await count()
        return Response(metrics.show(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
