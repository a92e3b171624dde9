"""Answers that are none: resets, hangs and halves, on a real connection.

A reset needs the transport, which ASGI hides: the protocol below hands it on in the scope's state.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TRANSPORT = "sandbox_transport"


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection's transport in `scope["state"]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """Remember the transport for the requests of this connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


class Reset(Response):
    """The connection ends with a TCP reset and no answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as ASGI wants it
        """Reset the connection."""
        transport: asyncio.Transport = scope["state"][_TRANSPORT]
        # SO_LINGER of 0 s makes closing a reset (RST) in place of an orderly end (FIN).
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
        await _wait_for_end(receive)


class Hang(Response):
    """No answer for `hang_ms` or until the caller gives up; then a reset."""

    def __init__(self, hang_ms: int) -> None:
        super().__init__()
        self._hang_ms = hang_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait."""
        try:
            await asyncio.wait_for(_wait_for_end(receive), self._hang_ms / 1000)
        except TimeoutError:
            await Reset()(scope, receive, send)


class HalfAnswer(JSONResponse):
    """The status, the headers and half of the body; then the connection ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half and close."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"][_TRANSPORT].close()
        await _wait_for_end(receive)


class Drip(JSONResponse):
    """A whole answer, byte by byte: no single read of it takes long."""

    def __init__(self, answer: Mapping[str, Any], status: int, drip_ms: int) -> None:
        super().__init__(answer, status)
        self._pause_s = drip_ms / 1000 / max(len(self.body), 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- as ASGI wants it
        """Send slowly, until the caller has gone away."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_wait_for_end(receive))
        for byte in bytes(self.body):
            if (await asyncio.wait([gone], timeout=self._pause_s))[0]:
                return
            await send({"type": "http.response.body", "body": bytes((byte,)), "more_body": True})
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _wait_for_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
