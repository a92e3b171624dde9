"""People as keyed hashes: enough to know somebody again once the number itself was wiped, and who gets no marketing.

Numbers are few enough to try them all, so whoever has the whole file can find the number to a hash. What the key, which
is drawn anew for each file, prevents is that anybody else can.

A wish counts from when it was uttered: webhooks come late, twice and out of order, and an old "stop" must not undo a
newer "resume", nor the other way round. Only what a provider said is held against what a provider said, for our own
clock may be set; where that is not possible, a "stop" wins.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from app.delivery.policy import heeds_opt_out
from app.model.delivery import Delivery, Reason
from app.model.message import OptOut
from app.outbox.store import Tx
from app.outbox.values import IN_LUMPS, SuppressionCounts, seek_in_lumps
from app.values.instant import format_instant
from app.values.phone import find_other_form, to_one_form

HASH_BYTES = 16
_HASHED = "hash:"

_FORMER = {table: seek_in_lumps(table, "(SELECT at FROM marks WHERE name = 'former')") for table in IN_LUMPS}
# An event looks for them, so only the rows that a release with other forms may have written are looked through.


@lru_cache(maxsize=512)  # an event and its deliveries ask for the same person
def hash_person(key: bytes, number: str) -> bytes | None:
    """Return the hash of an E.164 number in its one form, None of ""."""
    return _hash(key, "number", to_one_form(number))


def hash_other_form(key: bytes, number: str) -> bytes | None:
    """Return the hash under which an earlier release may have kept a person, None for most."""
    return _hash(key, "number", find_other_form(to_one_form(number)))


def adopt_people(tx: Tx, numbers: Iterable[str]) -> None:
    """Bring what an earlier release kept of people under their other form to the one by which they go now."""
    for number in numbers:
        adopt_person(tx, hash_person(tx.people_key, number), hash_other_form(tx.people_key, number))


def adopt_person(tx: Tx, person: bytes | None, former: bytes | None) -> None:
    """Make what is kept under one hash that of another."""
    if person is None or former is None:
        return
    ids = {"person": person, "former": former}
    for table in ("suppressions", "lifted_suppressions", "unreachable"):
        known = f"EXISTS (SELECT 1 FROM {table} WHERE person = :person)"  # noqa: S608 - ours
        tx.run(f"UPDATE {table} SET person = :person WHERE person = :former AND NOT {known}", **ids)  # noqa: S608 - ours
        tx.run(f"DELETE FROM {table} WHERE person = :former", former=former)  # noqa: S608 - ours
    for table in ("events", "deliveries", "acts"):
        where = f"{_FORMER.get(table, '')} person = :former"
        tx.run(f"UPDATE {table} SET person = :person WHERE {where}", **ids)  # noqa: S608 - ours


def hash_people(key: bytes, numbers: Iterable[str]) -> Sequence[bytes]:
    """Return the hashes of E.164 numbers, each once, in their order."""
    hashes = (hash_person(key, number) for number in dict.fromkeys(numbers))
    return [each for each in hashes if each is not None]


def hash_customer(key: bytes, id_: str) -> bytes | None:
    """Return the hash of a source's id of a customer, None of ""."""
    return _hash(key, "customer", id_)


def hash_message_id(key: bytes, id_: str | None) -> str | None:
    """Return what stands for a provider's id of a message once that is wiped; None and a hash come back as they are.

    WhatsApp's ids hold the number in base64. By its hash a late receipt still finds its delivery.
    """
    if id_ is None or id_.startswith(_HASHED):
        return id_
    return _HASHED + hmac.digest(key, f"message:{id_}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()


def show_message_id(id_: str | None) -> str | None:
    """Return a provider's id of a message as it gave it, None where only the hash is left."""
    return None if id_ is None or id_.startswith(_HASHED) else id_


def _hash(key: bytes, kind: str, text: str) -> bytes | None:
    if not text:
        return None
    return hmac.digest(key, f"{kind}:{text}".encode("utf-8", "surrogatepass"), hashlib.sha256)[:HASH_BYTES]


_SUPPRESS = """
INSERT INTO suppressions SELECT :person, :reason, coalesce(CAST(:said_at AS BIGINT), :now)
WHERE CAST(:said_at AS BIGINT) IS NULL
    OR NOT EXISTS (SELECT 1 FROM lifted_suppressions WHERE person = :person AND at > :said_at)
ON CONFLICT (person) DO NOTHING
"""
_RENEW = "UPDATE suppressions SET since = :since WHERE person = :person AND since < :since"
_LIFT = "DELETE FROM suppressions WHERE person = :person AND since < :at"
_LIFT_BY_HAND = "DELETE FROM suppressions WHERE person = :person"
_NOTE_LIFTED = """
INSERT INTO lifted_suppressions VALUES (:person, :at) ON CONFLICT (person) DO UPDATE SET at = excluded.at
WHERE lifted_suppressions.at < excluded.at
"""
SLOTS = "abcdefghijklmnop"  # so many people are looked for at once
_WHO_IS_SUPPRESSED = f"SELECT person FROM suppressions WHERE person IN (:{', :'.join(SLOTS)})"  # noqa: S608 - ours
_LIST = "SELECT person, reason, since FROM suppressions WHERE person > :after ORDER BY person LIMIT :limit"
_COUNT = """
SELECT (SELECT count(*) FROM suppressions) AS suppressed, (SELECT count(*) FROM unreachable) AS unreachable
"""
_MARK = "INSERT INTO unreachable VALUES (:person, :now) ON CONFLICT DO NOTHING"
_CLEAR = "DELETE FROM unreachable WHERE person = :person"


def suppress(tx: Tx, person: bytes | None, reason: str, said_at: int | None) -> bool:
    """Send this person no marketing; True if that is new. No change if they wanted it again since `said_at`."""
    if person is None:
        return False
    if tx.run(_SUPPRESS, person=person, reason=reason, said_at=said_at, now=tx.now):
        return True
    tx.run(_RENEW, person=person, since=tx.now if said_at is None else said_at)
    return False


def lift(tx: Tx, person: bytes | None, said_at: int | None) -> bool:
    """Let this person have marketing again, as they wished; False if nothing stood, or something newer does."""
    if person is None:
        return False
    at = tx.now if said_at is None else min(said_at, tx.now)  # from the future it would silence every stop until then
    if said_at is not None:
        tx.run(_NOTE_LIFTED, person=person, at=at)
    return tx.run(_LIFT, person=person, at=at) > 0


def suppress_people(tx: Tx, numbers: Collection[str], reason: str) -> int:
    """Send no marketing to these E.164 numbers, whatever they wished before; return how many that is new for."""
    adopt_people(tx, numbers)
    return sum(suppress(tx, person, reason, None) for person in hash_people(tx.people_key, numbers))


def lift_suppressions(tx: Tx, numbers: Collection[str]) -> int:
    """Let these numbers have marketing again; return how many were suppressed."""
    adopt_people(tx, numbers)
    return sum(tx.run(_LIFT_BY_HAND, person=person) for person in hash_people(tx.people_key, numbers))


def find_suppressed(tx: Tx, deliveries: Sequence[Delivery]) -> Collection[str]:
    """Return the ids of those that are marketing to somebody who has opted out."""
    forms = (hash_person, hash_other_form)  # replays ask before anybody was adopted
    return find_unwanted(tx, [(it, form(tx.people_key, it.recipient)) for it in deliveries for form in forms])


def find_unwanted(tx: Tx, asked: Sequence[tuple[Delivery, bytes | None]]) -> Collection[str]:
    """Return the ids of those that are marketing to a person who has opted out."""
    people = [(it.id, person) for it, person in asked if person is not None and heeds_opt_out(it)]
    sought = list(dict.fromkeys(person for _, person in people))
    found = tx.rows_many(_WHO_IS_SUPPRESSED, fill_slots(sought))
    unwanted = {row.person for rows in found for row in rows}
    return {id_ for id_, person in people if person in unwanted}


def fill_slots(sought: Sequence[object], **more: object) -> Sequence[dict[str, Any]]:
    """Return the values of each statement that looks for as many people as there are slots; `more` are in each."""
    empty = {**dict.fromkeys(SLOTS), **more}
    some = [sought[start : start + len(SLOTS)] for start in range(0, len(sought), len(SLOTS))]
    return [{**empty, **dict(zip(SLOTS, each, strict=False))} for each in some]


def note_refusal(tx: Tx, person: bytes | None, reason: Reason, said_at: int | None = None) -> None:
    """Remember what a refusal says of a person beyond its message. `said_at`: where it is a receipt that says when."""
    if reason is Reason.RECIPIENT_OPTED_OUT:
        suppress(tx, person, OptOut.REFUSED, said_at)
    if reason is Reason.RECIPIENT_UNREACHABLE and person is not None:
        tx.run(_MARK, person=person, now=tx.now)


def clear_unreachable(tx: Tx, person: bytes | None) -> None:
    """A message arrived: the number can be reached."""
    tx.run(_CLEAR, person=person)


def list_suppressions(tx: Tx, limit: int, cursor: str | None) -> tuple[Sequence[Mapping[str, str]], str | None]:
    """Return a page as it is shown, in the order of the hashes, and the next cursor; raises ValueError on a bad one."""
    rows = tx.rows(_LIST, after=_read_cursor(cursor), limit=limit + 1)
    page = [{"id": each.person.hex(), "reason": each.reason, "since": format_instant(each.since)} for each in rows]
    return page[:limit], page[limit - 1]["id"] if len(rows) > limit else None


def count_suppressions(tx: Tx) -> SuppressionCounts:
    """Return how many people are suppressed, and how many unreachable."""
    return SuppressionCounts(*tx.rows(_COUNT)[0])


def _read_cursor(cursor: str | None) -> bytes:
    if cursor is None:
        return b""
    try:
        return bytes.fromhex(cursor)
    except ValueError:
        raise ValueError("the cursor is not one of ours; leave it out to start at the beginning") from None
