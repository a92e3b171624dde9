"""After a pause of the process what lies in its sockets is read before a time-out is judged."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
import uvloop

from app.model.delivery import Accepted, Reason, Uncertain
from app.model.message import Message
from app.providers.base import Request
from app.providers.client import ProviderClient
from app.providers.transport import SocketTransport

TIMEOUT_MS = 3_000
COUNT = 20
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers, once `gate` is open; knows how many requests have come and were answered."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.come: list[socket.socket] = []
        self.answered: list[socket.socket] = []
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for _ in range(COUNT):
            connection, _ = self._listener.accept()
            self._kept.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        read = b""
        while not read.endswith(b"{}"):
            read += connection.recv(65_536)
        self.come.append(connection)
        self.gate.wait()
        with suppress(OSError):  # the test is over
            connection.sendall(ANSWER)
            self.answered.append(connection)

    def close(self) -> None:
        self.gate.set()
        self._listener.close()
        for connection in self._kept:
            connection.close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put ahead, as it is after a pause."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Provider:
    """Posts to the server, and takes whatever comes for a yes."""

    def __init__(self, url: str) -> None:
        self._url = url

    def build_request(self, _message: Message, _delivery_id: str) -> Request:
        return Request("POST", self._url, {"content-type": "application/json"}, b"{}")

    def read_response(self, _response: Any) -> Accepted:
        return Accepted("m-1")


async def send_through_a_pause(server: Server, *, answered: bool = True) -> list[Any]:
    """Send, and stand still from when every request has come until they are answered and every time-out is due."""
    loop = asyncio.get_running_loop()
    client = ProviderClient(timeout_ms=TIMEOUT_MS, concurrency=COUNT)
    provider: Any = Provider(server.url)
    message = Message("+919800000001", "t")
    sends = [asyncio.create_task(client.send(provider, message, str(number), tries=1)) for number in range(COUNT)]
    while len(server.come) < COUNT:
        await asyncio.sleep(0)
    if answered:
        server.gate.set()
    while answered and len(server.answered) < COUNT:
        time.sleep(0.001)  # noqa: ASYNC251  # the loop stands still, as the process does
    if isinstance(loop, JumpingLoop):
        loop.ahead_s = 2 * TIMEOUT_MS / 1000
    else:
        time.sleep(1.1 * TIMEOUT_MS / 1000)  # noqa: ASYNC251
    outcomes = [(await send).outcome for send in sends]
    await client.close()
    return outcomes


def run(loop: Callable[[], asyncio.AbstractEventLoop], server: Server, **how: bool) -> list[Any]:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(send_through_a_pause(server, **how))


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.mark.parametrize("loop", [JumpingLoop, pytest.param(uvloop.new_event_loop, marks=pytest.mark.long)])
def test_no_answer_that_lay_in_a_socket_is_taken_for_a_time_out(loop: Any, server: Server) -> None:
    assert run(loop, server) == [Accepted("m-1")] * COUNT


def test_what_was_never_answered_is_a_time_out_all_the_same(server: Server) -> None:
    assert run(JumpingLoop, server, answered=False) == [Uncertain(Reason.TIMED_OUT, "TimeoutError")] * COUNT


@pytest.mark.parametrize("loop", [JumpingLoop, pytest.param(uvloop.new_event_loop, marks=pytest.mark.long)])
def test_control_judged_at_once_answers_are_lost(loop: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    carry = SocketTransport.handle_async_request

    async def carry_in_time(self: SocketTransport, request: httpx2.Request) -> Any:
        async with asyncio.timeout(TIMEOUT_MS / 1000):
            return await carry(self, request)

    monkeypatch.setattr(SocketTransport, "handle_async_request", carry_in_time)
    assert Uncertain(Reason.TIMED_OUT, "TimeoutError") in run(loop, server)
