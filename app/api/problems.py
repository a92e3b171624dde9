"""Errors as `application/problem+json` (RFC 9457): what is wrong with which field, never its value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

# Short enough that a retry comes soon after space or the database returns, long enough not to press.
RETRY_AFTER_S = 5


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


def unauthorised() -> Response:
    """Return the one 401: it never says what was wrong."""
    return problem(401, "not authorised", {"WWW-Authenticate": "Bearer"})


def too_many() -> Response:
    """Return the answer to another failure of whom has had too many."""
    return problem(429, "too many requests that were not authorised", {"Retry-After": str(RETRY_AFTER_S)})


def unavailable(detail: str, status: int = 503, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer in which we want the source to try again: 503, or 502 where a provider is to blame."""
    return problem(status, detail, {"Retry-After": str(RETRY_AFTER_S), **(headers or {})})
