"""A transport of httpx2's, made to answer as the product's own does: in time, and with the whole answer as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from app.providers.exchange import Answer
from app.providers.transport import WRITING


class Whole(httpx2.AsyncBaseTransport):
    """`traced`: the inner one reports httpcore's trace events; of another it is told at once that it writes."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, *, traced: bool = False) -> None:
        self._inner, self._traced = inner, traced

    async def handle_async_request(self, request: httpx2.Request) -> Answer:
        async def watch(event: str, info: Mapping[str, Any]) -> None:
            request.extensions["trace"](event, info)

        if not self._traced:
            await watch(WRITING, {})
        headers = [*request.headers.raw, (b"content-length", b"%d" % len(request.read()))]
        extensions = {**request.extensions, "trace": watch}
        plain = httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=extensions
        )
        async with asyncio.timeout(request.extensions["timeout"]["read"]):
            answer = await self._inner.handle_async_request(plain)
            try:
                stream: Any = answer.stream  # `aread` would unpack it
                body = b"".join([part async for part in stream])
            finally:
                await answer.aclose()
        return Answer(answer.status_code, answer.headers.raw, body)

    async def aclose(self) -> None:
        await self._inner.aclose()
