"""Metrics: their labels are bounded, their gauges show now."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.core.models import State
from app.core.nector import TOPICS
from app.metrics import Metrics, topic_label


def read_samples(metrics: Metrics) -> dict[str, float]:
    """Return `name label=value …` → number of what a Prometheus would read, the labels by name."""
    families = text_string_to_metric_families(metrics.show().decode())
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))]): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_counted_is_shown() -> None:
    metrics = Metrics()
    metrics.events.labels("coupon_create", "accepted").inc()
    metrics.attempts.labels("gallabox", "accepted", "").inc(2)
    samples = read_samples(metrics)
    assert samples["relay_events_total result=accepted topic=coupon_create"] == 1
    assert samples["relay_attempts_total outcome=accepted provider=gallabox reason="] == 2


def test_two_relays_in_one_process_do_not_mix() -> None:
    one, other = Metrics(), Metrics()
    one.ambiguous.labels("gallabox").inc()
    assert "relay_ambiguous_total provider=gallabox" in read_samples(one)
    assert "relay_ambiguous_total provider=gallabox" not in read_samples(other)


def test_the_outboxs_gauge_forgets_what_is_no_more() -> None:
    metrics = Metrics()
    metrics.set_outbox({("gallabox", State.PENDING): 3, ("gallabox", State.DEAD): 1})
    metrics.set_outbox({("gallabox", State.DEAD): 2})
    found = {key: value for key, value in read_samples(metrics).items() if key.startswith("relay_outbox_deliveries")}
    assert found == {"relay_outbox_deliveries provider=gallabox state=dead": 2}


def test_a_hold_that_is_released_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.set_holds(["route:a", "provider:b"])
    metrics.set_holds(["route:a"])
    found = {key: value for key, value in read_samples(metrics).items() if key.startswith("relay_holds")}
    assert found == {"relay_holds scope=route:a": 1}


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_topic_of_nectors_is_its_own_label(topic: str) -> None:
    assert topic_label(topic) == topic


@pytest.mark.parametrize("topic", ["", "badge_create", "+919800000001", "x" * 100, "a\nb"])
def test_any_other_topic_is_other_so_that_strangers_do_not_grow_the_label(topic: str) -> None:
    assert topic_label(topic) == "other"


def test_every_name_says_whose_it_is() -> None:
    families = text_string_to_metric_families(Metrics().show().decode())
    assert all(family.name.startswith("relay_") for family in families)
