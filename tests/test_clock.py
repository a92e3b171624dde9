"""The steady clock: what it makes of a wall clock that is set, that drifts, that is read a moment too late."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from app.clock import TOLERANCE_MS, SteadyClock, is_adopting, is_settled, read_clock, read_latest, read_uptime

BASE = 1_790_000_000_000
HOUR = 3_600_000


@dataclass
class Machine:
    """A wall clock and an uptime, in ms. `pauses`: how long the process is stopped between two readings, in turn."""

    up: int = 5_000
    ahead: int = 0
    pauses: list[int] = field(default_factory=list)

    def read_wall(self) -> int:
        if self.pauses:
            self.up += self.pauses.pop(0)
        return BASE + self.up + self.ahead

    def read_uptime(self) -> int:
        return self.up

    def make_clock(self) -> SteadyClock:
        return SteadyClock(self.read_wall, self.read_uptime)


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR, 240 * HOUR, TOLERANCE_MS + 1, -TOLERANCE_MS - 1])
def test_it_goes_on_as_if_nothing_had_happened_until_the_step_is_adopted(by_ms: int) -> None:
    machine = Machine()
    clock = machine.make_clock()
    before = clock()
    machine.ahead += by_ms
    machine.up += 1_000
    assert clock() == before + 1_000
    assert clock.step() == by_ms
    assert not is_settled(clock)
    assert clock.begin_step() == by_ms
    assert (clock(), clock.step(), is_settled(clock), is_adopting(clock)) == (machine.read_wall(), 0, False, True)
    clock.end_step()
    assert (is_settled(clock), is_adopting(clock)) == (True, False)
    assert clock.begin_step() == 0


def test_a_step_whose_waits_may_not_have_moved_is_undone_and_stays_in_doubt() -> None:
    machine = Machine()
    clock = machine.make_clock()
    before = clock()
    machine.ahead += HOUR
    clock.begin_step()
    clock.undo_step()
    assert (clock(), clock.step()) == (before, HOUR)
    machine.ahead -= HOUR  # set back before it could be adopted: the store may have moved the waits nevertheless
    assert clock.step() == 0
    assert not is_settled(clock)
    assert clock.begin_step() == 0
    clock.end_step()
    assert is_settled(clock)


@pytest.mark.parametrize("by_ms", [1_900, -1_900, 1_000, -1_000, 300])
def test_a_small_drift_is_followed_gently_and_never_backwards(by_ms: int) -> None:
    machine = Machine()
    clock = machine.make_clock()
    machine.ahead += by_ms
    last = clock()
    for _ in range(25_000):
        machine.up += 1
        now = clock()
        assert last <= now <= last + 2
        assert clock.step() == 0
        last = now
    assert abs(last - machine.read_wall()) <= 1


@pytest.mark.parametrize("by_ms", [HOUR, -HOUR, 1_500, -1_500])
def test_a_deadline_is_held_against_the_later_clock(by_ms: int) -> None:
    machine = Machine()
    clock = machine.make_clock()
    machine.ahead += by_ms
    assert read_latest(clock) == BASE + machine.up + max(by_ms, 0)


def test_a_process_that_is_stopped_between_two_readings_sees_no_step() -> None:
    machine = Machine()
    clock = machine.make_clock()
    machine.pauses = [60_000, 60_000]
    assert clock.step() == 0
    assert machine.pauses == []


def test_control_a_reading_that_was_torn_and_is_believed_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.clock.READ_AGAIN", 1)
    machine = Machine()
    clock = machine.make_clock()
    wall, up = machine.read_wall, machine.read_uptime
    readings = iter([up() - 60_000, up() - 60_000])
    torn = SteadyClock(wall, lambda: next(readings, machine.up))
    assert clock.step() == 0
    assert torn.step() != 0


def test_a_plain_clock_is_taken_as_it_is() -> None:
    def read() -> int:
        return BASE

    assert (is_settled(read), is_adopting(read), read_latest(read)) == (True, False, BASE)


def test_the_machines_clocks_are_read_in_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: BASE * 1_000_000 + 999_999)
    assert read_clock() == BASE
    assert 0 <= read_uptime() - read_uptime() + 1 <= 1_000
    assert SteadyClock()() == BASE


def _read_ahead(by_ms: int) -> int:
    return read_clock() + by_ms


async def test_setting_the_wall_clock_does_not_make_a_relay_look_dead(relay: Any) -> None:
    clock = relay.clock
    assert isinstance(clock, SteadyClock)
    for by_ms in (HOUR, -HOUR, 240 * HOUR):
        clock._read_wall = partial(_read_ahead, by_ms)
        assert (await relay.client.get("/healthz")).status_code == 200


async def test_a_stuck_lane_is_noticed_while_the_wall_clock_stands_still(
    relay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = relay.clock()
    monkeypatch.setattr("app.clock.time.time_ns", lambda: standing * 1_000_000)
    (lane, *_) = relay.relay.dispatcher.lanes.values()
    lane.looked_at -= 61
    assert (await relay.client.get("/healthz")).status_code == 503


async def test_a_late_retry_of_nectors_is_taken_and_known_again(relay: Any) -> None:
    """Nector may stamp a retry with the first try's time, an hour or a day ago, in s or ms: none is refused."""
    body = b'{"user_name": "Riya", "user_mobile": "9800000001", "amount": "100"}'
    headers = {
        "content-type": "application/json",
        "x-nector-topic": "walletreward_create",
        "x-nector-delivery-id": "late",
        "x-nector-webhook-secret": hashlib.sha256(b"test-secret").hexdigest(),
    }
    answers = [
        await relay.client.post("/webhooks/nector", content=body, headers={**headers, "x-nector-timestamp": stamp})
        for stamp in ("1790000000", "1790000000000", "946684800", "7258118399", "soon", "")
    ]
    assert [answer.status_code for answer in answers] == [202, *[200] * 5]
    assert len({answer.json()["event_id"] for answer in answers}) == 1
