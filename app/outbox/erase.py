"""Erasing one person: what is theirs goes from every row and from the log. What happened stays, as nobody's.

In steps of some hundred events, so that intake never waits long. Whoever is killed in the middle calls again: what is
found only by a link to another event goes first, and the links last.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.outbox.find import PAGE, Person, Sought, find_person, is_told_by_id, mentions
from app.outbox.people import HASH_ID
from app.outbox.retention import empty_log
from app.outbox.sqlite.file import wait_for_lock
from app.outbox.sqlite.reader import AnyReader
from app.outbox.sqlite.writer import Writer
from app.outbox.values import Erased

ERASE_LIMIT = 100  # events a transaction
RECORDINGS_PAGE = 200
# A backup or a report reads the log now and then: it is waited for, and not by the thread that writes.
LOG_TRIES, LOG_WAIT_MS, LOG_AGAIN_S = 25, 100, 0.2

_IS_SENDING = "SELECT count(*) FROM deliveries WHERE event_seq = ? AND state = 'sending'"
_STOP = """
UPDATE deliveries SET state = 'suppressed', reason = 'erased', detail = '', due_at = NULL, lease_until = NULL,
    updated_at = ?2 WHERE event_seq = ?1 AND (state = 'pending' OR (state = 'unknown' AND due_at IS NOT NULL))
"""
# What an event of theirs led to for somebody else is wiped as well, and stays that one's.
_WIPE = f"""
UPDATE deliveries SET message = NULL, checksum = NULL, recipient = '',
    provider_message_id = iif(person IS NULL OR person = ?2, {HASH_ID.format("provider_message_id")},
        provider_message_id),
    wamid = iif(person IS NULL OR person = ?2, {HASH_ID.format("wamid")}, wamid),
    person = iif(person = ?2, NULL, person)
WHERE event_seq = ?1 AND state <> 'sending' AND (message IS NOT NULL OR recipient <> '' OR person = ?2)
"""  # noqa: S608  # our own words only
_WIPE_EVENT = "UPDATE events SET body = NULL WHERE seq = ?1 AND body IS NOT NULL"
_CUT_EVENT = """
UPDATE events SET person = NULL, customer = NULL
WHERE seq = ?1 AND (person = ?2 OR (person IS NULL AND customer IS NOT NULL))
"""
_CUT_ACTS = "UPDATE acts SET person = NULL, customer = NULL WHERE event_seq = ?1 AND (person = ?2 OR person IS NULL)"
_EARLY = """
SELECT provider, provider_message_id, delivery_id, status, wamid FROM early_receipts
WHERE (provider, provider_message_id, delivery_id, status) > (?, ?, ?, ?)
ORDER BY provider, provider_message_id, delivery_id, status LIMIT ?
"""
_DROP_ONE_EARLY = """
DELETE FROM early_receipts WHERE provider = ? AND provider_message_id = ? AND delivery_id = ? AND status = ?
"""
_RECORDINGS = "SELECT topic, n, payload FROM recordings WHERE (topic, n) > (?, ?) ORDER BY topic, n LIMIT ?"
_DROP_RECORDING = "DELETE FROM recordings WHERE topic = ? AND n = ?"
_OPTED_OUT = "SELECT EXISTS (SELECT 1 FROM suppressions WHERE person = ?)"


@dataclass(frozen=True, slots=True)
class _Step:
    """What one transaction erased, and how many deliveries it left because they are being sent."""

    events: int = 0
    deliveries: int = 0
    open: int = 0

    def __add__(self, other: _Step) -> _Step:
        return _Step(self.events + other.events, self.deliveries + other.deliveries, self.open + other.open)


async def erase_person(writer: Writer, reader: AnyReader, person: Person, now: int) -> Erased:
    """Erase a person; see Outbox. Raises StoreError."""
    found = await find_person(reader, person)
    done = await _erase_events(writer, found.linked, person, now, cut=True)
    # While one of those is being sent, what leads to it must stay.
    cut = not done.open
    done += await _erase_events(writer, found.named, person, now, cut=cut)
    done += await _erase_events(writer, found.about, person, now, cut=cut)
    await _erase_early(writer, reader, person.sought)
    await _erase_recordings(writer, reader, person.sought)
    await writer.run(lambda db: _erase_marks(db, person, is_over=not done.open))
    opted_out = bool(await reader.run(lambda db: db.execute(_OPTED_OUT, (person.hash,)).fetchone()[0]))
    return Erased(done.events, done.deliveries, done.open, opted_out, await _empty_log(writer))


async def _erase_events(writer: Writer, seqs: Sequence[int], person: Person, now: int, *, cut: bool) -> _Step:
    done = _Step()
    for start in range(0, len(seqs), ERASE_LIMIT):
        some = seqs[start : start + ERASE_LIMIT]
        done += await writer.run(partial(_erase_some, seqs=some, person=person, now=now, cut=cut))
    return done


def _erase_some(db: sqlite3.Connection, seqs: Sequence[int], person: Person, now: int, *, cut: bool) -> _Step:
    return sum((_erase_event(db, seq, person, now, cut=cut) for seq in seqs), _Step())


def _erase_event(db: sqlite3.Connection, seq: int, person: Person, now: int, *, cut: bool) -> _Step:
    """Erase one event with its deliveries. What is being sent stays, and with it what it is found by."""
    (is_sending,) = db.execute(_IS_SENDING, (seq,)).fetchone()
    db.execute(_STOP, (seq, now))
    deliveries = db.execute(_WIPE, (seq, person.hash)).rowcount
    if is_sending:
        return _Step(0, deliveries, is_sending)
    changed = db.execute(_WIPE_EVENT, (seq,)).rowcount
    if cut:
        changed += db.execute(_CUT_EVENT, (seq, person.hash)).rowcount
        db.execute(_CUT_ACTS, (seq, person.hash))
    return _Step(int(changed + deliveries > 0), deliveries)


async def _erase_early(writer: Writer, reader: AnyReader, sought: Sought) -> None:
    """Drop receipts of no delivery whose id tells the number."""
    last: tuple[str, ...] | None = ("", "", "", "")
    while last is not None:
        rows = await reader.run(partial(_read_rows, _EARLY, (*last, PAGE)))
        theirs = [row[:4] for row in rows if any(is_told_by_id(sought, id_) for id_ in (row[1], row[4] or ""))]
        if theirs:
            await writer.run(partial(_drop_rows, _DROP_ONE_EARLY, theirs))
        last = rows[-1][:4] if len(rows) == PAGE else None


async def _erase_recordings(writer: Writer, reader: AnyReader, sought: Sought) -> None:
    """Drop recordings that name the number. Their values are invented, but for a few that are taken as harmless."""
    last: tuple[str, int] | None = ("", 0)
    while last is not None:
        rows = await reader.run(partial(_read_rows, _RECORDINGS, (*last, RECORDINGS_PAGE)))
        theirs = [row[:2] for row in rows if mentions(sought, row[2].encode())]
        if theirs:
            await writer.run(partial(_drop_rows, _DROP_RECORDING, theirs))
        last = rows[-1][:2] if len(rows) == RECORDINGS_PAGE else None


def _read_rows(query: str, values: tuple[str | int, ...], db: sqlite3.Connection) -> list[Any]:
    return db.execute(query, values).fetchall()


def _drop_rows(statement: str, rows: Sequence[tuple[str | int, ...]], db: sqlite3.Connection) -> None:
    db.executemany(statement, rows)


def _erase_marks(db: sqlite3.Connection, person: Person, *, is_over: bool) -> None:
    """Drop what is kept of the person apart from any event. Not that they opted out: it protects them."""
    db.execute("DELETE FROM unreachable WHERE person = ?", (person.hash,))
    db.execute("DELETE FROM lifted_suppressions WHERE person = ?", (person.hash,))
    if is_over:
        db.execute("DELETE FROM recipient_turns WHERE recipient = ?", (person.number,))


async def _empty_log(writer: Writer) -> bool:
    """Empty the log, of which others may be reading; False if they go on for seconds."""
    for _ in range(LOG_TRIES):
        if await writer.run_alone(_empty_log_soon):
            return True
        await asyncio.sleep(LOG_AGAIN_S)
    return False


def _empty_log_soon(db: sqlite3.Connection) -> bool:
    (usual_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    wait_for_lock(db, LOG_WAIT_MS)
    try:
        return empty_log(db)
    finally:
        wait_for_lock(db, usual_ms)
