"""The limits of the YAML in a lane: what is over them waits or is held, and a person hears of it once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.model.message import NO_LIMITS, Limit, Limits
from app.relay import Snapshot

HOUR = 3_600_000


def put_limits(bench: Any, limits: Limits) -> None:
    """Put a YAML with these limits into force, as a reload does."""
    context = bench.lane._context
    config = replace(context.snapshot.config, limits=limits)
    context.snapshot = Snapshot(config, {})
    bench.lane.wake()


def read_count(bench: Any, limit: str) -> float:
    return float(bench.metrics.registry.get_sample_value("nector_relay_limits_reached_total", {"limit": limit}))


async def test_a_route_at_its_limit_is_held_told_once_and_goes_on_when_released(bench: Any) -> None:
    async with bench.run():
        await bench.pass_time(1)
        put_limits(bench, Limits(route=Limit(3, HOUR)))
        await bench.add(8)
        bench.lane.wake()
        await bench.pass_time(10_000)
        assert len(bench.desk.asked) == 3
        await bench.pass_time(2 * HOUR)
        assert bench.log.of("hold.set") == [{"scope": "route:coupon-ready", "reason": "limit_reached"}]
        assert read_count(bench, "route") == 1
        await bench.outbox.release_hold("route:coupon-ready", bench.now)
        bench.lane.wake()
        await bench.pass_time(10_000)
        assert len(bench.desk.asked) == 6
        assert read_count(bench, "route") == 2


async def test_a_limit_that_a_reload_takes_away_frees_whoever_waited_for_it(bench: Any) -> None:
    async with bench.run():
        await bench.pass_time(1)
        put_limits(bench, Limits(person=Limit(1, 24 * HOUR)))
        for _ in range(3):
            await bench.add(1, recipient="+919800000042", route="coins")
        bench.lane.wake()
        await bench.pass_time(HOUR)
        assert len(bench.desk.asked) == 1
        assert sum(line["deliveries"] for line in bench.log.of("limit.person")) == 2
        assert read_count(bench, "person") == 2
        put_limits(bench, NO_LIMITS)
        for _ in range(2):
            await bench.pass_time(10_000)
        assert len(bench.desk.asked) == 3


async def test_whoever_has_the_secret_spends_no_more_than_the_limit(bench: Any) -> None:
    async with bench.run():
        await bench.pass_time(1)
        put_limits(bench, Limits(all=Limit(20, HOUR)))
        await bench.add(300)
        await bench.wait_until_asked(20)
        for _ in range(3):
            await bench.pass_time(HOUR)
        assert len(bench.desk.asked) == 20


async def test_control_without_a_limit_it_goes_on(bench: Any) -> None:
    async with bench.run():
        await bench.pass_time(1)
        await bench.add(300)
        await bench.wait_until_asked(60)
