"""Stored events again: finding them, keeping a plan of what their replay would send, and applying it once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from app.outbox.adding import FrozenDelivery
from app.outbox.base import DeliveryState, EventFilter, Plan, StoredEvent


def find_events(db: sqlite3.Connection, wanted: EventFilter) -> Sequence[StoredEvent]:
    """Return a page of stored events, oldest first."""
    raise NotImplementedError


def save_plan(db: sqlite3.Connection, plan: Plan) -> None:
    """Keep a plan."""
    raise NotImplementedError


def read_plan(db: sqlite3.Connection, plan_id: str) -> Plan | None:
    """Return a plan."""
    raise NotImplementedError


def apply_plan(
    db: sqlite3.Connection, plan_id: str, deliveries: Sequence[FrozenDelivery], now: int
) -> Sequence[DeliveryState] | None:
    """Add a plan's deliveries to their events and mark it applied."""
    raise NotImplementedError
