"""The known-bad controls: relays with one guarantee taken out, to show that the tests would notice.

Run as `python broken_relay.py FAULT serve …`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Sequence

from app.core.models import Delivery, Event, State
from app.intake import Answer, OutboxTaker
from app.outbox import closing
from app.outbox.base import DeliveryState


def acknowledge_first() -> None:
    """Answer 202 before the commit, as a background task would."""
    take = OutboxTaker.take
    late: set[asyncio.Task[Answer]] = set()

    async def take_later(self: OutboxTaker, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        async def commit() -> Answer:
            await asyncio.sleep(0.5)
            return await take(self, event, deliveries)

        late.add(asyncio.create_task(commit()))
        rows = tuple(DeliveryState(row.id, row.route, row.provider, State.PENDING) for row in deliveries)
        return Answer(202, event.id, "accepted", rows)

    OutboxTaker.take = take_later  # type: ignore[method-assign]  # the fault itself


def resend_open() -> None:
    """At start, send again whatever was in flight, as a queue with at-least-once delivery does."""

    def recover(db: sqlite3.Connection, now: int, settle_ms: int) -> int:
        del settle_ms
        return db.execute(
            "UPDATE deliveries SET state = 'pending', due_at = ? WHERE state = 'sending'", (now,)
        ).rowcount

    closing.recover_open_attempts = recover


FAULTS: dict[str, Callable[[], None]] = {"acknowledge_first": acknowledge_first, "resend_open": resend_open}


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    from app.__main__ import main

    main()
