"""Runs the sandbox on a port of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from app.errors import RelayError
from app.mapping.template import Templates
from app.sandbox.app import create_sandbox
from app.sandbox.breaking import OpenProtocol
from app.sandbox.settings import SandboxSettings


async def serve_sandbox(
    settings: SandboxSettings,
    templates: Templates,
    host: str = "127.0.0.1",
    port: int = 9100,
    *,
    show: Callable[[str], None],
    on_bound: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until cancelled; port 0 takes a free one. `on_bound` gets the port once requests are answered.

    Leaves signals and logging to the program around it. Raises RelayError if the port is taken, ConfigError.
    """
    app = create_sandbox(settings, templates, show=show)
    listener = _listen(host, port)
    config = uvicorn.Config(app, http=OpenProtocol, log_config=None, access_log=False, lifespan="on")
    server = _Server(config, lambda: on_bound(listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that hangs on purpose must not keep the sandbox from ending.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # each is gone with the loop's next turn; uvicorn looks ten times a second
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RelayError(
            f"the sandbox cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
        ) from None
    return listener
