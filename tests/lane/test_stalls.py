"""A relay that stood still between the claim and the send: its attempt may have been given up as lost by then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.outbox.methods import Stand, name_job


class SlowClaims(Stand):
    """An outbox whose first claim that finds something takes so long to come back."""

    def __init__(self, bench: Any, stall_ms: int) -> None:
        super().__init__(bench.outbox)
        self._bench = bench
        self._stall_ms = stall_ms

    async def write(self, job: Callable[..., Any], **how: Any) -> Any:
        done = await self.store.write(job, **how)
        if name_job(job) == "claim_each" and done:
            self._bench.now += self._stall_ms
            self._stall_ms = 0
        return done


async def send_after_a_stall(bench: Any, stall_ms: int) -> int:
    """Return how often the provider was asked by the time that the lane has nothing to do."""
    await bench.add(1)
    async with asyncio.timeout(20), bench.run(outbox=SlowClaims(bench, stall_ms)):
        return len(bench.desk.asked)


@pytest.mark.parametrize(("stall_ms", "asked"), [(0, 1), (59_000, 1), (60_000, 0), (3_600_000, 0)])
async def test_what_was_claimed_a_minute_ago_is_not_sent(bench: Any, stall_ms: int, asked: int) -> None:
    bench.draw = 0.5
    assert await send_after_a_stall(bench, stall_ms) == asked
    (row,) = (await bench.outbox.list_deliveries(bench.everything))[0]
    assert (row["state"], row["reason"]) == (("accepted", None) if asked else ("pending", "stalled"))


async def test_it_goes_later_and_the_provider_is_not_blamed(bench: Any) -> None:
    bench.draw = 0.5
    await bench.add(1)
    async with asyncio.timeout(20), bench.run(outbox=SlowClaims(bench, 60_000)):
        await bench.wait_until_asked(1)
        await bench.pass_time(10)
    assert {state.value: n for state, n in (await bench.states()).items()} == {"accepted": 1}
    assert bench.log.of("lane.down") == []


async def test_without_that_look_it_would_be_sent(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.relay.lane.LEASE_SPARE_MS", 10**9)
    assert await send_after_a_stall(bench, 3_600_000) == 1
