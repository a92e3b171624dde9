"""What people see: lists, one delivery's whole story, counts. Recipients and values masked, times RFC 3339."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from app.model.delivery import State
from app.model.event import TEST_SOURCE
from app.outbox.claim import thaw_message
from app.outbox.holds import list_changes, name_scopes
from app.outbox.people import HASH_ID, show_message_id
from app.outbox.sqlite.failures import read_state
from app.outbox.values import DeliveryFilter
from app.values.instant import format_instant
from app.values.phone import mask_phone

_HELD = """EXISTS (SELECT 1 FROM holds WHERE scope IN
    ('provider:' || d.provider, 'route:' || d.route, 'template:' || d.provider || '/' || d.template))"""
# A failed receipt says why an accepted message did not arrive.
_VIEW = """
SELECT d.seq, d.id, e.id AS event_id, e.topic, d.route, d.provider, d.template, d.recipient,
    iif(d.state = 'pending' AND {held}, 'held', d.state) AS state,
    iif(d.receipt = 'failed' AND d.reason IS NULL,
        (SELECT r.reason FROM receipts r WHERE r.delivery_seq = d.seq AND r.status = 'failed'), d.reason) AS reason,
    d.receipt, d.attempts, d.created_at, d.updated_at, d.due_at, {more}
FROM deliveries d {index} CROSS JOIN events e ON e.seq = d.event_seq WHERE {where}
"""
# Of what was wiped the id is kept as a hash.
_BY_MESSAGE_ID = f"""d.provider_message_id IS NOT NULL
    AND d.provider_message_id IN (:provider_message_id, {HASH_ID.format(":provider_message_id")})"""
_LIST_MORE = "NULL"
_READ_MORE = """d.detail, d.deadline_at, d.last_attempt_at, d.provider_message_id, d.config_hash, d.message, d.checksum,
    e.source, e.received_at, e.source_delivery_id, d.on_unknown, nullif(d.config_line, 0), d.event_seq"""
_ATTEMPTS = """
SELECT number, started_at, ended_at, outcome, reason, detail, tries FROM attempts WHERE delivery_seq = ? ORDER BY number
"""
_RECEIPTS = (
    "SELECT status, at, received_at, reason, detail FROM receipts WHERE delivery_seq = ? ORDER BY received_at, at"
)
_TIMELINE = "SELECT at, kind, value, reason, detail FROM timeline WHERE delivery_seq = ? ORDER BY n"
# A handful; were there more, the story of this one would not be told by them.
_SIBLINGS = """
SELECT id, route, provider, template, state, created_at FROM deliveries INDEXED BY deliveries_event
WHERE event_seq = ? AND seq <> ? ORDER BY seq LIMIT 100
"""
_COUNTS = """
SELECT provider, state, n FROM counts WHERE n > 0
UNION ALL SELECT provider, 'pending', count(*) FROM deliveries INDEXED BY deliveries_pending
    WHERE state = 'pending' GROUP BY provider
UNION ALL SELECT provider, 'sending', count(*) FROM deliveries INDEXED BY deliveries_sending
    WHERE state = 'sending' GROUP BY provider
"""
_LAST_EVENTS_LIMIT = 1_000
_LAST_EVENTS = """
SELECT topic, max(received_at) FROM
    (SELECT topic, received_at FROM events WHERE source <> ? ORDER BY seq DESC LIMIT ?) GROUP BY topic
"""

# With max() as the one aggregate, the other columns are of the row that has it (SQLite's own promise:
# https://www.sqlite.org/lang_select.html#bare_columns_in_an_aggregate_query).
_REASONS = """
SELECT d.reason, d.route, d.provider, count(*) AS n, d.id, d.updated_at, max(d.seq)
FROM deliveries d {index} WHERE {where} GROUP BY d.reason, d.route, d.provider ORDER BY n DESC, d.seq DESC
"""
# A partial index is used only if its very condition stands in the query.
_UNUSUAL = "d.state IN ('unknown', 'expired', 'suppressed', 'shadow', 'dead') AND d.state = :state"
_BY_STATE = {
    "held": "d.state = 'pending' AND " + _HELD,
    "pending": "d.state = 'pending' AND NOT " + _HELD,
    "sending": "d.state = 'sending'",
    "accepted": "d.state = 'accepted'",
    "unknown": _UNUSUAL,
    "expired": _UNUSUAL,
    "suppressed": _UNUSUAL,
    "shadow": _UNUSUAL,
    "dead": _UNUSUAL,
}
_NEWEST_FIRST = " ORDER BY d.seq DESC LIMIT :limit"
_LIST_LIMIT = 1_000
_AFTER_ALL = 2**62  # beyond any row


def list_deliveries(db: sqlite3.Connection, wanted: DeliveryFilter) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    """Return a page, newest first, and the next one's cursor, None on the last. Raises ValueError on a bad cursor."""
    limit = max(1, min(wanted.limit, _LIST_LIMIT))
    where = ["d.seq < :before"]
    if wanted.state is not None:
        where.append(_BY_STATE.get(wanted.state, "0"))
    for column, value in (("d.route", wanted.route), ("d.provider", wanted.provider)):
        if value is not None:
            where.append(f"{column} = :{column[2:]}")
    if wanted.event_id is not None:
        where.append("d.event_seq = (SELECT seq FROM events WHERE id = :event_id)")
    if wanted.provider_message_id is not None:
        where.append(_BY_MESSAGE_ID)
    values = {
        "before": _read_cursor(wanted.cursor),
        "state": wanted.state,
        "route": wanted.route,
        "provider": wanted.provider,
        "event_id": wanted.event_id,
        "provider_message_id": wanted.provider_message_id,
        "limit": limit + 1,
    }
    query = _VIEW.format(held=_HELD, more=_LIST_MORE, index=_pick_index(wanted), where=" AND ".join(where))
    rows = db.execute(query + _NEWEST_FIRST, values).fetchall()
    more = _write_cursor(rows[limit - 1][0]) if len(rows) > limit else None
    return [_show_row(row) for row in rows[:limit]], more


def read_delivery(db: sqlite3.Connection, delivery_id: str) -> Mapping[str, Any] | None:
    """Return one delivery's whole story; None if unknown."""
    query = _VIEW.format(held=_HELD, more=_READ_MORE, index="", where="d.id = ?")
    row = db.execute(query, (delivery_id,)).fetchone()
    if row is None:
        return None
    detail, deadline_at, last_attempt_at, message_id, config_hash, message, total, source, received_at = row[15:24]
    source_delivery_id, on_unknown, config_line, event_seq = row[24:]
    shown = _show_row(row)
    timeline = db.execute(_TIMELINE, (row[0],)).fetchall()
    changes = _list_met(db, name_scopes(row[5], row[4], row[6]), row[12], timeline)
    return {
        **shown,
        "detail": detail,
        "deadline_at": _show_instant(deadline_at),
        "last_attempt_at": _show_instant(last_attempt_at),
        "provider_message_id": show_message_id(message_id),
        "on_unknown": on_unknown,
        "config_hash": config_hash,
        "config_line": config_line,
        "event": {
            "id": shown["event_id"],
            "source": source,
            "topic": shown["topic"],
            "received_at": _show_instant(received_at),
            "delivery_id": source_delivery_id,
        },
        "message": _show_message(message, total),
        "attempt_list": [_name_columns(_ATTEMPT_KEYS, each) for each in db.execute(_ATTEMPTS, (row[0],))],
        "receipts": [_name_columns(_RECEIPT_KEYS, each) for each in db.execute(_RECEIPTS, (row[0],))],
        "timeline": [_name_columns(_TIMELINE_KEYS, each) for each in timeline],
        "hold_changes": [{**_name_columns(_CHANGE_KEYS, each), "by_hand": bool(each[4])} for each in changes],
        "siblings": [_name_columns(_SIBLING_KEYS, each) for each in db.execute(_SIBLINGS, (event_seq, row[0]))],
    }


def _list_met(db: sqlite3.Connection, scopes: Sequence[str], created_at: int, timeline: Sequence[Any]) -> Sequence[Any]:
    """Return the holds' changes until a delivery came to its last state, and what its failed receipt set later."""
    at, _, state, *_ = [row for row in timeline if row[1] == "state"][-1]
    end = _AFTER_ALL if state in (State.PENDING, State.SENDING, State.UNKNOWN) else at
    failed_at = max((row[0] for row in timeline if row[1:3] == ("receipt", "failed")), default=end)
    changes = list_changes(db, scopes, created_at, max(end, failed_at))
    return [change for change in changes if change[2] <= end or change[2] == failed_at]


def count_deliveries(db: sqlite3.Connection) -> Mapping[tuple[str, State], int]:
    """Return the counts that the triggers keep, and count what is under way."""
    return {(provider, read_state(state)): count for provider, state, count in db.execute(_COUNTS)}


def count_reached(db: sqlite3.Connection) -> Mapping[tuple[str, str, State], int]:
    """Return what the triggers have counted."""
    rows = db.execute("SELECT route, provider, state, n FROM reached")
    return {(route, provider, read_state(state)): count for route, provider, state, count in rows}


def read_last_events(db: sqlite3.Connection) -> Mapping[str, int]:
    """Return when each topic last came, as far back as a bounded look goes."""
    return dict(db.execute(_LAST_EVENTS, (TEST_SOURCE, _LAST_EVENTS_LIMIT)).fetchall())


def count_reasons(db: sqlite3.Connection, state: str) -> Sequence[Mapping[str, Any]]:
    """Return the deliveries of a state by reason, route and provider, the largest group first."""
    query = _REASONS.format(index=_pick_index(DeliveryFilter(state=state)), where=_BY_STATE.get(state, "0"))
    return [
        {
            "reason": reason,
            "route": route,
            "provider": provider,
            "count": count,
            "newest_id": newest_id,
            "newest_at": format_instant(newest_at),
        }
        for reason, route, provider, count, newest_id, newest_at, _ in db.execute(query, {"state": state})
    ]


def _show_instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


_ATTEMPT_KEYS = ("number", "started_at", "ended_at", "outcome", "reason", "detail", "tries")
_RECEIPT_KEYS = ("status", "at", "received_at", "reason", "detail")
_TIMELINE_KEYS = ("at", "kind", "value", "reason", "detail")
_CHANGE_KEYS = ("scope", "change", "at", "reason", "by_hand")
_SIBLING_KEYS = ("id", "route", "provider", "template", "state", "created_at")


def _name_columns(keys: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return {
        key: _show_instant(value) if key == "at" or key.endswith("_at") else value
        for key, value in zip(keys, row, strict=True)
    }


def _show_row(row: Any) -> dict[str, Any]:
    state = row[8]
    return {
        "id": row[1],
        "event_id": row[2],
        "topic": row[3],
        "route": row[4],
        "provider": row[5],
        "template": row[6],
        "recipient": mask_phone(row[7]) if row[7] else "",
        "state": state,
        "reason": row[9],
        "receipt": row[10],
        "attempts": row[11],
        "created_at": _show_instant(row[12]),
        "updated_at": _show_instant(row[13]),
        # A held one waits for its hold, whatever its due time says.
        "next_attempt_at": _show_instant(row[14]) if state in (State.PENDING, State.UNKNOWN) else None,
    }


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
        return "INDEXED BY deliveries_event"
    if wanted.provider_message_id is not None:
        return "INDEXED BY deliveries_message_id"
    if wanted.state is not None and _BY_STATE.get(wanted.state) is _UNUSUAL:
        return "INDEXED BY deliveries_unusual"
    if wanted.state == State.SENDING:
        return "INDEXED BY deliveries_sending"
    return "NOT INDEXED"


def _write_cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return _AFTER_ALL
    try:
        seq = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[1:])
    except ValueError:  # binascii.Error is one, too
        seq = -1
    if not 0 <= seq < _AFTER_ALL or _write_cursor(seq) != cursor:  # base64 passes over what it does not know
        raise ValueError("the cursor is not one of ours; leave it out to start at the newest")
    return seq
