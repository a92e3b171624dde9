"""The promises of docs/guarantees.md, held against what the providers saw and what the store holds.

Every check is made from outside, by SQL and by the true time, with none of the code that it judges.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.message.components import encode_message
from app.model.delivery import Attempt
from app.model.message import Message
from app.outbox.people import hash_person
from app.outbox.sqlite.file import read_key
from app.outbox.values import Claimed, Enqueued

GAP_MS = 6_000 - 250  # what a lane does not note
LIMIT, LIMIT_WINDOW_MS = 6, 86_400_000 - 60_000
SETTLE_MS = 900_000
LONGEST_WAIT_MS = 27 * 3_600_000  # nothing waits for longer by itself: a cap of 24 h, and its jitter
UNCERTAIN = ("timed_out", "connection_lost", "gateway_failed", "answer_unreadable", "process_died")
LAST = ("accepted", "expired", "suppressed", "shadow", "dead")
# From each state, where a delivery may go by itself; a person's retry leads from the last ones to pending.
MOVES: Mapping[str, tuple[str, ...]] = {
    "pending": ("sending", "expired", "dead", "suppressed", "accepted"),
    "sending": ("pending", "accepted", "unknown", "dead", "expired"),
    "unknown": ("pending", "accepted", "expired", "dead"),  # given up as lost, its attempt may end after all
    "dead": ("accepted",),
    "expired": ("accepted",),
    "suppressed": ("accepted",),  # sent before they opted out, and it had arrived
}
# Why; the oracle's own table, which a test holds against the relay's.
CAUSES: Mapping[tuple[str, str], set[str]] = {
    ("pending", "sending"): {"claimed"},
    ("pending", "expired"): {"deadline"},
    ("pending", "dead"): {"damaged"},
    ("pending", "suppressed"): {"opted_out", "erased"},
    ("pending", "accepted"): {"receipt"},
    ("pending", "unknown"): {"restored"},
    ("sending", "pending"): {"ended", "lost"},
    ("sending", "accepted"): {"ended", "receipt", "lost", "restored"},
    ("sending", "unknown"): {"ended", "lost", "restored"},
    ("sending", "dead"): {"ended"},
    ("sending", "expired"): {"ended"},
    ("unknown", "pending"): {"resent", "retried", "ended_late"},
    ("unknown", "accepted"): {"receipt", "ended_late"},
    ("unknown", "unknown"): {"restored", "ended_late"},
    ("unknown", "expired"): {"ended_late"},
    ("unknown", "dead"): {"ended_late"},
    ("unknown", "suppressed"): {"erased"},
    ("dead", "pending"): {"retried"},
    ("dead", "accepted"): {"receipt"},
    ("expired", "pending"): {"retried"},
    ("expired", "accepted"): {"receipt"},
    ("suppressed", "accepted"): {"receipt"},
}
# What a provider or a handset has said of a person, by the row that keeps it.
_REFUSALS = """
SELECT 'answer', a.delivery_seq, a.number FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq
WHERE a.reason = 'recipient_opted_out' AND d.person = ?1
UNION ALL SELECT 'receipt', r.delivery_seq, 0 FROM receipts r JOIN deliveries d ON d.seq = r.delivery_seq
WHERE r.reason = 'recipient_opted_out' AND d.person = ?1
"""


_RECORDED = "SELECT state FROM recorded WHERE seq = ? ORDER BY n"
_REACHED = "SELECT route, provider, state, count(*) FROM recorded WHERE state <> 'sending' GROUP BY 1, 2, 3"


@dataclass
class Oracle:
    """Collects what must not be. `wall_now` is what the machine's clock shows, `true_now` what time it is.

    Deadlines are held against the machine's clock, for there is no other that names instants; waits against
    true time, for they must last as long whatever that clock is set to. `true_at` is of a loop's time.
    """

    db: sqlite3.Connection
    wall_now: Callable[[], int]
    true_now: Callable[[], int]
    true_at: Callable[[float], int]
    rates: Mapping[str, float]
    on_break: Callable[[str], None]
    note: Callable[[str], None]
    retried: set[str] = field(default_factory=set)  # by a person
    receipts: set[str] = field(default_factory=set)  # deliveries of which the provider has reported
    attempts: list[Attempt] = field(default_factory=list)
    taken: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # by delivery: its episode each time
    frozen: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0
    stopped: dict[str, int] = field(default_factory=dict)  # by number: when the last stop that was heard was uttered
    resumed: dict[str, int] = field(default_factory=dict)  # the same of what was uttered, heard or not
    _uttered: set[str] = field(default_factory=set)  # who has ever said stop
    _forgiven: set[tuple[Any, ...]] = field(default_factory=set)  # refusals before somebody wanted marketing again
    _coupons: set[Any] = field(default_factory=set)
    latest: int = 0  # that the machine's clock ever showed before it was set back
    restarted_at: int = 0
    _skew_at_send: dict[str, int] = field(default_factory=dict)
    _excused_until: int = 0
    _last_claim: dict[str, int] = field(default_factory=dict)
    _claims: dict[str, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    _last_to: dict[tuple[str, str], int] = field(default_factory=dict)
    _opened: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))  # by number; until a clock is set

    # -- as it happens ----------------------------------------------------------------------------

    def observe(self, result: Any, asked_at_s: float) -> None:
        """Look at what a transaction has just committed that was asked for at this time of the loop."""
        match result:
            case Enqueued(duplicate=False):
                for state in result.deliveries:
                    self._check_repeat(state.id)
                    self.frozen[state.id] = self._one("SELECT message FROM deliveries WHERE id = ?", state.id)[0]
            case Claimed(attempts=attempts):
                for attempt in attempts:
                    self._check_claim(attempt, self.true_at(asked_at_s))
            case _:
                pass

    def _check_repeat(self, delivery_id: str) -> None:
        """One coupon code to one person is one message, however many events tell of it."""
        found = self._find(
            "SELECT d.recipient, json_extract(e.body, '$.value') FROM deliveries d JOIN events e ON e.seq = d.event_seq"
            " WHERE d.route = 'coupon' AND d.state = 'pending' AND d.id = ?",
            delivery_id,
        )
        if found is not None and found in self._coupons:
            self.fail(f"dedup: {delivery_id} tells {found[0]} of {found[1]} again")
        self._coupons.add(found)

    def note_send(self, delivery_id: str, message: Message) -> None:
        """I3: the attempt is committed. I7: the message is the one that was frozen."""
        self._skew_at_send[delivery_id] = self.wall_now() - self.true_now()
        found = self._find(
            "SELECT d.state, d.reason, a.ended_at FROM deliveries d JOIN attempts a"
            " ON a.delivery_seq = d.seq AND a.number = d.attempts WHERE d.id = ?",
            delivery_id,
        )
        # A process that stood still may have been given up meanwhile: then nobody has tried again yet.
        open_ = found is not None and (found[0] == "sending" or found[:2] == ("unknown", "process_died"))
        if not open_:
            self.fail(f"I3: {delivery_id} is sent without an open attempt: {found}")
        if encode_message(message) != self.frozen.get(delivery_id):
            self.fail(f"I7: {delivery_id} is not the message that was frozen")
        self._check_gap(delivery_id, message.recipient, self.true_now())

    def _check_gap(self, delivery_id: str, recipient: str, now: int) -> None:
        """One person gets no two messages of a provider at once, however long the store took over a claim."""
        (provider,) = self._one("SELECT provider FROM deliveries WHERE id = ?", delivery_id)
        last = self._last_to.get((provider, recipient))
        # A process that died within 6 s of a claim that the store took seconds over leaves that claim's date behind.
        fresh = now - self.restarted_at < GAP_MS
        if last is not None and now - last < GAP_MS and now >= self._excused_until and not fresh:
            self.fail(f"gap: {delivery_id} leaves {now - last} ms after the one before to the same person")
        self._last_to[provider, recipient] = now

    def note_request(self, provider: str, delivery_id: str) -> None:
        """I6: nothing reaches a provider at or after its deadline."""
        self.requests += 1
        deadline_at, named = self._one("SELECT deadline_at, provider FROM deliveries WHERE id = ?", delivery_id)
        # If the clock was set while the request connected, what it would show otherwise counts as well.
        now = min(self.wall_now(), self._skew_at_send[delivery_id] + self.true_now())
        if now >= deadline_at:
            self.fail(f"I6: {delivery_id} reached {provider} {now - deadline_at} ms after its deadline")
        if named != provider:
            self.fail(f"{delivery_id} of {named} reached {provider}")

    def note_taken(self, provider: str, delivery_id: str) -> None:
        """A second message to a customer only after an unknown outcome, or by hand."""
        episode = self._count_returns(delivery_id)
        if episode in self.taken[delivery_id]:
            self.fail(f"double: {provider} took {delivery_id} again, and it had not been unknown since")
        self.taken[delivery_id].append(episode)

    def _check_claim(self, attempt: Attempt, now: int) -> None:
        it = attempt.delivery
        self.attempts.append(attempt)
        self.note(f"claim {attempt.number} of {it.id} {it.recipient} {it.route} probes {attempt.probes}")
        scopes = {f"provider:{it.provider}", f"route:{it.route}", f"template:{it.provider}/{it.template}"}
        held = scopes & {scope for (scope,) in self.db.execute("SELECT scope FROM holds")}
        if held and set(attempt.probes) != held:
            self.fail(f"held: {it.id} was claimed past {sorted(held)}")
        deadline_at = self._one("SELECT deadline_at FROM deliveries WHERE id = ?", it.id)[0]
        if attempt.started_at >= deadline_at:
            self.fail(f"I6: {it.id} was claimed after its deadline")
        self._check_wanted(it.id, it.recipient)
        self._check_limit(attempt, now)
        self._check_rate(it.provider, now)
        self._check_settled(attempt, now)

    def _check_limit(self, attempt: Attempt, now: int) -> None:
        """Nobody gets more than `limits: person` in a day, whatever was restarted; but for what surely was not sent."""
        opened = self._opened[attempt.delivery.recipient]
        opened[:] = [(at, *rest) for at, *rest in opened if at > now - LIMIT_WINDOW_MS]
        counted = [at for at, seq, number in opened if self._may_have_come(seq, number)]
        if len(counted) >= LIMIT:
            self.fail(f"limit: {attempt.delivery.id} is message {len(counted) + 1} to one person within a day")
        (seq,) = self._one("SELECT seq FROM deliveries WHERE id = ?", attempt.delivery.id)
        opened.append((now, seq, attempt.number))

    def _may_have_come(self, seq: int, number: int) -> bool:
        query = "SELECT outcome, detail FROM attempts WHERE delivery_seq = ? AND number = ?"
        found = self.db.execute(query, (seq, number)).fetchone()
        if found is None:  # of a control: nothing that a relay does takes an attempt away
            return True
        outcome, detail = found
        return bool(outcome != "retryable") and (outcome != "rejected" or str(detail).startswith("HTTP 2"))

    def note_wish(self, number: str, wish: str | None, uttered_at: int, *, heard: bool) -> None:
        """A customer has uttered a wish, or the relay has answered 200 to it."""
        if wish == "stop":
            self._uttered.add(number)
        if wish == "stop" and heard:
            self.stopped[number] = max(self.stopped.get(number, 0), uttered_at)
        if wish == "resume":  # from when it is uttered nobody can say any more which of the two came first
            self.resumed[number] = max(self.resumed.get(number, 0), uttered_at)
            self._forgiven |= self._list_refusals(self._hash(number))

    def _check_wanted(self, delivery_id: str, number: str) -> None:
        """No marketing is begun for somebody whose opt-out was committed."""
        marketing, person = self._one("SELECT marketing, person FROM deliveries WHERE id = ?", delivery_id)
        if marketing and self.stopped.get(number, 0) > self.resumed.get(number, 0):
            self.fail(f"opted out: {delivery_id} goes to {number}, who had said stop")
        if marketing and self._list_refusals(person) - self._forgiven:
            self.fail(f"opted out: {delivery_id} goes to {number}, of whom WhatsApp had said so")

    def check_withheld(self) -> None:
        """Nothing is withheld but marketing, and only from who has opted out."""
        said = {self._hash(number) for number in self._uttered}
        query = "SELECT id, marketing, person FROM deliveries WHERE state = 'suppressed' AND reason <> 'duplicate'"
        for id_, marketing, person in self.db.execute(query).fetchall():
            if not marketing or (person not in said and not self._list_refusals(person)):
                self.fail(f"withheld: {id_} was suppressed, and nobody had opted out of it")

    def _hash(self, number: str) -> bytes | None:
        return hash_person(read_key(self.db), number)

    def _list_refusals(self, person: bytes | None) -> set[tuple[Any, ...]]:
        return set(self.db.execute(_REFUSALS, (person,)))

    def _check_settled(self, attempt: Attempt, now: int) -> None:
        """What may have been sent is sent again after its settling time, no earlier."""
        id_ = attempt.delivery.id
        last = self._last_claim.get(id_, 0)
        self._last_claim[id_] = now
        before = self._find(
            "SELECT a.outcome, a.number FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq"
            " WHERE d.id = ? AND a.number = d.attempts - 1",
            id_,
        )
        if self._count_uncertain(id_)[1] > 1 and id_ not in self.retried:
            self.fail(f"again: {id_} was sent twice without an answer, and nobody asked for a third time")
        if id_ in self.retried or before is None or before[0] != "uncertain" or now < self._excused_until:
            return
        if now - last < SETTLE_MS:
            self.fail(f"early: {id_} was unknown and goes again after {now - last} ms")

    def _check_rate(self, provider: str, now: int) -> None:
        claims = self._claims[provider]
        claims.append(now)
        while claims[0] <= now - 1000:
            claims.popleft()
        allowed = self.rates[provider] + max(self.rates[provider] * 0.05, 1)
        if len(claims) > allowed and now >= self._excused_until:
            self.fail(f"rate: {len(claims)} claims of {provider} in a second, {allowed} are allowed")

    def excuse_waits(self) -> None:
        """The clock was set: a wait that was begun before, or until the sweep that sees it, may end early."""
        self._excused_until = self.true_now() + SETTLE_MS + 60_000
        self._opened.clear()

    # -- around faults ----------------------------------------------------------------------------

    def list_open(self) -> list[str]:
        """Return the deliveries with an open attempt."""
        return [id_ for (id_,) in self.db.execute("SELECT id FROM deliveries WHERE state = 'sending' ORDER BY seq")]

    def check_recovered(self, were_open: Sequence[str]) -> None:
        """I4: what a dead process left open is unknown now, or known by its receipt."""
        for id_ in were_open:
            state, receipt = self._one("SELECT state, receipt FROM deliveries WHERE id = ?", id_)
            if state != ("unknown" if receipt is None else "accepted"):
                self.fail(f"I4: {id_} was open when the process died and is {state} after the start")

    # -- at the end -------------------------------------------------------------------------------

    def check_counts(self, counted: Mapping[Any, int]) -> None:
        """I10: the counters equal the table."""
        rows = self.db.execute("SELECT provider, state, count(*) FROM deliveries GROUP BY 1, 2")
        table = {(provider, state): n for provider, state, n in rows}
        query = "SELECT route, provider, state, n FROM reached"
        reached = {(route, provider, state): n for route, provider, state, n in self.db.execute(query)}
        recorded = {(route, provider, state): n for route, provider, state, n in self.db.execute(_REACHED)}
        if reached != recorded:
            self.fail(f"I10: {recorded} were reached, counted are {reached}")
        if table != {(provider, str(state)): n for (provider, state), n in counted.items() if n}:
            self.fail(f"I10: the table holds {table}, counted are {counted}")

    def check_events(self, acknowledged: Mapping[str, str]) -> None:
        """I1 and I2: every answered event is there, and there once."""
        stored: dict[str, list[str]] = defaultdict(list)
        for delivery_id, id_ in self.db.execute("SELECT source_delivery_id, id FROM events"):
            stored[delivery_id].append(id_)
        for delivery_id, event_id in acknowledged.items():
            if event_id not in stored[delivery_id]:
                self.fail(f"I1: {delivery_id} was acknowledged as {event_id} and is not stored")
        for delivery_id, ids in stored.items():
            if len(ids) > 1:
                self.fail(f"I2: {delivery_id} is stored {len(ids)} times")

    def check_timelines(self) -> None:
        """I9 and I10: each delivery went only where it may go, and stands where its timeline ends."""
        for seq, id_, state in self.db.execute("SELECT seq, id, state FROM deliveries").fetchall():
            told = self._read_told(seq)
            steps = [step for step, _ in told]
            if steps[-1] != state:
                self.fail(f"I10: {id_} is {state}, its timeline ends with {steps[-1]}")
            if [step for (step,) in self.db.execute(_RECORDED, (seq,))] != steps:
                self.fail(f"I10: {id_} went another way than its timeline tells: {steps}")
            for (one, _), (other, cause) in pairwise(told):
                if cause not in CAUSES.get((one, other), ()):
                    self.fail(f"I9: {id_} went from {one} to {other} because of {cause}: {steps}")
            for one, other in pairwise(steps):
                by_hand = other == "pending" and one in ("dead", "expired") and id_ in self.retried
                if other not in MOVES.get(one, ()) and not by_hand:
                    self.fail(f"I9: {id_} went from {one} to {other}: {steps}")
                if one in LAST and other == "accepted" and id_ not in self.receipts:
                    self.fail(f"I9: {id_} went from {one} to accepted without a receipt")

    def check_truth(self) -> None:
        """What the store says was sent was taken by the provider, and the other way round."""
        query = "SELECT seq, id, state, on_unknown FROM deliveries"
        for seq, id_, state, on_unknown in self.db.execute(query).fetchall():
            steps = self._read_states(seq)
            if state == "accepted" and not self.taken[id_]:
                self.fail(f"lost: {id_} is accepted, and its provider never took it: {steps}")
            if state != "accepted" and self.taken[id_] and "unknown" not in steps:
                self.fail(f"{id_} is {state} though its provider took it, and it never was unknown: {steps}")
            if on_unknown == "hold" and self._count_resent(seq):
                self.fail(f"resent: {id_} of a route that holds was sent again by itself: {steps}")

    def check_nothing_waits(self, since: int) -> None:
        """Nothing is due and not done: what is pending waits for its time, or behind a person's hold."""
        by_hand = {scope for (scope,) in self.db.execute("SELECT scope FROM holds WHERE by_hand")}
        if by_hand:
            self.fail(f"the test forgot to release {by_hand}")
        query = "SELECT id, state, due_at, deadline_at, on_unknown FROM deliveries"
        for id_, state, due_at, deadline_at, on_unknown in self.db.execute(query).fetchall():
            if state in LAST:
                continue
            if due_at is not None and due_at > since + LONGEST_WAIT_MS:
                self.fail(f"stuck: {id_} is {state} until {due_at}, now {self.true_now()}")
            if state == "unknown" and (due_at is None or due_at > since):
                deaths, silences = self._count_uncertain(id_)
                out_of_time = deadline_at <= max(since + 3_600_000, self.latest)
                if on_unknown == "hold" or due_at is not None or out_of_time or deaths >= 3 or silences >= 2:
                    continue
            if state == "pending" and due_at > since:
                continue
            self.fail(f"stuck: {id_} is {state} for ever, due {due_at}, now {self.true_now()}")

    # -- small ------------------------------------------------------------------------------------

    def fail(self, what: str) -> None:
        """Report a broken invariant."""
        self.on_break(what)

    def _count_returns(self, delivery_id: str) -> int:
        """Return how often a delivery became pending again where a second send is owned up to."""
        seq = self._one("SELECT seq FROM deliveries WHERE id = ?", delivery_id)[0]
        return self._count_resent(seq) + self._count_retried(seq)

    def _count_resent(self, seq: int) -> int:
        """Return how often the unknown was sent again by itself; it keeps its reason then.

        An attempt that was given up as lost and ended after all as surely not sent has that end's reason.
        """
        return sum(one == "unknown" and reason in UNCERTAIN for one, reason in self._list_returns(seq))

    def _count_retried(self, seq: int) -> int:
        """Return how often a person had it sent again, which leaves no reason."""
        return sum(one in ("unknown", "dead", "expired") and reason is None for one, reason in self._list_returns(seq))

    def _list_returns(self, seq: int) -> list[tuple[str, str | None]]:
        """Return (the state before, the reason now) of each step to pending."""
        query = "SELECT value, reason FROM timeline WHERE delivery_seq = ? AND kind = 'state' ORDER BY n"
        steps = self.db.execute(query, (seq,)).fetchall()
        return [(one[0], other[1]) for one, other in pairwise(steps) if other[0] == "pending"]

    def _count_uncertain(self, delivery_id: str) -> tuple[int, int]:
        """Return how many attempts ended with the process, and how many without an answer to go by."""
        query = (
            "SELECT coalesce(sum(a.reason = 'process_died'), 0), coalesce(sum(a.reason <> 'process_died'), 0)"
            " FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq WHERE a.outcome = 'uncertain' AND d.id = ?"
        )
        deaths, silences = self._one(query, delivery_id)
        return deaths, silences

    def _read_told(self, seq: int) -> list[tuple[str, str | None]]:
        query = "SELECT value, cause FROM timeline WHERE delivery_seq = ? AND kind = 'state' ORDER BY n"
        return self.db.execute(query, (seq,)).fetchall()

    def _read_states(self, seq: int) -> list[str]:
        query = "SELECT value FROM timeline WHERE delivery_seq = ? AND kind = 'state' ORDER BY n"
        return [value for (value,) in self.db.execute(query, (seq,))]

    def _find(self, query: str, value: str) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self.db.execute(query, (value,)).fetchone()
        return found

    def _one(self, query: str, value: str) -> tuple[Any, ...]:
        found = self._find(query, value)
        assert found is not None, value
        return found
