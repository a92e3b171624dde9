"""The ops API's one door: a bearer token; without a token set there is no door."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.settings import Settings


def build_guard(settings: Settings) -> Callable[[Request], None]:
    """Return the dependency that every ops path has: 404 where no token is set, 401 where another one is given."""
    token = settings.admin_token

    def require_token(request: Request) -> None:
        if token is None:
            raise HTTPException(404)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        expected = token.get_secret_value().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
            raise HTTPException(401)

    return require_token
