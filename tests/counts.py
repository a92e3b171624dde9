"""How often a long test does what it does."""

from __future__ import annotations

import os


def read_count(usual: int) -> int:
    """Return `RELAY_TEST_COUNT`, by which one long test can be run longer or shorter by itself; else the usual one."""
    return int(os.environ.get("RELAY_TEST_COUNT") or usual)
