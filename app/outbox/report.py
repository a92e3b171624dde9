"""The ledger: what became of messages, and what their customers did after, counted by route, topic or day.

A million deliveries take seconds: they are counted some thousand at a time, in the order they were made, so that
nothing has to be sorted at large, and no long read keeps the write-ahead log from being emptied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial

from app.model.event import TEST_SOURCE, Act
from app.outbox.move import MENDED
from app.outbox.store import Store, Tx, first
from app.outbox.values import LedgerQuery, LedgerRow
from app.sources import SOURCE
from app.values.instant import name_day

STEP = 10_000  # deliveries a query

# Every zone of today is so many minutes from UTC, so a quarter of an hour lies in one day whatever the zone.
_QUARTER_MS = 15 * 60_000
_KEYS: Mapping[str, str] = {"route": "d.route", "topic": "e.topic", "day": f"d.created_at / {_QUARTER_MS}"}

_AIM = f"CASE e.topic {' '.join(f'WHEN {topic!r} THEN {act.value!r}' for topic, act in SOURCE.aims.items())} \
ELSE {Act.ORDER_PLACED.value!r} END"
_ACCEPTED_AT = """coalesce(d.accepted_at, (SELECT min(t.at) FROM timeline_kept t
    WHERE t.delivery_seq = d.seq AND t.kind = 'state' AND t.value = 'accepted'))"""
# 1: did what the message is for, 2: ordered, 3: both. When the message was accepted is looked up only where that
# person has acted at all since the delivery was made, which few have; the plus sign keeps the index to that.
_DONE = f"""coalesce((SELECT max(CASE WHEN a.act = {_AIM} THEN 1 ELSE 0 END)
        + 2 * max(CASE WHEN a.act = {Act.ORDER_PLACED.value!r} THEN 1 ELSE 0 END) FROM acts a
    WHERE {{same}} AND a.at > d.created_at AND +a.at - {_ACCEPTED_AT} BETWEEN 1 AND :window), 0)"""  # noqa: S608  # of constants of ours
# The number tells who it was; the source's own id of the customer only where the act's event named no number.
_DONE_BY_ANY = " | ".join(
    _DONE.format(same=same)
    for same in ("a.person = d.person", "a.person IS NULL AND a.customer IS NOT NULL AND a.customer = e.customer")
)
# With a LIMIT the inner query is not merged into the outer one, which would work `done` out once for each column.
_COUNT = f"""
SELECT key, count(*) AS received, count(*) FILTER (WHERE state = 'accepted') AS accepted,
    count(*) FILTER (WHERE receipt IN ('delivered', 'read')) AS delivered,
    count(*) FILTER (WHERE receipt = 'read') AS read, count(*) FILTER (WHERE clicked) AS clicked,
    sum(done & 1) AS acted, sum(done >> 1) AS ordered, count(*) FILTER (WHERE receipt = 'failed') AS failed,
    count(*) FILTER (WHERE state IN ('pending', 'sending')) AS waiting,
    count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'expired') AS expired,
    count(*) FILTER (WHERE state = 'unknown') AS unknown,
    count(*) FILTER (WHERE state = 'suppressed') AS suppressed, count(receipt) AS reported
FROM (
    SELECT {{key}} AS key, d.state, d.receipt,
        EXISTS (SELECT 1 FROM clicks c WHERE c.delivery_seq = d.seq) AS clicked,
        CASE WHEN d.state = 'accepted' THEN {_DONE_BY_ANY} ELSE 0 END AS done
    FROM deliveries d /*sqlite CROSS*/ JOIN events e ON e.seq = d.event_seq
    WHERE d.created_at >= :since AND d.created_at < :until AND d.state <> 'shadow' AND e.source <> :test
        AND NOT ({MENDED})
    LIMIT {2**62}
) AS made GROUP BY key
"""  # noqa: S608  # of constants of ours
_LOOK_BACK = 100_000  # events; of those before, what was told is kept as acts
_TOPICS = "SELECT DISTINCT topic FROM (SELECT topic FROM events ORDER BY seq DESC LIMIT :limit) AS newest"
_DONE_EVER = "SELECT 1 AS found FROM acts WHERE act = :act LIMIT 1"
_NEXT_STEP = """
SELECT created_at FROM deliveries WHERE created_at > :since AND created_at < :until
ORDER BY created_at LIMIT 1 OFFSET :step
"""


async def read_ledger(store: Store, wanted: LedgerQuery) -> Sequence[LedgerRow]:
    """Count what became of deliveries, and what their customers did after; a row for each key that has any.

    Days in order, else the most received first. Shadows and test messages are left out. An act counts for a
    delivery if it is the same person's (the same number; the source's id where the act's event named no number),
    later than its acceptance and within the window. What a replay has mended counts as that replay's delivery alone.
    Takes seconds for a million, and holds nothing up.
    """
    rows: list[LedgerRow] = []
    for span in await store.read(lambda tx: list(cut_steps(tx, wanted.since, wanted.until)), slow=True):
        rows += await store.read(partial(count_step, wanted=wanted, span=span), slow=True)
    return add_up(rows, wanted.by)


def find_unheard(tx: Tx) -> frozenset[str]:
    """Return the topics that would tell what customers did, and of which no event has come, as far as is kept."""
    heard = {row.topic for row in tx.rows(_TOPICS, limit=_LOOK_BACK)}
    unheard = [(act, topic) for act, topic in SOURCE.tellers.items() if topic not in heard]
    return frozenset(topic for act, topic in unheard if not tx.rows(_DONE_EVER, act=act.value))


def cut_steps(tx: Tx, since: int, until: int, step: int = STEP) -> Iterator[tuple[int, int]]:
    """Yield spans of time, from the one instant on and before the other, of about `step` deliveries each."""
    while (found := first(tx.rows(_NEXT_STEP, since=since, until=until, step=step))) is not None:
        yield since, found.created_at
        since = found.created_at
    yield since, until


def count_step(tx: Tx, wanted: LedgerQuery, span: tuple[int, int]) -> Sequence[LedgerRow]:
    """Return what was made in a span of time, by route, topic or day."""
    query = _COUNT.format(key=_KEYS[wanted.by])
    rows = tx.rows(query, since=span[0], until=span[1], window=wanted.window_ms, test=TEST_SOURCE)
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
