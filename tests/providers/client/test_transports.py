"""What the client makes of a transport that fails, or a request that cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import pytest

from app.model.delivery import Accepted, Outcome, Reason, Retryable, Uncertain
from app.model.message import Message
from app.providers.base import Provider, Request, Sent
from app.providers.client import ProviderClient


class Server(Protocol):
    """conftest.Server: what arrived at the provider's end."""

    port: int
    connections: int
    requests: list[bytes]
    sent: int
    arrived: asyncio.Event


Serve = Callable[[str], Awaitable[Server]]
OpenClient = Callable[..., ProviderClient]
Account = Callable[..., Provider]
Bare = Callable[[Outcome], Outcome]

ACCEPTED = Accepted("g-1")
TIMED_OUT = Uncertain(Reason.TIMED_OUT)
LOST = Uncertain(Reason.CONNECTION_LOST)
NOT_SENT = Retryable(Reason.CONNECT_FAILED)


def failing(*errors: BaseException | None) -> tuple[httpx2.MockTransport, list[httpx2.Request]]:
    """A transport that fails so, one after the other (the last again and again); None answers."""
    calls: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        error = errors[min(len(calls), len(errors)) - 1]
        if error is not None:
            raise error
        return httpx2.Response(202, json={"id": "g-1", "status": "ACCEPTED"})

    return httpx2.MockTransport(handle), calls


@pytest.mark.parametrize(
    ("error", "outcome", "tries"),
    [
        (httpx2.ConnectError("x"), NOT_SENT, 3),
        (httpx2.ConnectTimeout("x"), NOT_SENT, 3),
        (httpx2.PoolTimeout("x"), NOT_SENT, 3),
        (httpx2.UnsupportedProtocol("x"), NOT_SENT, 3),
        (httpx2.LocalProtocolError("x"), NOT_SENT, 3),
        (httpx2.ReadTimeout("x"), TIMED_OUT, 1),
        (httpx2.WriteTimeout("x"), TIMED_OUT, 1),
        (TimeoutError("x"), TIMED_OUT, 1),
        (httpx2.ReadError("x"), LOST, 1),
        (httpx2.WriteError("x"), LOST, 1),
        (httpx2.CloseError("x"), LOST, 1),
        (httpx2.RemoteProtocolError("x"), LOST, 1),
        (httpx2.DecodingError("x"), LOST, 1),
        (ConnectionResetError("x"), LOST, 1),
        (RuntimeError("x"), LOST, 1),
    ],
)
async def test_without_a_trace_only_the_kind_of_error_tells(
    without_detail: Bare,
    open_client: OpenClient,
    build_account: Account,
    message: Message,
    error: Exception,
    outcome: Outcome,
    tries: int,
) -> None:
    transport, calls = failing(error)
    sent = await open_client(transport=transport).send(build_account("gallabox"), message, "d-1")
    assert (without_detail(sent.outcome), sent.tries) == (outcome, tries)
    assert len(calls) == tries


async def test_with_a_trace_what_was_never_written_was_not_sent(
    without_detail: Bare, open_client: OpenClient, build_account: Account, message: Message
) -> None:
    transport, _ = failing(httpx2.ReadError("x"))
    sent = await open_client(transport=transport, traced=True).send(build_account("gallabox"), message, "d-1")
    assert (without_detail(sent.outcome), sent.tries) == (NOT_SENT, 3)


async def test_a_transport_of_httpxs_own_says_more_than_that_it_writes_and_is_understood(
    without_detail: Bare,
    serve: Serve,
    open_client: OpenClient,
    account: Callable[[int], Provider],
    message: Message,
) -> None:
    for answer, outcome in (("taken", ACCEPTED), ("close without an answer", LOST)):
        server = await serve(answer)
        client = open_client(transport=httpx2.AsyncHTTPTransport(trust_env=False), traced=True)
        sent = await client.send(account(server.port), message, "d-1")
        assert (without_detail(sent.outcome), sent.tries, len(server.requests)) == (outcome, 1, 1)


async def test_quick_tries_wait_a_little_longer_each_and_end_with_success(
    open_client: OpenClient, build_account: Account, message: Message
) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    transport, _ = failing(httpx2.ConnectError("x"), httpx2.ConnectError("x"), None)
    client = open_client(transport=transport, sleep=note, draw=lambda: 1.0, timeout_ms=10_000)
    assert await client.send(build_account("gallabox"), message, "d-1") == Sent(ACCEPTED, 3, 202)
    assert waits == [0.2, 0.4]


@pytest.mark.parametrize("tries", [1, 2])
async def test_no_more_is_tried_than_was_allowed(
    open_client: OpenClient, build_account: Account, message: Message, tries: int
) -> None:
    transport, calls = failing(httpx2.ConnectError("x"))
    client = open_client(transport=transport, draw=lambda: 0.0)
    assert (await client.send(build_account("gallabox"), message, "d-1", tries=tries)).tries == len(calls) == tries


async def test_a_wait_that_does_not_fit_ends_the_attempt(
    open_client: OpenClient, build_account: Account, message: Message
) -> None:
    transport, calls = failing(httpx2.ConnectError("x"))
    client = open_client(transport=transport, draw=lambda: 1.0, timeout_ms=150)
    assert (await client.send(build_account("gallabox"), message, "d-1")).tries == len(calls) == 1


async def test_certificate_that_cannot_be_verified_is_named(
    open_client: OpenClient, build_account: Account, message: Message
) -> None:
    transport, _ = failing(httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"))
    sent = await open_client(transport=transport).send(build_account("gallabox"), message, "d-1")
    assert sent.outcome == Retryable(Reason.CONNECT_FAILED, detail="the provider's TLS certificate cannot be verified")


async def test_error_texts_of_the_transport_are_not_shown(
    open_client: OpenClient, build_account: Account, message: Message
) -> None:
    for error in (httpx2.ReadError("https://x.example?token=canary"), httpx2.ConnectError("canary")):
        transport, _ = failing(error)
        sent = await open_client(transport=transport).send(build_account("gallabox"), message, "d-1")
        assert "canary" not in repr(sent)


@dataclass(frozen=True)
class Broken:
    """An account whose request cannot be sent as it is; everything else it leaves to a real one."""

    real: Provider
    url: str
    headers: Mapping[str, str]

    def build_request(self, message: Message, delivery_id: str) -> Request:
        return Request("POST", self.url, self.headers, self.real.build_request(message, delivery_id).body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http://[::1", {}), ("ftp://127.0.0.1", {}), ("http://127.0.0.1:{port}", {"x-bad": "a\nb: c"})],
)
async def test_request_that_cannot_be_written_was_not_sent(
    without_detail: Bare,
    serve: Serve,
    open_client: OpenClient,
    account: Callable[[int], Provider],
    message: Message,
    url: str,
    headers: Mapping[str, str],
) -> None:
    server = await serve("taken")
    broken: Any = Broken(account(server.port), url.format(port=server.port), headers)
    sent = await open_client().send(broken, message, "d-1")
    assert (without_detail(sent.outcome), sent.tries) == (NOT_SENT, 3)
    assert server.requests == []
