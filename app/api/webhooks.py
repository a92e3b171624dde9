"""`POST /webhooks/NAME`: what is answered to a source."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.problems import problem, unauthorised, unavailable
from app.api.reading import read_body, read_headers
from app.errors import Refusal, StoreError
from app.observe.metrics import OTHER, topic_label
from app.observe.tracing import Span
from app.relay.intake import Answer, Intake, accept_event, report_refusal
from app.sources import SOURCE

PATH = f"/webhooks/{SOURCE.name}"


def describe_path() -> dict[str, Any]:
    """Return the path as OpenAPI has it: FastAPI knows nothing of it. The body is one of the source's models."""
    models = list(dict.fromkeys(SOURCE.find_model(topic) for topic in SOURCE.topics))
    references, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    body = {"application/json": {"schema": {"anyOf": [*references.values()]}}}
    post = {
        "summary": f"Take one {SOURCE.title} webhook",
        "requestBody": {"required": True, "content": body},
        "responses": {"202": {"description": "Taken"}},
    }
    return {"paths": {PATH: {"post": post}}, "components": {"schemas": schemas["$defs"]}}


@dataclass(frozen=True, slots=True)
class WebhookDoor:
    """The path as a bare ASGI endpoint.

    FastAPI's way to a handler costs more processor time than all that the handler does (docs/decisions), and this
    is the one path that is asked thousands of times a minute.
    """

    intake: Intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one webhook, and note how long it took."""
        started_at = self.intake.clock()
        try:
            response = await _answer(self.intake, Request(scope, receive))
            self.intake.metrics.accept_seconds.observe(max(self.intake.clock() - started_at, 0) / 1000)
        except asyncio.CancelledError:
            # The grace period of a shutdown is over. Sent again, an event that was stored after all is a duplicate.
            response = unavailable("the relay is stopping; send the event again")
        await response(scope, receive, send)


async def _answer(intake: Intake, request: Request) -> Response:
    # After the guard's check of the secret: a stranger leaves no span, and joins no trace of ours.
    headers = read_headers(request.scope)
    attributes = {"http.request.method": "POST", "http.route": PATH}
    parent = headers.get("traceparent", "")
    with intake.tracer.open_span(f"POST {PATH}", attributes, kind="server", parent=parent) as span:
        response = await _take(intake, request, headers, span)
        span.note({"http.response.status_code": response.status_code})
        if response.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
            span.fail(str(response.status_code))
    return response


async def _take(intake: Intake, request: Request, headers: Mapping[str, str], span: Span) -> Response:
    """Read, accept and answer what comes from the source."""
    body = await read_body(request)
    if isinstance(body, Response):
        if body.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
            intake.metrics.events.labels(OTHER, "unavailable").inc()
        else:
            report_refusal(intake, body.status_code, "the body is longer than 64 KiB, or ended early")
        return body
    try:
        answer = await accept_event(intake, headers, body)
    except StoreError:
        intake.metrics.events.labels(OTHER, "unavailable").inc()
        intake.metrics.store_errors.labels("accept").inc()
        return unavailable("the event could not be stored; send it again")
    if isinstance(answer, Answer):
        topic = topic_label(SOURCE.read_topic(headers))
        span.note({"relay.event_id": answer.event_id, "relay.topic": topic, "relay.result": answer.status})
    return _show(answer)


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
