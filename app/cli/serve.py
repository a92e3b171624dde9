"""`nector-relay serve`: the API and the dispatcher in one process."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import SecretStr
from typer import Option

from app.api.connections import Connection
from app.api.strangers import Gate, Limits
from app.cli import ConfigFile
from app.errors import ConfigError, RelayError, StoreError
from app.main import create_app
from app.relay import Relay
from app.relay.reload import Keyring, Rules
from app.settings import EXAMPLES, Settings, read_environment
from app.values.address import Bind, is_loopback

# What is half sent when we are told to stop may still arrive, but must not hold the process up for ever.
OPEN_REQUESTS_MS = 3_000
ANSWERING_S = 0.3
GARBAGE = 10_000  # objects that are new before the collector looks; Python's 700 are some ten events
MOST_CONNECTIONS = 4_096  # 28 KiB of head each: 115 MB when strangers have taken all of them
MOST_FILES = 65_536  # some containers allow 2^30
WAITING = 4_096  # connections that are not accepted yet; the kernel may allow fewer (net.core.somaxconn)


class RelayServer(uvicorn.Server):
    """uvicorn, stopped by us: its own signal handling raises the signal again at the end, and the code is not 0."""

    def __init__(self, config: uvicorn.Config, relay: Relay, gate: Gate) -> None:
        super().__init__(config)
        self._relay = relay
        self._gate = gate
        self._stop_by: float | None = None  # time.monotonic() at which the grace period ends

    def stop(self) -> None:
        """Stop in order: no new send, the open requests, the open sends."""
        self._stop_by = time.monotonic() + self._relay.shared.settings.shutdown_grace / 1000
        self.should_exit = True
        self._relay.stop_claiming()

    def obey(self, told: signal.Signals) -> None:
        """Stop in order; at the second signal, end at once."""
        if not self.should_exit:
            self.stop()
            return
        # Nothing is lost: what is acknowledged is on disk, and what is open becomes `unknown` at the next start.
        signal.signal(told, signal.SIG_DFL)
        os.kill(os.getpid(), told)

    def grace_ms(self) -> int | None:
        """Return what is left of the grace period; None if it has not begun."""
        return None if self._stop_by is None else max(round((self._stop_by - time.monotonic()) * 1000), 0)

    async def on_tick(self, counter: int) -> bool:
        """Do what is done ten times a second; each second, end the connections that take too long."""
        if counter % 10 == 0:
            self._gate.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let open requests end; those that have not come whole by then are answered just before they are cancelled."""
        within_s = self.config.timeout_graceful_shutdown or 0
        asyncio.get_running_loop().call_later(max(within_s - ANSWERING_S, 0), self._gate.stop)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve`, which listens to them for longer than uvicorn runs."""
        yield


def serve(
    host: Annotated[str, Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104  # a container's port is published by its owner
    port: Annotated[int, Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    config: ConfigFile = None,
    published_on: Annotated[str, Option(help="Address that a container's port is published on.")] = "",
) -> int:
    """Run the relay: take webhooks, send messages. Stops on SIGTERM, reads the YAML again on SIGHUP."""
    # A reload that is asked for while we start must not end the process: what we read is new anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    environment = read_environment()
    if config is not None:
        environment = {**environment, "RELAY_CONFIG": str(config), "RELAY_CONFIG_YAML": ""}
    died: list[BaseException] = []
    servers: list[RelayServer] = []

    def stop_because(error: BaseException) -> None:
        died.append(error)
        for server in servers:
            server.stop()

    with _note_early_sigterm() as told_early:
        app = create_app(None, environment, on_dead=stop_because)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(app, Bind(host, port), published_on, servers, told_early))
    if died:
        return os.EX_IOERR if isinstance(died[0], StoreError) else os.EX_SOFTWARE
    return 0


async def _run(
    app: FastAPI, bind: Bind, published_on: str, servers: list[RelayServer], told_early: Sequence[int]
) -> None:
    """Open the relay, serve until told to stop, close it; `servers` gets the server, for others to stop it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold secrets and customers' numbers
    relay: Relay = app.state.relay
    settings, log = relay.shared.settings, relay.shared.log
    gate = Gate(
        derive_limits(raise_file_limit(), settings.keep_alive / 1000),
        log,
        relay.shared.metrics.connections_ended.inc,
        settings.trusted_proxies,
    )
    server = RelayServer(build_server_config(app, settings, gate), relay, gate)
    servers.append(server)
    try:
        refuse_examples(relay, app.state.keyring, published_on or bind.host, published_on)
        # Before the first send: what is begun would have to be given up.
        listeners = [open_listener(*bind)]
        if settings.ops_bind is not None:
            listeners.append(open_listener(*settings.ops_bind, option="RELAY_OPS_BIND"))
            app.state.admission.ops_at = listeners[1].getsockname()[:2]
        await relay.open()
        gc.freeze()  # what stands now stays, and is not looked through again and again: p99 77 ms with, 16 without
        gc.set_threshold(GARBAGE)
        _listen_to_signals(server, app.state.rules)
        if told_early:
            server.stop()
        apart = {"ops": "{}:{}".format(*app.state.admission.ops_at)} if settings.ops_bind else {}
        log.info("relay.listening", host=bind.host, port=listeners[0].getsockname()[1], **apart)
        await server.serve(sockets=listeners)
    finally:
        await relay.close(server.grace_ms())


@contextmanager
def _note_early_sigterm() -> Iterator[Sequence[int]]:
    """Yield what gets each SIGTERM that comes before the event loop listens.

    The kernel gives the first process of a container no signal that it does not handle: it would start, and stay.
    """
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen_to_signals(server: RelayServer, rules: Rules) -> None:
    loop = asyncio.get_running_loop()
    for told in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(told, server.obey, told)
    reloads: set[asyncio.Task[str | None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(rules.reload())
        reloads.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)


def build_server_config(app: FastAPI, settings: Settings, gate: Gate) -> uvicorn.Config:
    """Return how uvicorn serves: no access log (it prints query strings), no server header.

    No lifespan: `serve` opens and closes the relay itself, around the listening. No `timeout_keep_alive`: the gate
    ends what is idle, and `Connection` never sets uvicorn's timer.
    """
    return uvicorn.Config(
        app,
        http=partial(Connection, gate),  # type: ignore[arg-type]  # it is only ever called
        ws="none",
        backlog=WAITING,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=min(OPEN_REQUESTS_MS, settings.shutdown_grace) / 1000,  # type: ignore[arg-type]  # for asyncio.wait_for
    )


def refuse_examples(relay: Relay, keyring: Keyring, host: str, published_on: str) -> None:
    """Raise ConfigError where a secret of `.env.example` would let in whoever can reach this process."""
    shared = relay.shared
    ops_bind, token = shared.settings.ops_bind, shared.settings.admin_token
    known = {"RELAY_NECTOR_SECRETS or its file": shared.secrets} if not is_loopback(host) else {}
    if token and not is_loopback(published_on or (ops_bind.host if ops_bind else host)):
        known["RELAY_ADMIN_TOKEN"] = [token.get_secret_value()]
    if not is_loopback(host):
        keyring.banned = EXAMPLES
        for name, account in shared.snapshot.config.providers.items():
            secrets = [value.get_secret_value() for _, value in account if isinstance(value, SecretStr)]
            known[f"providers.{name} (its webhook's secret or token)"] = secrets
    if found := [name for name, secrets in known.items() if not EXAMPLES.isdisjoint(secrets)]:
        raise ConfigError(
            f"a secret of .env.example, which everybody knows, on {host}, which others can reach: "
            f"{', '.join(found)}. Put your own there (openssl rand -hex 32), or listen on this machine only "
            "(--host 127.0.0.1; in a container whose port is published there: --published-on 127.0.0.1)"
        )


def open_listener(host: str, port: int, option: str = "--host or --port") -> socket.socket:
    """Return a bound socket; raises RelayError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer may wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "not a host's name"
        raise RelayError(f"cannot listen on {host}:{port} ({reason}); choose another {option}") from None
    listener.listen(WAITING)
    listener.set_inheritable(True)
    return listener


def derive_limits(files: int, keep_alive_s: float = 75) -> Limits:
    """Return the limits that leave enough open files to the outbox, the providers and what is loaded late."""
    kept = max(files // 4, min(files // 2, 512))
    connections = max(min(files - kept, MOST_CONNECTIONS), 16)
    return Limits(connections, connections // 4, idle_s=keep_alive_s)


def raise_file_limit() -> int:
    """Let this process open as many files as it may, within reason; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if 0 <= soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
