"""`GET /examples`: the recorder's events, with invented values."""

from __future__ import annotations

import json
from functools import partial

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.outbox.recordings import list_recordings
from app.outbox.store import Store
from app.values.instant import format_instant


def build_router(outbox: Store) -> APIRouter:
    """Return `GET /examples`."""
    router = APIRouter()

    @router.get("/examples", summary="The last events of each topic, with invented values")
    async def list_examples(topic: str | None = None) -> Response:
        rows = [
            {"topic": row.topic, "at": format_instant(row.at), "event": json.loads(row.payload)}
            for row in await outbox.read(partial(list_recordings, topic=topic))
        ]
        return JSONResponse({"examples": rows})

    return router
