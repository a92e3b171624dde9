"""Forgetting: events whose deliveries have all ended go, with all that hangs on them: the file stays bounded."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forgotten:
    """One step: how many events went, and after which event (seq) the next step starts; None: that was the last."""

    events: int
    after: int | None


def forget_events(db: sqlite3.Connection, before: int, after: int) -> Forgotten:
    """Delete what may be forgotten of the next events."""
    raise NotImplementedError
