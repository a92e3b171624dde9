"""Several replicas at one outbox: each with a store of its own, which claims and closes as a lane does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.delivery.decide import Decision
from app.delivery.pace import RECIPIENT_GAP_MS, Pace, ready_at, start_pace
from app.message.components import checksum, encode_message
from app.model.delivery import Accepted, Attempt, State
from app.model.message import Message
from app.outbox.batch import Apart
from app.outbox.claim import Claim
from app.outbox.close import Ending, close_attempts
from app.outbox.floors import WALK_EVERY_S
from app.outbox.lanes import add_lane, claim_shared
from app.outbox.store import Job, Tx
from app.outbox.values import Floors
from tests.outbox.postgres_outbox import PostgresOutbox

PROVIDER = "gallabox"
LEASE_MS = 30_000
_ADD_EVENT = """
INSERT INTO events (id, source, topic, received_at, body) VALUES (:id, 'nector', 'coupon_create', :now, :body)
RETURNING seq
"""
_FILL = """
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, message, checksum, state, detail,
    due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, steps)
SELECT :route || '-' || n, :seq, :route, 'gallabox', 'tpl', 0, '+9198000' || lpad(CAST(n % :people AS TEXT), 5, '0') ||
    :route, :message, :checksum, 'pending', '', :now - :ago_ms, :now + 86400000, :now, :now, 'hold', '', 1
FROM generate_series(1, CAST(:count AS BIGINT)) AS n
"""


def fill(tx: Tx, route: str, count: int, people: int | None = None, ago_ms: int = 0) -> None:
    """Add one event with many deliveries, each to somebody else unless there are fewer people."""
    message = encode_message(Message("+919800000001", "tpl"))
    (event,) = tx.rows(_ADD_EVENT, id=f"evt-{route}", now=tx.now, body=b"{}")
    more = {"message": message, "checksum": checksum(message), "now": tx.now}
    tx.run(_FILL, route=route, seq=event.seq, count=count, people=people or count + 1, ago_ms=ago_ms, **more)


@dataclass
class Replica:
    """One that claims for a lane at its pace and closes what it got; `stop` ends it."""

    store: PostgresOutbox
    rate_per_s: float
    places: int = 64
    pace: Pace = field(init=False)
    sent: list[Attempt] = field(default_factory=list)
    stopped: bool = False
    floors: Floors = field(default_factory=dict)
    walk_at: int = 0

    def __post_init__(self) -> None:
        self.pace = start_pace(self.rate_per_s, self.store.clock())

    async def claim(self) -> Sequence[Attempt]:
        now = self.store.clock()
        walks, floors = (True, {}) if now >= self.walk_at else (False, self.floors)
        claim = Claim(PROVIDER, 0, self.places, LEASE_MS, RECIPIENT_GAP_MS, floors=floors)
        done = await self.store.write(Apart(lambda tx: claim_shared(tx, claim, self.rate_per_s, 0, ())))
        if done is None:
            return ()
        claimed, self.pace = done
        if claimed.floors is not None:
            self.floors = {**self.floors, **claimed.floors}
            self.walk_at = now + int(WALK_EVERY_S * 1000) if walks else self.walk_at
        return claimed.attempts

    async def run(self) -> None:
        await self.store.write(partial(add_lane, provider=PROVIDER))
        while not self.stopped:
            attempts = await self.claim()
            await asyncio.gather(*(self.close(attempt) for attempt in attempts))
            self.sent += attempts
            now = self.store.clock()
            await asyncio.sleep(max(ready_at(self.pace, now) - now, 2) / 1000)

    async def close(self, attempt: Attempt) -> None:
        await self.store.write(Job(close_attempts, Ending(attempt, Accepted(), Decision(State.ACCEPTED), 1)))


async def run_fleet(replicas: Sequence[Replica], is_enough: Callable[[], Awaitable[bool] | bool]) -> None:
    """Let them run until it is enough."""
    tasks = [asyncio.create_task(replica.run()) for replica in replicas]
    try:
        async with asyncio.timeout(100):
            while not is_enough():
                await asyncio.sleep(0.05)
                for task in tasks:
                    if task.done():
                        task.result()
    finally:
        for replica in replicas:
            replica.stopped = True
        await asyncio.gather(*tasks)


@dataclass(frozen=True)
class Sends:
    """All attempts in the order of the database's time: (started at, recipient, route)."""

    rows: Sequence[Any]

    def most_in_a_second(self) -> int:
        times, first, most = [row.started_at for row in self.rows], 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - 1_000:
                first += 1
            most = max(most, last - first + 1)
        return most

    def count_gaps(self) -> int:
        """Return how many left less than the gap after the one before to the same person."""
        last: dict[str, int] = {}
        found = 0
        for row in self.rows:
            found += row.started_at - last.get(row.recipient, -(2**62)) < RECIPIENT_GAP_MS
            last[row.recipient] = row.started_at
        return found

    def place_of_last(self, route: str) -> int:
        """Return how many had gone when the last of a route went."""
        return max((place for place, row in enumerate(self.rows, start=1) if row.route == route), default=0)

    def count(self, route: str) -> int:
        return sum(row.route == route for row in self.rows)


def read_sends(tx: Tx) -> Sends:
    return Sends(
        tx.rows("""SELECT a.started_at, d.recipient, d.route FROM attempts a
        JOIN deliveries d ON d.seq = a.delivery_seq ORDER BY a.started_at, d.seq""")
    )
