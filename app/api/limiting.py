"""Failures are counted by address, so that nobody goes on for ever, and by kind, so that the log stays short."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

# More than a person with a wrong secret in a dashboard needs, and nothing to somebody who guesses.
BURST = 300
REFILL_MS = 1_000
MOST_ADDRESSES = 4_096
LINE_MS = 60_000


class FailureLimit:
    """Each address may fail `BURST` times at once, and then once a second. The oldest of too many is forgotten."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()  # how many are left, and when they were

    def count(self, address: str, now: int) -> bool:
        """Count one failure; tell whether it was one too many."""
        left, at = self._left.pop(address, (BURST, now))
        left = min(left + max(now - at, 0) / REFILL_MS, BURST)
        if len(self._left) >= MOST_ADDRESSES:
            self._left.popitem(last=False)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        return left < 1


class LineLimit:
    """One line a minute for each kind. `count` returns how many were left out since the last one, None for no line."""

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[int, int]] = {}

    def count(self, kind: Hashable, now: int) -> int | None:
        """Count one; return how many were not told since the last line if this one is to be told."""
        at, untold = self._told.get(kind, (None, 0))
        if at is not None and now - at < LINE_MS:
            self._told[kind] = (at, untold + 1)
            return None
        self._told[kind] = (now, 0)
        return untold
