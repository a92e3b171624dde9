"""What is kept of a person apart from any event: an opt-out outlives the erasing, all else does not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from app.outbox.people import hash_person
from tests.outbox.methods import SqliteOutbox

HER, OTHER = "+919800000041", "+919800000042"


def mark(db: sqlite3.Connection, key: bytes, now: int) -> None:
    for number in (HER, OTHER):
        person = hash_person(key, number)
        db.execute("INSERT INTO suppressions VALUES (?, 'stop_reply', ?)", (person, now))
        db.execute("INSERT INTO unreachable VALUES (?, ?)", (person, now))
        db.execute("INSERT INTO recipient_turns VALUES ('gallabox', ?, ?)", (number, now))


@pytest.fixture
async def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    found = wrap(open_sqlite())
    await found.store._writer.run(lambda db: mark(db, found.store._people_key, found.now))
    return found


def count_marks(db: sqlite3.Connection) -> tuple[int, ...]:
    tables = ("suppressions", "unreachable", "recipient_turns")
    return tuple(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)  # noqa: S608  # our own words


async def test_an_opt_out_is_exported_and_stays(shop: Any) -> None:
    record = await shop.store.export_person(HER)
    since = "2026-09-21T14:13:20.000Z"
    assert record["marketing"] == {"suppressed": True, "reason": "stop_reply", "since": since}
    assert record["unreachable_since"] == since
    erased = await shop.store.erase_person(HER, shop.now)
    assert (erased.events, erased.opt_out_kept) == (0, True)
    record = await shop.store.export_person(HER)
    assert (record["marketing"]["suppressed"], record["unreachable_since"]) == (True, None)
    assert await shop.store._reader.run(count_marks) == (2, 1, 1), "the other's are as they were"


async def test_a_turn_stays_while_a_message_is_being_sent(shop: Any) -> None:
    """Else the next one could follow within seconds."""
    await shop.add(recipient=HER, marketing=False)  # which an opt-out does not stop
    (attempt,) = await shop.claim(after_ms=60_000)
    assert (await shop.store.erase_person(HER, shop.now)).open == 1
    assert (await shop.store._reader.run(count_marks))[2] == 2
    assert await shop.accept(attempt)
    assert (await shop.store.erase_person(HER, shop.now)).open == 0
    assert (await shop.store._reader.run(count_marks))[2] == 1


async def test_that_a_number_was_unreachable_is_forgotten_in_time_and_an_opt_out_never(shop: Any) -> None:
    await shop.store.forget_records(shop.now + 1)
    assert await shop.store._reader.run(count_marks) == (2, 0, 2)
