"""The YAML file as values: what an entry may hold, and the whole once it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from app.core.routing import Route


class ProviderSettings(BaseModel, extra="forbid", frozen=True, hide_input_in_errors=True):
    """What every `providers:` entry may hold, beside its type's own keys."""

    type: str
    rate: str = "16/s"
    concurrency: int = 64
    timeout: str = "10s"


@dataclass(frozen=True, slots=True)
class Store:
    """The merchant: how to read a number without a country code, and how to write money and dates."""

    country: str = "IN"  # ISO 3166 alpha-2
    timezone: str = "Asia/Kolkata"
    locale: str = "en_IN"


@dataclass(frozen=True, slots=True)
class Config:
    """A checked YAML file. `hash` names this version of it in deliveries, metrics and /readyz."""

    mode: str
    store: Store
    providers: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    hash: str
