"""One simulated relay process: the real intake, dispatcher, lanes and receipts over the world's database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from app.clock import Clock, NewId, WatchedClock
from app.errors import Refusal, StoreBroken
from app.model.delivery import Delivery
from app.model.event import Event
from app.observe.logs import Log
from app.observe.metrics import Metrics
from app.outbox import close
from app.providers.base import OpenSender
from app.relay.dispatcher import Dispatcher
from app.relay.intake import Answer, accept_event, store_event
from app.relay.receipts import accept_receipts
from tests.contexts import build_context
from tests.faults.simulation.handset import Webhook as ReceiptWebhook
from tests.faults.simulation.loop import PROCESS, VirtualLoop
from tests.faults.simulation.rules import Webhook, load_rules, load_settings
from tests.faults.simulation.store import MemoryOutbox
from tests.faults.simulation.trace import Trace, TraceLog

SETTLE_MS = 900_000
GRACE_S = 20.0
PAYLOADS_MS = 40 * 3_600_000  # so that some are wiped inside the simulated days
RECORDS_MS = 30 * 86_400_000
CANCEL_AGAIN_S = 1.0


@dataclass(frozen=True)
class Surroundings:
    """What a process is given: nothing of it is its own but the open tasks."""

    loop: VirtualLoop
    trace: Trace
    metrics: Metrics
    read_wall: Clock
    new_id: NewId
    draw: Callable[[], float]
    open_sender: OpenSender
    fail: Callable[[str], None]


class Process:
    """A relay from its start to its death. `ended` is set by whatever ends it."""

    def __init__(self, number: int, version: int, outbox: MemoryOutbox, around: Surroundings) -> None:
        self.number = number
        self.outbox = outbox
        self.listening = False
        self.ended = asyncio.Event()
        self._version = version
        self._around = around
        self._context = copy_context()
        self._context.run(PROCESS.set, number)
        log = cast(Log, TraceLog(around.trace))
        clock = outbox.inline.clock = WatchedClock(around.read_wall)
        self.parts = build_context(
            outbox,
            clock,
            settings=load_settings(SETTLE_MS, PAYLOADS_MS, RECORDS_MS),
            snapshot=load_rules(version),
            new_id=around.new_id,
            metrics=around.metrics,
            log=log,
            wake=self._wake,
            random=around.draw,
        )
        self.dispatcher: Dispatcher = Dispatcher(self.parts, around.open_sender, self._die)

    def _wake(self, provider: str) -> None:
        self.dispatcher.wake(provider)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something inside this process: it dies with it."""
        return self._around.loop.create_task(work, context=self._context)

    async def open(self) -> None:
        """As relay.Relay.open: settle what the last one left open, then start the lanes, then listen."""
        await self.dispatcher.follow_clock()
        await self.outbox.write(partial(close.recover_open_attempts, settle_ms=SETTLE_MS), essential=True)
        self.dispatcher.start()
        self.dispatcher.use(load_rules(self._version))

    def reload(self, version: int) -> None:
        """Put another version of the rules in force."""
        self._version = version
        self.parts.snapshot = load_rules(version)
        self._context.run(self.dispatcher.use, self.parts.snapshot)

    def post(self, webhook: Webhook) -> asyncio.Task[Answer | Refusal]:
        """Take one webhook."""
        return self.run(accept_event(self.parts, self._store, webhook.headers, webhook.body))

    async def _store(self, event: Event, deliveries: Sequence[Delivery]) -> Answer:
        return await store_event(self.parts, lambda _: None, event, deliveries)

    def post_receipt(self, provider: str, webhook: ReceiptWebhook) -> asyncio.Task[int]:
        """Take one receipt."""
        return self.run(accept_receipts(self.parts, provider, *webhook))

    def kill(self) -> None:
        """End like SIGKILL: nothing that its code still does reaches the store."""
        self.listening = False
        self.outbox.kill()
        self._cancel_tasks()
        self.ended.set()

    def _cancel_tasks(self) -> None:
        """Cancel until nothing is left: to a send that is a reason to write down an outcome, not to end."""
        tasks = self._around.loop.list_tasks(self.number)
        for task in tasks:
            task.cancel()
        if tasks:
            self._around.loop.call_later(CANCEL_AGAIN_S, self._cancel_tasks)

    async def stop(self) -> None:
        """End like SIGTERM."""
        self.listening = False
        await self.run(self.dispatcher.drain(GRACE_S))
        self.kill()

    def _die(self, error: BaseException) -> None:
        if not isinstance(_find_first(error), StoreBroken):
            self._around.fail(f"a task died: {_find_first(error)!r}")
        self.kill()


def _find_first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
