"""What a lane keeps to, through restarts and a store that cannot save."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import StoreFull
from app.model.delivery import Accepted, Reason, Retryable, Scope, State
from app.outbox.values import LaneState
from tests.outbox.methods import Stand, name_job

START = 1_790_000_000_000
OK = Accepted("m-1")


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.UNAVAILABLE])
async def test_a_pause_stops_the_whole_lane_and_outlasts_a_restart(bench: Any, reason: Reason) -> None:
    await bench.add(10)
    bench.desk.answer = Retryable(reason, Scope.PROVIDER, 120_000)
    async with bench.run("1/s"):
        await bench.wait_until_asked(1)
        await bench.pass_time(60_000)
        assert len(bench.desk.asked) == 1
    paused_until = bench.desk.asked[0][0] + 120_000
    assert (await bench.recall()).paused_until == paused_until
    bench.desk.answer = OK
    async with bench.run("1/s"):
        await bench.pass_time(paused_until - bench.now - 1)
        assert len(bench.desk.asked) == 1
        await bench.pass_time(1)
        assert len(bench.desk.asked) == 2


async def test_restarting_again_and_again_sends_no_faster_than_the_rate(bench: Any) -> None:
    await bench.add(20)
    for _ in range(6):
        async with bench.run("6/min"):
            await bench.pass_time(4_000)
    assert [at - START for at, _ in bench.desk.asked] == [0, 12_000, 24_000]  # 10 s apart at the least


async def test_control_a_lane_that_remembers_nothing_sends_one_at_every_restart(bench: Any) -> None:
    class Forgetful(Stand):
        async def write(self, job: Callable[..., Any], **how: Any) -> Any:
            return LaneState() if name_job(job) == "read_lane" else await self.store.write(job, **how)

    await bench.add(20)
    for _ in range(6):
        async with bench.run("6/min", outbox=Forgetful(bench.outbox)):
            await bench.pass_time(4_000)
    assert len(bench.desk.asked) == 6


class Refusing(Stand):
    """A store that cannot save a lane's state for the first few times."""

    def __init__(self, outbox: Any, times: int) -> None:
        super().__init__(outbox)
        self.left = times

    async def write(self, job: Callable[..., Any], **how: Any) -> Any:
        if self.left and name_job(job) == "save_lane":
            self.left -= 1
            raise StoreFull("the disk under the outbox is full")
        return await self.store.write(job, **how)


async def test_a_pause_that_cannot_be_saved_at_once_costs_neither_the_outcome_nor_the_lane(bench: Any) -> None:
    await bench.add(3)
    bench.desk.answer = Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, 60_000)
    refusing = Refusing(bench.outbox, 2)
    async with bench.run("1/s", outbox=refusing):
        await bench.wait_until_asked(1)
        await bench.pass_time()
        assert bench.log.of("lane.claim_failed")
        assert [line["state"] for line in bench.log.of("delivery.attempted")] == ["pending"]
        async with asyncio.timeout(40):
            while refusing.left or not (await bench.recall()).paused_until:
                await bench.pass_time()
        bench.desk.answer = OK
        await bench.pass_time(61_000)
        assert len(bench.desk.asked) == 2


async def test_what_cannot_be_saved_at_the_end_does_not_keep_the_lane_from_ending(bench: Any) -> None:
    await bench.add(1)
    bench.desk.answer = Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, 60_000)
    async with bench.run("1/s", outbox=Refusing(bench.outbox, 1_000)):
        while not bench.log.of("delivery.attempted"):
            await asyncio.sleep(0.001)
    assert await bench.states() == {State.PENDING: 1}
    assert len(bench.log.of("delivery.attempted")) == 1
