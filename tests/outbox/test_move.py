"""One statement changes a delivery's state, and what it tells and counts is what happened."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.delivery.policy import Cause
from app.delivery.transitions import Move
from app.errors import StoreError
from app.model.delivery import Reason, State
from app.outbox import move as moving
from app.outbox.move import move
from tests.outbox.methods import SqliteOutbox
from tests.outbox.recording_triggers import find_faults, record_states

MINUTE = 60_000
APP = Path(__file__).parents[2] / "app"
CHANGES_STATE = re.compile(r"UPDATE\s+deliveries\b(?:(?!WHERE).)*?\bstate\s*=", re.DOTALL)


def test_no_other_module_changes_a_state() -> None:
    found = {path.name: CHANGES_STATE.findall(path.read_text()) for path in sorted(APP.rglob("*.py"))}
    assert [name for name, statements in found.items() if statements] == ["move.py"]


@pytest.mark.parametrize(
    ("statement", "is_found"),
    [
        ("UPDATE deliveries SET due_at = 1, state = 'dead' WHERE seq = 1", True),
        ("UPDATE deliveries\n    SET receipt = :status,\n    state='accepted' WHERE seq = 1", True),
        ("UPDATE deliveries SET due_at = 1 WHERE state = 'dead'", False),
    ],
)
def test_control_a_statement_that_changes_a_state_is_found(statement: str, is_found: bool) -> None:
    assert bool(CHANGES_STATE.search(statement)) == is_found


def test_the_product_has_no_trigger(open_sqlite: Callable[..., SqliteOutbox], database: Path) -> None:
    open_sqlite()
    db = sqlite3.connect(database)
    assert db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall() == []
    db.close()


async def test_a_delivery_that_is_elsewhere_is_not_moved(shop: Any) -> None:
    await shop.add()
    await shop.claim_one()
    stale = Move(1, "coupon-ready", "gallabox", State.PENDING, State.EXPIRED, Cause.DEADLINE, 0)
    with pytest.raises(StoreError, match="somebody else"):
        await shop.store.write(lambda tx: move(tx, [stale]))
    assert await shop.list_ids(state="sending")


async def test_a_job_that_fails_counts_nothing(shop: Any) -> None:
    def fail(tx: Any) -> None:
        (row,) = tx.rows("SELECT seq FROM deliveries")
        move(tx, [Move(row.seq, "coupon-ready", "gallabox", State.PENDING, State.EXPIRED, Cause.DEADLINE, 0)])
        raise LookupError

    await shop.add()
    before = await shop.store.count_reached()
    with pytest.raises(LookupError):
        await shop.store.write(fail)
    assert await shop.store.count_reached() == before


async def find_broken(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> list[str]:
    store = open_sqlite()
    record_states(store._writer._db)
    shop = wrap(store)
    await shop.add()
    await shop.accept(await shop.claim_one())
    await shop.add()
    await shop.retry_later(await shop.claim_one(), MINUTE, why=Reason.UNAVAILABLE)
    return await store._writer.run_alone(find_faults)


async def test_a_sound_store_tells_and_counts_what_was_recorded(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    assert await find_broken(open_sqlite, wrap) == []


async def test_control_a_move_that_is_not_told_is_noticed(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Move, "is_told", property(lambda _: False))
    assert await find_broken(open_sqlite, wrap) != []


async def test_control_a_usual_step_that_is_not_taken_is_noticed(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_OPEN_FIRST", moving._OPEN_FIRST.replace("steps = 2,", ""))
    assert await find_broken(open_sqlite, wrap) != []


async def test_control_what_goes_another_way_and_is_not_written_out_is_noticed(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_WRITE_OUT", ())
    assert await find_broken(open_sqlite, wrap) != []


async def test_control_a_move_that_is_not_counted_is_noticed(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.outbox.sqlite.store.write_counts", lambda _: None)
    assert await find_broken(open_sqlite, wrap) != []
