"""Counts in words."""

from __future__ import annotations


def count_nouns(number: int, one: str, many: str = "") -> str:
    """Return `1 route`, `2 routes`; `many` where an s does not make it."""
    return f"{number} {one if number == 1 else many or one + 's'}"
