"""The wall clock, as a value that is passed in."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: ms since the Unix epoch, UTC."""


def read_clock() -> int:
    """Return the machine's wall clock."""
    return time.time_ns() // 1_000_000
