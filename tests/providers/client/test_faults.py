"""What the client makes of a provider that fails: the table, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import httpx2
import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.model.message import Message
from app.providers.base import Provider, Sent
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
SHORT_MS = 300
PATIENT_MS = 10_000

ACCEPTED = Accepted("g-1")
TIMED_OUT = Uncertain(Reason.TIMED_OUT)
LOST = Uncertain(Reason.CONNECTION_LOST)
UNREADABLE = Uncertain(Reason.ANSWER_UNREADABLE)
NOT_SENT = Retryable(Reason.CONNECT_FAILED)


@pytest.mark.parametrize(
    ("answer", "outcome", "http_status"),
    [
        ("taken", ACCEPTED, 202),
        ("taken, then closed", ACCEPTED, 202),
        ("100 first", ACCEPTED, 202),
        ("103 first", ACCEPTED, 202),
        ("identity", ACCEPTED, 200),
        ("accept and hang", TIMED_OUT, None),
        ("half header, then hang", TIMED_OUT, None),
        ("half body, then hang", TIMED_OUT, None),
        ("header drip", TIMED_OUT, None),
        ("body drip", TIMED_OUT, None),
        ("reset after the request", LOST, None),
        ("close without an answer", LOST, None),
        ("half header, then close", LOST, None),
        ("half body, then close", LOST, None),
        ("not HTTP", LOST, None),
        ("10 MB, 200", UNREADABLE, 200),
        ("10 MB, 400", Rejected(Reason.REQUEST_REFUSED), 400),
        ("gzip", UNREADABLE, 200),
        ("204", UNREADABLE, 204),
        ("HTML 200", UNREADABLE, 200),
        ("101", UNREADABLE, 101),  # an upgrade nobody asked for
        ("301", Rejected(Reason.REDIRECTED, Scope.PROVIDER), 301),
        ("307", Rejected(Reason.REDIRECTED, Scope.PROVIDER), 307),
        ("503", Retryable(Reason.UNAVAILABLE, Scope.PROVIDER, 7_000), 503),
        ("429", Retryable(Reason.RATE_LIMITED, Scope.PROVIDER), 429),
        ("500", Retryable(Reason.SERVER_ERROR), 500),
    ],
)
async def test_what_left_is_sent_once_whatever_the_answer(
    without_detail: Bare,
    serve: Serve,
    open_client: OpenClient,
    account: Callable[[int], Provider],
    message: Message,
    answer: str,
    outcome: Outcome,
    http_status: int | None,
) -> None:
    server = await serve(answer)
    timeout_ms = SHORT_MS if outcome == TIMED_OUT else PATIENT_MS
    started = time.monotonic()
    sent = await open_client(timeout_ms=timeout_ms).send(account(server.port), message, "d-1")
    assert (without_detail(sent.outcome), sent.tries, sent.http_status) == (outcome, 1, http_status)
    assert len(server.requests) == 1
    assert server.sent < 9_000_000
    assert time.monotonic() - started < timeout_ms / 1000 + 20


async def test_control_a_timeout_for_each_read_lets_a_drip_go_on(serve: Serve, message: Message) -> None:
    server = await serve("short body drip")
    async with httpx2.AsyncClient(timeout=SHORT_MS / 1000, trust_env=False) as bare:
        started = time.monotonic()
        await bare.post(f"http://127.0.0.1:{server.port}", content=message.template)
    assert time.monotonic() - started > SHORT_MS / 1000


async def test_refused_connection_is_tried_again_for_it_was_not_sent(
    closed_port: int, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    sent = await open_client().send(account(closed_port), message, "d-1")
    assert sent == Sent(Retryable(Reason.CONNECT_FAILED, detail="the port is closed: nothing listens there"), 3)


async def test_reset_at_once_is_never_taken_for_success(
    without_detail: Bare, serve: Serve, open_client: OpenClient, account: Callable[[int], Provider], message: Message
) -> None:
    server = await serve("reset at once")
    sent = await open_client().send(account(server.port), message, "d-1")
    # Whether the reset comes before our first byte is the kernel's affair; either way the outcome is right.
    assert without_detail(sent.outcome) in (LOST, NOT_SENT)
    assert sent.tries == server.connections


async def test_tls_on_a_plain_port_was_not_sent(
    without_detail: Bare, serve: Serve, open_client: OpenClient, build_account: Account, message: Message
) -> None:
    server = await serve("TLS on a plain port")
    provider = build_account("gallabox", base_url=f"https://127.0.0.1:{server.port}")
    sent = await open_client().send(provider, message, "d-1")
    assert (without_detail(sent.outcome), sent.tries) == (NOT_SENT, 3)


async def test_handshake_that_hangs_was_not_sent_and_is_bounded(
    without_detail: Bare, serve: Serve, open_client: OpenClient, build_account: Account, message: Message
) -> None:
    server = await serve("say nothing")
    provider = build_account("gallabox", base_url=f"https://127.0.0.1:{server.port}")
    started = time.monotonic()
    sent = await open_client(timeout_ms=SHORT_MS).send(provider, message, "d-1")
    # Half a timeout each; the third could not begin within one timeout of the first.
    assert without_detail(sent.outcome) == NOT_SENT
    assert 1 <= sent.tries <= 2  # a busy machine may let the first take what two would
    assert time.monotonic() - started < 2 * SHORT_MS / 1000 + 20


async def test_name_that_does_not_resolve_was_not_sent(
    without_detail: Bare,
    open_client: OpenClient,
    build_account: Account,
    message: Message,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_args: Any, **_named: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    sent = await open_client().send(build_account("gallabox"), message, "d-1")
    assert (without_detail(sent.outcome), sent.tries) == (NOT_SENT, 3)
