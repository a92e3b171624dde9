"""A full disk: intake and claims are refused, outcomes are still recorded, and it recovers without a restart."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.delivery.decide import Decision
from app.errors import StoreFull
from app.model.delivery import Attempt, Reason, State, Uncertain
from app.outbox.sqlite.sidecars import Reserve
from tests.outbox.methods import SqliteOutbox

BIG = 60_000  # a body, so that few fill the disk


async def add_until_full(shop: Any) -> int:
    for count in range(10_000):
        event = shop.event(body=b"x" * BIG)
        try:
            await shop.store.add_event(event, [shop.delivery(event)])
        except StoreFull:
            return count
    raise AssertionError("the disk was never full")


async def leave_unknown(shop: Any, attempt: Attempt) -> bool:
    """Close with an outcome that surely needs new pages."""
    outcome = Uncertain(Reason.TIMED_OUT, detail="x" * 20_000)
    closed: bool = await shop.close(attempt, outcome, Decision(State.UNKNOWN, Reason.TIMED_OUT))
    return closed


async def limit_pages(store: Any, extra: int) -> None:
    """Let the database grow by `extra` pages at most: SQLite then answers as on a full disk."""

    def limit(db: sqlite3.Connection) -> None:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + extra}").fetchall()

    await store._writer.run_alone(limit)


@pytest.fixture
def give_space(monkeypatch: pytest.MonkeyPatch) -> Callable[[SqliteOutbox], None]:
    """Make the release of the reserve let the limited database grow again, as it does on a real disk."""

    def arrange(store: SqliteOutbox) -> None:
        release = Reserve.release

        def release_pages(reserve: Reserve) -> bool:
            released = release(reserve)
            if released:
                store._writer._db.execute("PRAGMA max_page_count = 1073741823").fetchall()
            return released

        monkeypatch.setattr(Reserve, "release", release_pages)

    return arrange


async def test_a_full_store_refuses_intake_and_goes_on_when_there_is_space(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_sqlite())
    await limit_pages(shop.store, 200)
    added = await add_until_full(shop)
    assert added > 5
    assert shop.store.broken is None
    await limit_pages(shop.store, 200)
    assert await shop.add()
    assert len(await shop.list_ids(limit=1_000)) == added + 1


async def test_one_that_does_not_fit_is_refused_and_the_others_of_its_batch_are_stored(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]
) -> None:
    shop = wrap(open_sqlite())
    await limit_pages(shop.store, 20)
    large = shop.event(body=b"x" * 1_000_000)
    outcomes: list[Any] = list(
        await asyncio.gather(shop.add(), shop.store.add_event(large, []), shop.add(), return_exceptions=True)
    )
    assert isinstance(outcomes.pop(1), StoreFull)
    assert sorted(await shop.list_ids()) == sorted(outcomes)


async def test_outcomes_are_recorded_through_the_reserve_and_nothing_else_is(
    open_sqlite: Callable[..., SqliteOutbox],
    wrap: Callable[..., Any],
    give_space: Callable[[SqliteOutbox], None],
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = wrap(open_sqlite())
    give_space(shop.store)
    await shop.add_many(40)
    attempts = await shop.claim(20)
    await limit_pages(shop.store, 0)
    await add_until_full(shop)
    assert database.with_name("relay.db.reserve").exists(), "only an outcome may use it"
    closing = [leave_unknown(shop, attempt) for attempt in attempts]
    assert await asyncio.gather(*closing) == [True] * 20
    assert not database.with_name("relay.db.reserve").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Reserve, "_fill", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        for refused in (shop.add(), shop.claim(), shop.store.put_hold("route:a", "by_hand", 0)):
            with pytest.raises(StoreFull):
                await refused
        assert not await shop.store.can_commit()
        assert await shop.store.recover_open_attempts(shop.now, 0) == 0, "outcomes are still recorded"
    assert len(await shop.claim()) == 10, "with space again, it goes on by itself"
    assert database.with_name("relay.db.reserve").stat().st_size == 1024 * 1024


async def test_without_a_reserve_outcomes_would_be_lost(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known-bad control of the test above."""
    shop = wrap(open_sqlite())
    await shop.add_many(40)
    attempts = await shop.claim(20)
    await limit_pages(shop.store, 0)
    await add_until_full(shop)
    monkeypatch.setattr(Reserve, "release", lambda _: False)
    closing = [leave_unknown(shop, attempt) for attempt in attempts]
    outcomes = await asyncio.gather(*closing, return_exceptions=True)
    assert any(isinstance(each, StoreFull) for each in outcomes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A real file system of 8 MiB; None where this machine lets nobody mount one (the tests above need none)."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    mounted = mount is not None and not subprocess.call(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], stderr=subprocess.DEVNULL
    )
    yield place if mounted else None
    if mounted:
        subprocess.check_call(["umount", "--lazy", str(place)])


async def test_a_really_full_disk_loses_no_outcome_and_recovers(
    small_disk: Path | None, tmp_path: Path, wrap: Callable[..., Any]
) -> None:
    if small_disk is None:
        small_disk = tmp_path / "disk"
    store = SqliteOutbox(small_disk / "relay.db")
    shop = wrap(store)
    if not small_disk.is_mount():
        await limit_pages(store, 400)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 * 1024 * 1024))  # more than the reserve takes back
    await shop.add_many(64)
    attempts = await shop.claim(64)
    added = await add_until_full(shop)
    for _ in range(20):
        await asyncio.gather(*[shop.add() for _ in range(20)], return_exceptions=True)
    outcomes = await asyncio.gather(*[shop.accept(attempt, f"wamid-{attempt.number}") for attempt in attempts])
    assert outcomes == [True] * 64
    ballast.unlink()
    if not small_disk.is_mount():
        await limit_pages(store, 400)
    assert await shop.store.can_commit()
    assert await shop.add()
    await store.close()
    reopened = wrap(SqliteOutbox(small_disk / "relay.db"))
    states = [(await reopened.show(attempt.delivery.id))[0] for attempt in attempts]
    assert states == ["accepted"] * 64
    assert len(await reopened.list_ids(limit=1_000)) >= 64 + added + 1
    await reopened.store.close()


async def test_a_store_that_opens_on_a_full_disk_still_records_outcomes(
    open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = wrap(open_sqlite())
    await shop.add()
    attempt = await shop.claim_one()
    await shop.store.close()
    monkeypatch.setattr(Reserve, "restore", lambda _: False)
    shop = wrap(open_sqlite())
    assert await shop.accept(attempt)
    with pytest.raises(StoreFull):
        await shop.add()


def test_a_reserve_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "none" / "reserve")
    assert not reserve.restore()
    assert not reserve.release()
    reserve = Reserve(tmp_path / "reserve", 10_000)
    assert reserve.restore()
    assert (tmp_path / "reserve").stat().st_size == 10_000
    assert reserve.release()
    assert not (tmp_path / "reserve").exists()
    assert not reserve.release()
