"""The wall clock is set by hours or days while something waits: nothing leaves early, late or twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from app.clock import Clock
from app.model.delivery import Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.outbox import lanes as shifting
from app.relay.dispatcher import Dispatcher
from tests.faults.clock_world import DAY_MS, HOUR_MS, Answer, World, live, times

EARLY_S = 0.01
LATE_S = 2.0  # the step is seen within a second, and what came due meanwhile goes after it
STEPS = {"-1 h": -HOUR_MS, "+1 h": HOUR_MS, "+10 d": 10 * DAY_MS, "-1 d": -DAY_MS}

REFUSED = Answer(Retryable(Reason.CONNECT_FAILED))
PAUSED = Answer(Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, retry_after_ms=120_000))


@dataclass(frozen=True)
class Story:
    """Deliveries to these customers, the provider's first answers, and when (s) the clock is set and the story ends."""

    customers: tuple[int, ...]
    answers: tuple[Answer, ...]
    set_at_s: float
    ends_s: float
    rate: float = 16


STORIES: Mapping[str, Story] = {
    "a retry waits": Story((1,), (REFUSED,) * 4, 4.0, 60),
    "an attempt is open and then accepted": Story((1,), (Answer(after_s=20),), 8.0, 40),
    "an attempt is open and then refused": Story((1,), (Answer(REFUSED.outcome, 20), REFUSED), 8.0, 60),
    "an unknown one waits to be sent again": Story((1,), (Answer(Uncertain(Reason.TIMED_OUT)),), 700.0, 930),
    "a hold waits for its probe": Story(
        (1, 2, 3), (Answer(Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER)),), 100.0, 340
    ),
    "a recipient has just been written to": Story((1, 1, 1), (), 2.0, 30),
    "a lane spends its tokens": Story(tuple(range(1, 8)), (), 2.5, 20, rate=1),
    "a lane is paused by its provider": Story((1, 2), (PAUSED,), 30.0, 160),
    "a provider is down and felt for": Story((1, 2, 3, 4, 5, 6), (REFUSED,) * 7, 20.0, 200, rate=2),
}


def play(story: Story, by_ms: int, **options: Any) -> World:
    async def act(world: World) -> None:
        world.answers.extend(story.answers)
        await world.start()
        for number in story.customers:
            await world.add(number)
        await asyncio.sleep(story.set_at_s - world.loop.time())
        world.set_ahead_ms += by_ms
        await asyncio.sleep(story.ends_s - world.loop.time())
        await world.stop()

    return live(act, rate=story.rate, **options)


@cache
def play_calmly(story: Story) -> World:
    return play(story, 0)


def is_undisturbed(story: Story, by_ms: int, **options: Any) -> bool:
    """Tell whether every request comes when it would have come, and every delivery ends as it would have ended."""
    calm, stepped = play_calmly(story), play(story, by_ms, **options)
    pairs = list(zip(times(calm.arrivals), times(stepped.arrivals), strict=False))
    return (
        len(calm.arrivals) == len(stepped.arrivals)
        and all(-EARLY_S <= late - due <= LATE_S for due, late in pairs)
        and _read_ends(calm) == _read_ends(stepped)
    )


_ENDS = """
SELECT id, state, attempts, (SELECT count(*) FROM timeline WHERE delivery_seq = seq) FROM deliveries ORDER BY id
"""


def _read_ends(world: World) -> list[Any]:
    return world.db.execute(_ENDS).fetchall()


@pytest.mark.parametrize("by_ms", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_step_of_the_clock_disturbs_nothing(story: Story, by_ms: int) -> None:
    assert {state for _, state, *_ in _read_ends(play_calmly(story))} == {"accepted"}
    assert is_undisturbed(story, by_ms)


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_clock_that_jumps_and_comes_back_disturbs_nothing(story: Story) -> None:
    async def act(world: World) -> None:
        world.answers.extend(story.answers)
        await world.start()
        for number in story.customers:
            await world.add(number)
        await asyncio.sleep(story.set_at_s - world.loop.time())
        for by_ms in (10 * DAY_MS, -10 * DAY_MS, -HOUR_MS, HOUR_MS):
            world.set_ahead_ms += by_ms
            await asyncio.sleep(1.5)
        await asyncio.sleep(story.ends_s - world.loop.time())
        await world.stop()

    calm, stepped = play_calmly(story), live(act, rate=story.rate)
    assert len(stepped.arrivals) == len(calm.arrivals)
    for due, late in zip(times(calm.arrivals), times(stepped.arrivals), strict=True):
        assert -EARLY_S <= late - due <= 4 * LATE_S
    assert _read_ends(stepped) == _read_ends(calm)


def test_a_step_is_logged_and_counted() -> None:
    world = play(STORIES["a retry waits"], -HOUR_MS)
    (line,) = world.named("clock.stepped")
    assert (line["by_s"], line["level"]) == (-3600.0, "warning")
    assert world.metrics.clock_steps.labels("backward")._value.get() == 1
    assert world.metrics.clock_steps.labels("forward")._value.get() == 0


# -- known-bad controls ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in STORIES if name != "a lane spends its tokens"]
)  # for the bucket guards itself
def test_control_with_the_plain_wall_clock_a_step_disturbs(name: str) -> None:
    def read_wall(world: World) -> Clock:
        return world.read_wall

    assert not all(is_undisturbed(STORIES[name], by_ms, make_clock=read_wall) for by_ms in STEPS.values())


@pytest.mark.parametrize(
    "kind",
    [
        "SET due_at = due_at + :by_ms WHERE state = 'pending'",
        "SET due_at = due_at + :by_ms WHERE state = 'unknown'",
        "SET lease_until",
        "UPDATE holds SET probe_at",
        "UPDATE recipient_turns",
    ],
)
def test_control_a_wait_that_is_not_moved_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(statement for statement in shifting._SHIFTS if kind not in statement)
    assert len(kept) == len(shifting._SHIFTS) - 1
    monkeypatch.setattr(shifting, "_SHIFTS", kept)
    assert not all(is_undisturbed(story, by_ms) for story in STORIES.values() for by_ms in STEPS.values())


def test_control_lanes_that_are_not_told_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "_shift_lanes", lambda *_: None)
    assert not is_undisturbed(STORIES["a lane is paused by its provider"], -HOUR_MS)
    assert not is_undisturbed(STORIES["a provider is down and felt for"], -HOUR_MS)


# -- deadlines -------------------------------------------------------------------------------------

Act = Callable[[World], Coroutine[Any, Any, None]]


def meet_deadline(answers: tuple[Outcome, ...], by_ms: int) -> Act:
    """A delivery that is valid for half an hour waits; the clock is set; five minutes pass, it is set back."""

    async def act(world: World) -> None:
        world.answers.extend(Answer(outcome) for outcome in answers)
        await world.start()
        id_ = await world.add(valid_ms=HOUR_MS // 2)
        await asyncio.sleep(1)
        world.set_ahead_ms += by_ms
        await asyncio.sleep(1_000)
        assert world.read_state(id_)[0] in ("expired", "unknown")
        world.set_ahead_ms -= by_ms
        await asyncio.sleep(2)
        assert await world.outbox.retry_deliveries([id_], world.clock()) == [id_]
        world.dispatcher.wake_all()
        await asyncio.sleep(20)
        assert world.read_state(id_)[0] == "accepted"
        await world.stop()

    return act


WAITING: Mapping[str, Outcome] = {
    "retry": Retryable(Reason.CONNECT_FAILED, retry_after_ms=5_000),
    "unknown": Uncertain(Reason.TIMED_OUT),
    "held": Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
}


@pytest.mark.parametrize("by_ms", [HOUR_MS, 10 * DAY_MS], ids=["+1 h", "+10 d"])
@pytest.mark.parametrize("waiting", WAITING)
def test_what_is_past_its_deadline_by_the_wall_never_leaves_and_may_be_retried_once_the_clock_is_right(
    waiting: str, by_ms: int
) -> None:
    world = live(meet_deadline((WAITING[waiting],), by_ms))
    assert len(world.arrivals) == 2


def test_control_moving_deadlines_too_lets_it_leave_late(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (*shifting._SHIFTS, "UPDATE deliveries SET deadline_at = deadline_at + :by_ms WHERE state = 'pending'")
    monkeypatch.setattr(shifting, "_SHIFTS", wrong)
    with pytest.raises(AssertionError):
        live(meet_deadline((WAITING["retry"],), HOUR_MS))


def claim_while_the_clock_jumps(world: World) -> Coroutine[Any, Any, None]:
    async def act() -> None:
        await world.start()
        await asyncio.sleep(1.05)
        world.writer.answer_after_s = 0.5
        taking = asyncio.create_task(world.add(valid_ms=HOUR_MS // 2))
        await asyncio.sleep(0.7)  # committed; its attempt is being opened
        assert world.read_state("dlv-1")[0] == "sending"
        world.set_ahead_ms += HOUR_MS
        await taking
        await asyncio.sleep(60)
        assert world.read_state("dlv-1") == ("expired", "deadline_passed")
        await world.stop()

    return act()


def test_an_attempt_that_was_opened_before_the_clock_jumped_past_its_deadline_sends_nothing() -> None:
    assert live(claim_while_the_clock_jumps).arrivals == []


def test_control_a_last_look_at_the_steady_clock_alone_sends_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.relay.lane.read_latest", lambda clock: clock())
    monkeypatch.setattr("app.relay.dispatcher.FOLLOW_CLOCK_EVERY_S", 30.0)
    with pytest.raises(AssertionError):
        live(claim_while_the_clock_jumps)


# -- a store that cannot commit the step -----------------------------------------------------------


@pytest.mark.parametrize("by_ms", STEPS.values(), ids=STEPS)
def test_while_the_step_cannot_be_committed_nothing_is_claimed_and_then_all_goes_on(by_ms: int) -> None:
    async def act(world: World) -> None:
        world.answers.extend([Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=20_000))])
        await world.start()
        await world.add()
        await asyncio.sleep(2)
        world.writer.full = True
        world.set_ahead_ms += by_ms
        await asyncio.sleep(60)
        assert len(world.arrivals) == 1
        world.writer.full = False
        await asyncio.sleep(60)
        await world.stop()

    world = live(act)
    assert len(world.arrivals) == 2
    assert 60 < world.arrivals[1].at_s < 70
    assert world.named("clock.not_followed")
    assert len(world.named("clock.stepped")) == 1


# -- set while the relay was down ------------------------------------------------------------------


def restart(by_ms: int) -> Act:
    async def act(world: World) -> None:
        world.answers.extend([Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=300_000))])
        await world.start()
        await world.add()
        await asyncio.sleep(100)
        await world.stop()
        world.set_ahead_ms += by_ms
        await world.start()
        await asyncio.sleep(500)
        await world.stop()

    return act


@pytest.mark.parametrize("by_ms", [-HOUR_MS, -DAY_MS, -10 * DAY_MS], ids=["-1 h", "-1 d", "-10 d"])
def test_a_clock_that_was_set_back_while_the_relay_was_down_freezes_nothing(by_ms: int) -> None:
    calm, stepped = live(restart(0)), live(restart(by_ms))
    assert calm.named("clock.behind_store") == []
    (line,) = stepped.named("clock.behind_store")
    assert line["by_s"] == pytest.approx(-by_ms / 1000, abs=65)
    assert len(stepped.arrivals) == len(calm.arrivals) == 2
    assert 0 <= stepped.arrivals[1].at_s - calm.arrivals[1].at_s <= 65  # the store knows the time to a minute


def test_control_without_the_look_at_the_start_it_freezes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.relay.timekeeping.BEHIND_MS", 100 * DAY_MS)
    assert len(live(restart(-HOUR_MS)).arrivals) == 1


def test_a_false_jump_that_was_corrected_is_not_corrected_again_at_the_next_start() -> None:
    async def act(world: World) -> None:
        world.answers.extend([Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=300_000))])
        await world.start()
        await world.add(1)
        for by_ms in (10 * DAY_MS, -10 * DAY_MS):
            await asyncio.sleep(30)
            world.set_ahead_ms += by_ms
            await world.add(2 + (by_ms < 0))
        await asyncio.sleep(40)
        await world.stop()
        await world.start()
        await asyncio.sleep(500)
        await world.stop()

    world = live(act)
    assert world.named("clock.behind_store") == []
    assert [arrival.delivery_id for arrival in world.arrivals] == ["dlv-1", "dlv-2", "dlv-3", "dlv-1"]
    assert 300 <= world.arrivals[-1].at_s <= 335
