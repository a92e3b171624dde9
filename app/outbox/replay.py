"""Stored events again: finding them, keeping a plan of what their replay would send, and applying it once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from app.delivery.policy import Cause
from app.delivery.replay import KEEP_PLAN_MS, PastDelivery, Verdict, find_obstacle
from app.model.delivery import DEDUP_WINDOW_MS, Delivery, Reason, State
from app.model.value import dataclass
from app.outbox.add import FrozenDelivery, add_delivery, freeze_delivery, hash_dedup_key, hash_former_key, see_key_again
from app.outbox.close import PERHAPS_TAKEN
from app.outbox.move import UNUSUAL
from app.outbox.people import find_unwanted
from app.outbox.store import Row, Tx, first
from app.outbox.values import DeliveryState

EXAMINE_LIMIT = 2_000  # rows a page looks at: lanes wait for the same reading connection
UNROUTED = "unrouted"

_EVENT = "e.seq, e.id, e.source, e.topic, e.source_delivery_id, e.received_at, e.body"
_PAST = f"""
SELECT d.id, d.route, d.provider, d.template, d.recipient, d.state, d.reason,
    EXISTS (SELECT 1 FROM attempts_kept a WHERE a.delivery_seq = d.seq AND {PERHAPS_TAKEN}) AS ambiguous
FROM deliveries d /*sqlite INDEXED BY deliveries_event*/ WHERE d.event_seq = :seq ORDER BY d.seq
"""  # noqa: S608  # our own words only
# Events in the order they came, or those of a rare state by the index that stays small; `at`: a page goes on from it.
_ALL = ("events e", "e.seq", "events e", "e.seq > :after")
_RARE_STATES = (State.UNKNOWN, State.EXPIRED, State.SUPPRESSED, State.SHADOW, State.DEAD)
_IN_STATE = f"{UNUSUAL} AND d.state = :state AND d.seq > :after"
_RARE = (
    "deliveries d /*sqlite INDEXED BY deliveries_unusual CROSS*/ JOIN events e ON e.seq = d.event_seq",
    "d.seq",
    "deliveries d /*sqlite INDEXED BY deliveries_unusual*/",
    _IN_STATE,
)
_HAS_DELIVERY = """EXISTS (SELECT 1 FROM deliveries o /*sqlite INDEXED BY deliveries_event*/
    WHERE o.event_seq = e.seq AND (CAST(:state AS TEXT) IS NULL OR o.state = :state)
    AND (CAST(:route AS TEXT) IS NULL OR o.route = :route))"""
_HAS_NONE = "NOT EXISTS (SELECT 1 FROM deliveries o /*sqlite INDEXED BY deliveries_event*/ WHERE o.event_seq = e.seq)"
# An event with several such deliveries is listed at the first of them.
_IS_FIRST = """(CAST(:route AS TEXT) IS NULL OR d.route = :route) AND NOT EXISTS (
    SELECT 1 FROM deliveries o /*sqlite INDEXED BY deliveries_event*/ WHERE o.event_seq = d.event_seq AND o.seq < d.seq
    AND o.state = d.state AND (CAST(:route AS TEXT) IS NULL OR o.route = :route))"""

_FIND_SEQ = "SELECT seq FROM events WHERE id = :id"
_FIND_UNWIPED = "SELECT seq FROM events WHERE id = :id AND body IS NOT NULL /*postgres FOR UPDATE*/"
# A key from before schema 2 is nobody's, so another's.
_HAS_OTHER_KEY = """
SELECT 1 AS found FROM dedup_keys WHERE hash = :hash AND seen_at > :since AND coalesce(event_seq, 0) <> :event_seq
"""
_SAVE_PLAN = """
INSERT INTO plans (id, created_at, config_hash, entries) VALUES (:id, :created_at, :config_hash, :entries)
ON CONFLICT DO NOTHING
"""
_READ_PLAN = "SELECT id, created_at, config_hash, entries, applied_at FROM plans WHERE id = :id"
_MARK_APPLIED = """
UPDATE plans SET applied_at = :now WHERE id = :id AND applied_at IS NULL AND created_at > :since
"""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which stored events to replay; None = any. `after` is the last page's `next_after`.

    `state` and `route`: only events that have a delivery so; `state` may also be "unrouted" (no delivery at all).
    `since` and `until`: received from the one on and before the other.
    """

    ids: Collection[str] | None = None
    topic: str | None = None
    state: str | None = None
    route: str | None = None
    since: int | None = None
    until: int | None = None
    after: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is kept; `body` is None once it was wiped. Its deliveries: oldest first."""

    seq: int
    id: str
    source: str
    topic: str
    source_delivery_id: str | None
    received_at: int
    body: bytes | None
    deliveries: tuple[PastDelivery, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, perhaps none though more follow: a page looks at a bounded number. `next_after` None: the last."""

    events: tuple[StoredEvent, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A replay that was worked out and may be applied once. `entries` is JSON of ids and verdicts, no values."""

    id: str
    created_at: int
    config_hash: str
    entries: str
    applied_at: int | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A plan's deliveries were added, or left out (delivery id → verdict) because something changed."""

    deliveries: tuple[DeliveryState, ...]
    left_out: Mapping[str, Verdict]


def find_events(tx: Tx, wanted: EventQuery) -> EventPage:
    """Return a page of stored events, oldest first; looks at no more than EXAMINE_LIMIT rows."""
    values = asdict(replace(wanted, ids=None, state=None if wanted.state == UNROUTED else wanted.state))
    if wanted.ids is not None:
        return _find_named(tx, wanted, values)
    tables, at, alone, start = _RARE if wanted.state in _RARE_STATES else _ALL
    some = f"SELECT {at} AS at FROM {alone} WHERE {start} ORDER BY {at} LIMIT {EXAMINE_LIMIT}"  # noqa: S608  # our own words only
    values["last"] = tx.rows(f"SELECT max(at) AS last FROM ({some}) AS seen", **values)[0].last  # noqa: S608  # our own words only
    if values["last"] is None:
        return EventPage((), None)
    # SQLite tests in this order: what is the event's own, then what its deliveries must meet.
    relations = [_IS_FIRST] if wanted.state in _RARE_STATES else _list_relations(wanted)
    where = " AND ".join([start, f"{at} <= :last", *_list_conditions(wanted), *relations])
    query = f"SELECT {at} AS at, {_EVENT} FROM {tables} WHERE {where} ORDER BY {at} LIMIT :limit"  # noqa: S608  # our own words only
    rows = tx.rows(query, **values)
    next_after = rows[-1].at if len(rows) == wanted.limit else values["last"]
    return EventPage(tuple(_read_event(tx, row) for row in rows), next_after)


def _find_named(tx: Tx, wanted: EventQuery, values: dict[str, Any]) -> EventPage:
    """Return those of the ids that are there and meet the other conditions, all in one page."""
    conditions = ["e.id = :id", *_list_conditions(wanted), *_list_relations(wanted)]
    query = f"SELECT {_EVENT} FROM events e WHERE {' AND '.join(conditions)}"  # noqa: S608  # our own words only
    found = (tx.rows(query, **values, id=id_) for id_ in dict.fromkeys(wanted.ids or ()))
    rows = sorted((row for rows in found for row in rows), key=lambda row: int(row.seq))
    return EventPage(tuple(_read_event(tx, row) for row in rows), None)


def _list_conditions(wanted: EventQuery) -> list[str]:
    """Return what an event's own row must meet."""
    own = (
        ("e.topic = :topic", wanted.topic),
        ("e.received_at >= :since", wanted.since),
        ("e.received_at < :until", wanted.until),
    )
    return [condition for condition, value in own if value is not None]


def _list_relations(wanted: EventQuery) -> list[str]:
    if wanted.state == UNROUTED:
        return [_HAS_NONE]
    return [_HAS_DELIVERY] if wanted.state is not None or wanted.route is not None else []


def _read_event(tx: Tx, row: Row) -> StoredEvent:
    past = tuple(_read_past(tx, row.seq))
    return StoredEvent(row.seq, row.id, row.source, row.topic, row.source_delivery_id, row.received_at, row.body, past)


def _read_past(tx: Tx, event_seq: int) -> Sequence[PastDelivery]:
    past = []
    for row in tx.rows(_PAST, seq=event_seq):
        reason = None if row.reason is None else Reason(row.reason)
        kept = row._asdict() | {"state": State(row.state), "reason": reason, "ambiguous": bool(row.ambiguous)}
        past.append(PastDelivery(**kept))
    return past


def find_duplicates(tx: Tx, deliveries: Sequence[Delivery]) -> Collection[str]:
    """Return the ids of those whose dedup key another event has; a key of nobody known counts as another's."""
    found = set()
    for delivery in deliveries:
        keys = [key for key in (hash_dedup_key(delivery), hash_former_key(delivery)) if key is not None]
        event = first(tx.rows(_FIND_SEQ, id=delivery.event_id))
        event_seq, since = event.seq if event else 0, tx.now - DEDUP_WINDOW_MS
        if any(tx.rows(_HAS_OTHER_KEY, hash=key, since=since, event_seq=event_seq) for key in keys):
            found.add(delivery.id)
    return found


def save_plan(tx: Tx, plan: Plan) -> None:
    """Keep a plan for a day; one that is there already stays as it is."""
    tx.run(_SAVE_PLAN, **asdict(plan))


def read_plan(tx: Tx, plan_id: str) -> Plan | None:
    """Return a plan; None if there is none (any more)."""
    row = first(tx.rows(_READ_PLAN, id=plan_id))
    return None if row is None else Plan(*row)


def apply_plan(tx: Tx, plan_id: str, deliveries: Sequence[Delivery]) -> Applied | None:
    """Add a plan's deliveries to their events, all in one transaction, and mark the plan applied.

    Marked first: of two that apply it, one finds it marked. Left out: what meanwhile has an obstacle
    (delivery.replay.find_obstacle), passed its deadline, is another event's duplicate, whose recipient has opted out
    of it, or whose event was wiped. None, and no change, if the plan is gone or was applied.
    """
    if not tx.run(_MARK_APPLIED, now=tx.now, id=plan_id, since=tx.now - KEEP_PLAN_MS):
        return None
    added: list[DeliveryState] = []
    left_out: dict[str, Verdict] = {}
    ours = {delivery.id for delivery in deliveries}
    for delivery in deliveries:
        done = _replay_delivery(tx, freeze_delivery(delivery, tx.people_key), ours)
        if isinstance(done, Verdict):
            left_out[delivery.id] = done
        else:
            added.append(done)
    return Applied(tuple(added), left_out)


def _replay_delivery(tx: Tx, frozen: FrozenDelivery, ours: Collection[str]) -> DeliveryState | Verdict:
    """Add one delivery to its event, or say what is in its way now; those of the same plan (`ours`) are not.

    A wiped event gets none: what hangs on it is not looked at by the next wipe.
    """
    it = frozen.delivery
    event = first(tx.rows(_FIND_UNWIPED, id=it.event_id))
    if event is None:
        return Verdict.WIPED
    obstacle = find_obstacle(it, [past for past in _read_past(tx, event.seq) if past.id not in ours])
    if obstacle is not None:
        return obstacle.verdict
    if it.deadline_at <= tx.now:
        return Verdict.EXPIRED
    if find_unwanted(tx, [(it, frozen.person)]):
        return Verdict.DEAD
    if not see_key_again(tx, event.seq, frozen):
        return Verdict.DUPLICATE
    return add_delivery(tx, event.seq, frozen, it.state, it.reason, Cause.REPLAYED)
