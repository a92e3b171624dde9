"""What a replay costs in a large store, and the known-bad controls of its promises."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.model.delivery import State
from app.model.event import Event
from app.outbox import add as adding
from app.outbox import read as reading
from app.outbox import replay as replaying
from app.outbox.replay import EventQuery, Plan
from app.outbox.sqlite.tx import SqliteTx
from tests.outbox.methods import SqliteOutbox

MANY = 20_000
CROWD = """
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)
INSERT INTO events (id, source, topic, received_at, body) SELECT 'crowd-' || n, 'nector', 'a', ?, x'7b7d' FROM counted
"""
ENDED = """
INSERT INTO deliveries (id, event_seq, route, provider, template, rank, recipient, state, detail, deadline_at,
    created_at, updated_at, on_unknown, config_hash)
SELECT id || '-d', seq, 'a', 'gallabox', 't', 0, '', ?, '', received_at, received_at, received_at, 'hold', ''
FROM events WHERE id LIKE 'crowd-%'
"""


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite())


async def fill(shop: Any, state: str) -> None:
    """Add so many events with a delivery each."""

    def run(db: SqliteTx) -> None:
        db.execute(CROWD, (MANY, shop.now))
        db.execute(ENDED, (state,))

    await shop.store._writer.run(run)


async def count_steps(shop: Any, work: Callable[[SqliteTx], Any]) -> int:
    """Return how many tens of steps of SQLite's machine some reading took."""

    def run(tx: SqliteTx) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        tx.db.set_progress_handler(count, 10)
        try:
            work(tx)
        finally:
            tx.db.set_progress_handler(None, 0)
        return steps

    return int(await shop.store.read(run))


@pytest.mark.parametrize("state", ["dead", "unknown", "expired", "shadow"])
async def test_finding_and_counting_a_rare_state_passes_over_no_crowd(shop: Any, state: str) -> None:
    await shop.add(state=State(state))
    await fill(shop, "accepted")
    assert await count_steps(shop, lambda db: replaying.find_events(db, EventQuery(state=state))) < 60
    assert await count_steps(shop, lambda db: reading.count_reasons(db, state)) < 60


@pytest.mark.parametrize(
    "wanted",
    [
        {"topic": "none"},
        {"state": "unrouted"},
        {"state": "pending"},
        {"route": "none"},
        {"since": 2**50},
        {"state": "dead", "route": "none"},
    ],
)
async def test_a_page_looks_at_a_bounded_number_however_few_it_finds(shop: Any, wanted: dict[str, Any]) -> None:
    await fill(shop, "dead")
    asked = EventQuery(**wanted)
    found: list[Any] = []
    steps = await count_steps(shop, lambda db: found.append(replaying.find_events(db, asked)))
    assert found[0].events == ()
    assert found[0].next_after is not None
    assert steps < 20 * replaying.EXAMINE_LIMIT / 10 * 2


async def test_a_page_without_a_bound_would_be_noticed(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "EXAMINE_LIMIT", 10 * MANY)
    await fill(shop, "dead")
    asked = EventQuery(state="unrouted")
    assert await count_steps(shop, lambda db: replaying.find_events(db, asked)) > 20 * 2_000 / 10 * 2


async def apply_twice(shop: Any) -> int:
    """Apply one plan by two at once; return how many messages that makes."""
    event: Event = shop.event()
    await shop.store.add_event(event, [])
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    new = [shop.delivery(event, route=route, template=route, created_at=shop.now + 1) for route in ("a", "b")]
    await asyncio.gather(*[shop.store.apply_plan("plan-1", [each], shop.now + 1) for each in new])
    return len(await shop.list_ids())


async def test_two_who_apply_a_plan_at_once_make_its_messages_once(shop: Any) -> None:
    assert await apply_twice(shop) == 1


async def test_a_plan_that_is_not_marked_would_be_applied_twice(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        replaying, "_MARK_APPLIED", replaying._MARK_APPLIED.replace("applied_at IS NULL", ":now IS NOT NULL")
    )
    assert await apply_twice(shop) == 2


def read_killed(path: Path) -> tuple[bool, int]:
    """Return whether a killed process had applied the plan, and how many deliveries it left."""
    db = sqlite3.connect(path)
    try:
        applied = db.execute("SELECT applied_at FROM plans").fetchone()[0]
        return applied is not None, db.execute("SELECT count(*) FROM deliveries").fetchone()[0]
    finally:
        db.close()


def commit_between(tx: SqliteTx, plan_id: str, deliveries: Sequence[Any]) -> Any:
    """The control: first the deliveries, then the mark."""
    event = tx.execute("SELECT seq FROM events").fetchone()
    for each in deliveries:
        adding.add_delivery(tx, event[0], adding.freeze_delivery(each, tx.people_key), State.PENDING, None)
    tx.execute("COMMIT")
    tx.execute("BEGIN IMMEDIATE")
    tx.run(replaying._MARK_APPLIED, now=tx.now, id=plan_id, since=0)


@pytest.mark.parametrize("honest", [True, False])
async def test_a_kill_leaves_a_plan_applied_or_not_and_a_commit_between_would_be_noticed(
    shop: Any, keep_kills: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    event: Event = shop.event()
    await shop.store.add_event(event, [])
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    new = [shop.delivery(event, route=route, template=route, created_at=shop.now + 1) for route in ("a", "b")]
    if not honest:
        monkeypatch.setattr(replaying, "apply_plan", commit_between)
    kills = await keep_kills(shop.store, shop.store.apply_plan("plan-1", new, shop.now + 1))
    found = {read_killed(path) for path in kills}
    assert (found == {(False, 0), (True, 2)}) == honest
    assert ((False, 2) in found) != honest


async def test_without_the_look_at_what_is_there_a_replay_would_double(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    event: Event = shop.event()
    await shop.store.add_event(event, [shop.delivery(event, state=State.ACCEPTED)])
    monkeypatch.setattr(replaying, "find_obstacle", lambda *_: None)
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    applied = await shop.store.apply_plan("plan-1", [shop.delivery(event, created_at=shop.now + 1)], shop.now + 1)
    assert applied is not None
    assert len(applied.deliveries) == 1


async def test_a_key_from_before_keys_had_owners_counts_as_anothers(shop: Any) -> None:
    key = {"recipient": "+919800000001", "dedup_key": "ACME-7Q2P"}
    event: Event = shop.event()
    await shop.store.add_event(event, [shop.delivery(event, **key)])
    again = shop.delivery(event, **key, created_at=shop.now + 1)
    assert not await shop.store.find_duplicates([again], shop.now)
    await shop.store._writer.run(lambda db: db.execute("UPDATE dedup_keys SET event_seq = NULL").rowcount)
    assert set(await shop.store.find_duplicates([again], shop.now)) == {again.id}
