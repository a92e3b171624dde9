"""`POST /webhooks/{provider}`: receipts, answered fast and taken in any order."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.api.guard import Stray
from app.api.problems import problem, unavailable
from app.api.reading import read_body, read_headers
from app.errors import StoreError
from app.relay.receipts import ReceiptDesk, accept_receipts, answer_challenge


def build_router(desk: ReceiptDesk, refuse: Callable[..., Response]) -> APIRouter:
    """Return the route by which providers report; `refuse` answers what another secret has signed."""
    router = APIRouter()

    @router.get("/webhooks/{provider}", summary="Show whoever sets it up that the URL is right")  # noqa: FAST003  # see below
    async def show_challenge(request: Request) -> Response:
        provider = str(request.path_params["provider"])
        challenge = answer_challenge(desk, provider, request.query_params)
        if challenge is not None:
            return PlainTextResponse(challenge)
        refused = refuse(request.scope, provider=provider, mistake=Stray.CHALLENGE)
        return problem(403, "hub.verify_token does not fit") if refused.status_code == 401 else refused  # noqa: PLR2004  # the status itself is the clearest name

    # Read from the request: FastAPI takes 25 ms at start to prepare a parameter.
    @router.post("/webhooks/{provider}", summary="Take a provider's receipts")  # noqa: FAST003  # see above
    async def take_receipts(request: Request) -> Response:
        provider = str(request.path_params["provider"])
        body = await read_body(request)
        if isinstance(body, Response):
            return body
        try:
            status = await accept_receipts(desk, provider, read_headers(request.scope), request.query_params, body)
        except StoreError:
            desk.metrics.store_errors.labels("receipt").inc()
            return unavailable("the receipt could not be stored; send it again")
        match status:
            case 200:
                return Response('{"status":"ok"}', media_type="application/json")
            case 401:
                return refuse(request.scope, provider=provider)
            case _:
                return problem(404, "no provider of this name is configured")

    return router
