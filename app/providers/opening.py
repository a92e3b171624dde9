"""Opening what a provider's messages are sent through, without loading it before it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from app.mapping.provider import ProviderSettings
from app.model.message import Message
from app.model.way import DIRECT, Way
from app.observe.tracing import Tracer
from app.providers.base import Provider

if TYPE_CHECKING:
    from app.providers.client import ProviderClient, Sent


class Sender(Protocol):
    """What a lane sends through: client.py, or a simulation of it."""

    async def send(
        self, provider: Provider, message: Message, delivery_id: str, *, write_within_ms: int, tries: int
    ) -> Sent:
        """Return what the provider made of it in at most `tries` requests; raises only CancelledError."""

    async def close(self) -> None:
        """Release its connections."""


OpenSender = Callable[[ProviderSettings], Awaitable[Sender]]


async def open_client(settings: ProviderSettings, *, tracer: Tracer | None = None, way: Way = DIRECT) -> ProviderClient:
    """Return a client for an account; what it needs is loaded on a thread of its own."""
    return await asyncio.to_thread(_load_client, settings, tracer, way)


def _load_client(settings: ProviderSettings, tracer: Tracer | None, way: Way) -> ProviderClient:
    # Sending needs more code than taking an event does, and the system's certificate authorities: a fifth of the
    # time to start. Loaded here, it no longer keeps the first event waiting.
    from app.providers.client import ProviderClient, open_trust  # noqa: PLC0415

    trust = open_trust(settings.address, way.ca_file)
    return ProviderClient(
        timeout_ms=settings.timeout_ms,
        concurrency=settings.concurrency,
        trust=trust,
        proxy=way.proxy,
        name=settings.type,
        tracer=tracer,
    )
