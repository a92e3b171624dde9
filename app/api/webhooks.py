"""`POST /webhooks/nector`: the answers of DESIGN §3.4."""

from __future__ import annotations

import json

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.api.problems import problem, unauthorised, unavailable
from app.api.reading import read_capped
from app.core.nector import verify_secret
from app.errors import StoreError
from app.intake import Answer, Intake, Refusal, accept_event


def build_router(intake: Intake) -> APIRouter:
    """Return the routes by which sources come in."""
    router = APIRouter()

    @router.post("/webhooks/nector", summary="Take one Nector webhook", status_code=202)
    async def take_nector_webhook(request: Request) -> Response:
        started_at = intake.clock()
        response = await _answer(intake, request)
        intake.metrics.accept_seconds.observe(max(intake.clock() - started_at, 0) / 1000)
        return response

    return router


async def _answer(intake: Intake, request: Request) -> Response:
    """Check from the headers first: a body that nobody vouches for is not even read."""
    headers = dict(request.headers)
    if intake.settings.secrets and not verify_secret(headers.get("x-nector-webhook-secret"), intake.settings.secrets):
        intake.metrics.events.labels("other", "unauthorised").inc()
        return unauthorised()
    if (fault := _media_fault(headers)) is not None:
        return problem(415, fault)
    try:
        body = await read_capped(request)
    except ClientDisconnect:
        return problem(400, "the request ended before its body did")
    if body is None:
        return problem(413, "the body is longer than 64 KiB")
    try:
        answer = await accept_event(intake, headers, body)
    except StoreError:
        intake.metrics.events.labels("other", "unavailable").inc()
        return unavailable("the event could not be stored; send it again")
    return _show(answer)


def _media_fault(headers: dict[str, str]) -> str | None:
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        return "content-encoding: send the body uncompressed"
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "content-type: send application/json"
    return None


def _show(answer: Answer | Refusal) -> Response:
    if isinstance(answer, Refusal):
        return unauthorised() if answer.http_status == 401 else problem(answer.http_status, answer.detail)  # noqa: PLR2004  # the status itself is the clearest name
    if answer.http_status >= 500:  # noqa: PLR2004  # the status itself is the clearest name
        return unavailable("the provider did not accept the message; send the event again", answer.http_status)
    body = {
        "event_id": answer.event_id,
        "status": answer.status,
        "deliveries": [
            {"id": row.id, "route": row.route, "provider": row.provider, "state": row.state.value}
            for row in answer.deliveries
        ],
    }
    return Response(json.dumps(body), answer.http_status, media_type="application/json")
