"""What a lane does while its provider is down, and once it is back."""

from __future__ import annotations

import asyncio
from typing import Any

from app.model.delivery import Accepted, Reason, Retryable

OK = Accepted("m-1")
NOT_SENT = Retryable(Reason.CONNECT_FAILED)


async def go_down(bench: Any) -> int:
    """Have the provider fail until the lane takes it for down; return how often it was asked."""
    bench.desk.answer = NOT_SENT
    async with asyncio.timeout(20):
        while not bench.log.of("lane.down"):
            await bench.pass_time(10)
    return len(bench.desk.asked)


async def test_a_dead_provider_is_asked_once_in_thirty_seconds_with_a_single_try(bench: Any) -> None:
    await bench.add(200)
    async with bench.run("50/s"):
        asked = await go_down(bench)
        down_at = bench.now
        assert {tries for _, tries in bench.desk.asked} == {3}
        for _ in range(18):
            await bench.pass_time(5_000)
        probes = bench.desk.asked[asked:]
        assert [tries for _, tries in probes] == [1, 1, 1]
        assert [at - down_at for at, _ in probes] == [30_000, 60_000, 90_000]
        assert len(bench.log.of("lane.down")) == 1


async def test_it_is_not_asked_again_while_an_answer_is_open(bench: Any) -> None:
    await bench.add(50)
    async with bench.run("50/s"):
        asked = await go_down(bench)
        bench.desk.gate.clear()
        await bench.pass_time(30_000)
        await bench.pass_time(30_000)
        await bench.pass_time(30_000)
        assert len(bench.desk.asked) == asked + 1
        bench.desk.gate.set()
        await bench.pass_time()
        assert len(bench.desk.asked) == asked + 2


async def test_what_was_open_when_it_went_down_must_end_before_it_is_asked_again(bench: Any) -> None:
    await bench.add(20)
    bench.desk.gate.clear()
    async with bench.run("50/s", concurrency=8):
        await bench.wait_until_asked(8)
        bench.desk.answer = NOT_SENT
        await bench.pass_time(40_000)
        bench.desk.gate.set()
        await bench.pass_time()
        assert len(bench.desk.asked) == 8
        await bench.pass_time(30_000)
        assert len(bench.desk.asked) == 9


async def test_one_acceptance_ends_the_outage_and_the_lane_rises_to_its_rate_within_a_minute(bench: Any) -> None:
    await bench.add(400)
    async with bench.run("10/s"):
        asked = await go_down(bench)
        bench.desk.answer = OK
        await bench.pass_time(30_000)
        assert len(bench.desk.asked) == asked + 1
        assert bench.log.of("lane.up") == [{"provider": "gallabox"}]
        for _ in range(20):
            await bench.pass_time(100)
        assert 2 <= len(bench.desk.asked) - asked - 1 <= 3, "one a second at first"
        await bench.pass_time(58_000)
        asked = len(bench.desk.asked)
        for _ in range(20):
            await bench.pass_time(100)
        assert 18 <= len(bench.desk.asked) - asked <= 21


async def test_a_lane_that_is_down_does_not_turn_without_end(bench: Any) -> None:
    asked: list[int] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            asked.append(bench.now)
            return getattr(bench.outbox, name)

    await bench.add(50)
    async with bench.run("50/s", outbox=Watched()):
        await go_down(bench)
        await bench.pass_time(1_000)
        asked.clear()
        await asyncio.sleep(0.3)  # nothing is to happen
        assert len(asked) < 5


async def test_an_outage_outlasts_a_restart(bench: Any) -> None:
    await bench.add(50)
    async with bench.run("50/s"):
        asked = await go_down(bench)
        probed = bench.now + 30_000
        await bench.pass_time(30_000)
        assert len(bench.desk.asked) == asked + 1
    state = await bench.recall()
    assert state.failures >= 5
    assert state.probe_at == probed + 30_000
    for _ in range(3):  # however often it is started again
        async with bench.run("50/s"):
            await bench.pass_time(5_000)
    async with bench.run("50/s"):
        await bench.pass_time(14_900)
        assert len(bench.desk.asked) == asked + 1
        bench.desk.answer = OK
        await bench.pass_time(100)
        assert len(bench.desk.asked) == asked + 2
    async with bench.run("50/s"):
        await bench.pass_time(900)
        assert len(bench.desk.asked) == asked + 2, "the slow rise, too, outlasts it"
        await bench.pass_time(200)
        assert len(bench.desk.asked) == asked + 3
