"""What is counted, under the field's usual names. Labels are bounded; no phone, name or code is ever one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.core.models import State
from app.core.nector import TOPICS, canonical_topic

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400)


class Metrics:
    """The relay's counters, in a registry of their own: two relays in one process do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.events = Counter("relay_events", "Webhooks received", ["topic", "result"], registry=registry)
        self.deliveries = Counter(
            "relay_deliveries", "Deliveries that reached a state", ["route", "provider", "state"], registry=registry
        )
        self.attempts = Counter(
            "relay_attempts", "Attempts by outcome", ["provider", "outcome", "reason"], registry=registry
        )
        self.ambiguous = Counter("relay_ambiguous", "Sends that may have arrived", ["provider"], registry=registry)
        self.receipts = Counter("relay_receipts", "Receipts received", ["provider", "status"], registry=registry)
        self.hmac = Counter(
            "relay_nector_hmac", "x-nector-webhook-hmac by scheme that held", ["scheme"], registry=registry
        )
        self.reloads = Counter("relay_config_reloads", "Reloads of the YAML", ["result"], registry=registry)
        self.outbox = Gauge("relay_outbox_deliveries", "Deliveries now", ["provider", "state"], registry=registry)
        self.holds = Gauge("relay_holds", "Holds that stand", ["scope"], registry=registry)
        self.last_event = Gauge(
            "relay_last_event_timestamp_seconds", "When a topic last came", ["topic"], registry=registry
        )
        self.clock_steps = Counter(
            "relay_clock_steps", "Times that the machine's clock was set", ["direction"], registry=registry
        )
        self.config_info = Gauge("relay_config_info", "The YAML in use", ["hash"], registry=registry)
        self.accept_seconds = Histogram(
            "relay_accept_seconds", "Webhook received to answered", buckets=_SECONDS, registry=registry
        )
        self.send_seconds = Histogram(
            "relay_send_seconds", "One attempt at a provider", ["provider"], buckets=_SECONDS, registry=registry
        )
        self.event_to_accepted_seconds = Histogram(
            "relay_event_to_accepted_seconds", "Webhook received to accepted", buckets=_LONG_SECONDS, registry=registry
        )

    def set_outbox(self, counts: Mapping[tuple[str, State], int]) -> None:
        """Replace the gauge of deliveries by state."""
        self.outbox.clear()
        for (provider, state), count in counts.items():
            self.outbox.labels(provider, state.value).set(count)

    def set_holds(self, scopes: Iterable[str]) -> None:
        """Replace the gauge of holds: 1 for each that stands."""
        self.holds.clear()
        for scope in scopes:
            self.holds.labels(scope).set(1)

    def show(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


def topic_label(topic: str) -> str:
    """Return the topic if Nector documents it, else "other": strangers must not grow the label."""
    name = canonical_topic(topic)
    return name if name in TOPICS else "other"
