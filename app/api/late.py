"""An application that is built at its first request: what is asked for seldom need not make every start slow."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send


class LateApp:
    """Passes everything on to what `build` returns; builds it once."""

    def __init__(self, build: Callable[[], FastAPI]) -> None:
        self._build = build
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.get()(scope, receive, send)

    def get(self) -> FastAPI:
        """Return what was built."""
        if self._app is None:
            self._app = self._build()
        return self._app
