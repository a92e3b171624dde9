"""The wall clock, as a value that is passed in, and a steady one that does not leap when the wall clock is set.

A wait ("try again in 4 s") is counted on the steady clock. Until a step of the wall clock has been adopted,
the steady one goes on as if nothing had happened: so no wait ends early through it, and none freezes.
What names an instant of the world (a deadline) is held against `read_latest`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: ms since the Unix epoch, UTC."""

# Less is what NTP slews, and what a leap second is: followed so gently that no wait notices.
TOLERANCE_MS = 2_000
FOLLOW_SHARE = 0.1
# Two readings that are further apart were torn by a pause of the process, and their difference says nothing.
TORN_MS = 20
READ_AGAIN = 3


def read_clock() -> int:
    """Return the machine's wall clock."""
    return time.time_ns() // 1_000_000


def read_uptime() -> int:
    """Return ms on a clock that nobody can set; it counts a suspended machine's sleep where the system can."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


class SteadyClock:
    """A `Clock`: the wall clock as it was at the start, carried on by one that nobody can set.

    `step` tells by how much the wall clock was set meanwhile. To adopt it: `begin_step`, move every wait by
    that much, then `end_step`, or `undo_step` if they could not be moved.
    """

    def __init__(self, read_wall: Clock = read_clock, read_uptime: Callable[[], int] = read_uptime) -> None:
        self._read_wall = read_wall
        self._read_uptime = read_uptime
        self._begun = 0  # the step that is being adopted
        self.is_adopting = False  # whether a step was begun and nobody knows yet if its waits were moved
        wall, self._read_at = self._read()
        self._now = float(wall)

    def __call__(self) -> int:
        """Return now, in ms since the epoch. Never less than before, but for an adopted step."""
        return self._advance()[0]

    def step(self) -> int:
        """Return by how many ms the wall clock is off this one; 0 while that is no more than it drifts."""
        now, wall = self._advance()
        return wall - now if abs(wall - now) > TOLERANCE_MS else 0

    def read_latest(self) -> int:
        """Return the later of this clock and the wall clock: what is past its deadline by either is too late."""
        return max(self._advance())

    @property
    def is_settled(self) -> bool:
        """Whether there is no step to adopt, and none whose waits may or may not have been moved."""
        return not self.is_adopting and not self.step()

    def begin_step(self) -> int:
        """Move this clock to the wall clock's time if that was set; return by how much, else 0."""
        self.is_adopting = True
        self._begun = self.step()
        self._now += self._begun
        return self._begun

    def end_step(self) -> None:
        """The waits were moved."""
        self._begun, self.is_adopting = 0, False

    def undo_step(self) -> None:
        """The waits may not have been moved: go back to their time, unsettled until a next step has ended."""
        self._now -= self._begun
        self._begun = 0

    def _advance(self) -> tuple[int, int]:
        """Return (now, wall), having followed what the wall clock drifted."""
        wall, uptime = self._read()
        passed = max(uptime - self._read_at, 0)
        self._now += passed
        self._read_at += passed
        drift = wall - self._now
        if abs(drift) <= TOLERANCE_MS:
            most = passed * FOLLOW_SHARE
            self._now += min(max(drift, -most), most)
        return int(self._now), wall

    def _read(self) -> tuple[int, int]:
        """Return (wall, uptime), read at one instant."""
        for _ in range(READ_AGAIN):
            before, wall, uptime = self._read_uptime(), self._read_wall(), self._read_uptime()
            if uptime - before <= TORN_MS:
                break
        return wall, uptime


def is_settled(clock: Clock) -> bool:
    """Tell whether waits can be trusted now; always so on a clock that is not steady."""
    return clock.is_settled if isinstance(clock, SteadyClock) else True


def is_adopting(clock: Clock) -> bool:
    """Tell whether what is written now may or may not be moved by a step."""
    return isinstance(clock, SteadyClock) and clock.is_adopting


def read_latest(clock: Clock) -> int:
    """Return what a deadline is held against."""
    return clock.read_latest() if isinstance(clock, SteadyClock) else clock()
