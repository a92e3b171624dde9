"""Opening the SQLite file: what is refused stays untouched."""

# ruff: noqa: ASYNC220 - nothing else runs in the loop that a blocking call could delay

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreBroken, StoreInUse
from app.outbox.sqlite import file as opening
from app.outbox.sqlite import migrations
from app.outbox.sqlite.sidecars import ProcessLock
from tests.outbox.methods import SqliteOutbox

HOLDER = """
import sys
from pathlib import Path
from app.outbox.sqlite.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


async def fill_and_close(database: Path, wrap: Callable[..., Any], count: int = 300) -> None:
    shop = wrap(SqliteOutbox(database))
    await shop.add_many(count)
    await shop.store.close()


async def test_the_files_are_for_us_alone(open_sqlite: Callable[..., SqliteOutbox], database: Path) -> None:
    store = open_sqlite()
    assert await store.can_commit()
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.parent.iterdir()}
    assert files == dict.fromkeys(
        ["relay.db", "relay.db-wal", "relay.db-shm", "relay.db.lock", "relay.db.reserve", ".relay.db.made"], 0o600
    )
    assert database.with_name("relay.db.reserve").stat().st_blocks * 512 >= 1024 * 1024
    assert store.broken is None


async def test_a_clean_close_leaves_no_log(open_sqlite: Callable[..., SqliteOutbox], database: Path) -> None:
    store = open_sqlite()
    await store.can_commit()
    await store.close()
    assert not database.with_name("relay.db-wal").exists()


async def test_the_settings_that_durability_hangs_on_are_set(database: Path) -> None:
    opening.prepare_place(database)
    lock = ProcessLock(database)
    db = opening.open_writing(database, lock)
    found = {
        name: db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in (
            "journal_mode",
            "synchronous",
            "busy_timeout",
            "secure_delete",
            "mmap_size",
            "page_size",
            "user_version",
        )
    }
    db.close()
    lock.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 3_000,
        "secure_delete": 1,
        "mmap_size": 0,
        "page_size": 2_048,
        "user_version": len(migrations.MIGRATIONS),
    }


async def test_a_reading_connection_cannot_write(open_sqlite: Callable[..., SqliteOutbox], database: Path) -> None:
    open_sqlite()
    db = opening.open_reading(database)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM deliveries")
    db.close()


async def test_a_second_process_is_refused_and_told_who_has_it(
    database: Path, open_sqlite: Callable[..., SqliteOutbox]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreInUse, match=f"process {holder.pid} "):
            open_sqlite()
        holder.kill()
        holder.wait()
        assert await open_sqlite().can_commit(), "the lock of a dead process stands in nobody's way"


async def test_the_lock_is_free_after_a_close_and_after_a_refused_start(
    open_sqlite: Callable[..., SqliteOutbox], database: Path
) -> None:
    store = open_sqlite()
    with pytest.raises(StoreInUse, match=f"process {os.getpid()} "):
        open_sqlite()
    await store.close()
    whole = database.read_bytes()
    database.write_bytes(b"x" * 4096)
    with pytest.raises(StoreBroken):
        open_sqlite()
    database.write_bytes(whole)
    assert await open_sqlite().can_commit()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"not a database\n" * 400,
    "header zeroed": lambda data: bytes(100) + data[100:],
    "magic flipped": lambda data: b"s" + data[1:],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut within a page": lambda data: data[:-1000],
    "pages zeroed": lambda data: data[:8192] + bytes(len(data) - 8192),
    "pages of noise": lambda data: data[:20480] + os.urandom(len(data) - 20480),
    "only a header": lambda data: data[:100],
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_refused_and_left_as_it_is(
    damage: str, database: Path, wrap: Callable[..., Any]
) -> None:
    await fill_and_close(database, wrap)
    database.write_bytes(DAMAGES[damage](database.read_bytes()))
    before = database.read_bytes()
    with pytest.raises(StoreBroken, match=r"relay\.db: "):
        SqliteOutbox(database)
    assert database.read_bytes() == before


async def test_the_undamaged_file_is_opened(database: Path, wrap: Callable[..., Any]) -> None:
    await fill_and_close(database, wrap)
    database.write_bytes(database.read_bytes())
    shop = wrap(SqliteOutbox(database))
    assert len(await shop.claim(1_000)) == 300
    await shop.store.close()


async def test_a_foreign_database_is_refused_and_left_as_it_is(database: Path) -> None:
    database.parent.mkdir()
    db = sqlite3.connect(database)
    db.execute("CREATE TABLE orders (id)")
    db.commit()
    db.close()
    before = database.read_bytes()
    with pytest.raises(StoreBroken, match="not one of nector-relay"):
        SqliteOutbox(database)
    assert database.read_bytes() == before


async def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(
    database: Path, wrap: Callable[..., Any]
) -> None:
    await fill_and_close(database, wrap, 1)
    db = sqlite3.connect(database)
    db.execute(f"PRAGMA user_version = {len(migrations.MIGRATIONS) + 1}")
    db.close()
    before = database.read_bytes()
    with pytest.raises(StoreBroken, match="newer nector-relay"):
        SqliteOutbox(database)
    assert database.read_bytes() == before


async def test_a_log_without_its_database_is_refused(database: Path) -> None:
    database.parent.mkdir()
    database.with_name("relay.db-wal").write_bytes(b"pages")
    with pytest.raises(StoreBroken, match="is missing, but its log"):
        SqliteOutbox(database)
    assert not database.exists()


async def test_a_start_that_was_killed_while_creating_is_forgotten(
    database: Path, open_sqlite: Callable[..., SqliteOutbox]
) -> None:
    database.parent.mkdir()
    database.with_name("relay.db.new").write_bytes(b"half a database")
    assert await open_sqlite().can_commit()
    assert not database.with_name("relay.db.new").exists()


@pytest.mark.parametrize("place", ["a folder", "a folder that is a file", "a file nobody may write"])
async def test_a_place_that_cannot_be_used_is_said_so(place: str, tmp_path: Path, monkeypatch: Any) -> None:
    database = tmp_path / "data" / "relay.db"
    if place == "a folder":
        database.mkdir(parents=True)
    elif place == "a folder that is a file":
        database.parent.write_text("")
    else:
        database.parent.mkdir()
        database.write_bytes(b"SQLite format 3\0")
        # root may write anything, so the answer of the system is given here
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreBroken, match="data"):
        SqliteOutbox(database)


async def test_a_migration_that_fails_leaves_the_version_before_it(
    database: Path, wrap: Callable[..., Any], monkeypatch: Any
) -> None:
    await fill_and_close(database, wrap, 3)
    broken = (*migrations.MIGRATIONS, "CREATE TABLE extra (id INTEGER);\nCREATE TABLE extra (id INTEGER);\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", broken)
        with pytest.raises(StoreBroken):
            SqliteOutbox(database)
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS[:-1], "CREATE TABLE extra (id INTEGER);\n"))
    shop = wrap(SqliteOutbox(database))
    assert len(await shop.claim()) == 3
    await shop.store.close()
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "CREATE TABLE extra (id INTEGER);\n"))
        await SqliteOutbox(database).close()
    with pytest.raises(StoreBroken, match="newer"):
        SqliteOutbox(database)


def test_an_older_sqlite_gets_the_same_tables_without_strict_types() -> None:
    script = migrations.MIGRATIONS[0]
    old, new = opening.make_strict(script, (3, 34, 1)), opening.make_strict(script, (3, 40, 1))
    for made in (old, new):
        db = sqlite3.connect(":memory:")
        for statement in opening.split_statements(made):
            db.execute(statement)
        db.close()
    assert "STRICT" not in old
    assert new.count("STRICT") == script.count("CREATE TABLE")


def test_every_statement_of_the_schema_is_run() -> None:
    statements = opening.split_statements(migrations.MIGRATIONS[0])
    assert "".join(statements).split() == migrations.MIGRATIONS[0].split()


TORN = bytes(range(256)) * 2  # what a sector may hold that the power was cut in


async def leave_behind(database: Path, wrap: Callable[..., Any], folder: Path, *, log: bool) -> Path:
    """Return a copy of an outbox that was killed, whose first sector was torn while its log was written back."""
    shop = wrap(SqliteOutbox(database))
    await shop.add_many(200)
    folder.mkdir()
    copy = folder / database.name
    for ending in ("", "-wal") if log else ("",):
        shutil.copy(f"{database}{ending}", folder)
    await shop.store.close()
    copy.write_bytes(TORN + copy.read_bytes()[len(TORN) :])
    return copy


async def test_a_first_page_that_a_power_cut_has_torn_is_taken_from_the_log(
    database: Path, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    copy = await leave_behind(database, wrap, tmp_path / "killed", log=True)
    store = SqliteOutbox(copy)
    assert sum((await store.count_deliveries()).values()) == 200
    assert await store.can_commit()
    await store.close()
    assert copy.read_bytes().startswith(b"SQLite format 3\0"), "mended when the log was written back"


async def test_without_a_log_it_is_no_database_and_is_left_as_it_is(
    database: Path, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    copy = await leave_behind(database, wrap, tmp_path / "killed", log=False)
    before = copy.read_bytes()
    with pytest.raises(StoreBroken, match="is not an SQLite database"):
        SqliteOutbox(copy)
    assert copy.read_bytes() == before


async def test_a_log_makes_no_database_of_what_is_none(
    database: Path, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    copy = await leave_behind(database, wrap, tmp_path / "killed", log=True)
    log = copy.with_name(f"{copy.name}-wal")
    log.write_bytes(TORN * 20)
    before = copy.read_bytes(), log.read_bytes()
    with pytest.raises(StoreBroken, match="is not a database"):
        SqliteOutbox(copy)
    assert (copy.read_bytes(), log.read_bytes()) == before
