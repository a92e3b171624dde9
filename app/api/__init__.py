"""HTTP in: Nector's webhooks, the providers' receipts, and the ops API.

Every error is a problem (RFC 9457): what is wrong with which field, never its value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.errors import StoreError, is_passing

# Short enough that a retry comes soon after space or the database returns, long enough not to press.
RETRY_AFTER_S = 5
PRIVATE: Mapping[str, str] = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
"""What every answer says: a query may hold a token, and what is shown is of customers."""
# For the description of the API.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/problem+json": {}}}
    for status, meaning in {
        404: "There is no such thing, or no ops API",
        409: "Not in its state",
        422: "The request is wrong; the detail names the field",
    }.items()
}


class Refused(HTTPException):
    """A request that goes no further; `answer` says why. FastAPI lets only an HTTPException out of its own reading."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json.dumps(body), status, {**(headers or {}), **PRIVATE}, media_type="application/problem+json")


def unauthorised() -> Response:
    """Return the one 401: it never says what was wrong."""
    return problem(HTTPStatus.UNAUTHORIZED, "not authorised", {"WWW-Authenticate": "Bearer"})


def unavailable(detail: str, status: int = 503, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer in which we want the source to try again: 503, or 502 where a provider is to blame."""
    return problem(status, detail, {"Retry-After": str(RETRY_AFTER_S), **(headers or {})})


def show_errors(app: FastAPI) -> None:
    """Let every error of an application be a problem of ours."""
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(StoreError, _show_store_error)
    app.add_exception_handler(Exception, show_failure)


async def _show_http_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return error.answer
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    unauthorised = status == HTTPStatus.UNAUTHORIZED
    return problem(status, "not authorised" if unauthorised else HTTPStatus(status).phrase.lower(), headers)


async def _show_invalid(_request: Request, error: Exception) -> Response:
    """Name the fields that are wrong and never what stood in them."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return problem(422, "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults))


async def _show_store_error(_request: Request, error: Exception) -> Response:
    return unavailable(str(error))


async def show_failure(_request: Request | None, error: BaseException) -> Response:
    """Return the answer to a request that met a fault of ours."""
    if isinstance(error, Exception) and is_passing(error):
        return unavailable("too many files are open, or too little memory is left; try again")
    return problem(500, "an unexpected failure; the log has its place")
