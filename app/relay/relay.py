"""The relay as one object: its parts, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial

from app.clock import Clock
from app.ids import NewId, new_uuid7
from app.observe.logs import Log, count_dropped
from app.observe.metrics import Metrics, count_store
from app.observe.tracing import NoTracer, Tracer
from app.outbox.close import recover_open_attempts, settle_restored
from app.outbox.read import count_reached, read_last_events
from app.outbox.store import Store
from app.providers import open_client
from app.relay.context import Context
from app.relay.dispatcher import Dispatcher, Retention, report_death
from app.relay.intake import Intake, OutboxTaker
from app.relay.lane import LaneParts
from app.relay.receipts import ReceiptDesk
from app.relay.recorder import Recorder
from app.relay.reload import Rules
from app.relay.replay import Replayer
from app.relay.snapshot import Snapshot
from app.relay.stateless import ProviderTaker
from app.relay.trial import Tester
from app.settings import Settings
from app.values.duration import format_duration

# A lane that has not looked at the outbox for so long is stuck (it naps 5 s at most).
STUCK_S = 60.0
# The last spans may take this long, of what is left of the grace period.
FLUSH_S = 2.0


class Relay:
    """Everything that runs, without HTTP.

    Without an outbox (`RELAY_DATABASE_URL=none`) there are no lanes, receipts or ops: `receipt_desk`, `ops_desk`
    and `replayer` are None.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        snapshot: Snapshot,
        log: Log,
        outbox: Store | None,
        clock: Clock,
        *,
        random: Callable[[], float],
        on_dead: Callable[[BaseException], None],
        new_id: NewId = new_uuid7,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.metrics = Metrics()
        self.rules = Rules(settings, environment, snapshot, self.metrics, log)
        self.receipt_desk: ReceiptDesk | None = None
        self.ops_desk: Context | None = None
        self.replayer: Replayer | None = None
        self.tester: Tester | None = None
        self._recorder: Recorder | None = None
        self._on_dead = on_dead
        tracer = self._tracer = tracer or NoTracer()
        self._clock = clock
        self._watching: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._outbox = outbox
        self._dispatcher: Dispatcher | None = None
        if outbox is None:
            self._forwarder = ProviderTaker(snapshot, self.metrics, log, tracer, settings.way)
            taker: ProviderTaker | OutboxTaker = self._forwarder
        else:
            open_sender = partial(open_client, tracer=tracer, way=settings.way)
            parts = LaneParts(outbox, clock, random, self.metrics, log, settings.settle_after, open_sender, tracer)
            retention = Retention(settings.payload_retention, settings.record_retention)
            dispatcher = Dispatcher(parts, retention, on_dead)
            self._dispatcher = dispatcher
            taker = OutboxTaker(outbox, dispatcher.wake, tracer)
            self.receipt_desk = ReceiptDesk(self.rules.current, outbox, clock, self.metrics, log)
            self.ops_desk = Context(outbox, dispatcher, self.rules, clock, self.metrics, log)
            self.replayer = Replayer(self.rules.current, outbox, dispatcher.wake, clock, new_id, log)
            numbers = settings.test_numbers
            self.tester = Tester(self.rules.current, outbox, dispatcher.wake, clock, new_id, numbers, log)
            self._recorder = Recorder(outbox, settings.secrets)
        note = self._recorder.note if self._recorder else None
        self.intake = Intake(settings, self.rules.current, taker, clock, new_id, self.metrics, log, note, tracer)

    async def open(self) -> None:
        """Settle what the last process left open, then start the lanes."""
        if self._outbox is not None and self._dispatcher is not None:
            await self._dispatcher.settle_clock()
            restored = await self._outbox.write(settle_restored, essential=True)
            if restored is not None:
                self.log.warning("outbox.restored", unknown=restored, cure="see Backup in docs/runbook.md")
            recover = partial(recover_open_attempts, settle_ms=self.settings.settle_after)
            unknown = await self._outbox.write(recover, essential=True)
            self.metrics.set_last_events(await self._outbox.read(read_last_events))
            self.metrics.set_reached(await self._outbox.read(count_reached))  # else the first scrape may show 0 again
            self._dispatcher.start()
            self.log.info("outbox.opened", sqlite=sqlite3.sqlite_version, unknown_after_restart=unknown)
        self.use(self.rules.current())
        self._watching = asyncio.create_task(self.rules.watch(self.use), name="config watch")
        self._watching.add_done_callback(self._watch)
        self._say_retention()
        self.log.info("relay.started", config=self.config_hash(), stateless=self.settings.stateless)

    def _say_retention(self) -> None:
        """Say how long things are kept: whoever answers for people's data should not have to work it out."""
        if not self.settings.stateless:
            payloads, records = map(format_duration, (self.settings.payload_retention, self.settings.record_retention))
            self.log.info("relay.retention", preset=self.settings.retention, payloads=payloads, records=records)

    def use(self, snapshot: Snapshot) -> None:
        """Put new rules to work."""
        if self._dispatcher is not None:
            self._dispatcher.use(snapshot)
        else:
            self._forwarder.use(snapshot)

    def stop_claiming(self) -> None:
        """Begin no new send: the process is about to end."""
        if self._dispatcher is not None:
            self._dispatcher.stop_claiming()

    async def close(self, grace_ms: int | None = None) -> None:
        """Let open sends end inside the grace period (or what is left of it), release the outbox."""
        grace_s = (self.settings.shutdown_grace if grace_ms is None else grace_ms) / 1000
        ends_at = asyncio.get_running_loop().time() + grace_s
        if self._watching is not None:
            self._watching.cancel()
        if self._dispatcher is not None and self._outbox is not None:
            await self._dispatcher.drain(grace_s)
            if self._recorder is not None:
                await self._recorder.settle()
            await self._outbox.close()
        else:
            await self._forwarder.close()
        left_s = ends_at - asyncio.get_running_loop().time()
        await self._tracer.close(min(max(left_s, 0), FLUSH_S))
        self.log.info("relay.stopped")

    async def reload(self) -> None:
        """Read the YAML again (SIGHUP)."""
        await self.rules.reload(self.use)

    def is_alive(self) -> bool:
        """Tell whether every lane looks at the outbox."""
        if self._dispatcher is None:
            return True
        now = asyncio.get_running_loop().time()  # to set the wall clock must not restart the container
        return all(now - lane.looked_at < STUCK_S for lane in self._dispatcher.lanes.values())

    async def can_commit(self) -> bool:
        """Tell whether an event could be taken now."""
        return self._outbox is None or await self._outbox.can_commit()

    async def count(self) -> None:
        """Bring what the metrics show of the outbox and of the log up to date."""
        self.metrics.log_dropped.put(count_dropped())
        if self._outbox is not None:
            providers = self.rules.current().config.providers
            await count_store(self._outbox, providers, self._clock(), self.metrics, self.log)

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            report_death(task.get_name(), error, self.log, self._on_dead)

    def config_hash(self) -> str:
        """Return which version of the YAML is in force."""
        return self.rules.current().config.hash
