"""People see lists, one delivery's whole story, and counts. Recipients and values are masked, times RFC 3339."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.delivery.pace import RECIPIENT_GAP_MS
from app.delivery.policy import name_scopes
from app.errors import StoreBroken
from app.message.components import thaw_message
from app.model.delivery import State
from app.model.event import TEST_SOURCE
from app.outbox.holds import STANDS, list_changes
from app.outbox.move import MENDED, UNUSUAL, read_timeline
from app.outbox.people import hash_message_id, hash_other_form, hash_person, show_message_id
from app.outbox.store import Row, Tx, first
from app.outbox.values import IN_LUMPS, DeliveryFilter
from app.values.instant import format_instant
from app.values.phone import mask_phone

_HELD = f"""EXISTS (SELECT 1 FROM holds WHERE scope IN
    ('provider:' || d.provider, 'route:' || d.route, 'template:' || d.provider || '/' || d.template) AND {STANDS})"""  # noqa: S608  # of constants of ours
# A failed receipt says why an accepted message did not arrive.
_REASON = f"""CASE WHEN {MENDED} THEN 'replayed' WHEN d.receipt = 'failed' AND d.reason IS NULL
        THEN (SELECT r.reason FROM receipts r WHERE r.delivery_seq = d.seq AND r.status = 'failed')
        ELSE d.reason END"""  # noqa: S608  # our own words only
_VIEW = """
SELECT d.seq, d.id, e.id AS event_id, e.topic, d.route, d.provider, d.template, d.recipient,
    CASE WHEN d.state = 'pending' AND {held} THEN 'held' ELSE d.state END AS state,
    {reason} AS reason,
    d.receipt, d.attempts, d.created_at, d.updated_at, d.due_at{more}
FROM deliveries d {index} JOIN events e ON e.seq = d.event_seq WHERE {where}
"""
# Of what was wiped the id is kept as a hash.
_BY_MESSAGE_ID = "d.provider_message_id IS NOT NULL AND d.provider_message_id IN (:message_id, :message_hash)"
_PEOPLE = "person IN (:person, :former)"
_FILTERS: Mapping[str, str] = {
    "route": "d.route = :route",
    "provider": "d.provider = :provider",
    "template": "d.template = :template",
    "topic": "e.topic = :topic",
    "reason": f"{_REASON} = :reason",
    "since": "d.created_at >= :since",
    "until": "d.created_at <= :until",
    "phone": f"""d.seq IN (SELECT seq FROM deliveries WHERE {IN_LUMPS["deliveries"]} {_PEOPLE} UNION
        SELECT seq FROM deliveries WHERE event_seq IN (SELECT seq FROM events WHERE {IN_LUMPS["events"]} {_PEOPLE}))""",  # noqa: S608  # our own words only
    "event_id": "d.event_seq = (SELECT seq FROM events WHERE id = :event_id)",
    "provider_message_id": _BY_MESSAGE_ID,
}
_READ_MORE = """, d.detail, d.deadline_at, d.last_attempt_at, d.provider_message_id, d.config_hash, d.message,
    d.checksum, e.source, e.received_at, e.source_delivery_id, d.on_unknown, nullif(d.config_line, 0) AS config_line,
    d.event_seq,
    (SELECT last_at FROM recipient_turns t WHERE t.provider = d.provider AND t.recipient = d.recipient) AS turn_at"""
_ATTEMPTS = """
SELECT number, started_at, ended_at, outcome, reason, detail, tries FROM attempts
WHERE delivery_seq = :seq ORDER BY number
"""
_RECEIPTS = """
SELECT status, at, received_at, reason, detail FROM receipts WHERE delivery_seq = :seq ORDER BY received_at, at
"""
# A handful; were there more, the story of this one would not be told by them.
_SIBLINGS = """
SELECT id, route, provider, template, state, created_at FROM deliveries /*sqlite INDEXED BY deliveries_event*/
WHERE event_seq = :event_seq AND seq <> :seq ORDER BY seq LIMIT 100
"""
_EVENT = """
SELECT id, source, topic, received_at, source_delivery_id AS delivery_id,
    CASE WHEN body IS NULL THEN 0 ELSE 1 END AS is_kept
FROM events WHERE id = :id
"""
_KNOWN = "SELECT 1 AS known FROM {table} WHERE {name} = :value LIMIT 1"
_COUNTS = """
SELECT provider, state, n FROM counts WHERE n > 0
UNION ALL SELECT provider, 'pending', count(*) FROM deliveries /*sqlite INDEXED BY deliveries_pending*/
    WHERE state = 'pending' GROUP BY provider
UNION ALL SELECT provider, 'sending', count(*) FROM deliveries /*sqlite INDEXED BY deliveries_sending*/
    WHERE state = 'sending' GROUP BY provider
"""
LOOKED_AT = 1_000  # deliveries, of the newest
_LAST_EVENT = "SELECT id, topic, received_at FROM events WHERE source <> :test ORDER BY seq DESC LIMIT 1"
_REPORTED = """
SELECT provider, count(*) AS accepted, sum(CASE WHEN receipt IS NOT NULL THEN 1 ELSE 0 END) AS reported,
    max(CASE WHEN receipt IS NOT NULL THEN updated_at END) AS last_at
FROM (SELECT provider, state, receipt, updated_at FROM deliveries ORDER BY seq DESC LIMIT :limit) AS newest
WHERE state = 'accepted' GROUP BY provider
"""
_LAST_EVENTS_LIMIT = 1_000
_LAST_EVENTS = """
SELECT topic, max(received_at) AS at FROM
    (SELECT topic, received_at FROM events WHERE source <> :test ORDER BY seq DESC LIMIT :limit) AS newest
GROUP BY topic
"""
_REASONS = """
SELECT g.reason, g.route, g.provider, g.n AS count, newest.id AS newest_id, newest.updated_at AS newest_at FROM (
    SELECT d.reason, d.route, d.provider, count(*) AS n, max(d.seq) AS newest_seq
    FROM deliveries d {index} WHERE {where} GROUP BY d.reason, d.route, d.provider
) AS g /*sqlite CROSS*/ JOIN deliveries newest ON newest.seq = g.newest_seq ORDER BY g.n DESC, g.newest_seq DESC
"""
_UNUSUAL = f"{UNUSUAL} AND d.state = :state"
_UNMENDED = f"{_UNUSUAL} AND NOT ({MENDED})"
_BY_STATE = {
    "held": "d.state = 'pending' AND " + _HELD,
    "pending": "d.state = 'pending' AND NOT " + _HELD,
    "sending": "d.state = 'sending'",
    "accepted": "d.state = 'accepted'",
    "unknown": _UNUSUAL,
    "expired": _UNMENDED,
    "suppressed": _UNUSUAL,
    "shadow": _UNUSUAL,
    "dead": _UNMENDED,
}
# What the list shows as it is, and what one delivery shows beyond that.
_LISTED = (
    *("id", "event_id", "topic", "route", "provider", "template", "recipient", "state", "reason", "receipt"),
    *("attempts", "created_at", "updated_at"),
)
_TOLD = ("detail", "deadline_at", "last_attempt_at", "provider_message_id", "on_unknown", "config_hash", "config_line")
_NEWEST_FIRST = " ORDER BY d.seq DESC LIMIT :limit"
_LIST_LIMIT = 1_000
_AFTER_ALL = 2**62  # beyond any row


def list_deliveries(tx: Tx, wanted: DeliveryFilter) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    """Return a page, newest first, and the next one's cursor, None on the last; raises ValueError on a bad cursor."""
    limit = max(1, min(wanted.limit, _LIST_LIMIT))
    where = ["d.seq < :before"]
    if wanted.state is not None:
        where.append(_BY_STATE.get(wanted.state, "1 = 0"))
    where += [condition for name, condition in _FILTERS.items() if getattr(wanted, name) is not None]
    query = _VIEW.format(held=_HELD, reason=_REASON, more="", index=_pick_index(wanted), where=" AND ".join(where))
    rows = tx.rows(
        query + _NEWEST_FIRST,
        before=_read_cursor(wanted.cursor),
        state=wanted.state,
        **{name: getattr(wanted, name) for name in _FILTERS if name not in {"phone", "provider_message_id"}},
        person=hash_person(tx.people_key, wanted.phone or ""),
        former=hash_other_form(tx.people_key, wanted.phone or ""),
        message_id=wanted.provider_message_id,
        message_hash=hash_message_id(tx.people_key, wanted.provider_message_id),
        limit=limit + 1,
        now=tx.now,
    )
    more = str(rows[limit - 1].seq) if len(rows) > limit else None
    return [_show_row(row) for row in rows[:limit]], more


def read_delivery(tx: Tx, delivery_id: str) -> Mapping[str, Any] | None:
    """Return one delivery as listed, and more; each list is oldest first. None if unknown.

    `hold_changes`: what stood on its scopes when it came, and what changed until its last state. `siblings`: the
    event's other deliveries, of other routes and of replays. `gap_until`: so long the gap to this person's last message
    lasts. `message` is None once it was wiped; `config_line`, where it is not known.
    """
    query = _VIEW.format(held=_HELD, reason=_REASON, more=_READ_MORE, index="/*sqlite CROSS*/", where="d.id = :id")
    row = first(tx.rows(query, id=delivery_id, now=tx.now))
    if row is None:
        return None
    timeline = read_timeline(tx, row.seq)
    changes = _list_met(tx, name_scopes(row.provider, row.route, row.template), row.created_at, timeline)
    siblings = tx.rows(_SIBLINGS, event_seq=row.event_seq, seq=row.seq)
    shown = name_columns(row)
    return {
        **_show_row(row),
        **{name: shown[name] for name in _TOLD},
        "provider_message_id": show_message_id(row.provider_message_id),
        "event": {
            "id": row.event_id,
            "source": row.source,
            "topic": row.topic,
            "received_at": shown["received_at"],
            "delivery_id": row.source_delivery_id,
        },
        "message": _show_message(row.message, row.checksum),
        "attempt_list": [name_columns(each) for each in tx.rows(_ATTEMPTS, seq=row.seq)],
        "receipts": [name_columns(each) for each in tx.rows(_RECEIPTS, seq=row.seq)],
        "timeline": [_show_instants(each) for each in timeline],
        "hold_changes": [_show_change(each) for each in changes],
        "siblings": [name_columns(each) for each in siblings],
        "gap_until": show_instant(None if row.turn_at is None else row.turn_at + RECIPIENT_GAP_MS),
    }


def read_event(tx: Tx, event_id: str) -> Mapping[str, Any] | None:
    """Return an event with its deliveries as they are listed, oldest first; None if unknown."""
    row = first(tx.rows(_EVENT, id=event_id))
    if row is None:
        return None
    rows, _ = list_deliveries(tx, DeliveryFilter(event_id=event_id, limit=_LIST_LIMIT))
    return {**name_columns(row), "is_kept": bool(row.is_kept), "deliveries": rows[::-1]}


def is_known(tx: Tx, name: str, value: str) -> bool:
    """Tell whether there ever was a delivery of this route, provider, template or topic."""
    table = "events" if name == "topic" else "deliveries"
    return bool(tx.rows(_KNOWN.format(table=table, name=name), value=value))


def _list_met(tx: Tx, scopes: Sequence[str], created_at: int, timeline: Sequence[Mapping[str, Any]]) -> Sequence[Row]:
    """Return the holds' changes until a delivery came to its last state, and what its failed receipt set later."""
    last = [row for row in timeline if row["kind"] == "state"][-1]
    end = _AFTER_ALL if last["value"] in (State.PENDING, State.SENDING, State.UNKNOWN) else last["at"]
    failures = (row["at"] for row in timeline if (row["kind"], row["value"]) == ("receipt", "failed"))
    failed_at = max(failures, default=end)
    changes = list_changes(tx, scopes, created_at, max(end, failed_at))
    return [change for change in changes if change.at <= end or change.at == failed_at]


def count_deliveries(tx: Tx) -> Mapping[tuple[str, State], int]:
    """Return how many deliveries stand in each (provider, state): kept counts, and a count of what is under way."""
    return {(row.provider, read_state(row.state)): row.n for row in tx.rows(_COUNTS)}


def count_reached(tx: Tx) -> Mapping[tuple[str, str, State], int]:
    """Return how often a delivery has come into each (route, provider, state), whoever moved it; not `sending`.

    Counted since the store was made, or since it was put back as a backup; of replicas that share one, by this one.
    """
    rows = tx.rows("SELECT route, provider, state, n FROM reached/*postgres  WHERE slot = :slot*/")
    return {(row.route, row.provider, read_state(row.state)): row.n for row in rows}


def read_last_events(tx: Tx) -> Mapping[str, int]:
    """Return when each topic among the newest 1,000 events last came; not those of `send-test`."""
    return {row.topic: row.at for row in tx.rows(_LAST_EVENTS, test=TEST_SOURCE, limit=_LAST_EVENTS_LIMIT)}


def read_last_event(tx: Tx) -> Row | None:
    """Return the newest event but those of `send-test`: id, topic, received_at."""
    return first(tx.rows(_LAST_EVENT, test=TEST_SOURCE))


def count_reported(tx: Tx) -> Mapping[str, Row]:
    """Return by provider how many of the newest 1,000 deliveries were accepted, and how many of those were reported."""
    return {row.provider: row for row in tx.rows(_REPORTED, limit=LOOKED_AT)}


def count_reasons(tx: Tx, state: str, since: int = 0, until: int = _AFTER_ALL) -> Sequence[Mapping[str, Any]]:
    """Return the deliveries of a state by reason, route and provider, the largest group first.

    `state` as in DeliveryFilter; `since` and `until`: when they came into it. What a replay has mended counts no more.
    """
    index = _pick_index(DeliveryFilter(state=state)).replace(" CROSS", "")
    where = _BY_STATE.get(state, "1 = 0") + " AND d.updated_at BETWEEN :since AND :until"
    query = _REASONS.format(index=index, where=where)
    return [name_columns(row) for row in tx.rows(query, state=state, now=tx.now, since=since, until=until)]


def read_state(text: str) -> State:
    """Return the state of a counter. Raises StoreBroken where there is none such: a start sees not all damage."""
    try:
        return State(text)
    except ValueError:
        raise StoreBroken("the outbox's file is damaged; restore a backup") from None


def show_instant(at: int | None) -> str | None:
    """Return an instant as RFC 3339."""
    return None if at is None else format_instant(at)


def name_columns(row: Row) -> dict[str, Any]:
    """Return a row by its columns, instants as they are shown."""
    return _show_instants(row._asdict())


def _show_instants(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: show_instant(value) if key == "at" or key.endswith("_at") else value for key, value in row.items()}


def _show_change(change: Row) -> dict[str, Any]:
    named = name_columns(change)
    del named["n"]
    return {**named, "by_hand": bool(change.by_hand), "until": named.pop("ends_at")}


def _show_row(row: Row) -> dict[str, Any]:
    shown = name_columns(row)
    # A held one waits for its hold, whatever its due time says.
    due_at = shown["due_at"] if row.state in (State.PENDING, State.UNKNOWN) else None
    recipient = mask_phone(row.recipient) if row.recipient else ""
    return {**{name: shown[name] for name in _LISTED}, "recipient": recipient, "next_attempt_at": due_at}


def _show_message(data: bytes | None, total: str | None) -> dict[str, Any] | None:
    message = thaw_message(data, total)
    if message is None:
        return None
    return {
        "template": message.template,
        "language": message.language,
        "header": None if message.header is None else message.header.kind,
        "variables": [{"name": each.name, "value": _mask_value(each.value)} for each in message.variables],
        "buttons": len(message.buttons),
    }


def _mask_value(value: str) -> str:
    return f"{value[:1]}***"


def _pick_index(wanted: DeliveryFilter) -> str:
    """Name the index that stays small; else rows are read newest first until the page is full."""
    if wanted.event_id is not None:
        return "/*sqlite INDEXED BY deliveries_event CROSS*/"
    if wanted.provider_message_id is not None:
        return "/*sqlite INDEXED BY deliveries_message_id CROSS*/"
    if wanted.state is not None and _BY_STATE.get(wanted.state) in (_UNUSUAL, _UNMENDED):
        return "/*sqlite INDEXED BY deliveries_unusual CROSS*/"
    if wanted.state == State.SENDING:
        return "/*sqlite INDEXED BY deliveries_sending CROSS*/"
    return "/*sqlite NOT INDEXED CROSS*/"


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return _AFTER_ALL
    if not re.fullmatch("[0-9]{1,18}", cursor):
        raise ValueError("the cursor is not one of ours; leave it out to start at the newest")
    return int(cursor)
