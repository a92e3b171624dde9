"""A store against a model of its contract, step by step: whatever the order of calls, both hold the same.

Hypothesis thinks up the calls; `RELAY_TEST_SEED` chooses which. A crash copies the files as they are and opens the
copy: what was committed is there, and nothing was closed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.core.deciding import decide
from app.core.instants import format_instant
from app.core.models import (
    Accepted,
    Attempt,
    Delivery,
    Event,
    Message,
    Outcome,
    Reason,
    Receipt,
    ReceiptStatus,
    Rejected,
    Retryable,
    Scope,
    State,
    Uncertain,
    Variable,
)
from app.outbox import adding, claiming, closing, receiving
from app.outbox.base import Closed, DeliveryFilter, Enqueued, LaneState, Plan
from app.outbox.sqlite import SqliteOutbox
from tests.outbox.outbox_model import OutboxModel, Row

T = TypeVar("T")
MEMORY = Path("/dev/shm")  # noqa: S108  # what a flush of the disk costs is not the subject here
START = 1_790_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
LEASE, SETTLE = 2 * MINUTE, 15 * MINUTE
PROVIDERS = ("gallabox", "bitespeed")
# (route, provider, template): two routes of one account share a template
ROUTES = (("coins", "gallabox", "t-1"), ("coupon", "gallabox", "t-1"), ("expiry", "bitespeed", "t-2"))
SCOPES = ("provider:gallabox", "provider:bitespeed", "route:coins", "template:gallabox/t-1", "template:bitespeed/t-2")
STEPS = (SECOND, 7 * SECOND, 7 * SECOND, 3 * MINUTE, 6 * MINUTE, 16 * MINUTE, 2 * HOUR, 25 * HOUR, 31 * DAY)
OUTCOMES: tuple[Outcome, ...] = (
    Accepted(),
    Accepted("m-1"),
    Accepted("m-2"),
    Retryable(Reason.CONNECT_FAILED),
    Retryable(Reason.RATE_LIMITED, Scope.PROVIDER, 30_000),
    Rejected(Reason.REQUEST_REFUSED),
    Rejected(Reason.RECIPIENT_UNREACHABLE, Scope.RECIPIENT),
    Rejected(Reason.TEMPLATE_REFUSED, Scope.TEMPLATE),
    Rejected(Reason.CREDENTIALS_REFUSED, Scope.PROVIDER),
    Uncertain(Reason.TIMED_OUT),
    Uncertain(Reason.PROCESS_DIED),
)

numbers = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 6, 9])  # how far back: what is new is picked most
deliveries = st.fixed_dictionaries(
    {
        "route": st.sampled_from(ROUTES),
        "recipient": st.sampled_from([f"+91980000000{number}" for number in range(6)]),
        "live_ms": st.sampled_from([MINUTE, HOUR, DAY, 40 * DAY, 40 * DAY]),
        "wait_ms": st.sampled_from([0, 0, 5 * MINUTE]),
        "dedup_key": st.sampled_from([None, None, "a", "b"]),
        "priority": st.integers(0, 1),
        "on_unknown": st.sampled_from(["hold", "resend"]),
        "state": st.sampled_from([State.PENDING, State.PENDING, State.PENDING, State.DEAD, State.SHADOW]),
    }
)

USUAL: dict[str, Any] = {
    "route": ROUTES[0],
    "recipient": "+919800000008",
    "live_ms": 40 * DAY,
    "wait_ms": 0,
    "dedup_key": None,
    "priority": 0,
    "on_unknown": "hold",
    "state": State.PENDING,
}


class OutboxMachine(RuleBasedStateMachine):
    """The store and the model; a rule does one thing to both."""

    figures: ClassVar[Counter[str]] = Counter()

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.generation = 0
        self.store = SqliteOutbox(self.folder / "0" / "relay.db")
        self.model = OutboxModel()
        self.now = START
        self.made = 0
        self.attempts: list[Attempt] = []
        self.add_event(0, [{**USUAL, "route": route} for route in ROUTES])
        self.add_event(1, [{**USUAL, "on_unknown": "resend", "recipient": "+919800000009"}])

    def teardown(self) -> None:
        if hasattr(self, "store"):
            try:
                self.compare_stories()
            finally:
                self.run(self.store.close())
                self.loop.close()
                shutil.rmtree(self.folder)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def make_delivery(self, event_id: str, given: dict[str, Any]) -> Delivery:
        self.made += 1
        route, provider, template = given["route"]
        dead = given["state"] is State.DEAD
        message = Message(given["recipient"], template, "Riya", variables=(Variable("1", "Riya"),))
        return Delivery(
            f"dlv-{self.made}", event_id, route, provider, template, given["recipient"], None if dead else message,
            given["state"], Reason.VARIABLE_MISSING if dead else None, self.now, self.now + given["wait_ms"],
            self.now + given["live_ms"], dedup_key=given["dedup_key"], priority=given["priority"],
            on_unknown=given["on_unknown"],
        )  # fmt: skip

    def pick(self, number: int) -> Row | None:
        rows = self.model.rows
        return rows[-1 - number % len(rows)] if rows else None

    # -- what a relay does -------------------------------------------------------------------------

    @rule(source=st.integers(0, 30), given=st.lists(deliveries, max_size=3))
    def add_event(self, source: int, given: list[dict[str, Any]]) -> None:
        self.made += 1
        delivery_id = None if source == 0 else f"source-{source}"
        event = Event(f"evt-{self.made}", "nector", "coupon_create", delivery_id, b"{}", {}, self.now)
        each = [self.make_delivery(event.id, one) for one in given]
        assert self.run(self.store.add_event(event, each)) == self.model.add_event(event, each)

    @rule(provider=st.sampled_from(PROVIDERS), limit=st.integers(1, 6))
    def claim_due(self, provider: str, limit: int) -> None:
        found = self.run(self.store.claim_due(provider, self.now, limit, LEASE))
        check_claim(self.model, provider, found, self.now, limit)
        for attempt in found:
            self.model.open_attempt(attempt, self.now, LEASE)
        self.follow_claim(provider)
        if len(found) < limit:
            left = [row.given.id for row in self.model.rows if row.given.provider == provider]
            assert not [id_ for id_ in left if self.may_go(id_)], "a claim left something that was due"
        self.attempts += found

    def may_go(self, delivery_id: str) -> bool:
        row = self.model.find(delivery_id)
        return row is not None and self.model.may_go(row, self.now)

    def follow_claim(self, provider: str) -> None:
        """A claim may expire what is past its deadline, and put off who was written to just now: follow it in that."""
        for id_, state, due_at in self.run(self.store._reader.run(read_dues)):
            row = self.model.find(id_)
            if row is None or row.given.provider != provider or row.state is not State.PENDING:
                continue
            assert row.due_at is not None
            if state == State.EXPIRED:
                assert row.due_at <= self.now
                assert row.given.deadline_at <= self.now
                row.move(State.EXPIRED, Reason.DEADLINE_PASSED, None, self.now)
            elif due_at != row.due_at:
                assert row.due_at <= self.now < due_at == self.model.free_at(row, self.now)
                row.due_at = due_at

    @rule(outcomes=st.lists(st.sampled_from([None, *OUTCOMES]), min_size=1, max_size=4))
    def wait_and_work(self, outcomes: list[Outcome | None]) -> None:
        """Claim what is due by now and close it, or leave it open: chance alone seldom comes to a second attempt."""
        self.now += 16 * MINUTE
        self.sweep()
        before = len(self.attempts)
        for provider in PROVIDERS:
            self.claim_due(provider, 6)
        for attempt, outcome in zip(self.attempts[before:], itertools.cycle(outcomes), strict=False):
            if outcome is not None:
                self.close(attempt, outcome)

    @rule(number=numbers, outcome=st.sampled_from(OUTCOMES))
    def close_attempt(self, number: int, outcome: Outcome) -> None:
        if self.attempts:
            self.close(self.attempts[-1 - number % len(self.attempts)], outcome)

    @rule(number=numbers, outcome=st.sampled_from(OUTCOMES))
    def close_stale_attempt(self, number: int, outcome: Outcome) -> None:
        """Close one whose delivery has another attempt open by now."""
        rows = {row.given.id: row for row in self.model.rows if row.state is State.SENDING}
        stale = [each for each in self.attempts if (row := rows.get(each.delivery.id)) and len(row.tried) > each.number]
        if stale:
            self.close(stale[-1 - number % len(stale)], outcome)

    def close(self, attempt: Attempt, outcome: Outcome) -> None:
        it = attempt.delivery
        decision = decide(
            outcome, attempt_number=attempt.spent + 1, now=self.now, deadline_at=it.deadline_at,
            on_unknown=it.on_unknown, provider=it.provider, template=it.template, random=lambda: 0.5, settle_ms=SETTLE,
        )  # fmt: skip
        closed = self.run(self.store.close_attempt(attempt, outcome, decision, self.now, 1))
        assert closed == self.model.close_attempt(attempt, outcome, decision, self.now)

    @rule()
    def sweep(self) -> None:
        assert self.run(self.store.sweep(self.now, SETTLE)) == self.model.sweep(self.now, SETTLE)

    @rule(
        number=numbers,
        by=st.sampled_from(["ours", "its", "early"]),
        message_id=st.sampled_from(["m-1", "m-2"]),
        status=st.sampled_from(ReceiptStatus),
    )
    def apply_receipt(self, number: int, by: str, message_id: str, status: ReceiptStatus) -> None:
        row = self.pick(number)
        provider = PROVIDERS[number % 2] if row is None or by == "its" else row.given.provider
        delivery_id = f"dlv-{self.made + number}" if by == "early" or row is None else row.given.id
        why = Reason.RECIPIENT_UNREACHABLE if status is ReceiptStatus.FAILED else None
        receipt = Receipt(status, None if by == "its" else delivery_id, message_id if by == "its" else None, None, why)
        applied = self.run(self.store.apply_receipt(provider, receipt, self.now))
        assert applied == self.model.apply_receipt(provider, receipt, self.now)

    @rule(provider=st.sampled_from(PROVIDERS), failures=numbers, wait_ms=st.sampled_from([None, MINUTE]))
    def save_lane(self, provider: str, failures: int, wait_ms: int | None) -> None:
        at = None if wait_ms is None else self.now + wait_ms
        state = LaneState(None, at or 0, failures, at, self.now if failures else None)
        self.run(self.store.save_lane(provider, state))
        self.model.save_lane(provider, state)

    # -- what people do ----------------------------------------------------------------------------

    @rule(picked=st.lists(numbers, min_size=1, max_size=3))
    def retry_deliveries(self, picked: list[int]) -> None:
        ids = [row.given.id for number in picked if (row := self.pick(number))]
        assert self.run(self.store.retry_deliveries(ids, self.now)) == self.model.retry_deliveries(ids, self.now)

    @rule(scope=st.sampled_from(SCOPES), by_hand=st.booleans(), probe_ms=st.sampled_from([None, 0, 5 * MINUTE]))
    def put_hold(self, scope: str, *, by_hand: bool, probe_ms: int | None) -> None:
        reason = Reason.BY_HAND if by_hand else Reason.TEMPLATE_PAUSED
        probe_at = None if probe_ms is None else self.now + probe_ms
        new = self.run(self.store.put_hold(scope, reason, self.now, probe_at, by_hand=by_hand))
        assert new == self.model.put_hold(scope, reason, self.now, probe_at, by_hand=by_hand)

    @rule(scopes=st.sets(st.sampled_from(SCOPES), min_size=1))
    def release_holds(self, scopes: set[str]) -> None:
        for scope in sorted(scopes):
            assert self.run(self.store.release_hold(scope, self.now)) == self.model.release_hold(scope)

    @rule(number=numbers, given=deliveries, twice=st.booleans())
    def replay(self, number: int, given: dict[str, Any], *, twice: bool) -> None:
        row = self.pick(number)
        if row is None or given["state"] is not State.PENDING:
            return
        self.made += 1
        plan = Plan(f"plan-{self.made}", self.now, "hash", "[]")
        self.run(self.store.save_plan(plan))
        self.model.save_plan(plan)
        again = [self.make_delivery(row.given.event_id, given)]
        for _ in range(1 + twice):
            applied = self.run(self.store.apply_plan(plan.id, again, self.now))
            expected = self.model.apply_plan(plan.id, again, self.now)
            assert (None if applied is None else (applied.deliveries, applied.left_out)) == expected

    @rule(age=st.sampled_from([0, HOUR, 7 * DAY]), wholly=st.booleans())
    def wipe_or_forget(self, age: int, *, wholly: bool) -> None:
        before = self.now - age
        if wholly:
            assert self.run(self.store.forget_records(before)) == self.model.forget_records(before)
        else:
            assert self.run(self.store.wipe_payloads(before)) == self.model.wipe_payloads(before)

    # -- what befalls it ---------------------------------------------------------------------------

    @rule(step=st.sampled_from(STEPS))
    def pass_time(self, step: int) -> None:
        self.now += step

    @rule(by_ms=st.sampled_from([-HOUR, -1, HOUR, 10 * DAY]))
    def set_clock(self, by_ms: int) -> None:
        self.now += by_ms
        total = self.model.shifted_ms + by_ms
        for _ in range(2):  # whoever does not know if it worked calls again
            self.run(self.store.shift_waits(total))
        self.model.shift_waits(total)

    @rule(cleanly=st.booleans())
    def restart(self, *, cleanly: bool) -> None:
        old, dead = self.folder / str(self.generation), self.store
        self.generation += 1
        new = self.folder / str(self.generation)
        if cleanly:
            self.run(dead.close())
        new.mkdir()
        for path in old.glob("relay.db*"):
            if path.suffix not in {".lock", ".db-shm"}:
                shutil.copy(path, new / path.name)
        if not cleanly:
            self.run(dead.close())
        self.store = SqliteOutbox(new / "relay.db")
        recovered = self.run(self.store.recover_open_attempts(self.now, SETTLE))
        assert recovered == self.model.lose_attempts(self.now, SETTLE, leases_until=None)

    # -- after each step ---------------------------------------------------------------------------

    def list_shown(self) -> list[dict[str, Any]]:
        rows, cursor = self.run(self.store.list_deliveries(DeliveryFilter(limit=1_000)))
        assert cursor is None
        return [dict(row) for row in rows][::-1]

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        self.figures["steps"] += 1
        shown = [pick_columns(row) for row in self.list_shown()]
        assert shown == [show_row(self.model, row) for row in self.model.rows]
        assert self.run(self.store.list_holds()) == self.model.list_holds()
        counted = Counter((row.given.provider, row.state) for row in self.model.rows)
        assert self.run(self.store.count_deliveries()) == counted
        for provider in PROVIDERS:
            assert self.run(self.store.next_due_at(provider)) == self.model.next_due_at(provider)
            assert self.run(self.store.read_lane(provider)) == self.model.lanes.get(provider, LaneState())

    def compare_stories(self) -> None:
        """At the end of a run: attempts and receipts of every delivery."""
        self.figures["runs"] += 1
        self.figures["deliveries"] += len(self.model.rows)
        self.figures["attempts"] += len(self.attempts)
        for row in self.model.rows:
            story = self.run(self.store.read_delivery(row.given.id))
            assert story is not None
            tried = [(each["outcome"], each["reason"]) for each in story["attempt_list"]]
            assert tried == [(each.outcome, each.reason) for each in row.tried]
            assert {each["status"]: each["reason"] for each in story["receipts"]} == row.receipts
            assert story["provider_message_id"] == row.message_id
            assert (story["message"] is not None) == row.sendable
            states = [each["value"] for each in story["timeline"] if each["kind"] == "state"]
            assert states[-1] == row.state


def read_dues(db: sqlite3.Connection) -> list[Any]:
    """Not by the contract: it shows no due time of what is held."""
    return db.execute("SELECT id, state, due_at FROM deliveries").fetchall()


COLUMNS = ("id", "route", "provider", "state", "reason", "receipt", "attempts", "updated_at", "next_attempt_at")


def pick_columns(shown: dict[str, Any]) -> dict[str, Any]:
    return {**{name: shown[name] for name in COLUMNS}, "wiped": not shown["recipient"]}


def show_row(model: OutboxModel, row: Row) -> dict[str, Any]:
    held = row.state is State.PENDING and model.blocking(row)
    waits = row.state in {State.PENDING, State.UNKNOWN} and not held and row.due_at is not None
    values = (
        row.given.id, row.given.route, row.given.provider, "held" if held else row.state, row.shown_reason, row.receipt,
        len(row.tried), format_instant(row.updated_at), format_instant(row.due_at or 0) if waits else None,
    )  # fmt: skip
    return {**dict(zip(COLUMNS, values, strict=True)), "wiped": not row.recipient}


def check_claim(model: OutboxModel, provider: str, found: Sequence[Attempt], now: int, limit: int) -> None:
    """Assert that a claim took only what it was allowed to, in the order that the contract asks for."""
    assert len(found) <= limit
    probed: set[str] = set()
    for attempt in found:
        row = model.find(attempt.delivery.id)
        assert row is not None
        assert row.given.provider == provider
        assert row.state is State.PENDING
        assert row.sendable
        assert row.due_at is not None
        assert row.due_at <= now < row.given.deadline_at
        assert model.free_at(row, now) <= now
        expected = replace(row.given, state=State.SENDING, reason=None, due_at=row.due_at, dedup_key=None, detail="")
        assert attempt.delivery == expected
        assert (attempt.number, attempt.started_at, attempt.spent) == (len(row.tried) + 1, now, row.spent)
        assert attempt.probes == model.blocking(row)
        assert not probed & {*attempt.probes}
        probed |= {*attempt.probes}
        for scope in attempt.probes:
            probe_at = model.holds[scope].probe_at
            assert probe_at is not None
            assert probe_at <= now
    recipients = Counter(attempt.delivery.recipient for attempt in found)
    assert not recipients or max(recipients.values()) == 1
    check_turns(model, provider, found, now)


def check_turns(model: OutboxModel, provider: str, found: Sequence[Attempt], now: int) -> None:
    """Assert that routes took turns, and that in each the higher priority, then the oldest went first."""
    taken = {attempt.delivery.id for attempt in found}
    written_to = {attempt.delivery.recipient for attempt in found}
    rows = [row for row in model.rows if row.given.provider == provider and model.may_go(row, now)]
    left = [row for row in rows if row.given.id not in taken and row.recipient not in written_to]
    claimed = [row for row in rows if row.given.id in taken]
    for row in left:
        peers = [each for each in claimed if each.given.route == row.given.route]
        assert all(rank(each) <= rank(row) for each in peers)
        counts = Counter(each.given.route for each in claimed)
        assert all(counts[other] <= counts[row.given.route] + 1 for other in counts)


def rank(row: Row) -> tuple[int, int, int]:
    return -row.given.priority, row.due_at or 0, row.seq


def choose_seed() -> int:
    chosen = int(os.environ.get("RELAY_TEST_SEED") or SystemRandom().randrange(2**32))
    print(f"RELAY_TEST_SEED={chosen}")  # noqa: T201  # to run the same again
    return chosen


def run_machine(chosen: int, examples: int, steps: int) -> None:
    # Not shrunk: that takes minutes, and the seed brings it back.
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    seeded = seed(chosen)(type("Seeded", (OutboxMachine,), {}))
    before = Counter(OutboxMachine.figures)
    run_state_machine_as_test(seeded, settings=how)
    done = OutboxMachine.figures - before
    print(f"figures: outbox against its model: seed {chosen}, no difference after any step of {dict(done)}")  # noqa: T201  # for docs/guarantees.md


@pytest.mark.timeout(300)
def test_the_store_holds_what_the_model_holds_after_every_step() -> None:
    run_machine(choose_seed(), examples=60, steps=40)


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_the_store_holds_what_the_model_holds_after_20000_steps() -> None:
    run_machine(choose_seed(), examples=200, steps=100)


# -- known-bad controls ----------------------------------------------------------------------------

# The shortest way to each broken guarantee, which the sound store must go without complaint; chance finds it, too,
# but it takes its time.


def add_a_copy(machine: OutboxMachine) -> None:
    for _ in range(2):
        machine.add_event(2, [USUAL])


def close_a_stale_attempt(machine: OutboxMachine) -> None:
    machine.wait_and_work([Retryable(Reason.CONNECT_FAILED)])
    machine.wait_and_work([None])
    machine.close_stale_attempt(0, Accepted("m-1"))


def work_past_a_deadline(machine: OutboxMachine) -> None:
    machine.add_event(2, [{**USUAL, "live_ms": MINUTE, "recipient": "+919800000007"}])
    machine.pass_time(MINUTE)
    machine.claim_due("gallabox", 6)


def work_behind_a_hold(machine: OutboxMachine) -> None:
    machine.put_hold("provider:gallabox", by_hand=True, probe_ms=None)
    machine.wait_and_work([None])


def repeat_receipts(machine: OutboxMachine) -> None:
    machine.wait_and_work([Accepted("m-1")])
    for status in (ReceiptStatus.READ, ReceiptStatus.SENT):
        machine.apply_receipt(0, "ours", "m-1", status)
    machine.both_hold_the_same()


def close_unfenced(db: sqlite3.Connection, attempt: Attempt, ending: closing.Ending) -> Closed:
    found = db.execute("SELECT attempts FROM deliveries WHERE id = ?", (attempt.delivery.id,)).fetchone()
    return close_fenced(db, replace(attempt, number=found[0]) if found else attempt, ending)


def add_unindexed(db: sqlite3.Connection, event: Event, frozen: Sequence[adding.FrozenDelivery]) -> Enqueued:
    db.execute("DROP INDEX IF EXISTS events_source")
    return add_indexed(db, event, frozen)


close_fenced, add_indexed = closing.close_attempt, adding.add_event
CONTROLS: Sequence[tuple[Callable[[OutboxMachine], None], Any, str, Any]] = (
    (add_a_copy, adding, "add_event", add_unindexed),
    (close_a_stale_attempt, closing, "close_attempt", close_unfenced),
    (work_past_a_deadline, claiming, "_DUE", claiming._DUE.replace("d.deadline_at", "1 << 62")),
    (work_behind_a_hold, claiming, "list_blocking", lambda *_: ()),
    (repeat_receipts, receiving, "_RANK", {None: 0, "sent": 4, "failed": 2, "delivered": 3, "read": 1}),
)
each_control = pytest.mark.parametrize(("walk", "module", "name", "broken"), CONTROLS)


@each_control
def test_control_a_broken_store_is_told_from_the_model(
    walk: Callable[[OutboxMachine], None], module: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, machine = OutboxMachine(), OutboxMachine()
    sound.open()
    walk(sound)
    sound.teardown()
    machine.open()
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        walk(machine)
    with suppress(AssertionError):  # its stories are as wrong as its answers
        machine.teardown()


@pytest.mark.long
@pytest.mark.timeout(900)
@each_control
def test_control_chance_finds_a_broken_store(
    walk: Callable[[OutboxMachine], None], module: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del walk
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        run_machine(choose_seed(), examples=500, steps=60)
