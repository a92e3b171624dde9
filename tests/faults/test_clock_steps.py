"""The wall clock is set by hours or days while something waits: nothing is lost, doubled or frozen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from app.clock import WatchedClock
from app.model.delivery import Outcome, Reason, Rejected, Retryable, Scope, Uncertain
from app.outbox import claim
from app.outbox import sweep as shifting
from app.relay.dispatcher import Dispatcher
from tests.faults.clock_world import BASE_MS, DAY_MS, HOUR_MS, Answer, World, live, times

EARLY_S = 0.01
LATE_S = 7.0  # the sweep sees the step within 5 s
BACK = {"-1 h": -HOUR_MS, "-1 d": -DAY_MS}
AHEAD = {"+1 h": HOUR_MS, "+10 d": 10 * DAY_MS}

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


def play(story: Story, *steps_ms: int) -> World:
    """Play a story; from its instant on the clock is set by each of these, 12 s apart."""

    async def act(world: World) -> None:
        world.answers.extend(story.answers)
        await world.start()
        for number in story.customers:
            await world.add(number)
        await asyncio.sleep(story.set_at_s - world.loop.time())
        for by_ms in steps_ms:
            world.set_ahead_ms += by_ms
            await asyncio.sleep(12)
        await asyncio.sleep(story.ends_s + 12 * len(steps_ms) - world.loop.time())
        await world.stop()

    return live(act, rate=story.rate)


@cache
def play_calmly(story: Story) -> World:
    return play(story)


def is_undisturbed(story: Story, by_ms: int) -> bool:
    """Tell whether every request comes when it would have come, and every delivery ends as it would have ended."""
    calm, stepped = play_calmly(story), play(story, by_ms)
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


def _count_requests(world: World) -> Counter[str]:
    """Return how many requests came of each delivery, every one of which was accepted in the end."""
    assert {state for _, state, *_ in _read_ends(world)} == {"accepted"}
    return Counter(arrival.delivery_id for arrival in world.arrivals)


@pytest.mark.parametrize("by_ms", BACK.values(), ids=BACK)
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_clock_that_is_set_back_disturbs_nothing(story: Story, by_ms: int) -> None:
    assert {state for _, state, *_ in _read_ends(play_calmly(story))} == {"accepted"}
    assert is_undisturbed(story, by_ms)


@pytest.mark.parametrize("by_ms", AHEAD.values(), ids=AHEAD)
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_clock_that_is_set_ahead_loses_and_doubles_nothing(story: Story, by_ms: int) -> None:
    assert _count_requests(play(story, by_ms)) == _count_requests(play_calmly(story))


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_clock_that_jumps_and_comes_back_loses_and_doubles_nothing(story: Story) -> None:
    stepped = play(story, 10 * DAY_MS, -10 * DAY_MS, -HOUR_MS, HOUR_MS)
    assert _count_requests(stepped) == _count_requests(play_calmly(story))


def test_a_step_back_is_logged_and_counted() -> None:
    world = play(STORIES["a retry waits"], -HOUR_MS)
    (line,) = world.named("clock.stepped")
    assert line["level"] == "warning"
    assert -3_600 <= line["by_s"] <= -3_595
    assert world.metrics.clock_steps._value.get() == 1


def test_a_step_ahead_is_not_to_be_told_from_time_that_passed() -> None:
    world = play(STORIES["a retry waits"], HOUR_MS)
    assert world.named("clock.stepped") == []
    assert world.metrics.clock_steps._value.get() == 0


# -- known-bad controls ----------------------------------------------------------------------------

# The bucket and the gap guard themselves; an attempt's lease may last longer than it has to.
_GUARDED = ("an attempt is open and then accepted", "a recipient has just been written to", "a lane spends its tokens")


@pytest.mark.parametrize("name", [name for name in STORIES if name not in _GUARDED])
def test_control_where_no_step_is_noticed_one_back_disturbs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "follow_clock", _do_nothing)
    assert not is_undisturbed(STORIES[name], -DAY_MS)


async def _do_nothing(*_: Any) -> None:
    pass


@pytest.mark.parametrize(
    "kind",
    [
        "SET due_at = due_at + :by_ms WHERE state = 'pending'",
        "SET due_at = due_at + :by_ms WHERE state = 'unknown'",
        "UPDATE holds SET probe_at",
        "UPDATE recipient_turns",
    ],
)
def test_control_a_wait_that_is_not_moved_is_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(statement for statement in shifting._SHIFTS if kind not in statement)
    assert len(kept) == len(shifting._SHIFTS) - 1
    monkeypatch.setattr(shifting, "_SHIFTS", kept)
    assert not all(is_undisturbed(story, by_ms) for story in STORIES.values() for by_ms in BACK.values())


def test_control_lanes_that_are_not_told_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dispatcher, "_shift_lanes", lambda *_: None)
    assert not is_undisturbed(STORIES["a lane is paused by its provider"], -HOUR_MS)
    assert not is_undisturbed(STORIES["a provider is down and felt for"], -HOUR_MS)


# -- jumps that no sweep sees ----------------------------------------------------------------------


async def jump_between_two_sweeps(world: World) -> None:
    """A message is refused, to be tried again in 20 s, while the clock is ten days ahead for two seconds."""
    world.answers.append(Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=20_000)))
    await world.start()
    await asyncio.sleep(6)
    world.set_ahead_ms += 10 * DAY_MS
    await world.add()
    await asyncio.sleep(2)
    world.set_ahead_ms -= 10 * DAY_MS
    await asyncio.sleep(60)
    await world.stop()


def test_what_was_planned_in_a_jump_that_no_sweep_has_seen_is_not_frozen() -> None:
    world = live(jump_between_two_sweeps)
    assert len(world.arrivals) == 2
    assert world.arrivals[1].at_s <= 6 + 22 + LATE_S


def test_control_a_clock_that_remembers_only_what_sweeps_have_read_leaves_it_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WatchedClock, "__call__", lambda clock: clock._read())
    assert len(live(jump_between_two_sweeps).arrivals) == 1


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
        assert await world.outbox.retry_deliveries([id_], world.read_wall()) == [id_]
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


async def hold_while_the_clock_is_set_back(world: World) -> None:
    """Until a quarter of an hour before the deadline, by the wall."""
    await world.start()
    await world.outbox.put_hold("provider:main", "by_hand", world.read_wall())
    id_ = await world.add(valid_ms=HOUR_MS // 2)
    await asyncio.sleep(1)
    world.set_ahead_ms -= HOUR_MS
    await asyncio.sleep(HOUR_MS * 5 / 4 / 1000)
    await world.outbox.release_hold("provider:main", world.read_wall())
    world.dispatcher.wake_all()
    await asyncio.sleep(10)
    assert world.read_state(id_)[0] == "accepted"
    await world.stop()


def test_a_deadline_stays_where_it_is_when_the_clock_is_set_back() -> None:
    assert len(live(hold_while_the_clock_is_set_back).arrivals) == 1


def test_control_a_deadline_that_moves_with_the_clock_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (*shifting._SHIFTS, "UPDATE deliveries SET deadline_at = deadline_at + :by_ms WHERE state = 'pending'")
    monkeypatch.setattr(shifting, "_SHIFTS", wrong)
    with pytest.raises(AssertionError):
        live(hold_while_the_clock_is_set_back)


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


def test_control_a_lane_that_does_not_look_at_the_deadline_sends_late(monkeypatch: pytest.MonkeyPatch) -> None:
    read_delivery = claim._read_delivery
    monkeypatch.setattr(claim, "_read_delivery", lambda *given: replace(read_delivery(*given), deadline_at=2**62))
    monkeypatch.setattr("app.relay.lane.LEASE_SPARE_MS", 2**62)  # else it takes the jump for a stall, and asks again
    with pytest.raises(AssertionError):
        live(claim_while_the_clock_jumps)


# -- a store that cannot commit the step -----------------------------------------------------------


def set_back_over(trouble: Callable[[World], None], answer: Answer, *, after_s: float, by_ms: int) -> World:
    """The store has this trouble from 2 s until a minute after the clock was set back; return what came of it."""

    async def act(world: World) -> None:
        world.answers.append(answer)
        await world.start()
        await world.add()
        await asyncio.sleep(2)
        trouble(world)
        await asyncio.sleep(after_s)
        world.set_ahead_ms += by_ms
        await asyncio.sleep(60)
        world.writer.failure = None
        await asyncio.sleep(90)
        await world.stop()

    return live(act)


def fill(world: World) -> None:
    world.writer.failure = "full"


def leave_in_doubt(world: World) -> None:
    world.writer.failure = "in doubt"


@pytest.mark.parametrize("by_ms", BACK.values(), ids=BACK)
def test_while_the_step_cannot_be_committed_nothing_is_claimed_and_then_all_goes_on(by_ms: int) -> None:
    waits = Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=20_000))
    world = set_back_over(fill, waits, after_s=0, by_ms=by_ms)
    assert len(world.arrivals) == 2
    assert 62 < world.arrivals[1].at_s < 62 + 60 + LATE_S  # the store knows the time to a minute
    assert world.named("sweep.failed")
    assert len(world.named("clock.stepped")) == 1


@pytest.mark.parametrize("by_ms", BACK.values(), ids=BACK)
def test_an_outcome_that_cannot_be_recorded_until_after_the_step_waits_no_longer_for_it(by_ms: int) -> None:
    slow = Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=20_000), after_s=10)
    world = set_back_over(fill, slow, after_s=15, by_ms=by_ms)
    assert len(world.arrivals) == 2
    assert 77 <= world.arrivals[1].at_s < 77 + 22 + LATE_S


@pytest.mark.parametrize("by_ms", BACK.values(), ids=BACK)
def test_a_step_of_which_nobody_knows_if_it_was_committed_moves_the_waits_once(by_ms: int) -> None:
    waits = Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=100_000))
    world = set_back_over(leave_in_doubt, waits, after_s=0, by_ms=by_ms)
    assert len(world.arrivals) == 2
    assert 105 <= world.arrivals[1].at_s < 105 + LATE_S


def test_control_a_step_in_doubt_that_is_made_again_moves_them_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = BASE_MS + 2_000
    monkeypatch.setattr("app.relay.dispatcher.shift_waits", lambda tx, **_: shifting.shift_waits(tx, newest))
    waits = Answer(Retryable(Reason.CONNECT_FAILED, retry_after_ms=100_000))
    world = set_back_over(leave_in_doubt, waits, after_s=0, by_ms=-20_000)
    assert world.arrivals[1].at_s < 100


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
    assert calm.named("clock.stepped") == []
    (line,) = stepped.named("clock.stepped")
    assert line["by_s"] == pytest.approx(by_ms / 1000, abs=65)
    assert len(stepped.arrivals) == len(calm.arrivals) == 2
    assert 0 <= stepped.arrivals[1].at_s - calm.arrivals[1].at_s <= 65  # the store knows the time to a minute


def test_control_without_the_look_at_the_start_it_freezes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.outbox.sweep.BEHIND_MS", 100 * DAY_MS)
    assert len(live(restart(-HOUR_MS)).arrivals) == 1


def test_what_the_last_process_left_open_settles_as_long_as_ever_after_a_step_back_while_it_was_down() -> None:
    async def act(world: World) -> None:
        world.answers.append(Answer(after_s=3_600))
        await world.start()
        await world.add()
        await asyncio.sleep(10)
        world.kill()
        world.set_ahead_ms -= HOUR_MS
        await world.start()
        await asyncio.sleep(1_000)
        await world.stop()

    first, again = times(live(act).arrivals)
    assert 900 <= again - first <= 920


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
    assert len(world.named("clock.stepped")) == 1
    assert Counter(arrival.delivery_id for arrival in world.arrivals) == {"dlv-1": 2, "dlv-2": 1, "dlv-3": 1}
