"""The parts that whatever moves an event shares, and the rules that are in force."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.clock import Clock, NewId, WatchedClock
from app.mapping.rules import Config, RouteTable
from app.observe.logs import LineLimit, Log
from app.observe.metrics import Metrics
from app.observe.tracing import Tracer
from app.outbox.store import Flights, NoFlights, Store
from app.providers.base import Provider
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One checked version of the YAML, its routes by topic, its providers by name: swapped whole, never changed."""

    config: Config
    table: RouteTable
    providers: Mapping[str, Provider]


@dataclass(frozen=True, slots=True)
class RefusalTally:
    """Counts the requests that were refused since the start, by kind of path and reason: how many, and the last."""

    counts: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)

    def note(self, kind: str, reason: str, cure: str, now: int) -> None:
        """Count one more."""
        count, _, _ = self.counts.get((kind, reason), (0, 0, ""))
        self.counts[kind, reason] = (count + 1, now, cure)


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
    started_at: int = 0
    refusals: LineLimit = field(default_factory=LineLimit)
    turned_away: RefusalTally = field(default_factory=RefusalTally)


def _wake_nobody(_provider: str) -> None:
    """Stand in while there are no lanes yet."""


@dataclass(slots=True, kw_only=True)
class Context(Shared):
    """The parts of a relay that has an outbox. `wake` tells a provider's lane that something may have become due."""

    clock: WatchedClock
    outbox: Store
    random: Callable[[], float]
    wake: Callable[[str], None] = _wake_nobody
    flights: Flights = field(default_factory=NoFlights)
