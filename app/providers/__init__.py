"""Senders of WhatsApp messages: one file each, behind one Protocol. This is the list of them."""

from __future__ import annotations

from collections.abc import Mapping

from app.mapping.provider import ProviderSettings
from app.providers.base import Provider, ProviderType
from app.providers.bitespeed import Bitespeed
from app.providers.gallabox import Gallabox
from app.providers.http import Http

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
