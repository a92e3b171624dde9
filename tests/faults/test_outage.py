"""A provider is dead for an hour while a queue waits; then it drains: at the rate, nothing late, lost or doubled."""

from __future__ import annotations

import os
import secrets
import time
from bisect import bisect_right
from unittest.mock import patch

import pytest

from tests.faults.simulation.outage import OUTAGE_S, RAMP_S, Drained, Queue, drain_queue

RATE = 100
MOST_REQUESTS = 500  # an hour's, to a provider that is dead
PROBE_S = 30  # how long after its return the provider may go unnoticed


@pytest.fixture
def seed() -> int:
    """RELAY_TEST_SEED, else a fresh one."""
    given = os.environ.get("RELAY_TEST_SEED")
    chosen = int(given) if given else secrets.randbelow(2**31)
    print(f"seed: {chosen}")  # noqa: T201 - to play it again
    return chosen


def drain(deliveries: int, seed: int) -> Drained:
    """Play the outage and print its figures."""
    began = time.monotonic()
    drained = drain_queue(Queue(deliveries, RATE, seed))
    full = [when for when, _ in drained.taken if when >= OUTAGE_S + PROBE_S + RAMP_S]
    print(  # noqa: T201 - for bench/long-runs.md
        f"figures: outage queued={deliveries} requests_to_dead={drained.dead_requests} taken={len(drained.taken)} "
        f"expired={drained.states['expired']} unknown={drained.states['unknown']} rate={RATE}/s "
        f"busiest_second={drained.busiest_second} drained_at={measure_rate(full):.2f}/s "
        f"virtual_s={drained.ended_at:.0f} seconds={time.monotonic() - began:.0f}"
    )
    return drained


def measure_rate(instants: list[float]) -> float:
    """Return how many a second went, all but the last hundredth, which waits for its own retries."""
    kept = instants[: len(instants) * 99 // 100]
    return (len(kept) - 1) / (kept[-1] - kept[0])


def check(drained: Drained) -> None:
    """Hold the run to what docs/guarantees.md says of an outage."""
    deliveries, deadlines = drained.queue.deliveries, drained.deadlines
    assert drained.dead_requests <= MOST_REQUESTS
    numbers = [number for _, number in drained.taken]
    taken = set(numbers)
    assert len(numbers) == len(taken), "doubled"
    assert drained.late == []
    # Each is accounted for: taken, expired, or unknown and out of time by the time it could have been settled.
    left = set(range(deliveries)) - taken - set(drained.expired)
    assert drained.states["unknown"] == len(left)
    assert left <= drained.tried
    assert drained.states["accepted"] == len(taken)
    assert drained.states.total() == deliveries
    check_expired(drained)
    assert all(deadlines[number] > OUTAGE_S for number in taken)
    assert drained.busiest_second <= RATE * 1.05
    full = [when for when, _ in drained.taken if when >= OUTAGE_S + PROBE_S + RAMP_S]
    assert measure_rate(full) >= 0.95 * RATE
    assert min(when for when, _ in drained.taken) <= OUTAGE_S + PROBE_S + 1


def check_expired(drained: Drained) -> None:
    """Expired is exactly what was still waiting for its turn at its deadline: nobody behind it went before that."""
    deadlines = drained.deadlines
    assert all(number % 20 in (0, 1) for number in drained.expired)
    furthest, ahead = -1, []
    for when, number in sorted(drained.taken):
        if number not in drained.tried:
            furthest = max(furthest, number)
        ahead.append((when, furthest))
    instants = [when for when, _ in ahead]
    for number in set(drained.expired) - drained.tried:
        before = find_last(instants, deadlines[number] - 1)
        assert before is None or ahead[before][1] < number, f"{number} expired though its turn had come"


def find_last(instants: list[float], limit: float) -> int | None:
    """Return the index of the last instant that is not after `limit`."""
    index = bisect_right(instants, limit) - 1
    return index if index >= 0 else None


def test_ten_thousand_wait_out_a_dead_hour(seed: int) -> None:
    check(drain(10_000, seed))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_wait_out_a_dead_hour(seed: int) -> None:
    check(drain(100_000, seed))


def test_without_the_breaker_a_dead_provider_is_asked_too_often(seed: int) -> None:
    with patch("app.delivery.pace.OUTAGE_FAILURES", 10**9):
        drained = drain_queue(Queue(5_000, RATE, seed, stop_after=MOST_REQUESTS))
    assert drained.dead_requests > MOST_REQUESTS
    with pytest.raises(AssertionError):
        check(drained)
