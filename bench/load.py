"""The load generator: webhooks over raw connections, as fast as they are answered or at a fixed rate.

`python -m bench.load --port 8000 --count 1000 [--rate 100]` prints its figures as JSON. All instants are seconds
of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench.events import build_events
from bench.figures import percentile
from bench.wire import Inbox

CONNECTIONS = 50
BROKEN = 0  # the "status" of a request whose connection ended before its answer


@dataclass(slots=True)
class Load:
    """What came of a run. `sent_at[n]` is when event n was due; `waited_s` its answer's delay from then."""

    sent_at: dict[int, float] = field(default_factory=dict)
    waited_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    started_at: float = 0.0

    def note(self, number: int, due_at: float, answer: Answer) -> None:
        """Record one answer."""
        self.sent_at[number] = due_at
        self.waited_s.append(answer.at - due_at)
        self.statuses[answer.status] += 1

    @property
    def accepted(self) -> int:
        """How many were answered 2xx."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)  # noqa: PLR2004  # 2xx


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and when it came."""

    status: int
    at: float


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._answer: asyncio.Future[Answer] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """Hand the answer on."""
        for packet in self._inbox.feed(data):
            self._settle(int(packet.first_line.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for an answer that none will come."""
        del exc
        self.closed = True
        self._settle(BROKEN)

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(status, time.monotonic()))


async def _connect(port: int) -> Connection:
    return (await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port))[1]


async def send_closed(port: int, requests: Iterable[bytes], connections: int = CONNECTIONS) -> Load:
    """Send all requests, on each connection the next one once the last is answered."""
    load, waiting = Load(), enumerate(requests)

    async def send_in_turn(connection: Connection) -> None:
        for number, request in waiting:
            if connection.closed:
                connection = await _connect(port)  # the old one is gone
            due_at = time.monotonic()
            load.note(number, due_at, await connection.ask(request))
        connection.transport.close()

    opened = [await _connect(port) for _ in range(connections)]
    load.started_at = time.monotonic()
    async with asyncio.TaskGroup() as senders:
        for connection in opened:
            senders.create_task(send_in_turn(connection))
    return load


async def send_open(port: int, requests: Sequence[bytes], rate_per_s: float) -> Load:
    """Send the requests at fixed instants, whatever the answers: a slow relay does not slow its callers down."""
    load, loop = Load(), asyncio.get_running_loop()
    free = [await _connect(port) for _ in range(CONNECTIONS)]
    load.started_at = time.monotonic() + 0.05

    async def send(number: int, due_at: float) -> None:
        connection = free.pop() if free else await _connect(port)
        while connection.closed:  # a server ends connections that were idle for some seconds
            connection = free.pop() if free else await _connect(port)
        load.note(number, due_at, await connection.ask(requests[number]))
        free.append(connection)

    async with asyncio.TaskGroup() as sends:

        def tick() -> None:
            for number in range(len(requests)):
                due_at = load.started_at + number / rate_per_s
                time.sleep(max(due_at - time.monotonic(), 0))
                loop.call_soon_threadsafe(lambda *due: sends.create_task(send(*due)), number, due_at)

        # In a thread: the loop's own timers are only good to a millisecond, as much as what is measured.
        await asyncio.to_thread(tick)
    for connection in free:
        connection.transport.close()
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description="Post Nector webhooks to a relay.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.0, help="per second; 0: as fast as they are answered")
    given = parser.parse_args()
    events = list(build_events(0, given.count))
    sending = send_open(given.port, events, given.rate) if given.rate else send_closed(given.port, events)
    load = uvloop.run(sending)
    took = time.monotonic() - load.started_at
    shown = {name: round(percentile(load.waited_s, share) * 1000, 2) for name, share in (("p50", 0.5), ("p99", 0.99))}
    print(json.dumps({"statuses": load.statuses, "per_s": round(given.count / took), "ms": shown}))


if __name__ == "__main__":
    main()
