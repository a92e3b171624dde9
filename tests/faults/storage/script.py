"""The child of test_disk_errors.py: 100 events in, sent and recorded, and a line for each thing that is promised.

Run as `python -m tests.faults.storage.script DATABASE honest|careless`. Ends with 74 where the store broke.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from app.delivery.decide import Decision
from app.errors import StoreBroken, StoreError
from app.model.delivery import Accepted, Attempt, Delivery, State
from app.model.event import Event
from app.model.message import Message
from tests.outbox.methods import SqliteOutbox

NOW = 1_790_000_000_000
EVENTS, TOGETHER = 100, 10


def say(*words: str) -> None:
    os.write(1, f"{' '.join(words)}\n".encode())


async def take(store: SqliteOutbox, number: int, *, honest: bool) -> None:
    event = Event(f"evt-{number:03}", "nector", "coupon_create", f"{number}", b"x" * 900, {}, NOW)
    recipient = f"+9198000{number:05}"
    delivery = Delivery(
        f"dlv-{number:03}", event.id, "coupon-ready", "gallabox", "coupon_ready", recipient,
        Message(recipient, "coupon_ready"), State.PENDING, None, NOW, NOW, NOW + 86_400_000,
    )  # fmt: skip
    try:
        await store.add_event(event, [delivery])
    except StoreError:
        if honest:
            say("503", event.id)
            raise
    say("202", event.id)


async def send(store: SqliteOutbox, attempt: Attempt) -> None:
    say("sent", attempt.delivery.id)
    outcome = Accepted(f"wamid-{attempt.delivery.id}")
    await store.close_attempt(attempt, outcome, Decision(State.ACCEPTED), NOW + 1, 1)
    say("recorded", attempt.delivery.id)


async def run(database: Path, *, honest: bool) -> None:
    store = SqliteOutbox(database)
    # Often, so that writing back into the file is part of the script, too.
    await store._writer.run_alone(lambda db: db.execute("PRAGMA wal_autocheckpoint = 100").fetchall())
    for first in range(0, EVENTS, TOGETHER):
        found = await asyncio.gather(
            *(take(store, number, honest=honest) for number in range(first, first + TOGETHER)), return_exceptions=True
        )
        raise_broken(found)
        try:
            claimed = await store.claim_due("gallabox", NOW, TOGETHER, 30_000)
            raise_broken(await asyncio.gather(*(send(store, each) for each in claimed), return_exceptions=True))
        except StoreError:
            if honest:
                raise
    await store.close()


def raise_broken(found: list[BaseException | None]) -> None:
    """Raise what ends the process; a full disk does not."""
    for error in found:
        if error is not None and (isinstance(error, StoreBroken) or not isinstance(error, StoreError)):
            raise error


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1]), honest=sys.argv[2] == "honest"))
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(74)
