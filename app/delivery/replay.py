"""Replay: what today's YAML would send of an event that was stored before, and what it must not send again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from app.model.delivery import Delivery, Reason, State
from app.values.instant import parse_duration, parse_instant

KEEP_PLAN_MS = 86_400_000
"""So long a plan may be applied: what is true of yesterday's deliveries need not be today."""


class Verdict(StrEnum):
    """A replay sends an event's route, or says why not. The closed set: plans and docs use these."""

    SEND = "send"
    ACCEPTED = "accepted"  # the provider has taken this event's message already
    OPEN = "open"  # it still waits, or is being sent
    UNKNOWN = "unknown"  # it may have arrived: only a person may send it again, by `retry`
    EXPIRED = "expired"  # its deadline passed
    DUPLICATE = "duplicate"  # another event has the same `dedup_by` value for this recipient
    DEAD = "dead"  # it would die again; the reason says why
    SHADOW = "shadow"  # the route only records, or did when the event came and nobody asked for those
    NOT_LIVE = "not_live"  # the event came before the route's `live_from`
    WIPED = "wiped"  # the event's payload is gone
    UNROUTED = "unrouted"  # no route of today is for it


NO_RETRY = {
    "not_found": "no delivery has this id",
    "deadline_passed": "its deadline passed, so it is no longer true",
    "payload_gone": "it has no message: it died before there was one, or the message was wiped; see `replay`",
    "perhaps_taken": "the provider may have taken it: look at its dashboard; not there: `nector-relay retry ID`",
    "replayed": "a later delivery of the same event does its work",
}
"""Why a delivery cannot be retried, in words; otherwise its state says it."""


def explain_no_retry(why: str) -> str:
    """Return in words what the outbox's `explain_retry` says."""
    return NO_RETRY.get(why, f"it is {why}")


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """A delivery that a stored event already has. `ambiguous`: one that failed may have arrived."""

    id: str
    route: str
    provider: str
    template: str
    recipient: str
    state: State
    reason: Reason | None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the reason behind it, and the past delivery (its id) that it rests on."""

    verdict: Verdict
    reason: Reason | None = None
    delivery_id: str | None = None


def find_obstacle(delivery: Delivery, past: Sequence[PastDelivery]) -> Judgement | None:
    """Return why this event's message must not be sent beside those it already has; None if it may.

    A route that was renamed is known by its template: the customer would get the same text twice.
    """
    same = [each for each in past if _is_same(delivery, each)]
    for verdict, states in (
        (Verdict.ACCEPTED, (State.ACCEPTED,)),
        (Verdict.OPEN, (State.PENDING, State.SENDING)),
        (Verdict.UNKNOWN, (State.UNKNOWN,)),
    ):
        for each in same:
            if each.state in states:
                return Judgement(verdict, each.reason, each.id)
    for each in same:
        if each.ambiguous:
            return Judgement(Verdict.UNKNOWN, each.reason, each.id)
    return None


def judge_delivery(
    delivery: Delivery, past: Sequence[PastDelivery], now: int, *, shadow_wanted: bool = False
) -> Judgement:
    """Return what a replay does with `delivery`, which today's YAML makes of an event with these past ones.

    `shadow_wanted`: what was recorded in shadow may be sent. Without it a route that goes live does not send its
    backlog. Repeats by `dedup_by` are not seen here: the outbox knows them.
    """
    obstacle = find_obstacle(delivery, past)
    if obstacle is not None:
        return obstacle
    if delivery.state is State.DEAD:
        return Judgement(Verdict.DEAD, delivery.reason)
    if delivery.state is State.EXPIRED or delivery.deadline_at <= now:
        return Judgement(Verdict.EXPIRED, Reason.DEADLINE_PASSED)
    if delivery.state is State.SHADOW:
        return Judgement(Verdict.NOT_LIVE if delivery.reason is Reason.NOT_LIVE else Verdict.SHADOW, delivery.reason)
    return _judge_sendable(delivery, [each for each in past if _is_same(delivery, each)], shadow_wanted)


def _judge_sendable(delivery: Delivery, same: Sequence[PastDelivery], shadow_wanted: bool) -> Judgement:
    """Judge by what became of the same message before: the customer's stop and a shadow outlive a new YAML."""
    for each in same:
        # Where we did not try ourselves, whether they still want none is for the outbox to say.
        refused = each.state is State.DEAD and each.reason is Reason.RECIPIENT_OPTED_OUT
        if refused and each.recipient == delivery.recipient:
            return Judgement(Verdict.DEAD, each.reason, each.id)
    shadows = [each for each in same if each.state is State.SHADOW]
    if shadows and not shadow_wanted:
        return Judgement(Verdict.SHADOW, shadows[-1].reason, shadows[-1].id)
    if not same:
        return Judgement(Verdict.SEND)
    return Judgement(Verdict.SEND, same[-1].reason, same[-1].id)


def _is_same(delivery: Delivery, past: PastDelivery) -> bool:
    """Tell whether a past delivery was this message: of its route, or of its template under another route's name."""
    return past.route == delivery.route or (past.provider, past.template) == (delivery.provider, delivery.template)


def read_bound(text: str, now: int, timezone: str, *, end_of_day: bool) -> int:
    """Return `7d` (so long ago), a date or an instant as ms since the epoch; raises ValueError with the cure.

    A date is its first moment in the store's zone, its last for `end_of_day`.
    """
    try:
        return now - parse_duration(text)
    except ValueError:
        at = parse_instant(text.strip(), timezone, end_of_day=end_of_day)
    if at is None:
        raise ValueError("must be how long ago (7d, 12h), a date (2026-12-31) or an instant (2026-12-31T18:30:00Z)")
    return at


SEND_LIMIT = 10_000
"""So many messages one plan sends at most: they are committed as one."""
LIST_LIMIT = 10_000
"""So many that it does not send are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry tells what the plan does with one event's one route; `route` is "" where the event has none.

    `delivery_id`: the past delivery that the verdict rests on. `detail` names fields, never values.
    """

    event_id: str
    topic: str
    route: str
    verdict: Verdict
    reason: Reason | None = None
    delivery_id: str | None = None
    detail: str = ""


@dataclass(slots=True)
class Draft:
    """Collects a plan's entries, oldest event first. `complete` is False where SEND_LIMIT ended it."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)
    complete: bool = True
    unlisted: int = 0
    send_limit: int = SEND_LIMIT
    list_limit: int = LIST_LIMIT
    _sends: set[tuple[str, str]] = field(default_factory=set)
    _keys: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Count an entry and, while there is room, list it."""
        self.counts[entry.verdict] += 1
        if entry.verdict is not Verdict.SEND and len(self.entries) - len(self._sends) >= self.list_limit:
            self.unlisted += 1
        else:
            self.entries.append(entry)

    def add_delivery(self, delivery: Delivery, entry: Entry, *, taken: bool) -> None:
        """Add what comes of a delivery. `taken`: another event has its dedup key.

        Of those that would send the same only the first does; an event that changed between two pages stands on both.
        """
        if entry.verdict is not Verdict.SEND:
            self.add(entry)
            return
        name = (entry.event_id, entry.route)
        key = None if delivery.dedup_key is None else (delivery.route, delivery.recipient, delivery.dedup_key)
        if name in self._sends:
            return
        if taken or key in self._keys:
            self.add(replace(entry, verdict=Verdict.DUPLICATE, reason=Reason.DUPLICATE))
        elif len(self._sends) == self.send_limit:
            self.complete = False
        else:
            self._sends.add(name)
            if key is not None:
                self._keys.add(key)
            self.add(entry)


def write_entries(draft: Draft) -> str:
    """Return a plan's entries as the store keeps them: ids, verdicts and reasons only."""
    rows = [[each.event_id, each.route, each.verdict, each.reason, each.delivery_id] for each in draft.entries]
    return json.dumps(rows, separators=(",", ":"))


def read_sends(entries: str) -> Mapping[str, list[str]]:
    """Return what a stored plan sends: by event id, oldest first, its routes."""
    sends: dict[str, list[str]] = {}
    for event_id, route, verdict, _, _ in json.loads(entries):
        if verdict == Verdict.SEND:
            sends.setdefault(event_id, []).append(route)
    return sends
