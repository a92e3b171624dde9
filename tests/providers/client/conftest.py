"""A provider on loopback that fails in every way we could think of (tests/faults), and clients to send to it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.model.delivery import Accepted, Outcome, Rejected, Retryable, Uncertain
from app.providers.base import Provider
from app.providers.client import ProviderClient
from tests.faults.fault_server import ANSWERS, Server, find_closed_port, open_fault
from tests.providers.client.whole import Whole

PATIENT_MS = 10_000  # where a test expects an answer: a busy machine must not make it a fault


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[str], Awaitable[Server]]]:
    """Start a server that does what ANSWERS says under the given name."""
    async with AsyncExitStack() as opened:

        async def start(name: str) -> Server:
            return await opened.enter_async_context(open_fault(ANSWERS[name]))

        yield start


@pytest.fixture
async def open_client() -> AsyncIterator[Callable[..., ProviderClient]]:
    """Open a client that waits for nothing between its tries."""
    clients: list[ProviderClient] = []

    async def no_sleep(_seconds: float) -> None:
        return

    def open_one(transport: Any = None, *, traced: bool = False, **changes: Any) -> ProviderClient:
        if transport is not None:
            changes["transport"] = Whole(transport, traced=traced)
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
    return find_closed_port()


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
