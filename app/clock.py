"""The clocks that are passed in: the wall's, which may be set, and one that nobody can set."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: ms since the Unix epoch, UTC."""


def read_clock() -> int:
    """Return the machine's wall clock."""
    return time.time_ns() // 1_000_000


def read_uptime() -> int:
    """Return ms on a clock that nobody can set; it counts a suspended machine's sleep where the system can."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000
