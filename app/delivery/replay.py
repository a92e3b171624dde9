"""Replay: what today's YAML would send of a stored event and what it must not, and how two versions of it differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum

from app.model.delivery import Delivery, Reason, State
from app.model.message import Message
from app.model.value import dataclass
from app.values.instant import format_instant, parse_duration, parse_instant
from app.values.phone import mask_phone

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


_NO_RETRY = {
    "not_found": "no delivery has this id",
    "deadline_passed": "its deadline passed, so it is no longer true",
    "payload_gone": "it has no message: it died before there was one, or the message was wiped; see `replay`",
    "perhaps_taken": "the provider may have taken it: look at its dashboard; not there: `nector-relay retry ID`",
    "replayed": "a later delivery of the same event does its work",
}


def explain_no_retry(why: str) -> str:
    """Return in words why a delivery cannot be retried; what stands in no list is its state."""
    return _NO_RETRY.get(why, f"it is {why}")


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
    doubtful = next((each for each in same if each.ambiguous), None)
    return None if doubtful is None else Judgement(Verdict.UNKNOWN, doubtful.reason, doubtful.id)


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
    return Judgement(Verdict.SEND, same[-1].reason, same[-1].id) if same else Judgement(Verdict.SEND)


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


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry tells what the plan does with one event's one route."""

    event_id: str
    topic: str
    route: str  # "" where the event has none
    verdict: Verdict
    reason: Reason | None = None
    delivery_id: str | None = None  # the past delivery that the verdict rests on
    detail: str = ""  # names fields, never values


@dataclass(slots=True)
class Draft:
    """Collects a plan's entries, oldest event first. `complete` is False where `send_limit` ended it."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)
    complete: bool = True
    unlisted: int = 0
    send_limit: int = 10_000  # messages: they are committed as one
    list_limit: int = 10_000  # of those that it does not send; all are counted
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


_LONGEST_SHOWN = 60


class Change(StrEnum):
    """A message changes in one of these ways. The closed set: scripts use these."""

    NEWLY = "newly_sent"
    NO_LONGER = "no_longer_sent"
    PROVIDER = "another_provider"
    TEMPLATE = "another_template"
    NUMBER = "another_number"
    CONTENT = "other_content"


@dataclass(frozen=True, slots=True)
class Difference:
    """One message that differs. `what` names fields or a reason and never values; `was` and `now` are masked."""

    change: Change
    route: str
    what: str
    was: str
    now: str


def compare_deliveries(before: Sequence[Delivery], after: Sequence[Delivery]) -> Iterator[Difference]:
    """Yield what differs between two versions' deliveries of one event; a route that is renamed differs in nothing."""
    named = {delivery.route: delivery for delivery in after}
    left = [delivery for delivery in after if delivery.route not in {old.route for old in before}]
    for old in before:
        new = named.get(old.route) or next((one for one in left if _name_duty(one) == _name_duty(old)), None)
        left = [one for one in left if one is not new]
        yield from _compare(old, new)
    for new in left:
        yield from _compare(None, new)


def _name_duty(delivery: Delivery) -> tuple[str, str, str]:
    return delivery.provider, delivery.template, delivery.recipient


def _compare(old: Delivery | None, new: Delivery | None) -> Iterator[Difference]:
    was, now = _find_sent(old), _find_sent(new)
    route = new.route if new else old.route if old else ""
    if old is None or was is None:
        if new is not None and now is not None:
            yield Difference(Change.NEWLY, route, _name_end(old), _describe_end(old), _describe_message(new, now))
    elif new is None or now is None:
        yield Difference(Change.NO_LONGER, route, _name_end(new), _describe_message(old, was), _describe_end(new))
    else:
        yield from _compare_sent(old, was, new, now)


def _compare_sent(old: Delivery, was: Message, new: Delivery, now: Message) -> Iterator[Difference]:
    if old.provider != new.provider:
        yield Difference(Change.PROVIDER, new.route, "", old.provider, new.provider)
    if old.template != new.template:
        yield Difference(Change.TEMPLATE, new.route, "", old.template, new.template)
    if was.recipient != now.recipient:
        yield Difference(Change.NUMBER, new.route, "", mask_phone(was.recipient), mask_phone(now.recipient))
    if (old.provider, old.template) != (new.provider, new.template):
        return  # of another template everything may differ
    parts, others = dict(_list_parts(was)), dict(_list_parts(now))
    changed = [name for name in {**parts, **others} if parts.get(name) != others.get(name)]
    if changed:
        shown = [", ".join(f"{name}: {_mask(name, each.get(name))}" for name in changed) for each in (parts, others)]
        yield Difference(Change.CONTENT, new.route, ", ".join(changed), *shown)


def _find_sent(delivery: Delivery | None) -> Message | None:
    """Return the message of a delivery that goes out; what is only recorded or died has none."""
    return delivery.message if delivery is not None and delivery.state is State.PENDING else None


def _list_parts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield all that the customer sees of a message beside its template, by name."""
    if message.language:
        yield "language", message.language
    for number, variable in enumerate(message.variables, 1):
        yield f"variable {variable.name or number}", variable.value
    if message.header is not None:
        yield f"{message.header.kind} header", f"{message.header.value} {message.header.filename or ''}".strip()
    for button in message.buttons:
        yield f"button {button.index}", button.value
    if message.offer_ends_at is not None:
        yield "end of the offer", format_instant(message.offer_ends_at)


def _mask(name: str, value: str | None) -> str:
    return "none" if value is None else value if name == "language" else mask_shape(value)


def mask_shape(value: str) -> str:
    """Return `1,***` of `1,250`: the first sign, then the shape alone, so that a changed format can be seen."""
    masked = value[:1] + re.sub(r"\w", "*", value[1:])
    return masked if len(masked) <= _LONGEST_SHOWN else f"{masked[: _LONGEST_SHOWN - 1]}…"


def _describe_message(delivery: Delivery, message: Message) -> str:
    return f"{delivery.provider} sends {delivery.template} to {mask_phone(message.recipient)}"


def _describe_end(delivery: Delivery | None) -> str:
    detail = f" ({delivery.detail})" if delivery is not None and delivery.detail else ""
    return _name_end(delivery) + detail


def _name_end(delivery: Delivery | None) -> str:
    if delivery is None:
        return "no route hits"
    return f"{delivery.state}, {delivery.reason}" if delivery.reason else str(delivery.state)
