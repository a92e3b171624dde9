"""The parts that whatever moves an event shares, and the rules that are in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.clock import Clock, WatchedClock
from app.ids import NewId
from app.mapping.rules import Config, RouteTable
from app.observe.logs import LineLimit, Log
from app.observe.metrics import Metrics
from app.observe.tracing import Tracer
from app.outbox.store import Store
from app.providers.base import Provider
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One checked version of the YAML, its routes by topic, its providers by name: swapped whole, never changed."""

    config: Config
    table: RouteTable
    providers: Mapping[str, Provider]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The parts that both modes have. `snapshot` returns the rules in force at this moment."""

    settings: Settings
    snapshot: Callable[[], Snapshot]
    clock: Clock
    new_id: NewId
    metrics: Metrics
    log: Log
    tracer: Tracer
    refusals: LineLimit = field(default_factory=LineLimit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Shared):
    """The parts of a relay that has an outbox. `wake` tells a provider's lane that something may have become due."""

    clock: WatchedClock
    outbox: Store
    wake: Callable[[str], None]
    random: Callable[[], float]
