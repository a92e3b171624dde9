"""The dispatcher: a lane for each provider, a sweeper for what time alone changes, and the way they stop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from app.delivery.pace import Pace, Turns
from app.errors import StoreBroken, StoreError
from app.observe.logs import Log
from app.outbox.claim import find_oldest_due
from app.outbox.close import recover_open_attempts, settle_restored
from app.outbox.holds import list_holds
from app.outbox.people import count_suppressions
from app.outbox.read import count_deliveries, count_reached, read_last_events
from app.outbox.retention import count_unrouted, forget_records, wipe_payloads
from app.outbox.sweep import BEHIND_MS, shift_waits, sweep
from app.outbox.values import Replica, list_differences
from app.providers.base import OpenSender
from app.relay import Context, Relay, Snapshot, report_death
from app.relay.intake import topic_label
from app.relay.lane import Lane
from app.relay.recorder import Recorder
from app.relay.shared_lane import SharedLane
from app.values.instant import format_duration

SWEEP_EVERY_S = 5.0
STOOD_STILL_MS = 20_000  # between two sweeps: no load is that heavy
RECORDING_S = 2.0  # what a given-up send has to write down that it is unknown
WIPE_EVERY_SWEEPS = 720  # about once an hour
# A lane that has not looked at the outbox for so long is stuck (it naps 5 s at most).
STUCK_S = 60.0
# Prometheus gives up a scrape after 10 s: what else there is to show must not be lost with it.
LONGEST_COUNT_S = 3.0


class Dispatcher:
    """Runs the lanes of the rules in force; `on_dead` is told when a task dies, for the process must end."""

    def __init__(self, context: Context, open_sender: OpenSender, on_dead: Callable[[BaseException], None]) -> None:
        self._context, self._open_sender, self._on_dead = context, open_sender, on_dead
        self.lanes: dict[str, Lane] = {}  # those at work, by provider name
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)  # by provider: a lane's successor goes by them, too
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[Lane, None] = {}  # in their order, those that are being replaced included
        self.beside: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}  # what else runs while the lanes do
        self._kind = Lane if context.outbox.fleet is None else SharedLane
        self.replicas: Sequence[Replica] = ()  # those that were there lately; none where this one is alone
        self._in_doubt = True  # whether the outbox's waits were moved with the clock: at the start nobody knows

    def show_paces(self) -> Mapping[str, Pace]:
        """Return how fast each lane may go now, by provider name."""
        return {name: lane.pace for name, lane in self.lanes.items()}

    async def follow_clock(self) -> None:
        """If the clock was set back, move what waits with it, in the outbox and in the lanes. Raises StoreError."""
        context, now, newest = self._context, self._context.clock(), self._context.clock.newest
        is_behind = newest - now > BEHIND_MS
        if is_behind:
            context.clock.forget(now)
            # Told before the commit is waited for: what a lane writes from here on comes behind it, in the new time.
            self._shift_lanes(now - newest, now)
        if is_behind or self._in_doubt:
            # Of several replicas one moves the waits: what the store has noted decides, and not what each remembers.
            is_known = not self._in_doubt and context.outbox.fleet is None
            job = partial(shift_waits, newest=newest if is_known else None)
            self._in_doubt = True
            by_ms = await context.outbox.write(job, essential=True)
            self._in_doubt = False
            if by_ms:
                context.metrics.clock_steps.inc()
                context.log.warning("clock.stepped", by_s=by_ms / 1000)

    async def note_replica(self) -> None:
        """Tell the other replicas what this one runs, and see what they run. Raises StoreError."""
        context, fleet = self._context, self._context.outbox.fleet
        if fleet is None:
            return
        before = list_differences(self.replicas)
        self.replicas = await fleet.note(version("nector-relay"), context.snapshot.config.hash)
        context.metrics.replicas.replace(Counter((each.release, each.config) for each in self.replicas))
        if (differ := list_differences(self.replicas)) != before:
            if differ:
                context.log.warning("replicas.differ", by=differ, seen=len(self.replicas))
            else:
                context.log.info("replicas.agree", seen=len(self.replicas))

    def _shift_lanes(self, by_ms: int, now: int) -> None:
        for turns in self._turns.values():
            turns.shift(by_ms, now)
        for lane in self._running:
            lane.shift(by_ms)

    def start(self) -> None:
        """Begin to look after the outbox; `use` then starts the lanes."""
        self._start_task(self._sweep(), "sweeper")
        for name, run in self.beside.items():
            self._start_task(run(), name)

    def use(self, snapshot: Snapshot) -> None:
        """Take over new rules: a lane whose account changed is replaced, what it has open still ends there."""
        for name, lane in list(self.lanes.items()):
            if snapshot.config.providers.get(name) != lane.settings:
                del self.lanes[name]
                lane.stop()
        for name, settings in snapshot.config.providers.items():
            if name not in self.lanes:
                lane = self._kind(
                    name, settings, snapshot.providers[name], self._context, self._open_sender, self._turns[name]
                )
                self.lanes[name] = lane
                self._running[lane] = None
                self._start_task(lane.run(), f"lane {name}").add_done_callback(partial(self._forget, lane))

    def wake(self, provider: str) -> None:
        """Tell a lane that something may have become due."""
        lane = self.lanes.get(provider)
        if lane is not None:
            lane.wake()

    def wake_all(self) -> None:
        """Tell every lane: a hold ended, or deliveries were made pending by hand."""
        for lane in self.lanes.values():
            lane.wake()

    def stop_claiming(self) -> None:
        """Begin no new send; what is open goes on."""
        for lane in self.lanes.values():
            lane.stop()

    async def drain(self, grace_s: float) -> None:
        """Stop claiming, let open sends finish inside the grace period, then give up those that are left."""
        lanes = list(self.lanes.values())
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
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(partial(report_death, log=self._context.log, on_dead=self._on_dead))
        return task

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
                self._context.metrics.store_errors.labels("sweep").inc()
                self._context.log.warning("sweep.failed", detail=str(error))
            rounds += 1
            before = self._context.clock()
            await asyncio.sleep(SWEEP_EVERY_S)
            if self._context.clock() - before > STOOD_STILL_MS:
                # Leases ran out meanwhile, but answers lie in the sockets: they are read and recorded first.
                await asyncio.sleep(SWEEP_EVERY_S)

    async def _sweep_once(self, *, wipe: bool) -> None:
        outbox = self._context.outbox
        await self.follow_clock()  # before anything else reckons from now
        await self.note_replica()
        now = self._context.clock()
        swept = await sweep(outbox, now, self._context.settings.settle_after)
        if swept.expired or swept.resent or swept.lost:
            self._context.log.info("outbox.swept", expired=swept.expired, resent=swept.resent, lost=swept.lost)
        for scope in swept.ended:
            self._context.log.warning("hold.released", scope=scope, by="its end")
        if swept.resent or swept.ended:
            self.wake_all()
        if wipe:
            forgotten = await forget_records(outbox, now - self._context.settings.record_retention)
            self._context.log.info("outbox.forgotten", events=forgotten)
            # Last, for it empties the log: what was forgotten must not stay readable there, either.
            wiped = await wipe_payloads(outbox, now - self._context.settings.payload_retention)
            self._context.log.info("outbox.wiped", payloads=wiped)


def report_restored(log: Log, unknown: int) -> None:
    """Say that the outbox was put back, and that so many deliveries wait for a person."""
    log.warning("outbox.restored", unknown=unknown, cure="see Backup in docs/runbook.md")


class OutboxRelay(Relay):
    """The relay that keeps what it takes, and sends it by its lanes."""

    def __init__(
        self,
        context: Context,
        dispatcher: Dispatcher,
        recorder: Recorder,
        watch: Callable[[], Coroutine[Any, Any, None]],
        on_dead: Callable[[BaseException], None],
    ) -> None:
        super().__init__(context, watch, on_dead)
        self.context, self.dispatcher, self._recorder = context, dispatcher, recorder

    async def start(self) -> None:
        """Settle what the last process left open, then start the sweeper."""
        outbox, settings = self.context.outbox, self.context.settings
        metrics, log = self.context.metrics, self.context.log
        await self.dispatcher.follow_clock()
        await self.dispatcher.note_replica()
        restored = await outbox.write(settle_restored, essential=True)
        if restored is not None:
            report_restored(log, restored)
        unknown, flights = 0, self.context.flights
        if outbox.fleet is None:  # else others may be at theirs, and ends theirs only the sweep whose leases ran out
            limits = self.context.snapshot.config.limits
            recover = partial(recover_open_attempts, settle_ms=settings.settle_after, flights=flights, limits=limits)
            unknown = await outbox.write(recover, essential=True)
        flights.begin()
        last_events = await outbox.read(read_last_events)
        metrics.set_last_events((topic_label(topic), at) for topic, at in last_events.items())
        metrics.set_reached(await outbox.read(count_reached))  # else the first scrape may show 0 again
        self.dispatcher.start()
        recorder, sqlite = "on" if flights.run else "off", sqlite3.sqlite_version
        log.info("outbox.opened", sqlite=sqlite, unknown_after_restart=unknown, flight_recorder=recorder)
        # Whoever answers for people's data should not have to work out how long things are kept.
        payloads, records = map(format_duration, (settings.payload_retention, settings.record_retention))
        log.info("relay.retention", preset=settings.retention, payloads=payloads, records=records)

    def use(self, snapshot: Snapshot) -> None:
        """Put new rules to work: replace the lanes whose account changed."""
        super().use(snapshot)
        self.dispatcher.use(snapshot)

    def stop_claiming(self) -> None:
        """Begin no new send: the process is about to end."""
        self.dispatcher.stop_claiming()

    async def stop(self, grace_s: float) -> None:
        """Let open sends end inside the grace period, then release the outbox."""
        await self.dispatcher.drain(grace_s)
        await self._recorder.settle()
        await self.context.outbox.close()

    def is_alive(self) -> bool:
        """Tell whether every lane looks at the outbox."""
        now = asyncio.get_running_loop().time()  # to set the wall clock must not restart the container
        return all(now - lane.looked_at < STUCK_S for lane in self.dispatcher.lanes.values())

    async def can_commit(self) -> bool:
        """Tell whether an event could be taken now."""
        return await self.context.outbox.can_commit()

    def show_replicas(self) -> dict[str, Any]:
        """Tell how many replicas are there, and in what they differ; nothing where this one is alone."""
        replicas = self.dispatcher.replicas
        return {"replicas": {"seen": len(replicas), "differ": list_differences(replicas)}} if replicas else {}

    async def count(self) -> None:
        """Bring what shows the outbox and the log up to date; where the outbox cannot say, that is counted."""
        await super().count()
        store, metrics = self.context.outbox, self.context.metrics
        providers = self.context.snapshot.config.providers
        try:
            async with asyncio.timeout(LONGEST_COUNT_S):
                standing = await store.read(count_deliveries)
                reached = await store.read(count_reached)
                holds = await store.read(list_holds)
                people = await store.read(count_suppressions)
                unrouted = await store.read(count_unrouted)
                oldest = {name: await store.read(partial(find_oldest_due, provider=name)) for name in providers}
        except (StoreError, TimeoutError) as error:
            metrics.store_errors.labels("scrape").inc()
            detail = str(error) or "the outbox did not answer in time"
            self.context.log.warning("metrics.stale", detail=detail)
            return
        # Without a pause in between, so that of two scrapes at once none sees the half of another.
        now = self.context.clock()
        metrics.outbox.replace(standing)
        metrics.set_reached(reached)
        metrics.suppressions.set(people.suppressed)
        metrics.set_unrouted(*unrouted)
        metrics.set_holds({hold.scope: hold.deliveries for hold in holds})
        waits = {(name,): 0 if due_at is None else max(now - due_at, 0) / 1000 for name, due_at in oldest.items()}
        metrics.oldest_due.replace(waits)
