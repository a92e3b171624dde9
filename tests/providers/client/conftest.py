"""A provider on loopback that fails in every way we could think of, and clients to send to it."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.core.models import Accepted, Outcome, Rejected, Retryable, Uncertain
from app.providers.base import Provider
from app.providers.client import ProviderClient

PATIENT_MS = 10_000  # where a test expects an answer: a busy machine must not make it a fault
TAKEN = b'{"id": "g-1", "status": "ACCEPTED"}'
Answer = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What arrived at the provider's end: the count here is the oracle, not what the client says."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    sent: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.requests.append(head + await reader.readexactly(length))
        self.arrived.set()


def plain(body: bytes = TAKEN, status: str = "202 Accepted", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(raw: bytes) -> Answer:
    async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(raw)
        await writer.drain()

    return answer


def answering_and_closing(raw: bytes) -> Answer:
    async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(raw)(server, reader, writer)
        writer.close()

    return answer


def dripping(start: bytes) -> Answer:
    async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(start)(server, reader, writer)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


async def hang(server: Server, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await asyncio.Event().wait()


async def reset(_server: Server, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_after_request(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await reset(server, reader, writer)


async def close_at_once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    writer.close()


async def flood(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: str) -> None:
    await server.read(reader)
    writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 10000000\r\n\r\n".encode())
    while server.sent < 10_000_000:
        writer.write(b"x" * 50_000)
        await writer.drain()
        server.sent += 50_000


async def flood_200(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await flood(server, reader, writer, "200 OK")


async def flood_400(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await flood(server, reader, writer, "400 Bad Request")


async def answer_tls_plainly(_server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(plain(b"", "400 Bad Request"))
    writer.close()


async def say_nothing(_server: Server, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def list_much(_server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(plain(b"[" + b" " * 100_000 + b"]", "200 OK"))


# What the provider does with every request of every connection.
ANSWERS: Mapping[str, Answer] = {
    "taken": answering(plain()),
    "taken, then closed": answering_and_closing(plain()),
    "taken, with a cookie": answering(plain(TAKEN, "202 Accepted", "set-cookie: session=1; path=/")),
    "100 first": answering(b"HTTP/1.1 100 Continue\r\n\r\n" + plain()),
    "103 first": answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + plain()),
    "identity": answering(plain(TAKEN, "200 OK", "content-encoding: identity")),
    "accept and hang": hang,
    "half header, then hang": answering(b"HTTP/1.1 202 Acc"),
    "half body, then hang": answering(plain()[:-5]),
    "header drip": dripping(b"HTTP/1.1 202 OK\r\nx-drip: "),
    "body drip": dripping(b"HTTP/1.1 202 OK\r\ncontent-length: 999\r\n\r\n"),
    "short body drip": dripping(b"HTTP/1.1 202 OK\r\ncontent-length: 20\r\n\r\n"),
    "reset at once": reset,
    "reset after the request": reset_after_request,
    "close without an answer": close_at_once,
    "half header, then close": answering_and_closing(b"HTTP/1.1 202 Acc"),
    "half body, then close": answering_and_closing(plain()[:-5]),
    "not HTTP": answering(b"220 smtp.example ready\r\n\r\n"),
    "10 MB, 200": flood_200,
    "10 MB, 400": flood_400,
    "gzip": answering(plain(gzip.compress(TAKEN), "200 OK", "content-encoding: gzip")),
    "204": answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "HTML 200": answering(plain(b"<html>ok</html>", "200 OK")),
    "101": answering(plain(b"", "101 Switching", "upgrade: x")),
    "301": answering(plain(b"", "301 Moved", "location: http://169.254.169.254/")),
    "307": answering(plain(b"", "307 Moved", "location: /elsewhere")),
    "503": answering(plain(b"", "503 Busy", "retry-after: 7")),
    "429": answering(plain(b"", "429 Slow")),
    "500": answering(plain(b"", "500 Oops")),
    "TLS on a plain port": answer_tls_plainly,
    "say nothing": say_nothing,
    "long list": list_much,
}


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[str], Awaitable[Server]]]:
    """Start a server that does what ANSWERS says under the given name."""
    listeners: list[asyncio.Server] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def start(name: str) -> Server:
        server = Server()

        async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            server.connections += 1
            try:
                while not writer.is_closing():
                    await ANSWERS[name](server, reader, writer)
            except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        listener = await asyncio.start_server(serve_connection, "127.0.0.1", 0)
        listeners.append(listener)
        server.port = listener.sockets[0].getsockname()[1]
        return server

    yield start
    for listener in listeners:
        listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)


@pytest.fixture
async def open_client() -> AsyncIterator[Callable[..., ProviderClient]]:
    """Open a client that waits for nothing between its tries."""
    clients: list[ProviderClient] = []

    async def no_sleep(_seconds: float) -> None:
        return

    def open_one(**changes: Any) -> ProviderClient:
        arguments = {"timeout_ms": PATIENT_MS, "concurrency": 4, "sleep": no_sleep, "draw": lambda: 0.0, **changes}
        if arguments["timeout_ms"] < PATIENT_MS:
            gc.collect()  # a full collection in the midst of a short timeout would look like a fault
        clients.append(ProviderClient(**arguments))
        return clients[-1]

    yield open_one
    for client in clients:
        await client.close()


@pytest.fixture
def account(build_account: Callable[..., Provider]) -> Callable[[int], Provider]:
    return lambda port: build_account("gallabox", base_url=f"http://127.0.0.1:{port}")


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def strip_detail(outcome: Outcome) -> Outcome:
    match outcome:
        case Accepted():
            return outcome
        case Retryable():
            return Retryable(outcome.reason, outcome.scope, outcome.retry_after_ms)
        case Rejected():
            return Rejected(outcome.reason, outcome.scope)
        case Uncertain():
            return Uncertain(outcome.reason)


@pytest.fixture
def without_detail() -> Callable[[Outcome], Outcome]:
    """(outcome) -> the same without its words for people."""
    return strip_detail
