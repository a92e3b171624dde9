"""The parts and the rules in force are shared by all that moves an event; the relay starts and stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any

from app.clock import Clock, NewId, WatchedClock
from app.errors import RelayError
from app.mapping.rules import Config
from app.model.value import dataclass
from app.observe import Tracer
from app.observe.logs import LineLimit, Log, PromptReports, Reports, count_dropped
from app.observe.metrics import Metrics
from app.outbox.store import Flights, Store
from app.providers.base import Provider
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One checked version of the YAML, its providers by name: swapped whole, never changed."""

    config: Config
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
    reports: Reports = field(default_factory=PromptReports)
    started_at: int = 0
    refusals: LineLimit = field(default_factory=LineLimit)
    turned_away: RefusalTally = field(default_factory=RefusalTally)


@dataclass(slots=True, kw_only=True)
class Context(Shared):
    """The parts of a relay that has an outbox. `wake` tells a provider's lane that something may have become due."""

    clock: WatchedClock
    outbox: Store
    random: Callable[[], float]
    wake: Callable[[str], None] = lambda _provider: None  # there are no lanes yet
    flights: Flights = field(default_factory=Flights)


# The last spans may take this long, of what is left of the grace period.
FLUSH_S = 2.0


class Relay:
    """Runs the watch over the YAML, and what a mode adds; `on_dead` is told when a part that must live has died."""

    def __init__(
        self, shared: Shared, watch: Callable[[], Coroutine[Any, Any, None]], on_dead: Callable[[BaseException], None]
    ) -> None:
        self.shared, self._watch, self._on_dead = shared, watch, on_dead
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start everything."""
        shared = self.shared
        await self.start()
        self.use(shared.snapshot)
        self._watching = asyncio.create_task(self._watch(), name="config watch")
        self._watching.add_done_callback(partial(report_death, log=shared.log, on_dead=self._on_dead))
        shared.log.info("relay.started", config=shared.snapshot.config.hash, stateless=shared.settings.stateless)

    async def close(self, grace_ms: int | None = None) -> None:
        """Let open sends end inside the grace period (or what is left of it), release what is held."""
        grace_s = (self.shared.settings.shutdown_grace if grace_ms is None else grace_ms) / 1000
        ends_at = asyncio.get_running_loop().time() + grace_s
        if self._watching is not None:
            self._watching.cancel()
        await self.stop(grace_s)
        left_s = ends_at - asyncio.get_running_loop().time()
        await self.shared.tracer.close(min(max(left_s, 0), FLUSH_S))
        self.shared.reports.tell()
        self.shared.log.info("relay.stopped")

    # -- what a mode adds --------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin, before the first rules are put to work."""

    def use(self, snapshot: Snapshot) -> None:
        """Put new rules to work."""
        self.shared.snapshot = snapshot

    def use_secrets(self, secrets: Sequence[str]) -> None:
        """Put other secrets of the source to work."""
        self.shared.secrets = secrets

    def stop_claiming(self) -> None:
        """Begin no new send: the process is about to end."""

    async def stop(self, grace_s: float) -> None:
        """Let open sends end inside the grace period."""

    def is_alive(self) -> bool:
        """Tell whether every part that must move does."""
        return True

    async def can_commit(self) -> bool:
        """Tell whether an event could be taken now."""
        return True

    def show_replicas(self) -> dict[str, Any]:
        """Tell of the others that share an outbox."""
        return {}

    async def count(self) -> None:
        """Bring what the metrics show of the log, and of an outbox, up to date."""
        self.shared.reports.tell()
        self.shared.metrics.log_dropped.put(count_dropped())


def report_death(task: asyncio.Task[None], log: Log, on_dead: Callable[[BaseException], None]) -> None:
    """If a task has died, say of what, and have the process end; of a group of errors, its first is what happened."""
    if task.cancelled() or (error := task.exception()) is None:
        return
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        detail = str(error) if isinstance(error, RelayError) else None  # others' texts may hold a customer's values
        log.critical("task.died", task=task.get_name(), detail=detail, exc_info=error)
    finally:  # whatever became of the line
        on_dead(error)
