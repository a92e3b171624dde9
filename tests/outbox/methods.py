"""The outbox's functions as methods of a store, and the time of each call given by the test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from app.delivery.decide import Decision
from app.delivery.pace import RECIPIENT_GAP_MS
from app.model.delivery import Attempt, Delivery, Outcome, State
from app.model.event import Event
from app.model.message import NO_LIMITS, Receipt, Reply, Wish
from app.outbox import (
    add,
    claim,
    close,
    erase,
    holds,
    lanes,
    people,
    read,
    receipts,
    replay,
    report,
    retention,
    sweep,
)
from app.outbox.batch import QUEUE_LIMIT
from app.outbox.replay import Applied, EventPage, EventQuery, Plan
from app.outbox.sqlite.store import SqliteStore
from app.outbox.store import Fleet, Store, Tx
from app.outbox.values import (
    Claimed,
    Closed,
    DeliveryFilter,
    Enqueued,
    Erased,
    Heard,
    Hold,
    LaneState,
    LedgerQuery,
    LedgerRow,
    ReceiptResult,
    Recording,
    SuppressionCounts,
    SweepCounts,
)

if TYPE_CHECKING:  # a child that a test starts needs no pytest, which takes half a second to load
    import pytest

T = TypeVar("T")


def at(now: int, job: Callable[..., T], **given: Any) -> Callable[[Tx], T]:
    """Return the job as it is done at `now`."""

    def run(tx: Any) -> T:
        before, tx.now = tx.now, now
        try:
            return job(tx, **given)
        finally:
            tx.now = before

    return run


def name_job(job: Callable[..., Any]) -> str:
    """Return the name of the function that a store is given as a job."""
    of_kind = getattr(job, "many", None)
    return str(getattr(of_kind or getattr(job, "func", job), "__name__", ""))


def break_store(
    monkeypatch: pytest.MonkeyPatch, store: Any, broken: Callable[..., Awaitable[Any]], *names: str
) -> None:
    """Have `broken` answer to the jobs of these names."""
    for way in ("write", "read"):
        whole = getattr(type(store), way)

        async def run(
            self: Any, job: Callable[..., Any], whole: Callable[..., Awaitable[Any]] = whole, **how: Any
        ) -> Any:
            return await (broken(self, job) if name_job(job) in names else whole(self, job, **how))

        monkeypatch.setattr(type(store), way, run)


def keep_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lanes ask for no pause between two messages to one person; whom they remember still waits."""
    monkeypatch.setattr("app.relay.lane.Claim", lambda *given, **more: replace(claim.Claim(*given, **more), gap_ms=0))


class Stand:
    """In a store's place: gives what it is asked to the store, and lets a test come between."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class At:
    """A store at whose every call it is `now`."""

    def __init__(self, store: Store, now: int) -> None:
        self._store = store
        self._now = now

    @property
    def fleet(self) -> Fleet | None:
        return self._store.fleet

    async def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> T:
        return await self._store.write(at(self._now, job), essential=essential)

    async def read(self, query: Callable[[Tx], T], *, slow: bool = False) -> T:
        return await self._store.read(at(self._now, query), slow=slow)

    async def can_commit(self) -> bool:
        return await self._store.can_commit()

    async def empty_log(self) -> bool:
        return await self._store.empty_log()

    async def close(self) -> None:
        await self._store.close()


class Methods(Store):
    """What is done to an outbox. Functions are looked up when they are called, so that a test may replace them."""

    gap_ms = RECIPIENT_GAP_MS

    async def add_event(self, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
        return await self.write(partial(add.add_event, event=event, deliveries=deliveries))

    limits = NO_LIMITS

    async def claim_due(self, provider: str, now: int, limit: int, lease_ms: int) -> Sequence[Attempt]:
        return (await self.claim_all(provider, now, limit, lease_ms)).attempts

    async def claim_all(self, provider: str, now: int, limit: int, lease_ms: int) -> Claimed:
        served: dict[str, str] = self.__dict__.setdefault("_served", {})
        asked = claim.Claim(provider, now, limit, lease_ms, self.gap_ms, served.get(provider), self.limits)
        claimed = await self.write(at(now, claim.claim_due, claim=asked))
        if ordinary := [attempt.delivery.route for attempt in claimed.attempts if not attempt.probes]:
            served[provider] = ordinary[-1]
        return claimed

    async def next_due_at(self, provider: str) -> int | None:
        return await self.read(partial(claim.find_next_due, provider=provider))

    async def close_attempt(
        self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int, tries: int
    ) -> Closed:
        endings = [close.Ending(attempt, outcome, decision, tries)]
        return (await self.write(at(now, close.close_attempts, endings=endings), essential=True))[0]

    async def settle_restored(self, now: int) -> int | None:
        return await self.write(at(now, close.settle_restored), essential=True)

    async def recover_open_attempts(self, now: int, settle_ms: int) -> int:
        return await self.write(at(now, close.recover_open_attempts, settle_ms=settle_ms), essential=True)

    async def read_lane(self, provider: str) -> LaneState:
        return await self.write(partial(lanes.read_lane, provider=provider))

    async def save_lane(self, provider: str, state: LaneState) -> None:
        await self.write(partial(lanes.save_lane, provider=provider, state=state), essential=True)

    async def shift_waits(self, now: int, newest: int | None) -> int:
        return await self.write(at(now, sweep.shift_waits, newest=newest), essential=True)

    async def sweep(self, now: int, settle_ms: int) -> SweepCounts:
        return await sweep.sweep(At(self, now), now, settle_ms, self.gap_ms)

    async def apply_receipts(self, provider: str, receipts_: Sequence[Receipt], now: int) -> Sequence[ReceiptResult]:
        reports = [receipts.Report(provider, receipts_)]
        return (await self.write(at(now, receipts.apply_reports, reports=reports)))[0]

    async def apply_reply(self, provider: str, reply: Reply, wish: Wish | None, now: int) -> Heard:
        return await self.write(at(now, receipts.apply_reply, provider=provider, reply=reply, wish=wish))

    async def suppress_people(self, numbers: Collection[str], reason: str, now: int) -> int:
        return await self.write(at(now, people.suppress_people, numbers=numbers, reason=reason))

    async def lift_suppressions(self, numbers: Collection[str]) -> int:
        return await self.write(partial(people.lift_suppressions, numbers=numbers))

    async def list_suppressions(self, limit: int, cursor: str | None) -> tuple[Sequence[Mapping[str, str]], str | None]:
        return await self.read(partial(people.list_suppressions, limit=limit, cursor=cursor))

    async def count_suppressions(self) -> SuppressionCounts:
        return await self.read(people.count_suppressions)

    async def find_suppressed(self, deliveries: Sequence[Delivery]) -> Collection[str]:
        return await self.read(partial(people.find_suppressed, deliveries=deliveries))

    async def retry_deliveries(self, ids: Collection[str], now: int, *, careful: bool = False) -> Sequence[str]:
        return await self.write(at(now, sweep.retry_deliveries, ids=ids, careful=careful))

    async def explain_retry(self, ids: Collection[str], now: int) -> Mapping[str, str]:
        return await self.read(at(now, sweep.explain_retry, ids=ids))

    async def find_events(self, wanted: EventQuery) -> EventPage:
        return await self.read(partial(replay.find_events, wanted=wanted))

    async def find_duplicates(self, deliveries: Sequence[Delivery], now: int) -> Collection[str]:
        return await self.read(at(now, replay.find_duplicates, deliveries=deliveries))

    async def save_plan(self, plan: Plan) -> None:
        await self.write(partial(replay.save_plan, plan=plan))

    async def read_plan(self, plan_id: str) -> Plan | None:
        return await self.read(partial(replay.read_plan, plan_id=plan_id))

    async def apply_plan(self, plan_id: str, deliveries: Sequence[Delivery], now: int) -> Applied | None:
        return await self.write(at(now, replay.apply_plan, plan_id=plan_id, deliveries=deliveries))

    async def count_reasons(self, state: str) -> Sequence[Mapping[str, Any]]:
        return await self.read(partial(read.count_reasons, state=state))

    async def record_event(self, recorded: Recording) -> None:
        await self.write(partial(retention.record_event, recording=recorded))

    async def list_recordings(self, topic: str | None) -> Sequence[Recording]:
        return await self.read(partial(retention.list_recordings, topic=topic))

    async def put_hold(
        self, scope: str, reason: str, now: int, probe_at: int | None = None, *, by_hand: bool = False, **more: Any
    ) -> bool:
        given = {"scope": scope, "reason": reason, "probe_at": probe_at, "by_hand": by_hand, **more}
        return await self.write(at(now, holds.put_hold, **given))

    async def release_hold(self, scope: str, now: int) -> bool:
        return await self.write(at(now, holds.release_hold, scope=scope))

    async def lift_hold(self, scope: str, reasons: Collection[str], now: int) -> bool:
        return await self.write(at(now, holds.lift_hold, scope=scope, reasons=reasons))

    async def list_holds(self) -> Sequence[Hold]:
        return await self.read(holds.list_holds)

    async def list_deliveries(self, wanted: DeliveryFilter) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        return await self.read(partial(read.list_deliveries, wanted=wanted))

    async def read_delivery(self, delivery_id: str) -> Mapping[str, Any] | None:
        return await self.read(partial(read.read_delivery, delivery_id=delivery_id))

    async def count_deliveries(self) -> Mapping[tuple[str, State], int]:
        return await self.read(read.count_deliveries)

    async def count_reached(self) -> Mapping[tuple[str, str, State], int]:
        return await self.read(read.count_reached)

    async def find_oldest_due(self, provider: str, now: int) -> int | None:
        return await self.read(at(now, claim.find_oldest_due, provider=provider))

    async def read_last_events(self) -> Mapping[str, int]:
        return await self.read(read.read_last_events)

    async def read_ledger(self, wanted: LedgerQuery) -> Sequence[LedgerRow]:
        return await report.read_ledger(self, wanted)

    async def wipe_payloads(self, before: int) -> int:
        return await retention.wipe_payloads(self, before)

    async def forget_records(self, before: int) -> int:
        return await retention.forget_records(self, before)

    async def export_person(self, number: str) -> Mapping[str, Any]:
        return await erase.export_person(self, number)

    async def erase_person(self, number: str, now: int) -> Erased:
        return await erase.erase_person(At(self, now), number)


class SqliteOutbox(SqliteStore, Methods):
    """The SQLite store with these methods. `recipient_gap_ms`: what a claim and a sweep are asked to keep."""

    def __init__(
        self, path: Path, recipient_gap_ms: int = RECIPIENT_GAP_MS, queue_limit: int = QUEUE_LIMIT, **more: Any
    ) -> None:
        super().__init__(path, queue_limit=queue_limit, **more)
        self.gap_ms = recipient_gap_ms
