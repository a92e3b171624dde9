"""A fake Gallabox that costs next to nothing: it answers after a set delay and remembers who was written to.

`python -m bench.fake_provider --port 9200 --delay-ms 50`. GET /count answers with its figures, GET /arrivals with the
first arrival of every recipient (seconds, CLOCK_MONOTONIC, which all processes share). SIGTERM prints the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench.wire import Inbox, Packet, build_answer

REFUSED = build_answer(b"503 Service Unavailable", b'{"message":"try later"}')
UNREADABLE = build_answer(b"400 Bad Request", b'{"message":"no recipient"}')


@dataclass(slots=True)
class Account:
    """What has come in so far; `mode` is accept or refuse."""

    mode: str
    delay_s: float
    requests: int = 0
    accepted: int = 0
    refused: int = 0
    unreadable: int = 0
    last_at: float = 0.0
    arrivals: dict[str, float] = field(default_factory=dict)
    message_ids: set[str] = field(default_factory=set)

    def count(self) -> dict[str, Any]:
        """Return the figures. `twice`: accepted messages whose recipient (one an event) already had one."""
        recipients = len(self.arrivals)
        return {
            "requests": self.requests,
            "accepted": self.accepted,
            "refused": self.refused,
            "unreadable": self.unreadable,
            "recipients": recipients,
            "message_ids": len(self.message_ids),
            "twice": self.accepted - recipients,
            "last_at": self.last_at,
        }

    def answer_message(self, body: bytes) -> bytes:
        """Take a message, or refuse it."""
        self.requests += 1
        try:
            message = json.loads(body)
            phone, message_id = message["recipient"]["phone"], message["localMessageId"]
        except (ValueError, KeyError, TypeError):
            self.unreadable += 1
            return UNREADABLE
        if self.mode == "refuse":
            self.refused += 1
            return REFUSED
        self.last_at = time.monotonic()
        self.accepted += 1
        self.arrivals.setdefault(phone, self.last_at)
        self.message_ids.add(message_id)
        told = f'{{"id":"{self.accepted:024x}","status":"ACCEPTED","message":"Message received"}}'
        return build_answer(b"202 Accepted", told.encode())

    def show(self, path: str) -> bytes:
        """Return the answer to a GET: the figures, the arrivals or the messages."""
        shown: dict[str, Any] = {"arrivals": self.arrivals} if path == "/arrivals" else self.count()
        if path == "/messages":
            shown = {"messages": list(self.message_ids)}
        return build_answer(b"200 OK", json.dumps(shown).encode())


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._inbox = Inbox()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        for packet in self._inbox.feed(data):
            self._answer(packet)

    def _answer(self, packet: Packet) -> None:
        method, path, _ = packet.first_line.decode("latin-1").split(" ")
        if method != "POST":
            self._transport.write(self._account.show(path))
            return
        answer = self._account.answer_message(packet.body)
        if self._account.delay_s:
            asyncio.get_running_loop().call_later(self._account.delay_s, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(account: Account, port: int, tls_port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Connection(account), "127.0.0.1", port, backlog=1024)
    secure = None
    if tls_port:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("provider.pem", "provider.key")  # in its own folder
        secure = await loop.create_server(lambda: Connection(account), "127.0.0.1", tls_port, backlog=1024, ssl=context)
    await stopped.wait()
    server.close()
    if secure is not None:
        secure.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A light fake Gallabox.")
    parser.add_argument("--port", type=int, default=9200)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--mode", choices=("accept", "refuse"), default="accept")
    parser.add_argument("--tls-port", type=int, default=0, help="listen here with TLS, too")
    given = parser.parse_args()
    account = Account(given.mode, given.delay_ms / 1000)
    uvloop.run(serve(account, given.port, given.tls_port))
    sys.stdout.write(json.dumps(account.count()) + "\n")


if __name__ == "__main__":
    main()
