"""The relay counts under the field's usual names. Labels are bounded; no phone, name or code is ever one."""

from __future__ import annotations

import math
import platform
import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import accumulate, product
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.model.delivery import State
from app.model.message import ReceiptStatus
from app.sources import SOURCE

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400)
OTHER = "other"
FORGED = "forged"
UNREAD = "unread"
REPLY_KINDS = ("stop", "resume", "clicked", "other")
WORKS = ("accept", "receipt", "claim", "record", "sweep", "scrape")
"""What the relay may have wanted of the outbox when it could not."""


class _Family(Collector):
    """Samples by their labels, kept without locks: a fifth of what prometheus' own cost."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        registry: CollectorRegistry,
        kind: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily] = CounterMetricFamily,
    ) -> None:
        self._new: Any = partial(kind, name, documentation, labels=labels)
        self._labelnames = labels
        self._counts: dict[tuple[str, ...], Any] = {}
        registry.register(self)

    def expect(self, *choices: Iterable[str]) -> None:
        """Show 0 of each combination of labels until there is more: the first of a kind is else no increase."""
        for labels in product(*choices):
            self._counts.setdefault(labels, self._make_nothing())

    def _make_nothing(self) -> Any:
        return 0

    def describe(self) -> Iterable[Metric]:
        """Return the name without a sample, as the registry wants it."""
        return [self._new()]

    def collect(self) -> Iterator[Metric]:
        """Yield every sample."""
        family = self._new()
        for labels, count in self._counts.items():
            family.add_metric(labels, *self._show(count))
        yield family

    def _show(self, count: Any) -> Iterable[Any]:
        return (count,)


class Tally(_Family):
    """A counter that somebody else keeps: it shows what it was last given, and 0 for what is expected.

    `kind`: a gauge, where it may fall.
    """

    def put(self, count: float, *labels: str) -> None:
        """Set a count."""
        self._counts[labels] = count

    def replace(self, counts: Mapping[Any, float]) -> None:
        """Set all counts, by tuples of labels: what is not named is no longer shown."""
        self._counts = dict(counts)

    def inc(self, *labels: str) -> None:
        """Count one more, where nobody else counts."""
        self._counts[labels] = self._counts.get(labels, 0) + 1


class Timings(_Family):
    """A histogram that one thread fills. The last of its counts is the sum of all that was observed."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(name, documentation, labels, registry, HistogramMetricFamily)
        self._bounds = (*bounds, math.inf)
        self._counts = defaultdict(self._make_nothing)

    def _make_nothing(self) -> list[float]:
        return [0] * (len(self._bounds) + 1)

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one that took so long."""
        counts = self._counts[labels]
        counts[bisect_left(self._bounds, seconds)] += 1
        counts[-1] += seconds

    def _show(self, count: list[float]) -> Iterable[Any]:
        """Return every bucket with those below it, and the sum."""
        bounds = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]
        return list(zip(bounds, accumulate(count[:-1]), strict=True)), count[-1]


class Metrics:
    """The relay's counters, in a registry of their own: two relays in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
        registry = self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        timings, tally = partial(Timings, registry=registry), partial(Tally, registry=registry)
        falling = partial(tally, kind=GaugeMetricFamily)
        self.events = tally("nector_relay_events", "Webhooks received", ("topic", "result"))
        self.deliveries = tally(
            "nector_relay_deliveries", "Times that a delivery came into a state", ("route", "provider", "state")
        )
        self.attempts = tally("nector_relay_attempts", "Attempts by outcome", ("provider", "outcome", "reason"))
        self.ambiguous = tally("nector_relay_ambiguous", "Sends that may have arrived", ("provider",))
        self.requests_refused = tally(
            "nector_relay_requests_refused", "Requests refused before they were read", ("kind", "reason")
        )
        self.receipts = tally("nector_relay_receipts", "Receipts received", ("provider", "status"))
        self.replies = tally("nector_relay_replies", "What customers sent back", ("provider", "kind"))
        self.suppressions = gauge("nector_relay_suppressions", "People who get no marketing")
        self.hmac = tally("nector_relay_hmac", "x-nector-webhook-hmac by scheme that held", ("scheme",))
        self.reloads = tally("nector_relay_config_reloads", "Reloads of the YAML", ("result",))
        self.reload_ok = gauge(
            "nector_relay_config_last_reload_successful", "Whether the YAML on disk is the one in use"
        )
        self.secrets_ok = gauge(
            "nector_relay_secrets_last_reload_successful", "Whether the file of secrets on disk is the one in use"
        )
        self.config_info = falling("nector_relay_config_info", "The YAML in use", ("hash",))
        self.build_info = gauge("nector_relay_build_info", "What runs", ["version", "python", "sqlite"])
        self.outbox = falling("nector_relay_outbox_deliveries", "Deliveries now", ("provider", "state"))
        self.oldest_due = falling(
            "nector_relay_oldest_due_seconds", "How long the oldest that could go now waits", ("provider",)
        )
        self.holds = falling("nector_relay_holds", "Holds that stand", ("scope",))
        self.held = falling("nector_relay_hold_deliveries", "Deliveries that wait behind a hold", ("scope",))
        self.unrouted_bodies = gauge("nector_relay_unrouted_bodies", "Events without a route that have their bodies")
        self.unrouted_bytes = gauge("nector_relay_unrouted_bytes", "How long those bodies are")
        self.unrouted_dropped = tally("nector_relay_unrouted_dropped", "Such bodies that made room for newer ones", ())
        self.unrouted_dropped.expect()
        self.limits_reached = counter("nector_relay_limits_reached", "Times that a limit was reached", ["limit"])
        self.store_errors = counter("nector_relay_store_errors", "Times that the outbox could not", ["work"])
        self.last_event = falling("nector_relay_last_event_timestamp_seconds", "When a topic last came", ("topic",))
        self.clock_steps = counter("nector_relay_clock_steps", "Times that the clock was set back")
        self.replicas = falling("nector_relay_replicas", "Replicas there now, by what they run", ("release", "config"))
        self.connections_ended = tally(
            "nector_relay_connections_ended", "Connections ended before their time", ("reason",)
        )
        self.log_dropped = tally("nector_relay_log_lines_dropped", "Log lines that nobody took", ())
        self.log_dropped.expect()
        self.accept_seconds = timings("nector_relay_accept_seconds", "Webhook received to answered", (), _SECONDS)
        self.send_seconds = timings("nector_relay_send_seconds", "One attempt at a provider", ("provider",), _SECONDS)
        self.event_to_accepted_seconds = timings(
            "nector_relay_event_to_accepted_seconds", "Webhook received to accepted", (), _LONG_SECONDS
        )
        self.accept_seconds.expect()
        self.event_to_accepted_seconds.expect()
        ProcessCollector(registry=registry)
        self._expect_what_is_known()

    def _expect_what_is_known(self) -> None:
        """Show 0 for what an alert asks for: a first one that appears as 1 is no increase to Prometheus."""
        self.events.expect([OTHER], ["refused", "unauthorised", "unavailable"])
        self.events.expect([*SOURCE.topics, OTHER], ["unrouted"])
        self.reloads.expect(["used", "refused"])
        self.connections_ended.expect(["full", "address", "late", "refused"])
        for limit in ("person", "route", "provider"):
            self.limits_reached.labels(limit)
        for work in WORKS:
            self.store_errors.labels(work)
        self.reload_ok.set(1)

    def expect_providers(self, providers: Collection[str]) -> None:
        """Show 0 for what these providers' series will count."""
        self.ambiguous.expect(providers)
        self.send_seconds.expect(providers)
        self.receipts.expect(providers, [*ReceiptStatus, FORGED, UNREAD])
        self.replies.expect(providers, REPLY_KINDS)

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Show 0 for every state that a delivery of these (route, provider) can come into."""
        for route, provider in routes:
            self.deliveries.expect([route], [provider], [state for state in State if state is not State.SENDING])

    def set_build(self) -> None:
        """Show what runs."""
        self.build_info.labels(version("nector-relay"), platform.python_version(), sqlite3.sqlite_version).set(1)

    def set_reached(self, counts: Mapping[tuple[str, str, State], int]) -> None:
        """Take over how often a delivery came into each state. What became `unknown` may have arrived."""
        ambiguous: dict[str, int] = {}
        for (route, provider, state), count in counts.items():
            self.deliveries.put(count, route, provider, state.value)
            if state is State.UNKNOWN:
                ambiguous[provider] = ambiguous.get(provider, 0) + count
        for provider, count in ambiguous.items():
            self.ambiguous.put(count, provider)

    def count_reached(self, route: str, provider: str, state: State) -> None:
        """Count one, where there is no outbox that does."""
        self.deliveries.inc(route, provider, state.value)
        if state is State.UNKNOWN:
            self.ambiguous.inc(provider)

    def set_unrouted(self, bodies: int, size: int, dropped: int) -> None:
        """Show what is kept of events without a route."""
        self.unrouted_bodies.set(bodies)
        self.unrouted_bytes.set(size)
        self.unrouted_dropped.put(dropped)

    def set_holds(self, waiting: Mapping[str, int]) -> None:
        """Show each scope that is stopped, and how many wait behind it."""
        self.holds.replace({(scope,): 1 for scope in waiting})
        self.held.replace({(scope,): count for scope, count in waiting.items()})

    def set_last_events(self, instants: Iterable[tuple[str, int]]) -> None:
        """Show when topics, by their labels, last came (ms); of one that comes twice the last."""
        for label, at in sorted(instants, key=lambda item: item[1]):
            self.last_event.put(at / 1000, label)

    def show(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
