"""Finding one person: every event that is about them, was sent to them, or names their number anywhere.

Wiped events are found by the keyed hashes alone, the others by reading every body, some hundred at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.core.mentions import Sought, mentions, seek_number
from app.outbox.people import hash_person
from app.outbox.reader import AnyReader

PAGE = 2_000  # rows: lanes wait for the same reading connection
BODIES_PAGE = 300  # each is read through

_ABOUT = "SELECT seq, customer FROM events WHERE person = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
_SENT_TO = "SELECT seq, event_seq FROM deliveries WHERE person = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
# Who has another number is somebody else, whatever id the source gives them.
_LINKED = "SELECT seq FROM events WHERE customer = ?1 AND person IS NULL AND seq > ?2 ORDER BY seq LIMIT ?3"
_BODIES = """
SELECT seq, received_at, body FROM events INDEXED BY events_unwiped
WHERE body IS NOT NULL AND received_at >= ?1 AND (received_at > ?1 OR seq > ?2) ORDER BY received_at, seq LIMIT ?3
"""
_BEFORE_ALL = (-(2**62), 0)


@dataclass(frozen=True, slots=True)
class Person:
    """Whom to find: E.164, the keyed hash of it, and how to see it in a text."""

    number: str
    hash: bytes
    sought: Sought


@dataclass(frozen=True, slots=True)
class Found:
    """Where a person is (seqs of events, each once): `linked` by a customer id alone, `named` or written to, `about`.

    Those that are found only through another event come first: whoever erases in this order finds the rest again.
    """

    linked: tuple[int, ...]
    named: tuple[int, ...]
    about: tuple[int, ...]

    def __iter__(self) -> Iterator[int]:
        yield from self.linked
        yield from self.named
        yield from self.about


def seek_person(key: bytes, number: str) -> Person:
    """Return what a person is found by."""
    return Person(number, hash_person(key, number) or b"", seek_number(number))


async def find_person(reader: AnyReader, person: Person) -> Found:
    """Return the events of a person. Raises StoreError."""
    about, customers = await _find_about(reader, person)
    linked = {seq for customer in customers for seq in await _find_linked(reader, customer)}
    named = await _find_sent(reader, person) | await _find_named(reader, person)
    return Found(*(tuple(sorted(each)) for each in (linked - named - about, named - about, about)))


async def _find_about(reader: AnyReader, person: Person) -> tuple[set[int], set[bytes]]:
    """Return the events about a person, and the hashes of the source's ids that those give them."""
    about: set[int] = set()
    customers: set[bytes] = set()
    last = 0
    while rows := await _read_page(reader, _ABOUT, (person.hash, last, PAGE)):
        about |= {seq for seq, _ in rows}
        customers |= {customer for _, customer in rows if customer is not None}
        last = rows[-1][0]
    return about, customers


async def _find_linked(reader: AnyReader, customer: bytes) -> set[int]:
    linked: set[int] = set()
    while rows := await _read_page(reader, _LINKED, (customer, max(linked, default=0), PAGE)):
        linked |= {seq for (seq,) in rows}
    return linked


async def _find_sent(reader: AnyReader, person: Person) -> set[int]:
    sent: set[int] = set()
    last = 0
    while rows := await _read_page(reader, _SENT_TO, (person.hash, last, PAGE)):
        sent |= {event_seq for _, event_seq in rows}
        last = rows[-1][0]
    return sent


async def _find_named(reader: AnyReader, person: Person) -> set[int]:
    named: set[int] = set()
    after: tuple[int, int] | None = _BEFORE_ALL
    while after is not None:
        some, after = await _look_through(reader, person.sought, after)
        named |= some
    return named


async def _look_through(
    reader: AnyReader, sought: Sought, after: tuple[int, int]
) -> tuple[set[int], tuple[int, int] | None]:
    """Return the next bodies that name the number, and where to go on; None: those were the last."""

    def look(db: sqlite3.Connection) -> tuple[set[int], tuple[int, int] | None]:
        rows = db.execute(_BODIES, (*after, BODIES_PAGE)).fetchall()
        named = {seq for seq, _, body in rows if mentions(sought, body)}
        return named, (rows[-1][1], rows[-1][0]) if len(rows) == BODIES_PAGE else None

    return await reader.run(look)


async def _read_page(reader: AnyReader, query: str, values: tuple[object, ...]) -> list[Any]:
    return await reader.run(lambda db: db.execute(query, values).fetchall())
