"""Figures of several rounds: medians with their spread, and ratios round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: a value that was really measured."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    def show(self, digits: int = 0) -> str:
        """Return `median [lowest..highest]`."""
        return f"{self.median:,.{digits}f} [{self.lowest:,.{digits}f}..{self.highest:,.{digits}f}]"


def summarise(values: Sequence[float]) -> Spread:
    """Return the spread of the rounds' values."""
    return Spread(statistics.median(values), min(values), max(values))


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of ours ÷ theirs, each pair of neighbouring rounds by itself."""
    return summarise([our / their for our, their in zip(ours, theirs, strict=True)])
