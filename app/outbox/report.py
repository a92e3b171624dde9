"""The ledger: what became of messages, and what their customers did after, counted by route, topic or day.

A million deliveries take seconds: they are counted some thousand at a time, in the order they were made, so that
nothing has to be sorted at large, and no long read keeps the write-ahead log from being emptied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple

from app.message.person import AIMS, OTHER_AIM
from app.model.event import TEST_SOURCE, Act
from app.outbox.values import LedgerQuery, LedgerRow
from app.values.instant import name_day

STEP = 10_000  # deliveries a query

# Every zone of today is so many minutes from UTC, so a quarter of an hour lies in one day whatever the zone.
_QUARTER_MS = 15 * 60_000
_KEYS: Mapping[str, str] = {"route": "d.route", "topic": "e.topic", "day": f"d.created_at / {_QUARTER_MS}"}

_AIM = f"CASE e.topic {' '.join(f'WHEN {topic!r} THEN {act.value!r}' for topic, act in AIMS.items())} \
ELSE {OTHER_AIM.value!r} END"
_ACCEPTED_AT = """(SELECT min(t.at) FROM timeline t
    WHERE t.delivery_seq = d.seq AND t.kind = 'state' AND t.value = 'accepted')"""
# 1: did what the message is for, 2: ordered, 3: both. When the message was accepted is looked up only where that
# person has acted at all since the delivery was made, which few have; the plus sign keeps the index to that.
_DONE = f"""coalesce((SELECT max(a.act = {_AIM}) + 2 * max(a.act = {Act.ORDER_PLACED.value!r}) FROM acts a
    WHERE {{same}} AND a.at > d.created_at AND +a.at - {_ACCEPTED_AT} BETWEEN 1 AND :window), 0)"""  # noqa: S608  # of constants of ours
# The number tells who it was; the source's own id of the customer only where the act's event named no number.
_DONE_BY_ANY = " | ".join(
    _DONE.format(same=same)
    for same in ("a.person = d.person", "a.person IS NULL AND a.customer IS NOT NULL AND a.customer = e.customer")
)
# With a LIMIT the inner query is not merged into the outer one, which would work `done` out once for each column.
_COUNT = f"""
SELECT key, count(*), count(*) FILTER (WHERE state = 'accepted'),
    count(*) FILTER (WHERE receipt IN ('delivered', 'read')), count(*) FILTER (WHERE receipt = 'read'),
    total(clicked), total(done & 1), total(done >> 1), count(*) FILTER (WHERE receipt = 'failed'),
    count(*) FILTER (WHERE state IN ('pending', 'sending')), count(*) FILTER (WHERE state = 'dead'),
    count(*) FILTER (WHERE state = 'expired'), count(*) FILTER (WHERE state = 'unknown'),
    count(*) FILTER (WHERE state = 'suppressed'), count(receipt)
FROM (
    SELECT {{key}} AS key, d.state, d.receipt,
        EXISTS (SELECT 1 FROM clicks c WHERE c.delivery_seq = d.seq) AS clicked,
        iif(d.state = 'accepted', {_DONE_BY_ANY}, 0) AS done
    FROM deliveries d CROSS JOIN events e ON e.seq = d.event_seq
    WHERE d.created_at >= :since AND d.created_at < :until AND d.state <> 'shadow' AND e.source <> :test
    LIMIT -1
) GROUP BY key
"""  # noqa: S608  # of constants of ours
_NEXT_STEP = (
    "SELECT created_at FROM deliveries WHERE created_at > ? AND created_at < ? ORDER BY created_at LIMIT 1 OFFSET ?"
)


def cut_steps(db: sqlite3.Connection, since: int, until: int, step: int = STEP) -> Iterator[tuple[int, int]]:
    """Yield spans of time, from the one instant on and before the other, of about `step` deliveries each."""
    while (found := db.execute(_NEXT_STEP, (since, until, step)).fetchone()) is not None:
        yield since, found[0]
        (since,) = found
    yield since, until


def count_step(db: sqlite3.Connection, wanted: LedgerQuery, span: tuple[int, int]) -> Sequence[LedgerRow]:
    """Return what was made in a span of time, by route, topic or day."""
    values = {"since": span[0], "until": span[1], "window": wanted.window_ms, "test": TEST_SOURCE}
    rows = db.execute(_COUNT.format(key=_KEYS[wanted.by]), values).fetchall()
    return [LedgerRow(_name_key(key, wanted), *map(int, counts)) for key, *counts in rows]


def add_up(rows: Sequence[LedgerRow], by: str) -> Sequence[LedgerRow]:
    """Return one row for each key: days in order, else the most received first."""
    keys: dict[str, list[LedgerRow]] = {}
    for row in rows:
        keys.setdefault(row.key, []).append(row)
    return sorted(map(sum_rows, keys, keys.values()), key=lambda row: (0 if by == "day" else -row.received, row.key))


def sum_rows(key: str, rows: Sequence[LedgerRow]) -> LedgerRow:
    """Return the sum of rows under a key."""
    _, *columns = zip(*map(astuple, (LedgerRow(key), *rows)), strict=True)
    return LedgerRow(key, *map(sum, columns))


def _name_key(key: str | int, wanted: LedgerQuery) -> str:
    return name_day(key * _QUARTER_MS, wanted.timezone) if isinstance(key, int) else key
