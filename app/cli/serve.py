"""`nector-relay serve`: the API and the dispatcher in one process."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn
import uvloop

from app.errors import RelayError, StoreError
from app.main import create_app
from app.relay import Relay
from app.settings import read_environment, read_settings

# What is half sent when we are told to stop may still arrive, but must not hold the process up for ever.
OPEN_REQUESTS_S = 3
EX_SOFTWARE, EX_IOERR = 70, 74


class RelayServer(uvicorn.Server):
    """uvicorn, but a signal first stops the lanes' claiming, and a clean stop ends with exit code 0."""

    def __init__(self, config: uvicorn.Config, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; a second signal stops at once."""
        # uvicorn's own would note the signal and raise it again at the end: the exit code would not be 0.
        del sig, frame
        self.force_exit = self.should_exit
        self.should_exit = True
        self._relay.stop_claiming()


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104  # a container's port is published by its owner
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    config: Annotated[Path | None, typer.Option(help="The YAML file (else RELAY_CONFIG).")] = None,
) -> int:
    """Run the relay: take webhooks, send messages. Stops on SIGTERM, reads the YAML again on SIGHUP."""
    environment = read_environment()
    if config is not None:
        environment = {**environment, "RELAY_CONFIG": str(config), "RELAY_CONFIG_YAML": ""}
    settings = read_settings(environment)
    died: list[BaseException] = []
    servers: list[RelayServer] = []

    def stop_because(error: BaseException) -> None:
        died.append(error)
        for server in servers:
            server.should_exit = True

    app = create_app(settings, environment, on_dead=stop_because)
    relay: Relay = app.state.relay
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(relay.open())
        listener = open_listener(host, port)
        server = RelayServer(build_server_config(app), relay)
        servers.append(server)
        runner.get_loop().add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(relay.reload()))
        relay.log.info("relay.listening", host=host, port=listener.getsockname()[1])
        runner.run(server.serve(sockets=[listener]))
    if died:
        return EX_IOERR if isinstance(died[0], StoreError) else EX_SOFTWARE
    return 0


def build_server_config(app: object) -> uvicorn.Config:
    """Return how uvicorn serves: no access log (it prints query strings), no server header."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI application
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=OPEN_REQUESTS_S,
    )


def open_listener(host: str, port: int) -> socket.socket:
    """Return a bound socket; raises RelayError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer may wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RelayError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port"
        ) from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener
