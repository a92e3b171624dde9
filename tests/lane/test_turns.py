"""The gap between two messages to one person, seen to where they leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.mapping.provider import ProviderSettings
from app.relay.dispatcher import Dispatcher
from tests.outbox.methods import keep_no_gap

PERSON = "+919800000001"


async def wait_for_turn(bench: Any, left_at: int) -> None:
    """Return once somebody waits behind a message that left then."""
    while bench.turns._left.get(PERSON) != left_at + 6_000:
        await asyncio.sleep(0.001)


async def count_states(bench: Any) -> dict[str, int]:
    return {state.value: n for state, n in (await bench.states()).items()}


async def test_a_message_waits_its_turn_and_a_stop_meanwhile_is_no_doubt(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_no_gap(monkeypatch)  # the claim sees to no gap: as if the process had stood still after it
    await bench.add(2, recipient=PERSON)
    bench.desk.gate.clear()
    async with asyncio.timeout(20), bench.run(concurrency=1):
        bench.desk.gate.set()
        await wait_for_turn(bench, bench.now)
        assert len(bench.desk.asked) == 1
        bench.lane.stop()
        bench.lane.give_up_open()
    assert await count_states(bench) == {"accepted": 1, "pending": 1}
    assert len(bench.desk.asked) == 1


async def test_the_lane_that_a_reload_puts_in_place_waits_behind_what_the_old_one_still_sends(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_no_gap(monkeypatch)
    await bench.add(1, recipient=PERSON)
    bench.desk.gate.clear()
    async with asyncio.timeout(20), bench.run():
        old = bench.lane  # it has claimed, and its request is under way
        assert len(bench.desk.asked) == 1
        old.stop()
        async with bench.run():
            assert bench.lane is not old
            left_at = bench.now
            await bench.add(1, recipient=PERSON)
            bench.now += 100  # the new lane keeps to the rate, too
            bench.lane.wake()
            await wait_for_turn(bench, left_at)
            assert len(bench.desk.asked) == 1
            bench.lane.stop()
            bench.lane.give_up_open()
    assert await count_states(bench) == {"accepted": 1, "pending": 1}


async def test_a_reload_hands_the_turns_on(bench: Any) -> None:
    def rules(rate: str) -> Any:
        settings = ProviderSettings(type="fake", rate=rate)
        return SimpleNamespace(
            config=SimpleNamespace(providers={"gallabox": settings, "other": settings}),
            providers={"gallabox": None, "other": None},
        )

    deaths: list[BaseException] = []
    dispatcher = Dispatcher(bench.parts(), bench.open_desk, deaths.append)
    dispatcher.use(rules("16/s"))
    before = dict(dispatcher.lanes)
    dispatcher.use(rules("8/s"))
    after = dict(dispatcher.lanes)
    assert after["gallabox"] is not before["gallabox"]
    assert after["gallabox"]._turns is before["gallabox"]._turns
    assert after["gallabox"]._turns is not after["other"]._turns
    await dispatcher.drain(1)
    assert deaths == []
