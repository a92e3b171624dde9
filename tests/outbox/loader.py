"""The child of test_kill.py: adds, claims and closes without end, and prints the id of each event once added.

Run as `python -m tests.outbox.loader DATABASE honest|"acknowledge first"`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Delivery, State
from app.model.event import Event
from app.model.message import Message
from tests.outbox.methods import SqliteOutbox

NOW = 1_790_000_000_000


async def add_events(store: SqliteOutbox, numbers: itertools.count[int], honest: bool) -> None:
    for number in numbers:
        event = Event(f"evt-{number:07}", "nector", "coupon_create", f"{number}", b"x" * 600, {}, NOW)
        recipient = f"+9198000{number % 100_000:05}"
        delivery = Delivery(
            f"dlv-{number:07}", event.id, "coupon-ready", "gallabox", "coupon_ready", recipient,
            Message(recipient, "coupon_ready"), State.PENDING, None, NOW, NOW, NOW + 86_400_000,
        )  # fmt: skip
        if not honest:
            os.write(1, f"{event.id}\n".encode())
            # Each task its own while: at no instant is everything committed that was acknowledged.
            await asyncio.sleep(0.005 * (number % 20))
        await store.add_event(event, [delivery])
        if honest:
            os.write(1, f"{event.id}\n".encode())


async def send(store: SqliteOutbox) -> None:
    while True:
        for attempt in await store.claim_due("gallabox", NOW, 20, 30_000):
            await store.close_attempt(attempt, Accepted(attempt.delivery.id), Decision(State.ACCEPTED), NOW, 1)


async def main(database: Path, mode: str) -> None:
    store = SqliteOutbox(database)
    numbers = itertools.count()
    await asyncio.gather(*[add_events(store, numbers, mode == "honest") for _ in range(20)], send(store))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
