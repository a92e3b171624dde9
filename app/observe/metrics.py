"""The relay counts under the field's usual names. Labels are bounded; no phone, name or code is ever one."""

from __future__ import annotations

import math
import platform
import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import accumulate

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


class Tally(Collector):
    """A counter that somebody else keeps: it shows what it was last given, and 0 for what is expected.

    `kind`: a gauge, where it may fall.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        registry: CollectorRegistry,
        kind: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily,
    ) -> None:
        self._new = partial(kind, name, documentation, labels=labels)
        self._labelnames = labels
        self._counts: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def expect(self, *labels: str) -> None:
        """Show 0 until there is more: the first of a kind is else no increase."""
        self._counts.setdefault(labels, 0)

    def put(self, count: float, *labels: str) -> None:
        """Set a count."""
        self._counts[labels] = count

    def inc(self, *labels: str) -> None:
        """Count one more, where nobody else counts: without locks, a fifth of what prometheus' counters cost."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def describe(self) -> Iterable[Metric]:
        """Return the name without a sample, as the registry wants it."""
        return [self._new()]

    def collect(self) -> Iterator[Metric]:
        """Yield every count."""
        family = self._new()
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Timings(Collector):
    """A histogram that one thread fills, without locks. The last of its counts is the sum of all that was observed."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._new = partial(HistogramMetricFamily, name, documentation, labels=labels)
        self._labelnames, self._bounds = labels, (*bounds, math.inf)
        self._counts: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0] * (len(self._bounds) + 1))
        registry.register(self)

    def expect(self, *labels: str) -> None:
        """See Tally."""
        self._counts[labels] = self._counts[labels]

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one that took so long."""
        counts = self._counts[labels]
        counts[bisect_left(self._bounds, seconds)] += 1
        counts[-1] += seconds

    def describe(self) -> Iterable[Metric]:
        """See Tally."""
        return [self._new()]

    def collect(self) -> Iterator[Metric]:
        """Yield every bucket, each with those below it."""
        family, bounds = self._new(), [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]
        for labels, (*counts, total) in self._counts.items():
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        yield family


class Metrics:
    """The relay's counters, in a registry of their own: two relays in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
        registry = self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        timings, tally = partial(Timings, registry=registry), partial(Tally, registry=registry)
        self.events = tally("nector_relay_events", "Webhooks received", ("topic", "result"))
        self.deliveries = tally(
            "nector_relay_deliveries", "Times that a delivery came into a state", ("route", "provider", "state")
        )
        self.attempts = tally("nector_relay_attempts", "Attempts by outcome", ("provider", "outcome", "reason"))
        self.ambiguous = tally("nector_relay_ambiguous", "Sends that may have arrived", ("provider",))
        self.requests_refused = counter(
            "nector_relay_requests_refused", "Requests refused before they were read", ["kind", "reason"]
        )
        self.receipts = counter("nector_relay_receipts", "Receipts received", ["provider", "status"])
        self.replies = counter("nector_relay_replies", "What customers sent back", ["provider", "kind"])
        self.suppressions = gauge("nector_relay_suppressions", "People who get no marketing")
        self.hmac = tally("nector_relay_hmac", "x-nector-webhook-hmac by scheme that held", ("scheme",))
        self.reloads = counter("nector_relay_config_reloads", "Reloads of the YAML", ["result"])
        self.reload_ok = gauge(
            "nector_relay_config_last_reload_successful", "Whether the YAML on disk is the one in use"
        )
        self.secrets_ok = gauge(
            "nector_relay_secrets_last_reload_successful", "Whether the file of secrets on disk is the one in use"
        )
        self.config_info = gauge("nector_relay_config_info", "The YAML in use", ["hash"])
        self.build_info = gauge("nector_relay_build_info", "What runs", ["version", "python", "sqlite"])
        self.outbox = gauge("nector_relay_outbox_deliveries", "Deliveries now", ["provider", "state"])
        self.oldest_due = gauge(
            "nector_relay_oldest_due_seconds", "How long the oldest that could go now waits", ["provider"]
        )
        self.holds = gauge("nector_relay_holds", "Holds that stand", ["scope"])
        self.held = gauge("nector_relay_hold_deliveries", "Deliveries that wait behind a hold", ["scope"])
        self.unrouted_bodies = gauge("nector_relay_unrouted_bodies", "Events without a route that have their bodies")
        self.unrouted_bytes = gauge("nector_relay_unrouted_bytes", "How long those bodies are")
        self.unrouted_dropped = tally("nector_relay_unrouted_dropped", "Such bodies that made room for newer ones", ())
        self.unrouted_dropped.expect()
        self.limits_reached = counter("nector_relay_limits_reached", "Times that a limit was reached", ["limit"])
        self.store_errors = counter("nector_relay_store_errors", "Times that the outbox could not", ["work"])
        self.last_event = tally(
            "nector_relay_last_event_timestamp_seconds", "When a topic last came", ("topic",), kind=GaugeMetricFamily
        )
        self.clock_steps = counter("nector_relay_clock_steps", "Times that the clock was set back")
        self.replicas = gauge("nector_relay_replicas", "Replicas there now, by what they run", ["release", "config"])
        self.connections_ended = counter(
            "nector_relay_connections_ended", "Connections ended before their time", ["reason"]
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
        for result in ("refused", "unauthorised", "unavailable"):
            self.events.expect(OTHER, result)
        for topic in (*SOURCE.topics, OTHER):
            self.events.expect(topic, "unrouted")
        for result in ("used", "refused"):
            self.reloads.labels(result)
        for limit in ("person", "route", "provider"):
            self.limits_reached.labels(limit)
        for work in WORKS:
            self.store_errors.labels(work)
        for reason in ("full", "address", "late", "refused"):
            self.connections_ended.labels(reason)
        self.reload_ok.set(1)

    def note_ended_connection(self, reason: str) -> None:
        """Count a connection that was ended before its time."""
        self.connections_ended.labels(reason).inc()

    def expect_providers(self, providers: Iterable[str]) -> None:
        """Show 0 for what these providers' series will count."""
        for provider in providers:
            self.ambiguous.expect(provider)
            self.send_seconds.expect(provider)
            for status in (*ReceiptStatus, FORGED, UNREAD):
                self.receipts.labels(provider, str(status))
            for kind in REPLY_KINDS:
                self.replies.labels(provider, kind)

    def expect_refusals(self, refusals: Iterable[tuple[str, str]]) -> None:
        """Show 0 for every (kind, reason) for which a request can be refused."""
        for kind, reason in refusals:
            self.requests_refused.labels(kind, reason)

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Show 0 for every state that a delivery of these (route, provider) can come into."""
        for route, provider in routes:
            for state in State:
                if state is not State.SENDING:
                    self.deliveries.expect(route, provider, state.value)

    def set_config(self, config_hash: str) -> None:
        """Show which YAML is in force."""
        self.config_info.clear()
        self.config_info.labels(config_hash).set(1)

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

    def set_outbox(self, counts: Mapping[tuple[str, State], int]) -> None:
        """Replace the gauge of deliveries by state."""
        self.outbox.clear()
        for (provider, state), count in counts.items():
            self.outbox.labels(provider, state.value).set(count)

    def set_unrouted(self, bodies: int, size: int, dropped: int) -> None:
        """Show what is kept of events without a route."""
        self.unrouted_bodies.set(bodies)
        self.unrouted_bytes.set(size)
        self.unrouted_dropped.put(dropped)

    def set_oldest_due(self, waits_ms: Mapping[str, int]) -> None:
        """Replace the gauge of how long each provider's oldest waits; 0: none does."""
        self.oldest_due.clear()
        for provider, wait_ms in waits_ms.items():
            self.oldest_due.labels(provider).set(wait_ms / 1000)

    def set_holds(self, waiting: Mapping[str, int]) -> None:
        """Replace the gauges of holds: 1 for each scope that is stopped, and how many wait behind it."""
        self.holds.clear()
        self.held.clear()
        for scope, count in waiting.items():
            self.holds.labels(scope).set(1)
            self.held.labels(scope).set(count)

    def set_replicas(self, running: Iterable[tuple[str, str]]) -> None:
        """Show how many replicas run each (release, hash of the YAML)."""
        self.replicas.clear()
        for release, config in running:
            self.replicas.labels(release, config).inc()

    def set_last_events(self, instants: Iterable[tuple[str, int]]) -> None:
        """Show when topics, by their labels, last came (ms); of one that comes twice the last."""
        for label, at in sorted(instants, key=lambda item: item[1]):
            self.last_event.put(at / 1000, label)

    def show(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
