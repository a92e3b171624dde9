"""What production does to the outbox, all of it at once, with every acknowledgement written down.

Run under the recorder as `python -m tests.faults.power.workload FOLDER SEED FIRST EVENTS SYNCHRONOUS CHECKPOINT MODE`:
adds EVENTS events from number FIRST on, closes and reopens the store half-way, and ends without closing it.
CHECKPOINT: pages of log after which SQLite writes it back. MODE: `keep`, `forget` to delete old events, too, or
`early` to acknowledge events before they are committed. A line of the file `acks` is a JSON list, see promises.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from app.delivery.decide import Decision
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, Reason, Rejected, Retryable, State, Uncertain
from app.model.event import Event
from app.model.message import Message, Receipt, ReceiptStatus, Variable
from app.outbox.sqlite import file as opening
from app.outbox.values import LaneState
from tests.outbox.methods import SqliteOutbox

DATABASE = "relay.db"
ACKS = "acks"
NOW = 1_790_000_000_000
STEP_MS = 20
LEASE_MS = 6_000  # nobody here is late: only attempts that are never ended run out
DAY_MS = 86_400_000
PROVIDERS = ("gallabox", "bitespeed")
ADDERS = 10


def build_event(number: int, at: int = NOW) -> tuple[Event, list[Delivery]]:
    """Return the event of a number, the same one each time but for its instants."""
    random = Random(number)  # noqa: S311  # no secret
    body = random.randbytes(random.choice((80, 600, 1_500, 6_000)))
    event = Event(f"evt-{number:06}", "nector", "coupon_create", f"source-{number}", body, {}, at)
    routes = random.sample(("coupon-ready", "coins-earned", "review-asked"), random.choice((0, 1, 1, 1, 2, 3)))
    return event, [_build_delivery(event, route, number, n, random) for n, route in enumerate(routes)]


def _build_delivery(event: Event, route: str, number: int, n: int, random: Random) -> Delivery:
    recipient = f"+9198000{number * 3 + n:05}"
    message = Message(recipient, route, "Riya", variables=(Variable("1", "x" * random.randrange(300)),))
    at = event.received_at
    deadline_at = at + random.choice((2_000, DAY_MS, DAY_MS, DAY_MS))
    return Delivery(
        f"dlv-{number:06}-{n}", event.id, route, random.choice(PROVIDERS), route, recipient, message,
        State.PENDING, None, at, at, deadline_at, dedup_key=f"key-{number}", priority=random.choice((0, 0, 5)),
        on_unknown=random.choice(("hold", "resend")), config_hash="c0ffee",
    )  # fmt: skip


class Workload:
    """One life of the store. `now` moves on with everything that is asked of it."""

    def __init__(self, store: SqliteOutbox, acks: int, random: Random, now: int) -> None:
        self.store = store
        self.random = random
        self.now = now
        self.honest = True
        self.forgets = False
        self._acks = acks
        self._adding = True
        self._failures: dict[str, int] = {}
        self._dead: list[str] = []

    def tell(self, *promise: object) -> None:
        os.write(self._acks, json.dumps(promise).encode() + b"\n")

    def tick(self) -> int:
        self.now += STEP_MS
        return self.now

    async def run(self, numbers: range) -> None:
        waiting = iter(numbers)
        self._failures = {name: (await self.store.read_lane(name)).failures for name in PROVIDERS}
        senders = [asyncio.create_task(self.send(provider)) for provider in PROVIDERS]
        keeper = asyncio.create_task(self.keep())
        await asyncio.gather(*(self.add(waiting) for _ in range(ADDERS)))
        self._adding = False
        await asyncio.gather(keeper, *senders)

    async def add(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            event, deliveries = build_event(number, self.tick())
            promise = ("added", event.id, event.received_at, [delivery.id for delivery in deliveries])
            if not self.honest:
                self.tell(*promise)
                await asyncio.sleep(0)
            await self.store.add_event(event, deliveries)
            if self.honest:
                self.tell(*promise)
            if self.random.random() < 0.05:  # the source did not hear our answer
                assert (await self.store.add_event(event, deliveries)).duplicate
            await asyncio.sleep(0.001 * self.random.random())

    async def send(self, provider: str) -> None:
        idle = 0
        while self._adding or idle < 3:
            attempts = await self.store.claim_due(provider, self.tick(), self.random.randrange(1, 9), LEASE_MS)
            for attempt in attempts:
                self.tell("opened", attempt.delivery.id, attempt.number)
            await asyncio.gather(*(self.end(attempt) for attempt in attempts))
            idle = 0 if attempts else idle + 1
            if not attempts:
                await asyncio.sleep(0.001)
            elif self.random.random() < 0.2:
                self._failures[provider] += 1
                await self.store.save_lane(provider, LaneState(failures=self._failures[provider]))
                self.tell("lane", provider, self._failures[provider])

    async def end(self, attempt: Attempt) -> None:
        outcome, decision = self.draw_end(attempt)
        if outcome is None or decision is None:
            return  # its lease will run out
        delivery = attempt.delivery
        if (await self.store.close_attempt(attempt, outcome, decision, self.tick(), 1)).recorded:
            name = type(outcome).__name__.lower()
            self.tell("closed", delivery.id, attempt.number, name, decision.state)
            if decision.state is State.DEAD:
                self._dead.append(delivery.id)
        if self.random.random() < 0.4:
            await self.receive(delivery)

    def draw_end(self, attempt: Attempt) -> tuple[Outcome | None, Decision | None]:
        drawn = self.random.random()
        if drawn < 0.6:
            return Accepted(f"wamid-{attempt.delivery.id}"), Decision(State.ACCEPTED)
        if drawn < 0.75:
            why = Reason.UNAVAILABLE
            return Retryable(why), Decision(State.PENDING, why, due_at=self.now + 7_000)
        if drawn < 0.85:
            due_at = self.now + 500 if attempt.delivery.on_unknown == "resend" else None
            return Uncertain(Reason.TIMED_OUT), Decision(State.UNKNOWN, Reason.TIMED_OUT, due_at)
        if drawn < 0.95:
            return Rejected(Reason.REQUEST_REFUSED), Decision(State.DEAD, Reason.REQUEST_REFUSED)
        return None, None

    async def receive(self, delivery: Delivery) -> None:
        for status in (ReceiptStatus.SENT, ReceiptStatus.DELIVERED)[: self.random.randrange(1, 3)]:
            receipt = Receipt(status, delivery.id, None, self.now)
            if (await self.store.apply_receipts(delivery.provider, [receipt], self.tick()))[0].delivery_id:
                self.tell("received", delivery.id, status)

    async def keep(self) -> None:
        """What goes on beside the traffic: holds, sweeps, retries by hand, wiping (which empties the log)."""
        turn = 0
        while self._adding:
            turn += 1
            await self.hold(turn)
            await self.store.sweep(self.tick(), 500)
            await self.retry_some()
            assert await self.store.can_commit()
            if turn % 2 == 0:
                self.tell("wiped", await self.store.wipe_payloads(self.now - 2_000))
            elif self.forgets:
                await self.forget(self.now - 4_000)
            await asyncio.sleep(0.004 * self.random.random())

    async def hold(self, turn: int) -> None:
        scope = f"route:none-{self.now}-{turn}"
        await self.store.put_hold(scope, Reason.BY_HAND, self.tick())
        self.tell("held", scope)
        if turn % 2:
            self.tell("releasing", scope)
            assert await self.store.release_hold(scope, self.tick())
            self.tell("released", scope)

    async def forget(self, before: int) -> None:
        self.tell("forgetting", before)
        self.tell("forgot", await self.store.forget_records(before))

    async def retry_some(self) -> None:
        wanted, self._dead = self._dead[:3], self._dead[3:]
        for delivery_id in await self.store.retry_deliveries(wanted, self.tick()):
            self.tell("retried", delivery_id)


def weaken(synchronous: str, checkpoint: int) -> None:
    """Open the store with other settings than its own."""
    settings = dict(setting.split(" = ") for setting in opening._SETTINGS)
    assert settings["PRAGMA synchronous"] == "FULL"
    settings["PRAGMA synchronous"] = synchronous
    opening._SETTINGS = tuple(f"{name} = {value}" for name, value in settings.items())  # type: ignore[assignment]  # as many as there are
    assert checkpoint * opening.PAGE_BYTES < opening.CHECKPOINT_BYTES
    opening.CHECKPOINT_BYTES = checkpoint * opening.PAGE_BYTES


async def main(folder: Path, seed: int, first: int, events: int, mode: str) -> None:
    random = Random(seed)  # noqa: S311  # no secret
    acks = os.open(folder / ACKS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    half = first + events // 2
    now = NOW + first * STEP_MS * 20
    for numbers in (range(first, half), range(half, first + events)):
        store = SqliteOutbox(folder / DATABASE)
        await store.recover_open_attempts(now + 60_000, 500)
        life = Workload(store, acks, random, now + 120_000)
        life.honest, life.forgets = mode != "early", mode == "forget"
        await life.run(numbers)
        now = life.now
        if numbers.start == first:
            await store.close()
    os._exit(0)  # a crash: the log stays, with whatever is in it


if __name__ == "__main__":
    weaken(sys.argv[5], int(sys.argv[6]))
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[7]))
