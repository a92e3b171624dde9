"""Known-bad controls: the store with one guarantee taken out, to show that the contract suite would notice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.message import components
from app.model.delivery import Reason
from app.outbox import claim as claiming
from app.outbox import close as closing
from tests.outbox.methods import SqliteOutbox

DAMAGE = "UPDATE deliveries SET {column} = {flipped} WHERE id = '{id}'"


async def run_alone(store: Any, *statements: str) -> None:
    def run(db: sqlite3.Connection) -> None:
        for statement in statements:
            db.execute(statement)

    await store._writer.run_alone(run)


@pytest.fixture
def sqlite_shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite())


async def test_without_the_unique_index_copies_become_several_events(sqlite_shop: Any) -> None:
    await run_alone(sqlite_shop.store, "DROP INDEX events_source")
    copies = [sqlite_shop.event(delivery_id="the-same") for _ in range(50)]
    await asyncio.gather(*[sqlite_shop.store.add_event(copy, [sqlite_shop.delivery(copy)]) for copy in copies])
    assert len(await sqlite_shop.list_ids()) > 1


async def test_without_the_fencing_a_stale_attempt_closes_the_next_one(
    sqlite_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite_shop.add()
    stale = await sqlite_shop.claim_one()
    await sqlite_shop.retry_later(stale, 8_000, why=Reason.UNAVAILABLE)
    await sqlite_shop.claim_one(after_ms=8_000)
    monkeypatch.setattr(closing, "_FIND", closing._FIND.replace("attempts", f"{stale.number} AS attempts"))
    assert await sqlite_shop.accept(stale)


async def test_without_the_deadline_check_what_is_no_longer_true_is_claimed(
    sqlite_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite_shop.add(deadline_at=sqlite_shop.now)
    monkeypatch.setattr(claiming, "DUE", claiming.DUE.replace("d.deadline_at", "1 << 62 AS deadline_at"))
    assert len(await sqlite_shop.claim()) == 1


@pytest.mark.parametrize(("column", "flipped"), [("message", "x'7b7d'"), ("message", "NULL"), ("checksum", "'0'")])
async def test_a_message_that_is_not_the_frozen_one_is_dead_and_never_claimed(
    sqlite_shop: Any, column: str, flipped: str
) -> None:
    damaged = await sqlite_shop.add()
    fine = await sqlite_shop.add()
    await run_alone(sqlite_shop.store, DAMAGE.format(column=column, flipped=flipped, id=damaged))
    assert [attempt.delivery.id for attempt in await sqlite_shop.claim()] == [fine]
    assert await sqlite_shop.show(damaged) == ("dead", "message_damaged", None)
    assert (await sqlite_shop.read(damaged))["message"] is None


async def test_every_flipped_bit_of_a_message_is_noticed(sqlite_shop: Any) -> None:
    delivery_id = await sqlite_shop.add()
    find = "SELECT message, checksum FROM deliveries WHERE id = ?"
    data, total = await sqlite_shop.store._reader.run(lambda db: db.execute(find, (delivery_id,)).fetchone())
    flips = [data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]
    assert [flip for flip in flips if components.thaw_message(flip, total) is not None] == []
    assert components.thaw_message(data, total) is not None


def find_bytes(folder: Path, canaries: list[bytes]) -> dict[str, list[bytes]]:
    """Return which canaries lie in which file."""
    found = {path.name: [each for each in canaries if each in path.read_bytes()] for path in folder.iterdir()}
    return {name: canaries for name, canaries in found.items() if canaries}


async def test_what_was_wiped_is_in_no_file_any_more(sqlite_shop: Any, database: Path) -> None:
    canaries = [b"+919800012345", b"ACME-7Q2P", b"Riya"]
    for _ in range(3):
        await sqlite_shop.add(recipient="+919800012345")
    await sqlite_shop.add_many(50, deadline_at=sqlite_shop.now)
    await sqlite_shop.accept(await sqlite_shop.claim_one())
    assert find_bytes(database.parent, canaries), "else this test could not fail"
    await sqlite_shop.store.sweep(sqlite_shop.now + 90_000_000, 0)
    await sqlite_shop.store.wipe_payloads(sqlite_shop.now + 90_000_001)
    assert find_bytes(database.parent, canaries) == {}
