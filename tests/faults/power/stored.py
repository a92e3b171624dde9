"""What a rebuilt outbox holds, as plain SQLite reads it, and whether it hangs together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.errors import StoreBroken
from app.model.delivery import State
from app.outbox.add import hash_dedup_key
from app.outbox.sqlite import file as opening
from tests.faults.power.workload import build_event

_CONTENTS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there. `problems`: what is broken or contradicts itself, () if nothing."""

    problems: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    deliveries: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()
    attempts: frozenset[tuple[str, int]] = frozenset()
    endings: frozenset[tuple[str, int, str]] = frozenset()
    receipts: frozenset[tuple[str, str]] = frozenset()
    holds: frozenset[str] = frozenset()
    lanes: frozenset[tuple[str, int]] = frozenset()
    timeline: frozenset[tuple[str, int]] = frozenset()
    wiped: int = 0
    spare_keys: int = 0  # dedup keys of no event that is there


class StoreReader:
    """Opens rebuilt databases, as the store itself does when it checks them at start: read-only, log and all.

    Equal contents are judged once: SQLite reads the log of every one, but its integrity check and ours are spared.
    """

    def __init__(self) -> None:
        self._known: dict[int, Stored] = {}

    def read(self, database: Path) -> Stored:
        """Return what the database holds; its problem alone if SQLite cannot read it."""
        try:
            opening._roll_back(database)
            db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
            try:
                return self._read(db)
            finally:
                db.close()
        except StoreBroken as error:
            return Stored((str(error),))
        except sqlite3.Error as error:
            return Stored((f"{type(error).__name__}: {error} ({getattr(error, 'sqlite_errorname', '')})",))

    def _read(self, db: sqlite3.Connection) -> Stored:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # a failure to read is an error here, not below
        content = hash(db.serialize())
        known = self._known.get(content)
        if known is None:
            known = self._known[content] = _judge(db)
            if len(self._known) > _CONTENTS_KEPT:
                del self._known[next(iter(self._known))]
        return known


def _judge(db: sqlite3.Connection) -> Stored:
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        return Stored((f"integrity_check: {found[0]}",))
    if not db.execute("PRAGMA user_version").fetchone()[0]:
        return Stored(("no schema",))
    return Stored(
        problems=tuple(_find_problems(db)),
        events=frozenset(row[0] for row in db.execute("SELECT id FROM events")),
        deliveries=frozenset(row[0] for row in db.execute("SELECT id FROM deliveries")),
        accepted=frozenset(row[0] for row in db.execute("SELECT id FROM deliveries WHERE state = 'accepted'")),
        attempts=frozenset(db.execute(f"SELECT d.id, a.number {_OF_DELIVERIES}")),
        endings=frozenset(db.execute(f"SELECT d.id, a.number, a.outcome {_OF_DELIVERIES} WHERE a.outcome IS NOT NULL")),
        receipts=frozenset(
            db.execute("SELECT d.id, r.status FROM receipts r JOIN deliveries d ON d.seq = r.delivery_seq")
        ),
        holds=frozenset(row[0] for row in db.execute("SELECT scope FROM holds")),
        lanes=frozenset(db.execute("SELECT provider, failures FROM lanes")),
        timeline=frozenset(db.execute("SELECT d.id, t.n FROM timeline t JOIN deliveries d ON d.seq = t.delivery_seq")),
        wiped=db.execute("SELECT count(*) FROM deliveries WHERE recipient = ''").fetchone()[0],
        spare_keys=_count_spare_keys(db),
    )


_OF_DELIVERIES = "FROM attempts a JOIN deliveries d ON d.seq = a.delivery_seq"

# Each finds what must not be; the first column names it.
_CONTRADICTIONS = {
    "a delivery without an event": "SELECT id FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)",
    "rows of no delivery": """
        SELECT delivery_seq FROM attempts WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)
        UNION ALL SELECT delivery_seq FROM timeline WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)
        UNION ALL SELECT delivery_seq FROM receipts WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)""",
    "a gap in a delivery's attempts": """
        SELECT d.id FROM deliveries d LEFT JOIN attempts a ON a.delivery_seq = d.seq
        GROUP BY d.seq HAVING count(a.number) <> d.attempts OR coalesce(max(a.number), 0) <> d.attempts""",
    "a gap in a timeline": """
        SELECT d.id FROM deliveries d LEFT JOIN timeline t ON t.delivery_seq = d.seq
        GROUP BY d.seq HAVING count(t.n) <> max(t.n) OR count(t.n) = 0""",
    "a state that the timeline does not end with": """
        SELECT d.id FROM deliveries d WHERE d.state <> (SELECT t.value FROM timeline t
            WHERE t.delivery_seq = d.seq AND t.kind = 'state' ORDER BY t.n DESC LIMIT 1)""",
    "an open attempt of a delivery that is not sending": """
        SELECT d.id FROM deliveries d JOIN attempts a ON a.delivery_seq = d.seq
        WHERE a.ended_at IS NULL AND NOT (d.state = 'sending' AND a.number = d.attempts)""",
    "sending without an open attempt": """
        SELECT d.id FROM deliveries d LEFT JOIN attempts a ON a.delivery_seq = d.seq AND a.number = d.attempts
        WHERE d.state = 'sending' AND (a.number IS NULL OR a.ended_at IS NOT NULL OR d.lease_until IS NULL)""",
    "pending and never due": "SELECT id FROM deliveries WHERE state = 'pending' AND due_at IS NULL",
}  # fmt: skip
_COUNTS = "SELECT provider, state, n FROM counts WHERE n <> 0"
_REAL_COUNTS = """
SELECT provider, state, count(*) FROM deliveries WHERE state NOT IN ('pending', 'sending') GROUP BY provider, state
"""


def _find_problems(db: sqlite3.Connection) -> Iterator[str]:
    for name, query in _CONTRADICTIONS.items():
        rows = db.execute(query).fetchall()
        if rows:
            yield f"{name}: {rows[0][0]} and {len(rows) - 1} more"
    counts, real = {*db.execute(_COUNTS)}, {*db.execute(_REAL_COUNTS)}
    if counts != real:
        yield f"counts say {sorted(counts - real)}, but there are {sorted(real - counts)}"
    strange = {row[0] for row in db.execute("SELECT DISTINCT state FROM deliveries")} - {*State}
    if strange:
        yield f"states that do not exist: {strange}"
    yield from _compare_with_events(db)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What an event's rows must be."""

    event: str
    source: tuple[str, str | None]
    deliveries: tuple[str, ...]
    keys: frozenset[bytes | None]


@cache
def _expect_event(event_id: str) -> _Expected:
    event, deliveries = build_event(int(event_id.removeprefix("evt-")))
    ids = tuple(delivery.id for delivery in deliveries)
    return _Expected(event.id, (event.source, event.delivery_id), ids, frozenset(map(hash_dedup_key, deliveries)))


def _compare_with_events(db: sqlite3.Connection) -> Iterator[str]:
    """An event is there with all of its deliveries and their dedup keys, or none of it is."""
    expected = [_expect_event(row[0]) for row in db.execute("SELECT id FROM events")]
    wanted = {(each.event, delivery) for each in expected for delivery in each.deliveries}
    found = {*db.execute("SELECT e.id, d.id FROM deliveries d JOIN events e ON e.seq = d.event_seq")}
    if found != wanted:
        yield f"deliveries of events differ: {sorted(found ^ wanted)[:3]}"
    missing = {key for each in expected for key in each.keys} - _read_keys(db)
    if missing:
        yield f"{len(missing)} deliveries without their dedup key"
    sources = {*db.execute("SELECT source, source_delivery_id FROM events INDEXED BY events_source "
                           "WHERE source_delivery_id IS NOT NULL")}  # fmt: skip
    if sources != {each.source for each in expected}:
        yield "events and their dedup rows differ"


def _count_spare_keys(db: sqlite3.Connection) -> int:
    kept = {key for row in db.execute("SELECT id FROM events") for key in _expect_event(row[0]).keys}
    return len(_read_keys(db) - kept)


def _read_keys(db: sqlite3.Connection) -> set[bytes | None]:
    return {row[0] for row in db.execute("SELECT hash FROM dedup_keys")}
