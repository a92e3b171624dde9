"""The clocks that are passed in: the wall's, which may be set, and one that nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: ms since the Unix epoch, UTC."""


def read_clock() -> int:
    """Return the machine's wall clock."""
    return time.time_ns() // 1_000_000


class WatchedClock:
    """A `Clock` that remembers the latest it has shown, for whoever is to notice that it was set back."""

    def __init__(self, read: Clock = read_clock) -> None:
        self._read = read
        self.newest = 0

    def __call__(self) -> int:
        """Return now."""
        now = self._read()
        if now > self.newest:  # noqa: PLR1730  # asked ten times an event, of which `max` would take half
            self.newest = now
        return now

    def forget(self, now: int) -> None:
        """Take `now` for the latest: what waits was moved back with the clock."""
        self.newest = now


def read_uptime() -> int:
    """Return ms on a clock that nobody can set; it counts a suspended machine's sleep where the system can."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000
