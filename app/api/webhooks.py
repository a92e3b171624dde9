"""`POST /webhooks/NAME`: what a source and a provider are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from json.encoder import encode_basestring_ascii as quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.api import problem, unauthorised, unavailable
from app.api.guard import PRIVATE_HEADERS, Body, read_body, read_headers
from app.api.strangers import PATH, RECEIPTS, Stray
from app.errors import Refusal, StoreError
from app.model.value import dataclass
from app.observe import NoTracer, Span
from app.observe.metrics import OTHER
from app.relay import Context, Shared
from app.relay.intake import Answer, Take, accept_event, report_refusal, topic_label
from app.relay.receipts import accept_receipts, answer_challenge
from app.sources import SOURCE

_HEADERS = [(b"content-type", b"application/json"), *PRIVATE_HEADERS]


class Taken(Response):
    """The answer to what was taken: a Response takes as long to make as to read an event, and this a tenth of it."""

    background = None

    def __init__(self, body: bytes, status_code: int = 200) -> None:
        self.body, self.status_code = body, status_code
        self.raw_headers = [(b"content-length", b"%d" % len(body)), *_HEADERS]


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """The path as a bare ASGI endpoint.

    FastAPI's way to a handler costs more processor time than all that the handler does (docs/decisions), and this
    is the one path that is asked thousands of times a minute.
    """

    shared: Shared
    take: Take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one webhook."""
        response = await self.answer(scope, receive)
        await response(scope, receive, send)

    def answer(self, scope: Scope, body: Body) -> Awaitable[Response]:
        """Return the answer to one webhook."""
        headers = scope.get("relay.headers") or read_headers(scope)  # as the guard has read them
        take = _take if isinstance(self.shared.tracer, NoTracer) else _trace
        return take(self.shared, self.take, headers, body)


async def _trace(shared: Shared, take: Take, headers: Mapping[str, str], body: Body) -> Response:
    # After the guard's check of the secret: a stranger leaves no span, and joins no trace of ours.
    attributes = {"http.request.method": "POST", "http.route": PATH}
    parent = headers.get("traceparent", "")
    with shared.tracer.open_span(f"POST {PATH}", attributes, kind="server", parent=parent) as span:
        response = await _take(shared, take, headers, body, span)
        span.note({"http.response.status_code": response.status_code})
        if response.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
            span.fail(str(response.status_code))
    return response


async def _take(
    shared: Shared, take: Take, headers: Mapping[str, str], given: Body, span: Span | None = None
) -> Response:
    """Read, accept and answer what comes from the source, and note how long it took."""
    started_at = shared.clock()
    answer: Answer | Refusal | Response
    try:
        body = given if isinstance(given, bytes) else await read_body(given)
        answer = _count(shared, body) if isinstance(body, Response) else await accept_event(shared, take, headers, body)
    except StoreError:
        shared.metrics.events.inc(OTHER, "unavailable")
        shared.metrics.store_errors.labels("accept").inc()
        answer = unavailable("the event could not be stored; send it again")
    except asyncio.CancelledError:
        # The grace period of a shutdown is over. Sent again, an event that was stored after all is a duplicate.
        return unavailable("the relay is stopping; send the event again")
    shared.metrics.accept_seconds.observe(max(shared.clock() - started_at, 0) / 1000)
    if isinstance(answer, Answer) and span is not None:
        topic = topic_label(SOURCE.read_topic(headers))
        span.note({"relay.event_id": answer.event_id, "relay.topic": topic, "relay.result": answer.status})
    return answer if isinstance(answer, Response) else _show(answer)


def _count(shared: Shared, refused: Response) -> Response:
    """Count a body that could not be read to its end."""
    if refused.status_code >= 500:  # noqa: PLR2004  # the status itself is the clearest name
        shared.metrics.events.inc(OTHER, "unavailable")
    else:
        report_refusal(shared, refused.status_code, "the body is longer than 64 KiB, or ended early")
    return refused


def _show(answer: Answer | Refusal) -> Response:
    if isinstance(answer, Refusal):
        return unauthorised() if answer.http_status == 401 else problem(answer.http_status, answer.detail)  # noqa: PLR2004  # the status itself is the clearest name
    if answer.http_status >= 500:  # noqa: PLR2004  # the status itself is the clearest name
        return unavailable("the provider did not accept the message; send the event again", answer.http_status)
    rows = ", ".join(
        f'{{"id": {quote(row.id)}, "route": {quote(row.route)}, "provider": {quote(row.provider)}, '
        f'"state": "{row.state}"}}'
        for row in answer.deliveries
    )  # as `write_json` would, which takes five times as long
    told = f'{{"event_id": {quote(answer.event_id)}, "status": "{answer.status}", "deliveries": [{rows}]}}'
    return Taken(told.encode(), answer.http_status)


def build_router(
    context: Context, refuse: Callable[..., Response]
) -> tuple[APIRouter, Callable[[Scope, Body], Awaitable[Response]]]:
    """Return the routes by which providers report; `refuse` answers what another secret has signed."""
    router = APIRouter()

    @router.get("/webhooks/{provider}", summary="Show whoever sets it up that the URL is right")  # noqa: FAST003  # see below
    async def show_challenge(request: Request) -> Response:
        provider = str(request.path_params["provider"])
        challenge = answer_challenge(context, provider, request.query_params)
        if challenge is not None:
            return PlainTextResponse(challenge)
        refused = refuse(request.scope, provider=provider, mistake=Stray.CHALLENGE)
        return problem(403, "hub.verify_token does not fit") if refused.status_code == 401 else refused  # noqa: PLR2004  # the status itself is the clearest name

    # Read from the request: FastAPI takes 25 ms at start to prepare a parameter.
    @router.post("/webhooks/{provider}", summary="Take a provider's receipts")  # noqa: FAST003  # see above
    async def take_receipts(request: Request) -> Response:
        return await answer(request.scope, request.receive)

    async def answer(scope: Scope, given: Body) -> Response:
        body = await read_body(given)
        if isinstance(body, Response):
            return body
        provider = scope["path"].removeprefix(RECEIPTS)
        try:
            headers, query = scope["relay.proof"]  # as the guard has read them
            status = await accept_receipts(context, provider, headers, query, body)
        except StoreError:
            context.metrics.store_errors.labels("receipt").inc()
            return unavailable("the receipt could not be stored; send it again")
        match status:
            case 200:
                return Taken(b'{"status":"ok"}')
            case 401:
                return refuse(scope, provider=provider)
            case _:
                return problem(404, "no provider of this name is configured")

    return router, answer
