"""Senders of WhatsApp messages: one file each, behind one Protocol. This is the list of them, and how one is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.mapping.provider import DIRECT, ProviderSettings, Way
from app.providers.base import Provider, ProviderType
from app.providers.bitespeed import Bitespeed
from app.providers.gallabox import Gallabox
from app.providers.http import Http

if TYPE_CHECKING:
    from app.observe import Tracer
    from app.providers.client import ProviderClient

PROVIDER_TYPES: Mapping[str, ProviderType] = {
    "bitespeed": Bitespeed,
    "gallabox": Gallabox,
    "http": Http,
}
"""By the YAML's `type:`."""


def settings_types() -> Mapping[str, type[ProviderSettings]]:
    """Return the settings' class of every provider type."""
    return {name: provider_type.settings_type for name, provider_type in PROVIDER_TYPES.items()}


def build_provider(settings: ProviderSettings) -> Provider:
    """Return the account that checked settings describe."""
    return PROVIDER_TYPES[settings.type](settings)


async def open_plain_client(url: str, *, way: Way = DIRECT) -> ProviderClient:
    """Return a client for a URL that is no provider's; one request at a time."""
    return await asyncio.to_thread(_load_client, ProviderSettings(type="webhook", concurrency=1), url, None, way)


async def open_client(settings: ProviderSettings, *, tracer: Tracer | None = None, way: Way = DIRECT) -> ProviderClient:
    """Return a client for an account; what it needs is loaded on a thread of its own."""
    return await asyncio.to_thread(_load_client, settings, settings.address, tracer, way)


def _load_client(settings: ProviderSettings, url: str, tracer: Tracer | None, way: Way) -> ProviderClient:
    # Sending needs more code than taking an event does, and the system's certificate authorities: a fifth of the
    # time to start. Loaded here, it keeps neither the start nor the first event waiting.
    from app.providers.client import ProviderClient, open_trust  # noqa: PLC0415

    return ProviderClient(
        timeout_ms=settings.timeout_ms,
        concurrency=settings.concurrency,
        trust=open_trust(url, way.ca_file),
        proxy=way.proxy,
        name=settings.type,
        tracer=tracer,
    )
