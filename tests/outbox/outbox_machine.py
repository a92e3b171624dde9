"""What Hypothesis may do to a store and its model: a rule does one thing to both, and then they must be equal.

A crash copies the files as they are and opens the copy: what was committed is there, and nothing was closed.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.delivery.decide import decide
from app.model.delivery import Attempt, Delivery, Outcome, Reason, Scope, State
from app.model.event import Event
from app.model.message import Message, Receipt, ReceiptStatus, Reply, Variable, Wish
from app.outbox.replay import Plan
from app.outbox.sweep import BEHIND_MS
from app.outbox.values import DeliveryFilter, LaneState, SuppressionCounts
from app.values.instant import format_instant
from tests.outbox.methods import SqliteOutbox
from tests.outbox.outbox_checks import (
    check_claim,
    find_oldest_due,
    list_holds,
    next_due_at,
    pick_columns,
    read_dues,
    show_row,
)
from tests.outbox.outbox_givens import (
    DAY,
    FAILURES,
    HOUR,
    LEASE,
    MEMORY,
    MINUTE,
    OUTCOMES,
    PROVIDERS,
    RECIPIENTS,
    ROUTES,
    SCOPES,
    SECOND,
    SETTLE,
    START,
    STEPS,
    USUAL,
    deliveries,
    numbers,
)
from tests.outbox.outbox_model import OutboxModel
from tests.outbox.outbox_replay import apply_plan, save_plan
from tests.outbox.outbox_rows import Row

T = TypeVar("T")


class OutboxMachine(RuleBasedStateMachine):
    """The store and the model; a rule does one thing to both."""

    open_store: ClassVar[Any] = SqliteOutbox
    figures: ClassVar[Counter[str]] = Counter()

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.generation = 0
        self.store = self.open_first()
        self.model = OutboxModel()
        self.now = START
        self.made = 0
        self.attempts: list[Attempt] = []
        self.add_event(0, [{**USUAL, "route": route} for route in ROUTES])
        self.add_event(1, [{**USUAL, "on_unknown": "resend", "recipient": "+919800000009"}])

    def open_first(self) -> Any:
        return self.open_store(self.folder / "0" / "relay.db")

    def open_again(self, *, cleanly: bool) -> Any:
        """Return the store as the next process finds it, after this one was closed or has died."""
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
        return self.open_store(new / "relay.db")

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
            on_unknown=given["on_unknown"], marketing=given["marketing"],
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
        for id_, state, due_at in self.run(self.store.read(read_dues)):
            row = self.model.find(id_)
            if row is None or row.given.provider != provider or row.state is not State.PENDING:
                continue
            assert row.due_at is not None
            if state == State.EXPIRED:
                assert row.due_at <= self.now
                assert row.given.deadline_at <= self.now
                row.move(State.EXPIRED, Reason.DEADLINE_PASSED, None, self.now)
            elif state == State.SUPPRESSED:
                assert row.due_at <= self.now < row.given.deadline_at
                assert self.model.people.stops(row.given, row.state)
                row.move(State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT, None, self.now)
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
        failure=st.sampled_from(FAILURES),
    )
    def apply_receipt(
        self, number: int, by: str, message_id: str, status: ReceiptStatus, failure: tuple[Reason, Scope] = FAILURES[0]
    ) -> None:
        row = self.pick(number)
        provider = PROVIDERS[number % 2] if row is None or by == "its" else row.given.provider
        delivery_id = f"dlv-{self.made + number}" if by == "early" or row is None else row.given.id
        why, scope = failure if status is ReceiptStatus.FAILED else (None, Scope.MESSAGE)
        our_id, its_id = (None, message_id) if by == "its" else (delivery_id, None)
        receipt = Receipt(status, our_id, its_id, None, why, "", scope, message_id if by == "ours" else None)
        (applied,) = self.run(self.store.apply_receipts(provider, [receipt], self.now))
        assert applied == self.model.apply_receipt(provider, receipt, self.now)

    @rule(provider=st.sampled_from(PROVIDERS), failures=numbers, wait_ms=st.sampled_from([None, MINUTE]))
    def save_lane(self, provider: str, failures: int, wait_ms: int | None) -> None:
        at = None if wait_ms is None else self.now + wait_ms
        state = LaneState(None, at or 0, failures, at, self.now if failures else None, at)
        self.run(self.store.save_lane(provider, state))
        self.model.save_lane(provider, state)

    @rule(
        number=numbers,
        matched=st.booleans(),
        tapped=st.booleans(),
        wish=st.sampled_from([None, None, "stop", "resume"]),
        ago=st.sampled_from([None, 0, SECOND, 2 * DAY]),
        chosen=st.booleans(),
    )
    def apply_reply(
        self, number: int, *, matched: bool, tapped: bool, wish: Wish | None, ago: int | None, chosen: bool
    ) -> None:
        row = self.pick(number)
        provider = PROVIDERS[number % 2] if row is None else row.given.provider
        sender = RECIPIENTS[number % len(RECIPIENTS)] if row is None or not matched else row.given.recipient
        at = None if ago is None else self.now - ago
        delivery_id = row.given.id if row is not None and matched else None
        reply = Reply("" if tapped else sender, "", tapped, delivery_id, "m-1", at, wish if chosen else None)
        heard = self.run(self.store.apply_reply(provider, reply, wish, self.now))
        assert heard == self.model.apply_reply(provider, reply, wish, self.now)

    # -- what people do ----------------------------------------------------------------------------

    @rule(picked=st.lists(numbers, min_size=1, max_size=3))
    def retry_deliveries(self, picked: list[int]) -> None:
        ids = [row.given.id for number in picked if (row := self.pick(number))]
        assert self.run(self.store.retry_deliveries(ids, self.now)) == self.model.retry_deliveries(ids, self.now)

    @rule(numbers=st.lists(st.sampled_from(RECIPIENTS), max_size=3), lift=st.booleans())
    def change_suppressions(self, numbers: list[str], *, lift: bool) -> None:
        if lift:
            changed = self.run(self.store.lift_suppressions(numbers))
            assert changed == self.model.people.lift_by_hand(numbers)
        else:
            changed = self.run(self.store.suppress_people(numbers, "by_hand", self.now))
            assert changed == self.model.people.suppress_by_hand(numbers, self.now)

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
        save_plan(self.model, plan)
        again = [self.make_delivery(row.given.event_id, given)]
        for _ in range(1 + twice):
            applied = self.run(self.store.apply_plan(plan.id, again, self.now))
            expected = apply_plan(self.model, plan.id, again, self.now)
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
        newest, self.now = self.now, self.now + by_ms
        moved_ms = self.run(self.store.shift_waits(self.now, newest))
        assert moved_ms == (by_ms if by_ms < -BEHIND_MS else 0)
        assert self.run(self.store.shift_waits(self.now, None)) == 0  # whoever does not know if it worked asks again
        if moved_ms:
            self.model.shift_waits(self.now, moved_ms)

    @rule(cleanly=st.booleans())
    def restart(self, *, cleanly: bool) -> None:
        self.store = self.open_again(cleanly=cleanly)
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
        assert self.run(self.store.list_holds()) == list_holds(self.model)
        people = self.model.people
        counts = SuppressionCounts(len(people.suppressed), len(people.unreachable))
        assert self.run(self.store.count_suppressions()) == counts
        listed, _ = self.run(self.store.list_suppressions(100, None))
        known = sorted((reason, format_instant(since)) for reason, since in people.suppressed.values())
        assert sorted((each["reason"], each["since"]) for each in listed) == known
        counted = Counter((row.given.provider, row.state) for row in self.model.rows)
        assert self.run(self.store.count_deliveries()) == counted
        for provider in PROVIDERS:
            assert self.run(self.store.next_due_at(provider)) == next_due_at(self.model, provider)
            oldest = find_oldest_due(self.model, provider, self.now)
            assert self.run(self.store.find_oldest_due(provider, self.now)) == oldest
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
            assert [each["value"] for each in story["timeline"] if each["kind"] == "reply"] == ["clicked"] * row.clicked
            assert {each["status"]: each["reason"] for each in story["receipts"]} == row.receipts
            assert story["provider_message_id"] == (row.message_id if row.recipient else None)
            assert (story["message"] is not None) == row.sendable
            states = [each["value"] for each in story["timeline"] if each["kind"] == "state"]
            assert states[-1] == row.state
