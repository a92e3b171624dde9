"""The gap between two messages to one person, seen to where they leave."""

from __future__ import annotations

import asyncio
from typing import Any

PERSON = "+919800000001"


async def send_one_and_wait_with_the_other(bench: Any) -> None:
    """Let the first message to a person leave, and the lane take up the second."""
    bench.desk.gate.set()
    while bench.lane._left[PERSON] != bench.now + 6_000:
        await asyncio.sleep(0.001)


async def test_a_message_waits_its_turn_and_a_stop_meanwhile_is_no_doubt(bench: Any) -> None:
    bench.outbox._gap_ms = 0  # the claim sees to no gap: as if the process had stood still after it
    await bench.add(2, recipient=PERSON)
    bench.desk.gate.clear()
    async with asyncio.timeout(20), bench.run(concurrency=1):
        await send_one_and_wait_with_the_other(bench)
        assert len(bench.desk.asked) == 1
        bench.lane.shift(1_000)
        assert bench.lane._left[PERSON] == bench.now + 7_000
        bench.lane.stop()
        bench.lane.give_up_open()
    states = {state.value: n for (_, state), n in (await bench.outbox.count_deliveries()).items() if n}
    assert states == {"accepted": 1, "pending": 1}
    assert len(bench.desk.asked) == 1


async def test_turns_that_are_over_are_forgotten(bench: Any) -> None:
    await bench.add(1)
    async with bench.run():
        lane = bench.lane
        for number in range(3_000):
            assert lane._take_turn(f"person {number}") == 0
            bench.now += 10
        assert len(lane._left) < 1_700
        assert lane._take_turn("person 2999") == 5.99
        lane._left["person 2999"] = bench.now + 3_600_000  # a clock that was set back
        assert lane._take_turn("person 2999") == 12
