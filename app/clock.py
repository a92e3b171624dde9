"""The clocks that are passed in, the wall's, which may be set, and one that nobody can set; ids that sort by them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns now: ms since the Unix epoch, UTC."""


def read_clock() -> int:
    """Return the machine's wall clock."""
    return time.time_ns() // 1_000_000


class WatchedClock:
    """A `Clock` that remembers the latest it has shown, for whoever is to notice that it was set back."""

    def __init__(self, read: Clock | None = None) -> None:
        self._read = read  # None: the machine's, which is asked here and not by one more call
        self.newest = 0

    def __call__(self) -> int:
        """Return now."""
        now = time.time_ns() // 1_000_000 if self._read is None else self._read()
        if now > self.newest:  # noqa: PLR1730  # asked ten times an event, of which `max` would take half
            self.newest = now
        return now

    def forget(self, now: int) -> None:
        """Take `now` for the latest: what waits was moved back with the clock."""
        self.newest = now


def read_uptime() -> int:
    """Return ms on a clock that nobody can set; it counts a suspended machine's sleep where the system can."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


# -- ids: UUIDv7 text, which a provider can take as it is ---------------------------------------------

NewId = Callable[[int], str]
"""Makes an id for something that happens at this instant (ms since the epoch)."""

_DRAWN_AT_ONCE = 512
"""So many ids' random bytes are drawn together: each draw lets other threads in, and waits until they let go again."""
_RANDOM = int("0fff3fffffffffffffff" * _DRAWN_AT_ONCE, 16)
_FIXED = int("70008000000000000000" * _DRAWN_AT_ONCE, 16)  # the version, and the variant
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)  # or two processes would make one id


def new_uuid7(now: int) -> str:
    """Return a UUIDv7 (RFC 9562 §5.7) for `now`, in its 36-character form."""
    while not _drawn:
        bits = f"{int.from_bytes(os.urandom(10 * _DRAWN_AT_ONCE)) & _RANDOM | _FIXED:x}"
        _drawn.extend(bits[start : start + 20] for start in range(0, len(bits), 20))
    at, drawn = f"{now:012x}", _drawn.pop()
    return f"{at[:8]}-{at[8:]}-{drawn[:4]}-{drawn[4:8]}-{drawn[8:]}"
