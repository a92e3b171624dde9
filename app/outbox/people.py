"""People as keyed hashes: enough to know somebody again, long after the number itself was wiped.

Numbers are few enough to try them all, so whoever has the whole file can find the number to a hash. What the key, which
is drawn anew for each file, prevents is that anybody else can.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from app.outbox.store import Tx
from app.values.phone import find_other_form, to_one_form

HASH_BYTES = 16
_HASHED = "hash:"


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
    for table in ("suppressions", "lifted_suppressions", "unreachable"):
        known = f"EXISTS (SELECT 1 FROM {table} WHERE person = :person)"  # noqa: S608 - ours
        tx.run(
            f"UPDATE {table} SET person = :person WHERE person = :former AND NOT {known}",  # noqa: S608 - ours
            person=person,
            former=former,
        )
        tx.run(f"DELETE FROM {table} WHERE person = :former", former=former)  # noqa: S608 - ours
    for table in ("events", "deliveries", "acts"):
        tx.run(f"UPDATE {table} SET person = :person WHERE person = :former", person=person, former=former)  # noqa: S608 - ours


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
