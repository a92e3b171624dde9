"""The contract of app/outbox/store.py in plain Python, to hold a store against: no SQL, no files, no time of its own.

Where the contract leaves a store free (which of several due deliveries a claim takes), the model is told what the
store did and says whether it was allowed to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from app.delivery.decide import Decision, probe_wait_ms
from app.delivery.replay import KEEP_PLAN_MS
from app.model.delivery import Accepted, Attempt, Delivery, Outcome, Reason, Rejected, Scope, State, Uncertain
from app.model.event import Event
from app.model.message import Receipt, ReceiptStatus, Reply, Wish
from app.outbox.replay import Plan
from app.outbox.values import Closed, Enqueued, Heard, LaneState, NewHold, ReceiptResult, SweepCounts
from tests.outbox.outbox_optouts import OptOuts
from tests.outbox.outbox_rows import (
    Kept,
    Row,
    Standing,
    Tried,
    is_same,
    key_of,
    move_instant,
    settles,
    show_state,
)

GAP_MS = 6_000
KEEP_EARLY_MS = 24 * 3_600_000
DEDUP_MS = 30 * 24 * 3_600_000
DEATHS, REFUSALS = 3, 5
RANKS = {None: 0, ReceiptStatus.SENT: 1, ReceiptStatus.FAILED: 2, ReceiptStatus.DELIVERED: 3, ReceiptStatus.READ: 4}
ARRIVED = (ReceiptStatus.DELIVERED, ReceiptStatus.READ)


@dataclass
class OutboxModel:
    """What a store must hold after the calls so far. Methods are the contract's, with its answers."""

    events: list[Kept] = field(default_factory=list)
    holds: dict[str, Standing] = field(default_factory=dict)
    keys: dict[tuple[str, ...], tuple[int, str]] = field(default_factory=dict)  # → when, and whose event
    early: dict[tuple[str, str, str, ReceiptStatus], tuple[int, Receipt]] = field(default_factory=dict)
    turns: dict[tuple[str, str], int] = field(default_factory=dict)
    lanes: dict[str, LaneState] = field(default_factory=dict)
    refusals: dict[str, tuple[Reason, int]] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    people: OptOuts = field(default_factory=OptOuts)
    _seq: int = 0

    @property
    def rows(self) -> list[Row]:
        return sorted((row for kept in self.events for row in kept.rows), key=lambda row: row.seq)

    def find(self, delivery_id: str) -> Row | None:
        return next((row for row in self.rows if row.given.id == delivery_id), None)

    def find_event(self, event_id: str) -> Kept | None:
        return next((kept for kept in self.events if kept.event.id == event_id), None)

    # -- intake ------------------------------------------------------------------------------------

    def add_event(self, event: Event, deliveries: Sequence[Delivery]) -> Enqueued:
        for kept in self.events:
            it = kept.event
            same = event.delivery_id is not None and (it.source, it.delivery_id, it.topic) == (
                event.source,
                event.delivery_id,
                event.topic,
            )
            if same or it.id == event.id:
                return Enqueued(it.id, tuple(show_state(row) for row in kept.rows), duplicate=True)
        kept = Kept(event, [])
        self.events.append(kept)
        for each in deliveries:
            state, reason = each.state, each.reason
            key = key_of(each)
            if self.people.stops(each, each.state):
                state, reason = State.SUPPRESSED, Reason.RECIPIENT_OPTED_OUT
            elif key is not None and not self.see(key, each.created_at, event.id):
                state, reason = State.SUPPRESSED, Reason.DUPLICATE
            kept.rows.append(self.make(each, state, reason))
        return Enqueued(event.id, tuple(show_state(row) for row in kept.rows), duplicate=False)

    def make(self, given: Delivery, state: State, reason: Reason | None) -> Row:
        self._seq += 1
        return Row(
            self._seq, given, state, reason, given.recipient, given.due_at, given.created_at, given.message is not None
        )

    def see(self, key: tuple[str, ...], now: int, event_id: str, *, again: bool = False) -> bool:
        seen_at, whose = self.keys.get(key, (now - DEDUP_MS, ""))
        if seen_at > now - DEDUP_MS and not (again and whose == event_id):
            return False
        self.keys[key] = (now, event_id)
        return True

    # -- attempts ----------------------------------------------------------------------------------

    def blocking(self, row: Row) -> tuple[str, ...]:
        return tuple(scope for scope in row.scopes if scope in self.holds)

    def free_at(self, row: Row, now: int) -> int:
        last = self.turns.get((row.given.provider, row.recipient))
        return now if last is None else min(last, now) + GAP_MS

    def may_go(self, row: Row, now: int) -> bool:
        """Tell whether nothing stands against an ordinary attempt now."""
        it = row.given
        due = row.state is State.PENDING and row.due_at is not None and row.due_at <= now < it.deadline_at
        wanted = not self.people.stops(it, row.state)
        return due and wanted and row.sendable and not self.blocking(row) and self.free_at(row, now) <= now

    def open_attempt(self, attempt: Attempt, now: int, lease_ms: int) -> None:
        """Take over an attempt that a claim opened; the checks are `check_claim`'s."""
        row = self.find(attempt.delivery.id)
        assert row is not None
        row.state, row.reason, row.updated_at, row.lease_until = State.SENDING, None, now, now + lease_ms
        row.opened_at = now
        row.tried.append(Tried())
        provider = row.given.provider
        self.turns[provider, row.recipient] = now
        for scope in attempt.probes:
            self.holds[scope].probe_at = now + probe_wait_ms(scope)
        lane = self.lanes.get(provider, LaneState())
        self.lanes[provider] = replace(lane, last_claim_at=now)

    def close_attempt(self, attempt: Attempt, outcome: Outcome, decision: Decision, now: int) -> Closed:
        row = self.find(attempt.delivery.id)
        if row is None or len(row.tried) != attempt.number:
            return Closed(recorded=False)
        last = row.tried[-1]
        late = row.state is State.UNKNOWN and row.reason is Reason.PROCESS_DIED and last.lost
        if row.state is not State.SENDING and not late:
            return Closed(recorded=False)
        state, reason, due_at = decision.state, decision.reason, decision.due_at
        if row.receipt is not None and settles(state, row.receipt):
            state, reason, due_at = State.ACCEPTED, None, None
        if state is State.UNKNOWN and any(
            each.outcome == "uncertain" and each.reason != Reason.PROCESS_DIED for each in row.tried[:-1]
        ):
            due_at = None  # sent again once already
        row.move(state, reason, now if state is State.PENDING and due_at is None else due_at, now)
        row.spent += int(decision.attempt_spent) - late
        row.lease_until = None
        message_id = outcome.provider_message_id if isinstance(outcome, Accepted | Uncertain) else None
        row.message_id = message_id or row.message_id
        why = None if isinstance(outcome, Accepted) else outcome.reason
        row.tried[-1] = Tried(why, type(outcome).__name__.lower())
        if not isinstance(outcome, Accepted):
            self.people.note_refusal(row.given.recipient, outcome.reason, now)
        early = self._apply_early(row, message_id, now)
        released = tuple(scope for scope in attempt.probes if isinstance(outcome, Accepted) and self._end_probed(scope))
        return Closed(True, (*self._hold_after(row, outcome, decision, now), *early), released)

    def _end_probed(self, scope: str) -> bool:
        if scope not in self.holds or self.holds[scope].by_hand:
            return False
        del self.holds[scope]
        return True

    def _hold_after(self, row: Row, outcome: Outcome, decision: Decision, now: int) -> tuple[NewHold, ...]:
        route, provider = row.given.route, f"provider:{row.given.provider}"
        if decision.hold_scope is not None and not isinstance(outcome, Accepted):
            return self._put_new(decision.hold_scope, outcome.reason, now, decision.hold_probe_at)
        if isinstance(outcome, Accepted):
            self.refusals.pop(route, None)
            self.refusals.pop(provider, None)
        elif isinstance(outcome, Rejected) and outcome.scope is Scope.MESSAGE:
            self.refusals.pop(provider, None)
            scope = f"route:{route}"
            if self._count_refusal(route, outcome.reason) >= REFUSALS:
                return self._put_new(scope, Reason.REFUSED_REPEATEDLY, now, now + probe_wait_ms(scope))
        elif outcome.reason is Reason.ANSWER_UNREADABLE and self._count_refusal(provider, outcome.reason) >= REFUSALS:
            return self._put_new(provider, Reason.ANSWERS_UNREADABLE, now, now + probe_wait_ms(provider))
        return ()

    def _count_refusal(self, name: str, reason: Reason) -> int:
        before, count = self.refusals.get(name, (reason, 0))
        count = count + 1 if before is reason else 1
        self.refusals[name] = (reason, count)
        return count

    def _put_new(self, scope: str, reason: Reason, now: int, probe_at: int | None) -> tuple[NewHold, ...]:
        return (NewHold(scope, reason.value),) if self.put_hold(scope, reason, now, probe_at) else ()

    def lose_attempts(self, now: int, settle_ms: int, *, leases_until: int | None) -> int:
        """Give up the open attempts; `leases_until`: only those whose lease ended by then."""
        lost = [row for row in self.rows if row.state is State.SENDING]
        lost = [row for row in lost if leases_until is None or (row.lease_until or 0) <= leases_until]
        for row in lost:
            turn = row.given.provider, row.recipient
            self.turns[turn] = max(self.turns.get(turn, now), now)
            row.tried[-1] = Tried(Reason.PROCESS_DIED, "uncertain", lost=True)
            row.spent, row.lease_until = row.spent + 1, None
            if row.receipt is not None:
                row.move(State.ACCEPTED, None, None, now)
                continue
            deaths = sum(each.reason == Reason.PROCESS_DIED for each in row.tried)
            resend = row.given.on_unknown == "resend" and deaths < DEATHS
            row.move(State.UNKNOWN, Reason.PROCESS_DIED, now + settle_ms if resend else None, now)
        return len(lost)

    # -- what time and people change ---------------------------------------------------------------

    def sweep(self, now: int, settle_ms: int) -> SweepCounts:
        self.early = {key: kept for key, kept in self.early.items() if kept[0] > now - KEEP_EARLY_MS}
        self.keys = {key: seen for key, seen in self.keys.items() if seen[0] > now - DEDUP_MS}
        self.plans = {id_: plan for id_, plan in self.plans.items() if plan.created_at > now - KEEP_PLAN_MS}
        self.turns = {who: at for who, at in self.turns.items() if at > now - GAP_MS}
        lost = self.lose_attempts(now, settle_ms, leases_until=now)
        expired = [row for row in self.rows if row.state is State.PENDING and row.given.deadline_at <= now]
        for row in expired:
            row.move(State.EXPIRED, Reason.DEADLINE_PASSED, None, now)
        due = [row for row in self.rows if row.state is State.UNKNOWN and row.due_at is not None and row.due_at <= now]
        resent = [row for row in due if row.given.deadline_at > now]
        for row in due:
            if row in resent:
                row.move(State.PENDING, row.reason, row.due_at, now)
            else:
                row.due_at = None
        return SweepCounts(len(expired), len(resent), lost)

    def retry_deliveries(self, ids: Iterable[str], now: int) -> list[str]:
        changed = []
        for id_ in dict.fromkeys(ids):
            row = self.find(id_)
            if row is not None and self._may_retry(row, now):
                row.move(State.PENDING, None, now, now)
                row.spent = 0
                changed.append(id_)
        return changed

    def is_mended(self, row: Row) -> bool:
        """Tell whether a replay made the message of a row that is over anew."""
        kept = self.find_event(row.given.event_id)
        assert kept is not None
        place = next(number for number, each in enumerate(kept.rows) if each is row)
        over = row.state in {State.DEAD, State.EXPIRED}
        later = kept.rows[place + 1 :]
        return over and any(each.given.created_at != row.given.created_at and is_same(each, row) for each in later)

    def _may_retry(self, row: Row, now: int) -> bool:
        kept = self.find_event(row.given.event_id)
        assert kept is not None
        open_states = {State.PENDING, State.SENDING, State.UNKNOWN, State.ACCEPTED}
        replayed = any(
            each.given.created_at != row.given.created_at and each.state in open_states and is_same(each, row)
            for each in kept.rows
        )
        over = row.state in {State.DEAD, State.UNKNOWN, State.EXPIRED}
        return over and row.sendable and row.given.deadline_at > now and not replayed

    def shift_waits(self, now: int, by_ms: int) -> None:
        move = partial(move_instant, now=now, by_ms=by_ms)
        for row in self.rows:
            if row.state is State.PENDING or (row.state is State.UNKNOWN and row.updated_at > now):
                row.due_at = move(row.due_at)
            if row.state is State.SENDING and row.opened_at > now:
                row.lease_until = move(row.lease_until)
        for hold in self.holds.values():
            hold.probe_at = move(hold.probe_at)
        for name, it in self.lanes.items():
            self.lanes[name] = LaneState(
                move(it.last_claim_at),
                move(it.paused_until) or 0,
                it.failures,
                move(it.probe_at),
                move(it.resumed_at),
                move(it.down_since),
            )
        self.turns = {who: move(at) or 0 for who, at in self.turns.items()}

    def save_lane(self, provider: str, state: LaneState) -> None:
        last = self.lanes.get(provider, LaneState()).last_claim_at
        self.lanes[provider] = replace(state, last_claim_at=last)

    def put_hold(self, scope: str, reason: str, now: int, probe_at: int | None, *, by_hand: bool = False) -> bool:
        by_hand = by_hand or reason == Reason.BY_HAND
        stands = self.holds.get(scope)
        if stands is None or by_hand or not stands.by_hand:
            since = now if stands is None else stands.since
            self.holds[scope] = Standing(reason, since, None if by_hand else probe_at, by_hand)
        return stands is None

    def release_hold(self, scope: str) -> bool:
        self.refusals.pop(scope.removeprefix("route:"), None)
        return self.holds.pop(scope, None) is not None

    # -- receipts ----------------------------------------------------------------------------------

    def apply_receipt(self, provider: str, receipt: Receipt, now: int) -> ReceiptResult:
        row = self._match(provider, receipt.delivery_id, (receipt.provider_message_id, receipt.wamid))
        if row is None:
            its_id = receipt.provider_message_id or receipt.wamid or ""
            key = (provider, its_id, receipt.delivery_id or "", receipt.status)
            if key[1] or key[2]:
                self.early.setdefault(key, (now, receipt))
            return ReceiptResult()
        told = ((row.message_id, receipt.provider_message_id), (row.wamid, receipt.wamid))
        row.message_id, row.wamid = (kept or its_id for kept, its_id in told)
        holds = self._take_receipt(row, receipt, now)
        for its_id in (its_id for kept, its_id in told if its_id and not kept):
            holds = (*holds, *self._apply_early(row, its_id, now))
        it = row.given
        return ReceiptResult(it.id, it.event_id, it.route, row.recipient, it.created_at, holds)

    def _take_receipt(self, row: Row, receipt: Receipt, now: int) -> tuple[NewHold, ...]:
        is_new, before = receipt.status not in row.receipts, row.receipt
        row.receipts.setdefault(receipt.status, receipt.reason)
        if RANKS[receipt.status] > RANKS[row.receipt]:
            row.receipt, row.updated_at = receipt.status, now
        if row.tried and settles(row.state, receipt.status):
            row.move(State.ACCEPTED, None, None, now)
        if not is_new:
            return ()
        it = row.given
        if receipt.status in ARRIVED:
            self.people.unreachable.pop(it.recipient, None)
        if receipt.status is not ReceiptStatus.FAILED or receipt.reason is None:
            return ()
        if receipt.reason is not Reason.RECIPIENT_UNREACHABLE or before not in ARRIVED:
            self.people.note_refusal(it.recipient, receipt.reason, now, receipt.at)
        scopes = {Scope.PROVIDER: row.scopes[0], Scope.TEMPLATE: row.scopes[2]}
        scope = scopes.get(receipt.scope)
        return self._put_new(scope, receipt.reason, now, now + probe_wait_ms(scope)) if scope else ()

    def _match(self, provider: str, delivery_id: str | None, message_ids: Sequence[str | None]) -> Row | None:
        own = [row for row in self.rows if row.given.provider == provider]
        found = [row for row in own if row.given.id == delivery_id]
        for id_ in filter(None, message_ids):
            found += [row for row in own if row.message_id == id_][::-1]
            found += [row for row in own if row.wamid == id_][::-1]
        return found[0] if found else None

    def _apply_early(self, row: Row, message_id: str | None, now: int) -> list[NewHold]:
        it = row.given
        holds: list[NewHold] = []
        for key in sorted(self.early, key=lambda key: (key[1] != message_id, *key)):
            provider, its_id, our_id, status = key
            if provider == it.provider and ((its_id and its_id == message_id) or our_id == it.id):
                _, early = self.early.pop(key, (0, None))
                if early is None:  # one before it taught the id by which it was found already
                    continue
                receipt = Receipt(
                    status, it.id, its_id or None, early.at, early.reason, "", early.scope, early.wamid
                )  # fmt: skip
                holds += self.apply_receipt(provider, receipt, now).holds_set
        return holds

    def apply_reply(self, provider: str, reply: Reply, wish: Wish | None, now: int) -> Heard:
        row = self._match(provider, reply.delivery_id, (reply.provider_message_id,))
        at = now if reply.at is None else min(reply.at, now)
        number = reply.sender or (row.given.recipient if row else "")
        changed = False
        if wish == "stop":
            changed = self.people.suppress(number, "preference" if reply.wish else "stop_reply", reply.at, now)
        elif wish == "resume":
            changed = self.people.lift(number, reply.at, now)
        if row is None:
            return Heard(changed=changed)
        clicked = reply.tapped and wish is None and not row.clicked
        row.clicked = row.clicked or clicked
        if reply.tapped:
            self._take_receipt(row, Receipt(ReceiptStatus.READ, row.given.id, None, at), now)
        return Heard(row.given.id, row.given.event_id, row.given.route, clicked, changed)

    # -- ends --------------------------------------------------------------------------------------

    def wipe_payloads(self, before: int) -> int:
        wiped = 0
        for kept in self.events:
            if kept.wiped or kept.event.received_at >= before:
                continue
            for row in kept.rows:
                if row.updated_at < before and row.is_over(before) and (row.recipient or row.sendable):
                    row.recipient, row.sendable = "", False
                    wiped += 1
            kept.wiped = not any(row.recipient or row.sendable or row.updated_at >= before for row in kept.rows)
        return wiped

    def forget_records(self, before: int) -> int:
        def is_over(kept: Kept) -> bool:
            over = all(row.updated_at < before and row.is_over(before) for row in kept.rows)
            return kept.event.received_at < before and over

        self.people.forget(before)
        gone = [kept for kept in self.events if is_over(kept)]
        self.events = [kept for kept in self.events if kept not in gone]
        return len(gone)
