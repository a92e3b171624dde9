"""Backups: one consistent, marked, checked copy; and a restored one sends nothing by itself."""

# ruff: noqa: ASYNC220, ASYNC251 - nothing else runs in the loop that a blocking call could delay

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreBroken, StoreError
from app.model.delivery import Reason, State
from app.model.message import ReceiptStatus
from app.outbox.replay import Plan
from app.outbox.sqlite import backup
from app.outbox.sqlite.backup import back_up
from tests.outbox.methods import SqliteOutbox

DAY = 86_400_000
SETTLER = """
import asyncio, sys
from pathlib import Path
from app.outbox.close import settle_restored
from app.outbox.sqlite.store import SqliteStore

async def settle():
    store = SqliteStore(Path(sys.argv[1]), lambda: 1_790_000_000_001)
    print("open", flush=True)
    print(await store.write(settle_restored), flush=True)

asyncio.run(settle())
"""


@pytest.fixture
def shop(open_sqlite: Callable[..., SqliteOutbox], wrap: Callable[..., Any]) -> Any:
    return wrap(open_sqlite(recipient_gap_ms=0))


def restore(copy: Path, database: Path) -> None:
    """Put a copy back as the runbook says."""
    for name in ("relay.db", "relay.db-wal", "relay.db-shm"):
        database.with_name(name).unlink(missing_ok=True)
    shutil.copy(copy, database)


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy_holds_what_was_committed_and_is_for_us_alone(shop: Any, database: Path, tmp_path: Path) -> None:
    ids = await shop.add_many(50)
    (tmp_path / "safe").mkdir()
    copy = tmp_path / "safe" / "copy.db"
    done = await asyncio.to_thread(back_up, database, copy, shop.now)
    assert (done.events, done.deliveries, done.size) == (1, 50, copy.stat().st_size)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert list_files(copy.parent) == ["copy.db"]
    with sqlite3.connect(copy) as db:
        marks = db.execute("SELECT name, at FROM marks").fetchall()
        assert marks == [("backup", shop.now), ("former", 0), ("traces", 1)]
        assert {row[0] for row in db.execute("SELECT id FROM deliveries")} == set(ids)
    db.close()
    assert await shop.store.settle_restored(shop.now) is None, "the outbox itself is not marked"


async def test_a_stopped_or_killed_relays_file_is_copied_too_and_left_as_it_is(
    shop: Any, database: Path, tmp_path: Path
) -> None:
    await shop.add_many(10)
    shutil.copytree(database.parent, tmp_path / "killed")
    await shop.store.close()
    for source in (database, tmp_path / "killed" / "relay.db"):
        log = source.with_name("relay.db-wal")
        before = (source.read_bytes(), log.read_bytes() if log.exists() else b"")
        assert back_up(source, tmp_path / f"{source.parent.name}.db", shop.now).deliveries == 10
        assert (source.read_bytes(), log.read_bytes() if log.exists() else b"") == before


async def test_a_copy_of_a_busy_outbox_is_one_moment(shop: Any, database: Path, tmp_path: Path) -> None:
    async def keep_busy() -> None:
        while True:
            await shop.add_many(3)
            for attempt in await shop.claim():
                await shop.accept(attempt)

    busy = [asyncio.create_task(keep_busy()) for _ in range(5)]
    await asyncio.sleep(0.1)
    for number in range(5):
        copy = tmp_path / f"{number}.db"
        done = await asyncio.to_thread(back_up, database, copy, shop.now)
        assert done.deliveries == 3 * done.events
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


def build_trouble(kind: str, folder: Path) -> tuple[Path, Path]:
    """Return a source and a target that will not do."""
    source, target = folder / "data" / "relay.db", folder / "copy.db"
    if kind == "no source":
        source = folder / "none.db"
    elif kind == "not a database":
        source = folder / "text.db"
        source.write_text("text")
    elif kind == "foreign":
        source = folder / "foreign.db"
        db = sqlite3.connect(source)
        db.execute("CREATE TABLE a (b)")
        db.close()
    elif kind == "no folder":
        target = folder / "none" / "copy.db"
    elif kind == "a file for a folder":
        (folder / "file").write_text("")
        target = folder / "file" / "copy.db"
    elif kind == "there already":
        target.write_text("precious")
    elif kind == "another runs":
        (folder / "copy.db.part").write_text("")
    return source, target


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no source", "is not there; RELAY_DATABASE_URL must name"),
        ("not a database", "is not a database"),
        ("foreign", "not one of nector-relay"),
        ("no folder", "No such file or directory"),
        ("a file for a folder", "Not a directory"),
        ("there already", "overwrites nothing"),
        ("another runs", "another backup runs, or one was killed"),
    ],
)
async def test_what_cannot_be_copied_is_said_so(kind: str, said: str, shop: Any, tmp_path: Path) -> None:
    await shop.add()
    source, target = build_trouble(kind, tmp_path)
    with pytest.raises(StoreError, match=said):
        back_up(source, target, shop.now)
    assert not target.exists() or target.read_text() == "precious"
    assert kind == "another runs" or not list(tmp_path.glob("*.part*"))


async def test_a_full_disk_and_a_damaged_copy_leave_nothing(
    shop: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.add()
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    damaged = StoreBroken("is damaged")
    for error, said in ((full, "has no room for the backup"), (damaged, "is damaged")):

        def fail(_: Any, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(backup, "check_damage", fail)
            with pytest.raises(StoreError, match=said):
                back_up(database, tmp_path / "copy.db", shop.now)
        assert list_files(tmp_path) == ["data"]


async def test_progress_is_told(shop: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.add_many(300)
    monkeypatch.setattr(backup, "STEPS_BETWEEN_REPORTS", 100)
    told: list[tuple[int, int]] = []
    back_up(database, tmp_path / "copy.db", shop.now, lambda done, whole: told.append((done, whole)))
    assert told
    assert told == sorted(told)


# -- put back -------------------------------------------------------------------------------------


async def fill(shop: Any) -> dict[str, str]:
    """Bring a delivery into each state; return their ids."""
    ids: dict[str, str] = {}
    far = {"deadline_at": shop.now + 20 * DAY}
    for name in ("accepted", "sending", "reported", "unknown", "waiting"):
        ids[name] = await shop.add(on_unknown="resend", **far)
        attempt = await shop.claim_one()
        if name == "accepted":
            await shop.accept(attempt)
        elif name == "reported":
            await shop.receive(ReceiptStatus.SENT, ids[name])
        elif name in ("unknown", "waiting"):
            await shop.leave_unknown(attempt, Reason.TIMED_OUT, 1_000 if name == "waiting" else None)
    ids["pending"] = await shop.add(**far)
    ids["held"] = await shop.add(route="held", **far)
    await shop.store.put_hold("route:held", "by_hand", shop.now)
    for state in (State.DEAD, State.EXPIRED, State.SHADOW, State.SUPPRESSED):
        ids[state.value] = await shop.add(state=state)
    await shop.store.save_plan(Plan("plan-1", shop.now, "hash", "[]"))
    return ids


async def test_a_restored_copy_stops_all_that_had_not_ended_in_it(
    shop: Any, database: Path, tmp_path: Path, wrap: Callable[..., Any]
) -> None:
    ids = await fill(shop)
    back_up(database, tmp_path / "copy.db", shop.now)
    await shop.store.close()
    restore(tmp_path / "copy.db", database)
    shop = wrap(SqliteOutbox(database, recipient_gap_ms=0))
    assert await shop.store.settle_restored(shop.now + 5) == 4
    assert await shop.store.recover_open_attempts(shop.now + 6, 0) == 0
    shown = {name: (await shop.show(id_))[:2] for name, id_ in ids.items()}
    stopped = ("unknown", "restored")
    assert shown == {
        "accepted": ("accepted", None), "sending": stopped, "reported": ("accepted", None), "waiting": stopped,
        "unknown": ("unknown", "timed_out"), "pending": stopped, "held": stopped, "dead": ("dead", None),
        "expired": ("expired", None), "shadow": ("shadow", None), "suppressed": ("suppressed", None),
    }  # fmt: skip
    assert (await shop.timeline(ids["pending"]))[-1] == ("unknown", "restored")
    assert (await shop.timeline(ids["waiting"]))[-1] == ("unknown", "restored")
    (attempt,) = (await shop.read(ids["sending"]))["attempt_list"]
    assert (attempt["outcome"], attempt["reason"]) == ("uncertain", "restored")
    await shop.store.release_hold("route:held", shop.now)
    await shop.store.sweep(shop.now + DAY, 0)
    assert await shop.claim(after_ms=DAY) == [], "none goes out by itself"
    assert await shop.store.read_plan("plan-1") is None
    assert await shop.store.settle_restored(shop.now) is None, "the mark is gone"
    assert await shop.store.retry_deliveries([ids["pending"]], shop.now + DAY) == [ids["pending"]]
    assert len(await shop.claim(after_ms=DAY)) == 1, "by hand it does"
    await shop.store.close()


async def test_a_start_that_is_killed_settles_all_or_nothing(shop: Any, database: Path, tmp_path: Path) -> None:
    await shop.add_many(3_000)
    back_up(database, tmp_path / "copy.db", shop.now)
    await shop.store.close()
    seen = set()
    for step in range(6):
        restore(tmp_path / "copy.db", database)
        with subprocess.Popen(
            [sys.executable, "-c", SETTLER, str(database)], stdout=subprocess.PIPE, text=True
        ) as settler:
            assert settler.stdout is not None
            assert settler.stdout.readline() == "open\n"
            time.sleep(step * 0.012)
            settler.send_signal(signal.SIGKILL)
        with sqlite3.connect(database) as db:
            marked = db.execute("SELECT count(*) FROM marks").fetchone()[0]
            states = dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())
        db.close()
        assert states == ({"pending": 3_000} if marked else {"unknown": 3_000})
        seen.add(bool(marked))
    print(f"figures: killed while settling a restored copy: 6 times, marks left in between: {sorted(seen)}")  # noqa: T201  # for the release notes


async def test_a_restored_copy_beside_the_log_of_the_file_it_replaced_is_refused(
    shop: Any, database: Path, tmp_path: Path
) -> None:
    await shop.add_many(10)
    back_up(database, tmp_path / "copy.db", shop.now)
    await shop.add_many(200)
    log = database.with_name("relay.db-wal")
    left = log.read_bytes()
    await shop.store.close()
    restore(tmp_path / "copy.db", database)
    log.write_bytes(left)
    with pytest.raises(StoreBroken, match="is the log of another file"):
        SqliteOutbox(database)
    assert database.read_bytes() == (tmp_path / "copy.db").read_bytes()
    assert log.read_bytes() == left
    # The known-bad control: SQLite itself would take that log for this file's.
    db = sqlite3.connect(database)
    with suppress(sqlite3.DatabaseError):  # "malformed", mostly
        assert db.execute("SELECT count(*) FROM deliveries").fetchone()[0] != 10
    db.close()
