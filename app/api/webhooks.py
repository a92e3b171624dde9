"""`POST /webhooks/NAME`: what a source and a provider are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastapi import APIRouter
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.errors import PRIVATE, Refused, problem, unauthorised, unavailable
from app.api.guard import PATH, PRIVATE_HEADERS, RECEIPTS, Stray, read_headers
from app.errors import Refusal, StoreError
from app.observe.metrics import OTHER
from app.observe.tracing import NoTracer, Span
from app.relay.context import Context, Shared
from app.relay.intake import Answer, Take, accept_event, report_refusal, topic_label
from app.relay.receipts import accept_receipts, answer_challenge
from app.sources import SOURCE
from app.values.text import write_json


def add_description(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return what FastAPI says of its paths with that of the source's: a body is one of the source's models."""
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
    components = described.get("components", {})
    return {
        **described,
        "paths": {PATH: {"post": post}, **described["paths"]},
        "components": {**components, "schemas": {**components.get("schemas", {}), **schemas["$defs"]}},
    }


_HEADERS = [(b"content-type", b"application/json"), *PRIVATE_HEADERS]


class Taken(NamedTuple):
    """The answer to what was taken, as a Response is one, which takes as long to make and to send as to read it."""

    body: bytes
    status_code: int = 200

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [(b"content-length", b"%d" % len(self.body)), *_HEADERS]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """The path as a bare ASGI endpoint.

    FastAPI's way to a handler costs more processor time than all that the handler does (docs/decisions), and this
    is the one path that is asked thousands of times a minute.
    """

    shared: Shared
    take: Take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one webhook, and note how long it took."""
        started_at = self.shared.clock()
        try:
            response: Response | Taken = await _answer(self.shared, self.take, scope, receive)
            self.shared.metrics.accept_seconds.observe(max(self.shared.clock() - started_at, 0) / 1000)
        except asyncio.CancelledError:
            # The grace period of a shutdown is over. Sent again, an event that was stored after all is a duplicate.
            response = unavailable("the relay is stopping; send the event again")
        await response(scope, receive, send)


async def _answer(shared: Shared, take: Take, scope: Scope, receive: Receive) -> Response | Taken:
    headers = scope.get("relay.headers") or read_headers(scope)  # as the guard has read them
    if isinstance(shared.tracer, NoTracer):
        return await _take(shared, take, receive, headers, None)
    # After the guard's check of the secret: a stranger leaves no span, and joins no trace of ours.
    attributes = {"http.request.method": "POST", "http.route": PATH}
    parent = headers.get("traceparent", "")
    with shared.tracer.open_span(f"POST {PATH}", attributes, kind="server", parent=parent) as span:
        response = await _take(shared, take, receive, headers, span)
        span.note({"http.response.status_code": response.status_code})
        if response.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
            span.fail(str(response.status_code))
    return response


async def _take(
    shared: Shared, take: Take, receive: Receive, headers: Mapping[str, str], span: Span | None
) -> Response | Taken:
    """Read, accept and answer what comes from the source."""
    body = await _read_body(receive)
    if isinstance(body, Response):
        if body.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
            shared.metrics.events.inc(OTHER, "unavailable")
        else:
            report_refusal(shared, body.status_code, "the body is longer than 64 KiB, or ended early")
        return body
    try:
        answer = await accept_event(shared, take, headers, body)
    except StoreError:
        shared.metrics.events.inc(OTHER, "unavailable")
        shared.metrics.store_errors.labels("accept").inc()
        return unavailable("the event could not be stored; send it again")
    if isinstance(answer, Answer) and span is not None:
        topic = topic_label(SOURCE.read_topic(headers))
        span.note({"relay.event_id": answer.event_id, "relay.topic": topic, "relay.result": answer.status})
    return _show(answer)


def _show(answer: Answer | Refusal) -> Response | Taken:
    if isinstance(answer, Refusal):
        return unauthorised() if answer.http_status == 401 else problem(answer.http_status, answer.detail)  # noqa: PLR2004  # the status itself is the clearest name
    if answer.http_status >= 500:  # noqa: PLR2004  # the status itself is the clearest name
        return unavailable("the provider did not accept the message; send the event again", answer.http_status)
    body = {
        "event_id": answer.event_id,
        "status": answer.status,
        "deliveries": [
            {"id": row.id, "route": row.route, "provider": row.provider, "state": str(row.state)}
            for row in answer.deliveries
        ],
    }
    return Taken(write_json(body).encode(), answer.http_status)


_NOTED = Taken(b'{"status":"ok"}')


@dataclass(frozen=True, slots=True)
class ReceiptEndpoint:
    """The path of providers as a bare ASGI endpoint: an event has three receipts.

    `refuse` answers what another secret has signed.
    """

    context: Context
    refuse: Callable[..., Response]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one webhook."""
        answer = await self.take(scope, receive)
        await answer(scope, receive, send)

    async def take(self, scope: Scope, receive: Receive) -> Response | Taken:
        """Return the answer to a webhook that the guard has let through."""
        provider, body = scope["path"].removeprefix(RECEIPTS), await _read_body(receive)
        if isinstance(body, Response):
            return body
        try:
            headers, query = scope["relay.proof"]  # as the guard has read them
            status = await accept_receipts(self.context, provider, headers, query, body)
        except StoreError:
            self.context.metrics.store_errors.labels("receipt").inc()
            return unavailable("the receipt could not be stored; send it again")
        if status == 200:  # noqa: PLR2004  # the status itself is the clearest name
            return _NOTED
        if status == 401:  # noqa: PLR2004  # see above
            return self.refuse(scope, provider=provider)
        return problem(404, "no provider of this name is configured")


def build_router(endpoint: ReceiptEndpoint) -> APIRouter:
    """Return the routes by which providers report."""
    router, context = APIRouter(), endpoint.context

    @router.get("/webhooks/{provider}", summary="Show whoever sets it up that the URL is right")  # noqa: FAST003  # see below
    async def show_challenge(request: Request) -> Response:
        provider = str(request.path_params["provider"])
        challenge = answer_challenge(context, provider, request.query_params)
        if challenge is not None:
            return PlainTextResponse(challenge)
        refused = endpoint.refuse(request.scope, provider=provider, mistake=Stray.CHALLENGE)
        return problem(403, "hub.verify_token does not fit") if refused.status_code == 401 else refused  # noqa: PLR2004  # the status itself is the clearest name

    # Read from the request: FastAPI takes 25 ms at start to prepare a parameter.
    @router.post("/webhooks/{provider}", summary="Take a provider's receipts")  # noqa: FAST003  # see above
    async def take_receipts(request: Request) -> Response:
        answer = await endpoint.take(request.scope, request.receive)
        if isinstance(answer, Taken):
            return Response(answer.body, headers=PRIVATE, media_type="application/json")
        return answer

    return router


async def _read_body(receive: Receive) -> bytes | Response:
    """Return the body, or the answer to one that is too long or broke off."""
    parts, more = [], True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return problem(400, "the request ended before its body did")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
    except Refused as error:
        return error.answer
    return b"".join(parts)
