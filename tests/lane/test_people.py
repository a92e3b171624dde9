"""What a lane learns of people: who has opted out, who cannot be reached, and whom nothing is hurried for."""

from __future__ import annotations

from typing import Any

import pytest

from app.model.delivery import Accepted, Outcome, Reason, Rejected, Retryable, Scope, State
from app.model.message import Reply
from app.outbox import claim

RIYA = "+919800000001"
HOUR, DAY = 3_600_000, 86_400_000
OPTED_OUT = Rejected(Reason.RECIPIENT_OPTED_OUT, Scope.RECIPIENT)


async def add(bench: Any, **fields: Any) -> None:
    await bench.add(1, recipient=RIYA, deadline_at=bench.now + 3 * DAY, **fields)


@pytest.mark.parametrize(
    ("answer", "people", "state"),
    [
        (OPTED_OUT, (1, 0), State.DEAD),
        (Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT), (0, 1), State.DEAD),
        (Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT), (0, 0), State.PENDING),
        (Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE), (0, 0), State.PENDING),
    ],
)
async def test_an_answer_says_of_a_person_what_it_says(
    bench: Any, answer: Outcome, people: tuple[int, int], state: State
) -> None:
    bench.desk.answer = answer
    async with bench.run():
        await add(bench)
        await bench.wait_until_asked(1)
        await bench.pass_time()
    counted = await bench.outbox.count_suppressions()
    assert (counted.suppressed, counted.unreachable) == people
    assert await bench.states() == {state: 1}


async def test_after_131050_no_marketing_leaves_and_everything_else_does(bench: Any) -> None:
    async with bench.run():
        bench.desk.answer = OPTED_OUT
        await add(bench)
        await bench.wait_until_asked(1)
        bench.desk.answer = Accepted("m-1")
        await add(bench)
        await add(bench, marketing=False)
        await bench.pass_time(DAY)
    assert len(bench.desk.asked) == 2
    assert await bench.states() == {State.DEAD: 1, State.SUPPRESSED: 1, State.ACCEPTED: 1}


async def leave_after_a_stop(bench: Any) -> int:
    """Queue a message, stop it, let the lane run; return how many were sent."""
    await add(bench)
    await bench.outbox.apply_reply("gallabox", Reply(RIYA, "stop"), "stop", bench.now)
    async with bench.run():
        await bench.pass_time(DAY)
    return len(bench.desk.asked)


async def test_what_waited_when_the_stop_came_never_leaves(bench: Any) -> None:
    assert await leave_after_a_stop(bench) == 0
    assert await bench.states() == {State.SUPPRESSED: 1}


async def test_control_a_claim_that_asks_nobody_lets_it_leave(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.outbox.claim.DUE", claim.DUE.replace("d.marketing = 1", "0 = 1"))
    assert await leave_after_a_stop(bench) == 1


async def test_131049_waits_a_day_whatever_wakes_the_lane(bench: Any) -> None:
    bench.desk.answer = Retryable(Reason.RECIPIENT_CAPPED, Scope.RECIPIENT, retry_after_ms=1_000)
    async with bench.run():
        await add(bench)
        await bench.wait_until_asked(1)
        bench.desk.answer = Accepted("m-1")
        for _ in range(23):
            await bench.pass_time(HOUR)
            assert len(bench.desk.asked) == 1
        await bench.pass_time(4 * HOUR)
        await bench.wait_until_asked(2)
    assert await bench.states() == {State.ACCEPTED: 1}
