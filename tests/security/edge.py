"""The edge from outside: a relay with so many open files, attackers beside it, and honest senders among them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from dotenv import dotenv_values
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.connections import Connection
from app.api.strangers import Gate, Limits
from app.cli.serve import open_listener
from app.observe.logs import Log

ROOT = Path(__file__).parents[2]
SECRET = hashlib.sha256(b"sandbox-nector-secret").hexdigest().encode()
BODY = json.dumps({"user_name": "Riya", "user_mobile": "9800000001"}).encode()
PATIENCE_S = 10.0  # Nector's
POST = b"POST /webhooks/nector HTTP/1.1\r\nhost: relay.example\r\n"
HONEST = b"%scontent-type: application/json\r\nx-nector-topic: lead_create\r\nx-nector-webhook-secret: %s\r\n" % (
    POST,
    SECRET,
)
EVENT = b"%sconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (HONEST, len(BODY), BODY)


# -- talking ------------------------------------------------------------------------------------


_TALKERS = ThreadPoolExecutor(300)  # asyncio's own six would have honest senders wait for each other


@dataclass
class Heard:
    """What came of a connection: the answer, and how many bytes could be written."""

    answer: bytes = b""
    written: int = 0

    @property
    def status(self) -> int:
        return int(self.answer[9:12] or 0)

    @property
    def body(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[2]


async def talk(port: int, *parts: bytes, pause_s: float = 0.05, patience_s: float = 30) -> Heard:
    """Send the parts, each a packet, whatever is answered meanwhile; return what was heard before the end.

    On a plain socket: asyncio's streams forget an answer that a reset follows. Raises TimeoutError.
    """
    return await asyncio.get_running_loop().run_in_executor(_TALKERS, _talk, port, parts, pause_s, patience_s)


def _talk(port: int, parts: Sequence[bytes], pause_s: float, patience_s: float) -> Heard:
    heard = Heard()
    with socket.create_connection(("127.0.0.1", port), patience_s) as client:
        try:
            for part in parts:
                client.sendall(part)
                heard.written += len(part)
                time.sleep(pause_s)
        except ConnectionError:
            pass
        try:
            while part := client.recv(65_536):
                heard.answer += part
        except ConnectionError:
            pass
    return heard


async def post_event(port: int) -> str:
    """Return the status of an honest event on a new connection, or what kept it from being answered."""
    try:
        return str((await talk(port, EVENT, pause_s=0, patience_s=PATIENCE_S)).status or "nothing")
    except OSError as error:
        return type(error).__name__


async def post_events(port: int, count: int, every_s: float = 0.05) -> Counter[str]:
    """Post so many honest events, each on a connection of its own; return how often each answer came."""
    posts = []
    for _ in range(count):
        posts.append(asyncio.create_task(post_event(port)))
        await asyncio.sleep(every_s)
    return Counter(await asyncio.gather(*posts))


# -- a server in the test's own loop ------------------------------------------------------------


@dataclass
class Edge:
    """A server on `port` that answers what it got; `requests` is that, and `ended` why connections were ended."""

    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Read the body, but for /early; then say ok, at /long at length."""
        got = bytearray()
        while scope["path"] != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.requests.append({"path": scope["path"], "gone": True})
                return
            got += message["body"]
            if not message["more_body"]:
                break
        self.requests.append({"path": scope["path"], "headers": dict(scope["headers"]), "body": bytes(got)})
        body = bytes(10_000_000) if scope["path"] == "/long" else b"ok"
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})


GENEROUS = Limits(connections=1_000, unfinished_per_address=1_000)


@asynccontextmanager
async def open_edge(limits: Limits = GENEROUS, *, stock: bool = False, trusted: Any = ()) -> AsyncIterator[Edge]:
    """Serve with these limits, or, `stock`, with uvicorn's own protocol. What is late is looked for all the time."""
    edge = Edge()
    gate = Gate(limits, Log(lambda *_given, **_line: None), lambda reason: edge.ended.update([reason]), trusted)
    http: Any = HttpToolsProtocol if stock else partial(Connection, gate)
    config = uvicorn.Config(
        lambda *asked: edge.answer(*asked),  # noqa: PLW0108  # a test may replace it
        http=http, interface="asgi3", ws="none", log_config=None, access_log=False, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = no_signals  # type: ignore[method-assign, assignment]
    listener = open_listener("127.0.0.1", 0)
    edge.port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]))

    async def sweep() -> None:
        while True:
            gate.sweep(asyncio.get_running_loop().time())
            await asyncio.sleep(0.02)

    sweeping = asyncio.create_task(sweep())
    try:
        yield edge
    finally:
        sweeping.cancel()
        for connection in list(server.server_state.connections):
            connection.transport.close()
        server.should_exit = True
        await serving


class no_signals:  # noqa: N801  # stands where uvicorn has a function
    """The test runner keeps its signals."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


# -- a relay in a process of its own ------------------------------------------------------------


@dataclass
class Served:
    """`nector-relay serve` on `port`."""

    port: int
    process: asyncio.subprocess.Process
    log: Path

    async def stop(self) -> int:
        """Tell it to stop; return the exit code."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 40)

    async def wait_for(self, text: str, seconds: float = 40) -> None:
        """Return once the log has this text."""
        async with asyncio.timeout(seconds):
            while text not in self.log.read_text():
                assert self.process.returncode is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.02)

    def read_lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of this name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def run_relay(
    folder: Path, port: int, files: int, *, stock: bool = False, wait: bool = True, script: Path | None = None
) -> AsyncIterator[Served]:
    """Run a relay that may have so many files open; `wait` until its port answers."""
    given = {name: value or "" for name, value in dotenv_values(ROOT / ".env.example").items()}
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **given,
        "PYTHONPATH": str(ROOT),
        "RELAY_CONFIG": str(ROOT / "config/relay.yaml"),
        "RELAY_DATABASE_URL": f"sqlite:///{folder}/relay.db",
        "GALLABOX_BASE_URL": "http://127.0.0.1:9",
        "BITESPEED_BASE_URL": "http://127.0.0.1:9",
    }
    script = Path(__file__).with_name("stock_relay.py") if stock else script
    program = [str(script)] if script else ["-m", "app"]
    log = folder / "relay.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, "serve", "--host", "127.0.0.1", "--port", str(port),
            env=environment, stdout=out, stderr=out, cwd=folder, preexec_fn=partial(allow_files, files),
        )  # fmt: skip
    try:
        served = Served(port, process, log)
        if wait:
            await served.wait_for('"relay.listening"')
            assert await post_event(port) == "202"
        yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def allow_files(number: int) -> None:
    """Let this process open so many files and no more."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


@asynccontextmanager
async def attack(port: int, kind: str, count: int) -> AsyncIterator[None]:
    """Have so many connections held open, and opened again, from 250 addresses."""
    script = str(Path(__file__).with_name("attacker.py"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, str(port), kind, str(count), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert (await asyncio.wait_for(process.stdout.readline(), 30)).startswith(b"holding")
        yield
    finally:
        process.kill()
        await process.wait()


def make_headers(count: int) -> bytes:
    """Return so many headers, each with a name of its own."""
    return b"".join(b"x-%d: 1\r\n" % number for number in range(count))
