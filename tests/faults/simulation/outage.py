"""One dead hour: a queue of reminders, a provider that answers nothing useful until it is back, and the drain after."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from app.mapping.provider import ProviderSettings
from app.model.delivery import Accepted, Delivery, Outcome, Reason, Retryable, Scope, State, Uncertain
from app.model.event import Event
from app.model.message import Message
from app.observe.logs import Log
from app.providers.base import Provider, Sent
from app.relay import Snapshot
from app.relay.dispatcher import Dispatcher
from tests.contexts import build_context
from tests.faults.simulation.loop import VirtualLoop
from tests.faults.simulation.store import InlineWriter, MemoryOutbox, StoreFaults, open_memory
from tests.faults.simulation.trace import Trace, TraceLog

BASE_MS = 1_793_000_000_000
OUTAGE_S = 3_600.0
RAMP_S = 60.0
ANSWER_S = 0.05
AN_EVENT = 500  # deliveries that are added in one transaction
MIX = ("503", "500", "timeout")  # each of them reaches the provider


@dataclass(frozen=True)
class Queue:
    """How much waits when the outage begins, and when it ends to be true."""

    deliveries: int
    rate: int
    seed: int
    stop_after: int | None = None  # requests to the dead provider after which there is nothing more to learn


@dataclass
class Drained:
    """What reached the provider, by the loop's time, and what became of each delivery."""

    queue: Queue
    dead_requests: int = 0
    taken: list[tuple[float, int]] = field(default_factory=list)  # (when, number of the delivery)
    late: list[int] = field(default_factory=list)
    busiest_second: int = 0
    states: Counter[str] = field(default_factory=Counter)
    expired: list[int] = field(default_factory=list)
    tried: set[int] = field(default_factory=set)  # while the provider was dead
    deadlines: list[float] = field(default_factory=list)
    ended_at: float = 0.0


class DeadProvider:
    """Takes nothing for an hour, then everything. Counts every request."""

    def __init__(self, loop: VirtualLoop, random: Random, drained: Drained) -> None:
        self._loop = loop
        self._random = random
        self._drained = drained
        self._last_second: deque[float] = deque()

    async def send(
        self,
        provider: Provider,  # noqa: ARG002 - the seam
        message: Message,  # noqa: ARG002 - the seam
        delivery_id: str,
        *,
        write_within_ms: int,
        **_: object,
    ) -> Sent:
        """Answer one request."""
        now, number, drained = self._loop.time(), int(delivery_id), self._drained
        if write_within_ms <= 0 or now >= drained.deadlines[number]:
            drained.late.append(number)
        self._count(now)
        if now < OUTAGE_S:
            drained.dead_requests += 1
            drained.tried.add(number)
            return Sent(await self._fail(), 1)
        drained.taken.append((now, number))
        await asyncio.sleep(ANSWER_S)
        return Sent(Accepted(delivery_id), 1)

    async def close(self) -> None:
        """Hold nothing."""

    async def _fail(self) -> Outcome:
        match self._random.choice(MIX):
            case "503":
                await asyncio.sleep(ANSWER_S)
                return Retryable(Reason.UNAVAILABLE, Scope.PROVIDER)
            case "500":
                await asyncio.sleep(ANSWER_S)
                return Retryable(Reason.SERVER_ERROR)
            case _:
                await asyncio.sleep(10)
                return Uncertain(Reason.TIMED_OUT)

    def _count(self, now: float) -> None:
        self._last_second.append(now)
        while self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self._drained.busiest_second = max(self._drained.busiest_second, len(self._last_second))


def drain_queue(queue: Queue) -> Drained:
    """Play the outage and the drain; return what was seen."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_drain(queue))


async def _drain(queue: Queue) -> Drained:
    loop = cast(VirtualLoop, asyncio.get_running_loop())
    random = Random(queue.seed)  # noqa: S311 - to be repeated, not to be secret
    drained = Drained(queue)
    db = open_memory()

    def read_clock() -> int:
        return BASE_MS + int(loop.time() * 1000)

    writer = InlineWriter(db, StoreFaults(random), lambda *_: None, lambda: None, read_clock)
    outbox = MemoryOutbox(db, writer)
    for event, deliveries in _make_events(queue, random, drained):
        await outbox.add_event(event, deliveries)
    provider = DeadProvider(loop, random, drained)
    died: list[BaseException] = []
    dispatcher = _start_dispatcher(loop, outbox, provider, queue.rate, died)
    while not died and not _is_over(db, drained):
        await asyncio.sleep(20)
    await dispatcher.drain(20)
    assert not died, died
    drained.states.update(dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state")))
    drained.expired = [int(id_) for (id_,) in db.execute("SELECT id FROM deliveries WHERE state = 'expired'")]
    drained.ended_at = max((when for when, _ in drained.taken), default=0.0)
    db.close()
    return drained


def _start_dispatcher(
    loop: VirtualLoop, outbox: MemoryOutbox, provider: DeadProvider, rate: int, died: list[BaseException]
) -> Dispatcher:
    log = cast(Log, TraceLog(Trace(loop.time)))

    async def open_sender(_settings: ProviderSettings) -> DeadProvider:
        return provider

    def read_clock() -> int:
        return BASE_MS + int(loop.time() * 1000)

    parts = build_context(outbox, read_clock, random=Random(1).random, log=log)  # noqa: S311
    dispatcher = Dispatcher(parts, open_sender, died.append)
    settings = ProviderSettings(type="gallabox", rate=f"{rate}/s")
    dispatcher.start()
    dispatcher.use(cast(Snapshot, _Rules(settings)))
    return dispatcher


class _Rules:
    """As much of a snapshot as the dispatcher reads: one account."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.config: Any = self
        self.providers = {"gallabox": settings}


def _is_over(db: sqlite3.Connection, drained: Drained) -> bool:
    stop_after = drained.queue.stop_after
    if stop_after is not None and drained.dead_requests > stop_after:
        return True
    waiting = (
        "SELECT 1 FROM deliveries WHERE state IN ('pending', 'sending') OR due_at IS NOT NULL AND state = 'unknown'"
    )
    return db.execute(f"{waiting} LIMIT 1").fetchone() is None


def _make_events(queue: Queue, random: Random, drained: Drained) -> Iterator[tuple[Event, list[Delivery]]]:
    """Yield the queue. One in twenty runs out while the provider is dead, one while the rest drains."""
    numbers = iter(range(queue.deliveries))
    drain_s = queue.deliveries / queue.rate
    while some := list(itertools.islice(numbers, AN_EVENT)):
        event = Event(f"event-{some[0]}", "nector", "coinexpirynotify_create", f"{some[0]}", b"{}", {}, BASE_MS)
        for number in some:
            limits = {0: (1, OUTAGE_S - 1), 1: (OUTAGE_S + 1, OUTAGE_S + drain_s)}
            low, high = limits.get(number % 20, (86_400, 86_400))
            drained.deadlines.append(int(random.uniform(low, high) * 1000) / 1000)
        yield event, [_make_delivery(event, number, drained.deadlines[number]) for number in some]


def _make_delivery(event: Event, number: int, deadline_s: float) -> Delivery:
    recipient = f"+9198000{number:05}"
    return Delivery(
        id=f"{number:06}",
        event_id=event.id,
        route="coins-expire",
        provider="gallabox",
        template="coins_expire",
        recipient=recipient,
        message=Message(recipient, "coins_expire"),
        state=State.PENDING,
        reason=None,
        created_at=BASE_MS,
        due_at=BASE_MS,
        deadline_at=BASE_MS + int(deadline_s * 1000),
        on_unknown="resend",
    )
