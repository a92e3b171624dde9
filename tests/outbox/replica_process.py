"""A replica in a process of its own: claims, "sends" by a line in a file, closes, sweeps; until nothing is left.

python -m tests.outbox.replica_process URL RATE LINES
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from app.model.delivery import Attempt, State
from app.outbox.read import count_deliveries
from app.outbox.sweep import sweep
from tests.outbox import fleet
from tests.outbox.postgres_outbox import PostgresOutbox

SEND_S = 0.3  # so that whoever is killed has some open


class Sending(fleet.Replica):
    """One that notes each message as it leaves."""

    lines = -1

    async def close(self, attempt: Attempt) -> None:
        os.write(self.lines, f"{attempt.delivery.id}\n".encode())
        await asyncio.sleep(SEND_S)
        await super().close(attempt)


async def work(url: str, rate: float, lines: Path) -> None:
    fleet.LEASE_MS = int(os.environ.get("LEASE_MS", fleet.LEASE_MS))
    store = PostgresOutbox(url)
    replica = Sending(store, rate)
    replica.lines = os.open(lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    running = asyncio.create_task(replica.run())
    print("running", flush=True)  # noqa: T201  # whoever started it waits for that
    while not running.done():
        await sweep(store, store.clock(), 0)
        counts = await store.read(count_deliveries)
        if not any(n for (_, state), n in counts.items() if state in (State.PENDING, State.SENDING)):
            replica.stopped = True
        await asyncio.sleep(0.5)
    await running
    await store.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
