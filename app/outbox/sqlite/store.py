"""The outbox in one SQLite file: one process, one writing connection, no server to look after."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from app.delivery.decide import Decision
from app.errors import StoreBroken, StoreError
from app.model.delivery import Attempt, Delivery, Outcome, State
from app.model.event import Event
from app.model.receipt import Receipt, Reply, Wish
from app.outbox import add as adding
from app.outbox import claim as claiming
from app.outbox import close as closing
from app.outbox import erase as erasing
from app.outbox import export as exporting
from app.outbox import find as finding
from app.outbox import holds as holding
from app.outbox import lanes, people
from app.outbox import lanes as shifting
from app.outbox import read as reading
from app.outbox import receipts as receiving
from app.outbox import recordings as recording
from app.outbox import replay as replaying
from app.outbox import replies as replying
from app.outbox import report as ledger
from app.outbox import retention as forgetting
from app.outbox import retention as wiping
from app.outbox import suppressions as suppressing
from app.outbox import sweep as sweeping
from app.outbox.sqlite import backup
from app.outbox.sqlite.file import is_missing, leave_trace, open_reading, open_writing, prepare_place
from app.outbox.sqlite.lock import ProcessLock
from app.outbox.sqlite.reader import LateReader, Reader
from app.outbox.sqlite.reserve import Reserve
from app.outbox.sqlite.writer import QUEUE_LIMIT, Writer
from app.outbox.values import (
    Applied,
    Closed,
    DeliveryFilter,
    Enqueued,
    Erased,
    EventFilter,
    EventPage,
    Heard,
    Hold,
    LaneState,
    LedgerQuery,
    LedgerRow,
    Noted,
    Plan,
    Recording,
    StoreTime,
    Suppression,
    SuppressionCounts,
    Swept,
)
from app.values.rate import RECIPIENT_GAP_MS

_COMMIT_TIMEOUT_S = 2.0
_COUNT_COMMIT = "UPDATE commits SET n = n + 1"


class SqliteOutbox:
    """See `Outbox` for what each method does; the modules beside this one for how.

    Blocks while it opens: it reads the whole file for damage. Raises StoreInUse if another process has it,
    StoreBroken if it is damaged, foreign, from a newer release or cannot be used.
    """

    def __init__(self, path: Path, recipient_gap_ms: int = RECIPIENT_GAP_MS, queue_limit: int = QUEUE_LIMIT) -> None:
        """Open or create the database at `path`."""
        path = self.path = prepare_place(path)
        self.was_missing = is_missing(path)
        self._gap_ms = recipient_gap_ms
        self._served: dict[str, str] = {}  # lane → the route served last; forgotten at restart, which hurts nobody
        self._lock = ProcessLock(path)
        with ExitStack() as undo:
            undo.callback(self._lock.close)  # last, as POSIX wants it
            db = open_writing(path, self._lock)
            undo.callback(db.close)
            self._reader = Reader(open_reading(path))
            undo.pop_all()
        leave_trace(path)
        self._late_reader = LateReader(path)
        reserve = Reserve(path.with_name(f"{path.name}.reserve"))
        reserve.restore()
        self._people_key = people.read_key(db)
        self._writer = Writer(db, reserve, queue_limit, watch=self._lock.watch)

    @property
    def sqlite_version(self) -> str:
        """The SQLite library in use, for the log."""
        return sqlite3.sqlite_version

    @property
    def broken(self) -> StoreBroken | None:
        """What ended this store's use; the process must then end, too (exit 74)."""
        return self._writer.broken

    async def add_event(self, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
        """See Outbox."""
        frozen_event = adding.freeze_event(event, self._people_key)
        frozen = [adding.freeze_delivery(delivery, self._people_key) for delivery in deliveries]
        return await self._writer.run(lambda db: adding.add_event(db, frozen_event, frozen))

    async def claim_due(self, provider: str, now: int, limit: int, lease_ms: int) -> Sequence[Attempt]:
        """See Outbox."""
        claim = claiming.Claim(provider, now, limit, lease_ms, self._gap_ms, self._served.get(provider))
        attempts = await self._writer.run(lambda db: claiming.claim_due(db, claim))
        ordinary = [attempt.delivery.route for attempt in attempts if not attempt.probes]
        if ordinary:
            self._served[provider] = ordinary[-1]
        return attempts

    async def next_due_at(self, provider: str) -> int | None:
        """See Outbox."""
        return await self._reader.run(lambda db: claiming.find_next_due(db, provider))

    async def close_attempt(
        self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int, tries: int
    ) -> Closed:
        """See Outbox."""
        ending = closing.Ending(outcome, decision, now, tries)
        return await self._writer.run(lambda db: closing.close_attempt(db, attempt, ending), essential=True)

    async def settle_restored(self, now: int) -> int | None:
        """If this file is a backup that was put back, send nothing of it by itself; see backup.settle_restored."""
        return await self._writer.run(lambda db: backup.settle_restored(db, now), essential=True)

    async def recover_open_attempts(self, now: int, settle_ms: int) -> int:
        """See Outbox."""
        return await self._writer.run(lambda db: closing.recover_open_attempts(db, now, settle_ms), essential=True)

    async def read_lane(self, provider: str) -> LaneState:
        """See Outbox."""
        return await self._writer.run(lambda db: lanes.read_lane(db, provider))

    async def save_lane(self, provider: str, state: LaneState) -> None:
        """See Outbox."""
        await self._writer.run(lambda db: lanes.save_lane(db, provider, state), essential=True)

    async def shift_waits(self, total_ms: int) -> None:
        """See Outbox."""
        await self._writer.run(lambda db: shifting.shift_waits(db, total_ms), essential=True)

    async def read_time(self) -> StoreTime:
        """See Outbox."""
        return await self._writer.run(shifting.read_time)

    async def sweep(self, now: int, settle_ms: int) -> Swept:
        """See Outbox."""
        lost = await self._writer.run(lambda db: sweeping.tidy(db, now, self._gap_ms, settle_ms))
        expired = resent = 0
        more = True
        while more:
            some = await self._writer.run(lambda db: sweeping.expire_overdue(db, now))
            others = await self._writer.run(lambda db: sweeping.resend_unknown(db, now))
            expired, resent = expired + some, resent + others
            more = max(some, others) == sweeping.SWEEP_LIMIT
        return Swept(expired, resent, lost)

    async def apply_receipts(self, provider: str, receipts: Sequence[Receipt], now: int) -> Sequence[Noted]:
        """See Outbox."""
        return await self._writer.run(lambda db: receiving.apply_receipts(db, provider, receipts, now))

    async def apply_reply(self, provider: str, reply: Reply, wish: Wish | None, now: int) -> Heard:
        """See Outbox."""
        key = self._people_key
        return await self._writer.run(lambda db: replying.apply_reply(db, key, provider, reply, wish, now))

    async def suppress_people(self, numbers: Collection[str], reason: str, now: int) -> int:
        """See Outbox."""
        hashes = people.hash_people(self._people_key, numbers)
        return await self._writer.run(lambda db: suppressing.suppress_people(db, hashes, reason, now))

    async def lift_suppressions(self, numbers: Collection[str]) -> int:
        """See Outbox."""
        hashes = people.hash_people(self._people_key, numbers)
        return await self._writer.run(lambda db: suppressing.lift_people(db, hashes))

    async def list_suppressions(self, limit: int, cursor: str | None) -> tuple[Sequence[Suppression], str | None]:
        """See Outbox."""
        return await self._reader.run(lambda db: suppressing.list_suppressions(db, limit, cursor))

    async def count_suppressions(self) -> SuppressionCounts:
        """See Outbox."""
        return await self._reader.run(suppressing.count_suppressions)

    async def find_suppressed(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        """See Outbox."""
        key = self._people_key
        return await self._reader.run(lambda db: suppressing.find_suppressed(db, key, deliveries))

    async def retry_deliveries(self, ids: Collection[str], now: int) -> Sequence[str]:
        """See Outbox."""
        return await self._writer.run(lambda db: sweeping.retry_deliveries(db, ids, now))

    async def explain_retry(self, ids: Collection[str], now: int) -> Mapping[str, str]:
        """See Outbox."""
        return await self._reader.run(lambda db: sweeping.explain_retry(db, ids, now))

    async def find_events(self, wanted: EventFilter) -> EventPage:
        """See Outbox."""
        return await self._reader.run(lambda db: replaying.find_events(db, wanted))

    async def find_duplicates(self, deliveries: Sequence[Delivery], now: int) -> Collection[str]:
        """See Outbox."""
        return await self._reader.run(lambda db: replaying.find_duplicates(db, deliveries, now))

    async def save_plan(self, plan: Plan) -> None:
        """See Outbox."""
        await self._writer.run(lambda db: replaying.save_plan(db, plan))

    async def read_plan(self, plan_id: str) -> Plan | None:
        """See Outbox."""
        return await self._reader.run(lambda db: replaying.read_plan(db, plan_id))

    async def apply_plan(self, plan_id: str, deliveries: Sequence[Delivery], now: int) -> Applied | None:
        """See Outbox."""
        # Thousands: beside the loop, which has webhooks to answer.
        key = self._people_key
        frozen = await asyncio.to_thread(lambda: [adding.freeze_delivery(delivery, key) for delivery in deliveries])
        return await self._writer.run(lambda db: replaying.apply_plan(db, plan_id, frozen, now))

    async def count_reasons(self, state: str) -> Sequence[Mapping[str, Any]]:
        """See Outbox."""
        return await self._reader.run(lambda db: reading.count_reasons(db, state))

    async def record_event(self, recorded: Recording) -> None:
        """See Outbox."""
        await self._writer.run(lambda db: recording.add_recording(db, recorded))

    async def list_recordings(self, topic: str | None) -> Sequence[Recording]:
        """See Outbox."""
        return await self._reader.run(lambda db: recording.list_recordings(db, topic))

    async def put_hold(
        self, scope: str, reason: str, now: int, probe_at: int | None = None, *, by_hand: bool = False
    ) -> bool:
        """See Outbox."""
        return await self._writer.run(lambda db: holding.put_hold(db, scope, reason, now, probe_at, by_hand=by_hand))

    async def release_hold(self, scope: str, now: int) -> bool:
        """See Outbox."""
        return await self._writer.run(lambda db: holding.release_hold(db, scope, now))

    async def lift_hold(self, scope: str, reasons: Collection[str], now: int) -> bool:
        """See Outbox."""
        return await self._writer.run(lambda db: holding.lift_hold(db, scope, reasons, now))

    async def list_holds(self) -> Sequence[Hold]:
        """See Outbox."""
        return await self._reader.run(holding.list_holds)

    async def list_deliveries(self, wanted: DeliveryFilter) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """See Outbox."""
        return await self._reader.run(lambda db: reading.list_deliveries(db, wanted))

    async def read_delivery(self, delivery_id: str) -> Mapping[str, Any] | None:
        """See Outbox."""
        return await self._reader.run(lambda db: reading.read_delivery(db, delivery_id))

    async def count_deliveries(self) -> Mapping[tuple[str, State], int]:
        """See Outbox."""
        return await self._reader.run(reading.count_deliveries)

    async def count_reached(self) -> Mapping[tuple[str, str, State], int]:
        """See Outbox."""
        return await self._reader.run(reading.count_reached)

    async def find_oldest_due(self, provider: str, now: int) -> int | None:
        """See Outbox."""
        return await self._reader.run(lambda db: claiming.find_oldest_due(db, provider, now))

    async def read_last_events(self) -> Mapping[str, int]:
        """See Outbox."""
        return await self._reader.run(reading.read_last_events)

    async def read_ledger(self, wanted: LedgerQuery) -> Sequence[LedgerRow]:
        """See Outbox."""
        rows: list[LedgerRow] = []
        for span in await self._late_reader.run(lambda db: list(ledger.cut_steps(db, wanted.since, wanted.until))):
            rows += await self._late_reader.run(partial(ledger.count_step, wanted=wanted, span=span))
        return ledger.add_up(rows, wanted.by)

    async def wipe_payloads(self, before: int) -> int:
        """See Outbox."""
        total = 0
        after: tuple[int, int] | None = (-(2**62), 0)
        while after is not None:
            wiped = await self._wipe_some(before, after)
            total, after = total + wiped.deliveries, wiped.after
        await self._writer.run_alone(wiping.empty_log)
        return total

    async def forget_records(self, before: int) -> int:
        """See Outbox."""
        await self._writer.run(lambda db: forgetting.forget_others(db, before))
        total = 0
        after: int | None = 0
        while after is not None:
            forgotten = await self._forget_some(before, after)
            total, after = total + forgotten.events, forgotten.after
        return total

    async def export_person(self, number: str) -> Mapping[str, Any]:
        """See Outbox."""
        return await exporting.export_person(self._late_reader, finding.seek_person(self._people_key, number))

    async def erase_person(self, number: str, now: int) -> Erased:
        """See Outbox."""
        person = finding.seek_person(self._people_key, number)
        return await erasing.erase_person(self._writer, self._late_reader, person, now)

    async def can_commit(self) -> bool:
        """See Outbox."""
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await self._writer.run(lambda db: db.execute(_COUNT_COMMIT).rowcount)
        except (StoreError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        """See Outbox."""
        await self._reader.close()
        await self._late_reader.close()
        await self._writer.close()
        self._lock.close()

    async def _wipe_some(self, before: int, after: tuple[int, int]) -> wiping.Wiped:
        return await self._writer.run(lambda db: wiping.wipe_events(db, before, after))

    async def _forget_some(self, before: int, after: int) -> forgetting.Forgotten:
        return await self._writer.run(lambda db: forgetting.forget_events(db, before, after))
