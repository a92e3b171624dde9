"""The dispatcher: a lane for each provider, a sweeper for what time alone changes, and the way they stop."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.errors import RelayError, StoreBroken, StoreError
from app.observe.logs import Log
from app.outbox.retention import forget_records, wipe_payloads
from app.outbox.sweep import BEHIND_MS, shift_waits, sweep
from app.relay.lane import Lane, LaneParts, Turns
from app.relay.snapshot import Snapshot

SWEEP_EVERY_S = 5.0
RECORDING_S = 2.0  # what a given-up send has to write down that it is unknown
WIPE_EVERY_SWEEPS = 720  # about once an hour


@dataclass(frozen=True, slots=True)
class Retention:
    """How long after its last state a payload, and then the whole record, is kept. In ms."""

    payload_ms: int
    record_ms: int


class Dispatcher:
    """Runs the lanes of the rules in force.

    `on_dead` is told when a task dies, for the process must then end: a relay that takes events and sends
    none is worse than one that is down.
    """

    def __init__(self, parts: LaneParts, retention: Retention, on_dead: Callable[[BaseException], None]) -> None:
        self._parts = parts
        self._retention = retention
        self._on_dead = on_dead
        self._lanes: dict[str, Lane] = {}
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)  # by provider: a lane's successor goes by them, too
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[Lane, None] = {}  # in their order, those that are being replaced included
        self._newest = 0  # that the clock has shown
        self._in_doubt = True  # whether the outbox's waits were moved with the clock: at the start nobody knows

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lanes at work, by provider name."""
        return self._lanes

    async def follow_clock(self) -> None:
        """If the clock was set back, move what waits with it: in the outbox, and in what lanes remember.

        Each sweep begins with it, and so does the start, before anything else reckons from now. Raises StoreError.
        """
        parts, now, newest = self._parts, self._parts.clock(), self._newest
        is_behind = newest - now > BEHIND_MS
        self._newest = now if is_behind else max(newest, now)
        if is_behind:
            # Told before the commit is waited for: what a lane writes from here on comes behind it, in the new time.
            self._shift_lanes(now - newest)
        if is_behind or self._in_doubt:
            job = partial(shift_waits, newest=None if self._in_doubt else newest)
            self._in_doubt = True
            by_ms = await parts.outbox.write(job, essential=True)
            self._in_doubt = False
            if by_ms:
                parts.metrics.clock_steps.inc()
                parts.log.warning("clock.stepped", by_s=by_ms / 1000)

    def _shift_lanes(self, by_ms: int) -> None:
        for turns in self._turns.values():
            turns.shift(by_ms, self._newest)
        for lane in self._running:
            lane.shift(by_ms)

    def start(self) -> None:
        """Begin to look after the outbox; `use` then starts the lanes."""
        self._start_task(self._sweep(), "sweeper")

    def use(self, snapshot: Snapshot) -> None:
        """Take over new rules: a lane whose account changed is replaced, what it has open still ends there."""
        for name, lane in list(self._lanes.items()):
            if snapshot.config.providers.get(name) != lane.settings:
                del self._lanes[name]
                lane.stop()
        for name, settings in snapshot.config.providers.items():
            if name not in self._lanes:
                lane = Lane(name, settings, snapshot.providers[name], self._parts, self._turns[name])
                self._lanes[name] = lane
                self._running[lane] = None
                self._start_task(lane.run(), f"lane {name}").add_done_callback(partial(self._forget, lane))

    def wake(self, provider: str) -> None:
        """Tell a lane that something may have become due."""
        lane = self._lanes.get(provider)
        if lane is not None:
            lane.wake()

    def wake_all(self) -> None:
        """Tell every lane: a hold ended, or deliveries were made pending by hand."""
        for lane in self._lanes.values():
            lane.wake()

    def stop_claiming(self) -> None:
        """Begin no new send; what is open goes on."""
        for lane in self._lanes.values():
            lane.stop()

    async def drain(self, grace_s: float) -> None:
        """Stop claiming, let open sends finish inside the grace period, then give up those that are left."""
        lanes = list(self._lanes.values())
        self.stop_claiming()
        sending = {task for task in self._tasks if task.get_name().startswith("lane ")}
        for task in self._tasks - sending:
            task.cancel()
        if sending and (late := (await asyncio.wait(sending, timeout=grace_s))[1]):
            for lane in lanes:
                lane.give_up_open()
            await asyncio.wait(late, timeout=RECORDING_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._watch)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report_death(task.get_name(), error, self._parts.log, self._on_dead)

    def _forget(self, lane: Lane, _task: asyncio.Task[None]) -> None:
        self._running.pop(lane, None)

    async def _sweep(self) -> None:
        rounds = 0
        while True:
            try:
                await self._sweep_once(wipe=rounds % WIPE_EVERY_SWEEPS == 0)
            except StoreBroken:
                raise
            except StoreError as error:
                self._parts.metrics.store_errors.labels("sweep").inc()
                self._parts.log.warning("sweep.failed", detail=str(error))
            rounds += 1
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _sweep_once(self, *, wipe: bool) -> None:
        outbox = self._parts.outbox
        await self.follow_clock()
        now = self._parts.clock()
        swept = await sweep(outbox, now, self._parts.settle_ms)
        if swept.expired or swept.resent or swept.lost:
            self._parts.log.info("outbox.swept", expired=swept.expired, resent=swept.resent, lost=swept.lost)
        if swept.resent:
            self.wake_all()
        if wipe:
            forgotten = await forget_records(outbox, now - self._retention.record_ms)
            self._parts.log.info("outbox.forgotten", events=forgotten)
            # Last, for it empties the log: what was forgotten must not stay readable there, either.
            wiped = await wipe_payloads(outbox, now - self._retention.payload_ms)
            self._parts.log.info("outbox.wiped", payloads=wiped)


def report_death(task: str, error: BaseException, log: Log, on_dead: Callable[[BaseException], None]) -> None:
    """Say what died and where, and have the process end; of a group of errors, its first is what happened."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        detail = str(error) if isinstance(error, RelayError) else None  # others' texts may hold a customer's values
        log.critical("task.died", task=task, detail=detail, exc_info=error)
    finally:  # whatever became of the line
        on_dead(error)
