"""Metrics: their labels are bounded, their gauges show now."""

from __future__ import annotations

from importlib.metadata import version

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.model.delivery import State
from app.observe.metrics import Metrics, Timings


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
    metrics.events.inc("coupon_create", "accepted")
    metrics.attempts.put(2, "gallabox", "accepted", "")
    samples = read_samples(metrics)
    assert samples["nector_relay_events_total result=accepted topic=coupon_create"] == 1
    assert samples["nector_relay_attempts_total outcome=accepted provider=gallabox reason="] == 2


@given(st.lists(st.sampled_from([0, 0.005, 0.0051, 0.1, 10, 10.1, 1e9]) | st.floats(0, 20), max_size=20))
def test_timings_show_what_prometheus_own_histogram_shows(taken: list[float]) -> None:
    registry, own = CollectorRegistry(), CollectorRegistry()
    usual = Histogram("t", "T", ["of"], buckets=(0.005, 0.1, 1, 10), registry=registry)
    quick = Timings("t", "T", ("of",), (0.005, 0.1, 1, 10), own)
    for seconds in taken:
        usual.labels("a").observe(seconds)
        quick.observe(seconds, "a")
    usual.labels("b")
    quick.expect(["b"])
    shown = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert sorted(shown) == sorted(generate_latest(own).decode().splitlines())


def test_two_relays_in_one_process_do_not_mix() -> None:
    one, other = Metrics(), Metrics()
    one.count_reached("coins-earned", "gallabox", State.UNKNOWN)
    assert "nector_relay_ambiguous_total provider=gallabox" in read_samples(one)
    assert "nector_relay_ambiguous_total provider=gallabox" not in read_samples(other)


def test_the_outboxs_gauge_forgets_what_is_no_more() -> None:
    metrics = Metrics()
    metrics.outbox.replace({("gallabox", State.PENDING): 3, ("gallabox", State.DEAD): 1})
    metrics.outbox.replace({("gallabox", State.DEAD): 2})
    found = {
        key: value for key, value in read_samples(metrics).items() if key.startswith("nector_relay_outbox_deliveries")
    }
    assert found == {"nector_relay_outbox_deliveries provider=gallabox state=dead": 2}


def test_a_hold_that_is_released_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.set_holds({"route:a": 3, "provider:b": 0})
    metrics.set_holds({"route:a": 4})
    found = {key: value for key, value in read_samples(metrics).items() if key.startswith("nector_relay_hold")}
    assert found == {"nector_relay_holds scope=route:a": 1, "nector_relay_hold_deliveries scope=route:a": 4}


def test_every_name_says_whose_it_is() -> None:
    names = [family.name for family in text_string_to_metric_families(Metrics().show().decode())]
    assert all(name.startswith(("nector_relay_", "process_")) for name in names)  # the latter are everybody's
    assert "process_start_time_seconds" in names


def test_nothing_tells_when_a_series_began() -> None:
    """Each histogram and counter would have one more series, `…_created`, which no rule asks for."""
    metrics = Metrics()
    metrics.attempts.inc("gallabox", "accepted", "")
    metrics.send_seconds.observe(0.1, "gallabox")
    assert not [name for name in read_samples(metrics) if name.partition(" ")[0].endswith("_created")]


def test_what_an_alert_asks_for_is_there_before_it_happens() -> None:
    metrics = Metrics()
    metrics.expect_providers(["gallabox"])
    metrics.expect_routes([("coins-earned", "gallabox")])
    samples = read_samples(metrics)
    for key in (
        "nector_relay_events_total result=unavailable topic=other",
        "nector_relay_events_total result=unauthorised topic=other",
        "nector_relay_events_total result=unrouted topic=coupon_create",
        "nector_relay_deliveries_total provider=gallabox route=coins-earned state=dead",
        "nector_relay_ambiguous_total provider=gallabox",
        "nector_relay_receipts_total provider=gallabox status=forged",
        "nector_relay_config_reloads_total result=refused",
        "nector_relay_clock_steps_total",
        "nector_relay_store_errors_total work=sweep",
    ):
        assert samples[key] == 0
    assert samples["nector_relay_config_last_reload_successful"] == 1
    assert not any("state=sending" in key for key in samples)


def test_what_is_expected_again_after_a_reload_keeps_its_count() -> None:
    metrics = Metrics()
    metrics.set_reached({("a", "p", State.UNKNOWN): 2, ("b", "p", State.UNKNOWN): 3, ("b", "p", State.DEAD): 1})
    metrics.expect_providers(["p"])
    metrics.expect_routes([("a", "p"), ("c", "p")])
    samples = read_samples(metrics)
    assert samples["nector_relay_deliveries_total provider=p route=a state=unknown"] == 2
    assert samples["nector_relay_deliveries_total provider=p route=c state=unknown"] == 0
    assert samples["nector_relay_ambiguous_total provider=p"] == 5


def test_topics_that_share_the_label_other_show_the_latest_of_them() -> None:
    metrics = Metrics()
    metrics.set_last_events([("other", 9_000), ("other", 2_000), ("coupon_create", 5_000)])
    samples = read_samples(metrics)
    assert samples["nector_relay_last_event_timestamp_seconds topic=other"] == 9
    assert samples["nector_relay_last_event_timestamp_seconds topic=coupon_create"] == 5


def test_the_build_is_told() -> None:
    metrics = Metrics()
    metrics.set_build()
    (key,) = [key for key in read_samples(metrics) if key.startswith("nector_relay_build_info")]
    assert f"version={version('nector-relay')}" in key
