"""How many requests a lane has at its provider at once: the places, and when each is free again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.outbox.claim import Claim, claim_each
from app.outbox.store import Job
from app.relay.lane import Lane
from tests.outbox.methods import Stand, name_job


class SlowRecords(Stand):
    """An outbox that records no outcome before `gate` is set."""

    def __init__(self, bench: Any) -> None:
        super().__init__(bench.outbox)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def write(self, job: Callable[..., Any], **how: Any) -> Any:
        if name_job(job) == "close_attempts":
            self.waiting += 1
            await self.gate.wait()
        return await self.store.write(job, **how)


async def count_asked_before_any_is_recorded(bench: Any, wanted: int) -> int:
    """Return how many of three messages were sent, one at a time, by the time that so many wait to be recorded."""
    await bench.add(3)
    bench.desk.gate.clear()
    outbox = SlowRecords(bench)
    async with asyncio.timeout(20), bench.run(concurrency=1, outbox=outbox):
        assert len(bench.desk.asked) == 1
        bench.desk.gate.set()
        while outbox.waiting < wanted:
            bench.now += 10
            await asyncio.sleep(0.001)
        for _ in range(50):  # time for one more
            await asyncio.sleep(0)
        asked = len(bench.desk.asked)
        assert {state.value for state in await bench.states()} <= {"pending", "sending"}
        outbox.gate.set()
    return asked


async def test_another_request_goes_while_the_outcome_of_the_one_before_waits_for_its_commit(bench: Any) -> None:
    assert await count_asked_before_any_is_recorded(bench, 3) == 3


async def test_without_that_it_waits_for_the_commit(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "_leave_place", lambda _lane: None)
    assert await count_asked_before_any_is_recorded(bench, 1) == 1


async def test_there_are_never_more_at_once_than_the_yaml_allows(bench: Any) -> None:
    await bench.add(20)
    most = 0
    bench.desk.gate.clear()
    async with asyncio.timeout(20), bench.run(concurrency=3):
        while len(bench.desk.asked) < 20:
            most = max(most, bench.desk.waiting)
            bench.desk.gate.set()
            await asyncio.sleep(0)
            bench.desk.gate.clear()
            bench.now += 10
            await asyncio.sleep(0.001)
            most = max(most, bench.desk.waiting)
    assert most == 3


@pytest.mark.parametrize(("free", "claimed"), [(0, 0), (2, 2), (9, 5)])
async def test_a_claim_takes_as_many_as_are_free_when_it_is_carried_out(bench: Any, free: int, claimed: int) -> None:
    await bench.add(5)
    asked = Claim("gallabox", bench.now, 64, 60_000, count_free=lambda: free)
    assert len((await bench.outbox.write(Job(claim_each, asked))).attempts) == claimed
