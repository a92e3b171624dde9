"""A provider on loopback that fails in every way we could think of; its count is the oracle, never what we say.

Inside a test's own loop: `open_fault("hang")`. In a process of its own, so that its memory and its processor time are
not the client's: `python fault_server.py [CERTIFICATES]` prints the ports of all as JSON, answers every line on stdin
with what came so far, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import random
import re
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.certificates import load_certificate

TAKEN = b'{"id": "g-1", "status": "ACCEPTED"}'
DRIP_EVERY_S = 0.05
BACKLOG = (
    2_000  # a full one would make the kernel drop a connection's first packet: a second lost, and no fault of ours
)
_OUR_ID = re.compile(rb'"localMessageId":"([^"]+)"')


@dataclass
class Server:
    """What arrived at the provider's end."""

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

    def count_by_id(self) -> Counter[str]:
        """Return how many requests came for each delivery; '' are those that name none."""
        return Counter(found[1].decode() if (found := _OUR_ID.search(raw)) else "" for raw in self.requests)


Answer = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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
            await asyncio.sleep(DRIP_EVERY_S)

    return answer


async def hang(server: Server, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await asyncio.Event().wait()


async def reset(_server: Server, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_unread(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The first byte shows that the client has begun to write; what the reset overtakes is then no matter of chance.
    await reader.readexactly(1)
    await reset(server, reader, writer)


async def reset_after_request(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await reset(server, reader, writer)


async def close_at_once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    writer.close()


def flooding(status: str) -> Answer:
    async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 10000000\r\n\r\n".encode())
        for _ in range(200):
            writer.write(b"x" * 50_000)
            await writer.drain()
            server.sent += 50_000

    return answer


async def answer_tls_plainly(_server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(plain(b"", "400 Bad Request"))
    writer.close()


async def say_nothing(_server: Server, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def list_much(_server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(plain(b"[" + b" " * 100_000 + b"]", "200 OK"))


@functools.cache
def pack_bomb() -> bytes:
    """Return 210 MB of nothing in 200 KB."""
    return gzip.compress(b"[" + b" " * 210_000_000 + b"]", compresslevel=9)


async def send_bomb(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answering(plain(pack_bomb(), "200 OK", "content-encoding: gzip"))(server, reader, writer)


SENT_AT = "date: Mon, 23 Nov 2026 10:00:00 GMT"

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
    "reset before the request is read": reset_unread,
    "reset after the request": reset_after_request,
    "close without an answer": close_at_once,
    "half header, then close": answering_and_closing(b"HTTP/1.1 202 Acc"),
    "half body, then close": answering_and_closing(plain()[:-5]),
    "not HTTP": answering(b"220 smtp.example ready\r\n\r\n"),
    "10 MB, 200": flooding("200 OK"),
    "10 MB, 400": flooding("400 Bad Request"),
    "gzip": answering(plain(gzip.compress(TAKEN), "200 OK", "content-encoding: gzip")),
    "gzip bomb": send_bomb,
    "204": answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "HTML 200": answering(plain(b"<html>ok</html>", "200 OK")),
    "200 with an error": answering(plain(b'{"error": {"message": "channel is not active"}}', "200 OK")),
    "200 with WhatsApp's error": answering(plain(b'{"error": {"code": 132001, "message": "no such name"}}', "200 OK")),
    "200 with half the JSON": answering(plain(TAKEN[:-3], "200 OK")),
    "101": answering(plain(b"", "101 Switching", "upgrade: x")),
    "301": answering(plain(b"", "301 Moved", "location: http://169.254.169.254/latest/meta-data/")),
    "307": answering(plain(b"", "307 Moved", "location: /elsewhere")),
    "307 to the metadata address": answering(
        plain(b"", "307 Moved", "location: http://169.254.169.254/latest/meta-data/")
    ),
    "400": answering(plain(b'{"error": "bad parameter"}', "400 Bad Request")),
    "401": answering(plain(b'{"error": "unauthorised"}', "401 Unauthorized")),
    "408": answering(plain(b"", "408 Request Timeout")),
    "429": answering(plain(b"", "429 Slow")),
    "429, seconds": answering(plain(b"", "429 Slow", "retry-after: 120")),
    "429, a date": answering(plain(b"", "429 Slow", SENT_AT, "retry-after: Mon, 23 Nov 2026 10:03:00 GMT")),
    "429, negative": answering(plain(b"", "429 Slow", "retry-after: -5")),
    "429, huge": answering(plain(b"", "429 Slow", "retry-after: 99999999999999999999999")),
    "500": answering(plain(b"", "500 Oops")),
    "502": answering(plain(b"<html>Bad Gateway</html>", "502 Bad Gateway")),
    "503": answering(plain(b"", "503 Busy", "retry-after: 7")),
    "503, bare": answering(plain(b"", "503 Busy")),
    "TLS on a plain port": answer_tls_plainly,
    "say nothing": say_nothing,
    "long list": list_much,
}

# The same answer behind TLS: (the answer's name, the certificate's).
BEHIND_TLS: Mapping[str, tuple[str, str]] = {
    "self-signed certificate": ("taken", "self-signed"),
    "expired certificate": ("taken", "expired"),
    "good certificate": ("taken", "good"),
}


@asynccontextmanager
async def open_fault(answer: Answer, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Listen on loopback and do `answer` with every request of every connection."""
    server = Server()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            while not writer.is_closing():
                await answer(server, reader, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    listener = await asyncio.start_server(serve_connection, "127.0.0.1", port, backlog=BACKLOG, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def find_closed_port() -> int:
    """Return a port that nobody listens on, and that stays so: none that the kernel hands out by itself."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311  # no secret
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


# -- a process of its own -------------------------------------------------------------------------


async def serve_all(certificates: Path | None) -> None:
    """Open every fault on a port of its own; tell the ports, then, for each line read, what has come."""
    async with AsyncExitStack() as opened:
        servers = {name: await opened.enter_async_context(open_fault(answer)) for name, answer in ANSWERS.items()}
        for name, (answer_name, certificate) in BEHIND_TLS.items() if certificates else ():
            assert certificates is not None
            tls = load_certificate(certificates, certificate)
            servers[name] = await opened.enter_async_context(open_fault(ANSWERS[answer_name], tls=tls))
        _say({name: server.port for name, server in servers.items()})
        while await asyncio.to_thread(sys.stdin.readline):
            _say({name: [each.connections, each.count_by_id()] for name, each in servers.items()})


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201  # to the test that started this process


if __name__ == "__main__":
    asyncio.run(serve_all(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
