"""The parts that whatever moves an event shares, and the rules that are in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(slots=True, kw_only=True)
class Shared:
    """The parts that both modes have, and the rules in force.

    `snapshot` is replaced by Relay.use; an event reads it once, so it never mixes two versions. `secrets`: Nector's.
    """

    settings: Settings
    secrets: Sequence[str] = field(repr=False)
    snapshot: Snapshot
    clock: Clock
    new_id: NewId
    metrics: Metrics
    log: Log
    tracer: Tracer
    refusals: LineLimit = field(default_factory=LineLimit)


def _wake_nobody(_provider: str) -> None:
    """Stand in while there are no lanes yet."""


@dataclass(slots=True, kw_only=True)
class Context(Shared):
    """The parts of a relay that has an outbox. `wake` tells a provider's lane that something may have become due."""

    clock: WatchedClock
    outbox: Store
    random: Callable[[], float]
    wake: Callable[[str], None] = _wake_nobody
