"""Stored events again: finding them, keeping a plan of what their replay would send, and applying it once."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from app.delivery.replay import KEEP_PLAN_MS, PastDelivery, Verdict, find_obstacle
from app.model.delivery import DEDUP_WINDOW_MS, Delivery, Reason, State
from app.outbox.add import FrozenDelivery, add_delivery, hash_dedup_key, hash_former_key, see_key_again
from app.outbox.close import PERHAPS_TAKEN
from app.outbox.suppressions import stops_delivery
from app.outbox.values import Applied, DeliveryState, EventFilter, EventPage, Plan, StoredEvent

EXAMINE_LIMIT = 2_000  # rows a page looks at: lanes wait for the same reading connection
UNROUTED = "unrouted"

_EVENT = "e.seq, e.id, e.source, e.topic, e.source_delivery_id, e.received_at, e.body"
_PAST = f"""
SELECT d.id, d.route, d.provider, d.template, d.recipient, d.state, d.reason,
    EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_seq = d.seq AND {PERHAPS_TAKEN})
FROM deliveries d INDEXED BY deliveries_event WHERE d.event_seq = ? ORDER BY d.seq
"""  # noqa: S608  # our own words only
# Events in the order they came, or those of a rare state by the index that stays small. A partial index is used
# only if its very condition stands in the query; `at` is what a page is continued by.
_ALL = ("events e", "e.seq", "events e", "e.seq > :after")
_RARE_STATES = (State.UNKNOWN, State.EXPIRED, State.SUPPRESSED, State.SHADOW, State.DEAD)
_IN_STATE = """d.state IN ('unknown', 'expired', 'suppressed', 'shadow', 'dead') AND d.state = :state
    AND d.seq > :after"""
_RARE = (
    "deliveries d INDEXED BY deliveries_unusual CROSS JOIN events e ON e.seq = d.event_seq",
    "d.seq",
    "deliveries d INDEXED BY deliveries_unusual",
    _IN_STATE,
)
_HAS_DELIVERY = """EXISTS (SELECT 1 FROM deliveries o INDEXED BY deliveries_event WHERE o.event_seq = e.seq
    AND (:state IS NULL OR o.state = :state) AND (:route IS NULL OR o.route = :route))"""
_HAS_NONE = "NOT EXISTS (SELECT 1 FROM deliveries o INDEXED BY deliveries_event WHERE o.event_seq = e.seq)"
# An event with several such deliveries is listed at the first of them.
_IS_FIRST = """(:route IS NULL OR d.route = :route) AND NOT EXISTS (
    SELECT 1 FROM deliveries o INDEXED BY deliveries_event WHERE o.event_seq = d.event_seq AND o.seq < d.seq
    AND o.state = d.state AND (:route IS NULL OR o.route = :route))"""

_HAS_OTHER_KEY = "SELECT 1 FROM dedup_keys WHERE hash = ? AND seen_at > ? AND event_seq IS NOT ?"
_SAVE_PLAN = "INSERT INTO plans (id, created_at, config_hash, entries) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_READ_PLAN = "SELECT id, created_at, config_hash, entries, applied_at FROM plans WHERE id = ?"
_MARK_APPLIED = "UPDATE plans SET applied_at = ?1 WHERE id = ?2 AND applied_at IS NULL AND created_at > ?3"


def find_events(db: sqlite3.Connection, wanted: EventFilter) -> EventPage:
    """Return a page of stored events; looks at no more than EXAMINE_LIMIT rows."""
    values: dict[str, Any] = {
        "after": wanted.after,
        "topic": wanted.topic,
        "state": None if wanted.state == UNROUTED else wanted.state,
        "route": wanted.route,
        "since": wanted.since,
        "until": wanted.until,
        "limit": wanted.limit,
    }
    if wanted.ids is not None:
        return _find_named(db, wanted, values)
    tables, at, alone, start = _RARE if wanted.state in _RARE_STATES else _ALL
    last = f"SELECT max(at) FROM (SELECT {at} AS at FROM {alone} WHERE {start} ORDER BY {at} LIMIT {EXAMINE_LIMIT})"  # noqa: S608  # our own words only
    (values["last"],) = db.execute(last, values).fetchone()
    if values["last"] is None:
        return EventPage((), None)
    where = " AND ".join([start, f"{at} <= :last", *_list_conditions(wanted)])
    query = f"SELECT {at}, {_EVENT} FROM {tables} WHERE {where} ORDER BY {at} LIMIT :limit"  # noqa: S608  # our own words only
    rows = db.execute(query, values).fetchall()
    next_after = rows[-1][0] if len(rows) == wanted.limit else values["last"]
    return EventPage(tuple(_read_event(db, row[1:]) for row in rows), next_after)


def _find_named(db: sqlite3.Connection, wanted: EventFilter, values: dict[str, Any]) -> EventPage:
    """Return those of the ids that are there and meet the other conditions, all in one page."""
    named = EventFilter(topic=wanted.topic, since=wanted.since, until=wanted.until)
    conditions = [*_list_conditions(named), *_list_relations(wanted)]
    query = f"SELECT {_EVENT} FROM events e WHERE {' AND '.join(['e.id = :id', *conditions])}"  # noqa: S608  # our own words only
    found = (db.execute(query, {**values, "id": id_}).fetchone() for id_ in dict.fromkeys(wanted.ids or ()))
    rows = sorted((row for row in found if row is not None), key=lambda row: row[0])
    return EventPage(tuple(_read_event(db, row) for row in rows), None)


def _list_conditions(wanted: EventFilter) -> list[str]:
    """Return what an event's own row must meet, then what its deliveries must: SQLite tests in this order."""
    own = (
        ("e.topic = :topic", wanted.topic),
        ("e.received_at >= :since", wanted.since),
        ("e.received_at < :until", wanted.until),
    )
    mine = [condition for condition, value in own if value is not None]
    return [*mine, _IS_FIRST] if wanted.state in _RARE_STATES else [*mine, *_list_relations(wanted)]


def _list_relations(wanted: EventFilter) -> list[str]:
    if wanted.state == UNROUTED:
        return [_HAS_NONE]
    return [_HAS_DELIVERY] if wanted.state is not None or wanted.route is not None else []


def _read_event(db: sqlite3.Connection, row: Any) -> StoredEvent:
    seq, id_, source, topic, source_delivery_id, received_at, body = row
    return StoredEvent(seq, id_, source, topic, source_delivery_id, received_at, body, tuple(_read_past(db, seq)))


def _read_past(db: sqlite3.Connection, event_seq: int) -> Sequence[PastDelivery]:
    return [_make_past(*row) for row in db.execute(_PAST, (event_seq,))]


def _make_past(
    id_: str, route: str, provider: str, template: str, recipient: str, state: str, reason: str | None, ambiguous: int
) -> PastDelivery:
    known = None if reason is None else Reason(reason)
    return PastDelivery(id_, route, provider, template, recipient, State(state), known, bool(ambiguous))


def find_duplicates(db: sqlite3.Connection, deliveries: Sequence[Delivery], now: int) -> Collection[str]:
    """Return the ids of those whose key another event has; a key from before schema 2 is nobody's, so another's."""
    found = set()
    for delivery in deliveries:
        keys = [key for key in (hash_dedup_key(delivery), hash_former_key(delivery)) if key is not None]
        row = db.execute("SELECT seq FROM events WHERE id = ?", (delivery.event_id,)).fetchone()
        since = now - DEDUP_WINDOW_MS
        if any(db.execute(_HAS_OTHER_KEY, (key, since, row and row[0])).fetchone() for key in keys):
            found.add(delivery.id)
    return found


def save_plan(db: sqlite3.Connection, plan: Plan) -> None:
    """Keep a plan; one that is there already stays as it is."""
    db.execute(_SAVE_PLAN, (plan.id, plan.created_at, plan.config_hash, plan.entries))


def read_plan(db: sqlite3.Connection, plan_id: str) -> Plan | None:
    """Return a plan."""
    row = db.execute(_READ_PLAN, (plan_id,)).fetchone()
    return None if row is None else Plan(*row)


def drop_plans(db: sqlite3.Connection, now: int) -> None:
    """Forget plans that are too old to be applied."""
    db.execute("DELETE FROM plans WHERE created_at <= ?", (now - KEEP_PLAN_MS,))


def apply_plan(db: sqlite3.Connection, plan_id: str, deliveries: Sequence[FrozenDelivery], now: int) -> Applied | None:
    """Mark a plan applied, and only then add its deliveries: of two that apply it, one finds it marked."""
    if not db.execute(_MARK_APPLIED, (now, plan_id, now - KEEP_PLAN_MS)).rowcount:
        return None
    added: list[DeliveryState] = []
    left_out: dict[str, Verdict] = {}
    ours = {frozen.delivery.id for frozen in deliveries}
    for frozen in deliveries:
        done = _replay_delivery(db, frozen, now, ours)
        if isinstance(done, Verdict):
            left_out[frozen.delivery.id] = done
        else:
            added.append(done)
    return Applied(tuple(added), left_out)


def _replay_delivery(
    db: sqlite3.Connection, frozen: FrozenDelivery, now: int, ours: Collection[str]
) -> DeliveryState | Verdict:
    """Add one delivery to its event, or say what is in its way now; those of the same plan (`ours`) are not.

    A wiped event gets none: what hangs on it is not looked at by the next wipe.
    """
    it = frozen.delivery
    event = db.execute("SELECT seq FROM events WHERE id = ? AND body IS NOT NULL", (it.event_id,)).fetchone()
    if event is None:
        return Verdict.WIPED
    obstacle = find_obstacle(it, [past for past in _read_past(db, event[0]) if past.id not in ours])
    if obstacle is not None:
        return obstacle.verdict
    if it.deadline_at <= now:
        return Verdict.EXPIRED
    if stops_delivery(db, it, frozen.person):
        return Verdict.DEAD
    if not see_key_again(db, event[0], frozen):
        return Verdict.DUPLICATE
    return add_delivery(db, event[0], frozen, it.state, it.reason)
