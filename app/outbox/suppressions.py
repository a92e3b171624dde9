"""Who gets no marketing, and whose number cannot be reached: people as hashes, never their numbers.

A wish counts from when it was uttered: webhooks come late, twice and out of order, and an old "stop" must not undo a
newer "resume", nor the other way round. Only what a provider said is held against what a provider said, for our own
clock may be set; where that is not possible, a "stop" wins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from app.model.delivery import Delivery, Reason, State
from app.outbox.people import hash_other_form, hash_person
from app.outbox.values import Suppression, SuppressionCounts
from app.values.stop_words import OptOut

_SUPPRESS = """
INSERT INTO suppressions SELECT ?1, ?2, coalesce(?3, ?4)
WHERE ?3 IS NULL OR NOT EXISTS (SELECT 1 FROM lifted_suppressions WHERE person = ?1 AND at > ?3)
ON CONFLICT (person) DO NOTHING
"""
_RENEW = "UPDATE suppressions SET since = ?2 WHERE person = ?1 AND since < ?2"
_LIFT = "DELETE FROM suppressions WHERE person = ? AND since < ?"
_LIFT_BY_HAND = "DELETE FROM suppressions WHERE person = ?"
_NOTE_LIFTED = """
INSERT INTO lifted_suppressions VALUES (?, ?) ON CONFLICT (person) DO UPDATE SET at = max(at, excluded.at)
"""
_IS_SUPPRESSED = "SELECT 1 FROM suppressions WHERE person = ?"
_LIST = "SELECT person, reason, since FROM suppressions WHERE person > ? ORDER BY person LIMIT ?"
_COUNT = "SELECT (SELECT count(*) FROM suppressions), (SELECT count(*) FROM unreachable)"
_MARK = "INSERT INTO unreachable VALUES (?, ?) ON CONFLICT DO NOTHING"
_CLEAR = "DELETE FROM unreachable WHERE person = ?"


def suppress(db: sqlite3.Connection, person: bytes | None, reason: str, said_at: int | None, now: int) -> bool:
    """Send this person no marketing; True if that is new. No change if they wanted it again since `said_at`."""
    if person is None:
        return False
    if db.execute(_SUPPRESS, (person, reason, said_at, now)).rowcount:
        return True
    db.execute(_RENEW, (person, now if said_at is None else said_at))
    return False


def lift(db: sqlite3.Connection, person: bytes | None, said_at: int | None, now: int) -> bool:
    """Let this person have marketing again, as they wished; False if nothing stood, or something newer does."""
    if person is None:
        return False
    at = now if said_at is None else min(said_at, now)  # one from the future would silence every stop until then
    if said_at is not None:
        db.execute(_NOTE_LIFTED, (person, at))
    return db.execute(_LIFT, (person, at)).rowcount > 0


def suppress_people(db: sqlite3.Connection, people: Iterable[bytes], reason: str, now: int) -> int:
    """Suppress whom a person names, whatever they wished before; return how many were not."""
    return sum(suppress(db, person, reason, None, now) for person in people)


def lift_people(db: sqlite3.Connection, people: Iterable[bytes]) -> int:
    """End the suppressions of whom a person names; return how many there were."""
    return sum(db.execute(_LIFT_BY_HAND, (person,)).rowcount for person in people)


def is_suppressed(db: sqlite3.Connection, person: bytes | None) -> bool:
    """Tell whether a person gets no marketing."""
    return person is not None and db.execute(_IS_SUPPRESSED, (person,)).fetchone() is not None


def stops_delivery(db: sqlite3.Connection, delivery: Delivery, person: bytes | None) -> bool:
    """Tell whether a delivery that would go out, or would in live mode, must not, since its recipient opted out."""
    return delivery.marketing and delivery.state in (State.PENDING, State.SHADOW) and is_suppressed(db, person)


def find_suppressed(db: sqlite3.Connection, key: bytes, deliveries: Sequence[Delivery]) -> Collection[str]:
    """Return the ids of those that must not go out."""
    forms = (hash_person, hash_other_form)
    return {it.id for it in deliveries if any(stops_delivery(db, it, form(key, it.recipient)) for form in forms)}


def note_refusal(
    db: sqlite3.Connection, person: bytes | None, reason: Reason, now: int, said_at: int | None = None
) -> None:
    """Remember what a refusal says of a person beyond its message. `said_at`: where it is a receipt that says when."""
    if reason is Reason.RECIPIENT_OPTED_OUT:
        suppress(db, person, OptOut.REFUSED, said_at, now)
    if reason is Reason.RECIPIENT_UNREACHABLE and person is not None:
        db.execute(_MARK, (person, now))


def clear_unreachable(db: sqlite3.Connection, person: bytes | None) -> None:
    """A message arrived: the number can be reached."""
    db.execute(_CLEAR, (person,))


def list_suppressions(
    db: sqlite3.Connection, limit: int, cursor: str | None
) -> tuple[Sequence[Suppression], str | None]:
    """Return a page in the order of the hashes, and the next one's cursor; raises ValueError on a bad cursor."""
    after = _read_cursor(cursor)
    rows = db.execute(_LIST, (after, limit + 1)).fetchall()
    page = [Suppression(person.hex(), reason, since) for person, reason, since in rows[:limit]]
    return page, page[-1].id if len(rows) > limit else None


def count_suppressions(db: sqlite3.Connection) -> SuppressionCounts:
    """Return how many people are suppressed, and how many unreachable."""
    return SuppressionCounts(*db.execute(_COUNT).fetchone())


def _read_cursor(cursor: str | None) -> bytes:
    if cursor is None:
        return b""
    try:
        return bytes.fromhex(cursor)
    except ValueError:
        raise ValueError("the cursor is not one of ours; leave it out to start at the beginning") from None
