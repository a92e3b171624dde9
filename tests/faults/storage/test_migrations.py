"""A database of an earlier release: every row survives the way to today's schema, and a kill at any point of it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.errors import StoreError
from app.model.delivery import Delivery, State
from app.model.message import Message, Variable
from app.outbox.add import freeze_delivery
from app.outbox.sqlite import file as opening
from app.outbox.sqlite import migrations
from app.outbox.sqlite.backup import back_up
from app.outbox.sqlite.file import open_writing
from app.outbox.sqlite.sidecars import ProcessLock
from tests.outbox.methods import SqliteOutbox

ROOT = Path(__file__).parents[3]
NOW = 1_790_000_000_000
DAY = 86_400_000
# The script with which the first release made its files. A migration that was released is never changed.
VERSION_1 = "8a4857a1cae355b01cd0bfff13e52415"


def add_delivery(db: sqlite3.Connection, number: int, state: str, **more: Any) -> int:
    """Add an event with one delivery, as the first release did."""
    recipient = f"+9198000{number:05}"
    message = Message(recipient, "coupon_ready", "Riya", variables=(Variable("1", "Riya"),))
    frozen = freeze_delivery(
        Delivery(f"dlv-{number}", f"evt-{number}", "coupon-ready", "gallabox", "coupon_ready", recipient, message,
                 State(state), None, NOW, NOW, NOW + DAY),
        b"key",
    )  # fmt: skip
    row = {
        "id": f"dlv-{number}", "event_seq": number, "route": "coupon-ready", "provider": "gallabox",
        "template": "coupon_ready", "rank": 0, "recipient": recipient, "message": frozen.message,
        "checksum": frozen.checksum, "state": state, "detail": "", "deadline_at": NOW + DAY, "created_at": NOW,
        "updated_at": NOW, "on_unknown": "hold", "config_hash": "abc", "due_at": NOW, **more,
    }  # fmt: skip
    event = (f"evt-{number}", "nector", f"source-{number}", "coupon_create", NOW, b"{}")
    db.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)", event)
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    return db.execute(f"INSERT INTO deliveries ({names}) VALUES ({marks})", tuple(row.values())).lastrowid or 0  # noqa: S608  # our own names


def build_version_1(path: Path) -> None:
    """Make a file of the first release with rows in every table, as a killed relay left it: half of it in its log."""
    made = path.with_name("made.db")
    db = sqlite3.connect(made, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    opening.create_schema(db)
    for statement in opening.split_statements(
        opening.make_strict(migrations.MIGRATIONS[0], sqlite3.sqlite_version_info)
    ):
        db.execute(statement)
    db.execute("PRAGMA user_version = 1")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.execute("BEGIN")
    for number in range(1, 101):
        add_delivery(db, number, "pending")
    sending = add_delivery(db, 101, "sending", attempts=1, lease_until=NOW + 90_000, due_at=None)
    accepted = add_delivery(db, 102, "accepted", attempts=1, receipt="read", provider_message_id="wamid-1", due_at=None)
    unknown = add_delivery(db, 103, "unknown", attempts=1, reason="timed_out", due_at=None)
    add_delivery(db, 104, "dead", reason="variable_missing", message=None, checksum=None, due_at=None)
    db.execute("INSERT INTO attempts VALUES (?, 1, ?, NULL, NULL, NULL, NULL, NULL)", (sending, NOW))
    for seq, outcome in ((accepted, "accepted"), (unknown, "uncertain")):
        db.execute("INSERT INTO attempts VALUES (?, 1, ?, ?, ?, NULL, '', 1)", (seq, NOW, NOW + 5, outcome))
    db.execute("INSERT INTO receipts VALUES (?, 'read', ?, ?, NULL, '')", (accepted, NOW, NOW))
    db.execute("INSERT INTO early_receipts VALUES ('gallabox', 'wamid-9', '', 'sent', NULL, ?, NULL, '')", (NOW,))
    db.execute("INSERT INTO dedup_keys VALUES (x'00ff', ?)", (NOW,))
    db.execute("INSERT INTO recipient_turns VALUES ('gallabox', '+919800000101', ?)", (NOW,))
    db.execute("INSERT INTO holds VALUES ('route:a', 'by_hand', ?, NULL, 0)", (NOW,))
    db.execute("INSERT INTO holds VALUES ('provider:b', 'balance_empty', ?, ?, 300000)", (NOW, NOW + 300_000))
    db.execute("COMMIT")
    for ending in ("", "-wal"):
        shutil.copy(f"{made}{ending}", f"{path}{ending}")
    db.close()
    made.unlink()


def list_columns(path: Path) -> dict[str, list[str]]:
    """Return the columns of every table."""
    with read(path) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}


def dump(path: Path, columns: dict[str, list[str]]) -> dict[str, list[Any]]:
    """Return every row of these columns."""
    with read(path) as db:
        return {
            table: db.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY {', '.join(names)}").fetchall()  # noqa: S608  # our own names
            for table, names in columns.items()
        }


class read:  # noqa: N801  # used as a word
    """A connection that closes at the end of its block."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.close()


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    build_version_1(tmp_path / "old" / "relay.db")
    return tmp_path / "old" / "relay.db"


def copy_file(old: Path, folder: Path) -> Path:
    """Return a fresh copy of the old file with its log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{old}{ending}", folder)
    return folder / old.name


def test_the_script_of_the_first_release_is_what_it_was() -> None:
    assert hashlib.sha256(migrations.MIGRATIONS[0].encode()).hexdigest()[:32] == VERSION_1


def test_the_old_file_holds_rows_in_every_table(old_file: Path) -> None:
    assert all(dump(old_file, list_columns(old_file)).values()), "else the tests below prove less than they say"


async def test_every_row_of_an_old_file_is_there_after_its_migration(old_file: Path, tmp_path: Path) -> None:
    path = copy_file(old_file, tmp_path / "new")
    columns = list_columns(old_file)
    before = dump(old_file, columns)
    make_current(path)
    assert dump(path, columns) == before
    with read(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(migrations.MIGRATIONS),)
        made, migrated = open_new(tmp_path / "fresh.db"), list_schema(db)
    assert migrated == made, "as if it had been made today"


def make_current(path: Path) -> None:
    """Make or migrate the database."""
    with closing(ProcessLock(path)) as lock:
        open_writing(path, lock).close()


def open_new(path: Path) -> dict[str, list[str]]:
    make_current(path)
    with read(path) as db:
        return list_schema(db)


def list_schema(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Return each table's columns with their types, each index and trigger."""
    names = db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name").fetchall()
    return {
        name: sorted(str(row[1:5]) for row in db.execute(f"PRAGMA table_info({name})")) if kind == "table" else [kind]
        for kind, name in names
    }


async def test_a_migrated_outbox_goes_on_where_the_old_one_stopped(old_file: Path, tmp_path: Path) -> None:
    store = SqliteOutbox(copy_file(old_file, tmp_path / "new"))
    assert await store.recover_open_attempts(NOW + 10, 900_000) == 1
    assert {hold.scope: hold.reason for hold in await store.list_holds()} == {
        "route:a": "by_hand",
        "provider:b": "balance_empty",
    }
    with read(tmp_path / "new" / "relay.db") as db:
        told = db.execute("SELECT scope, at, change, reason, by_hand FROM hold_changes ORDER BY scope").fetchall()
    assert told == [("provider:b", NOW, "set", "balance_empty", 0), ("route:a", NOW, "set", "by_hand", 1)]
    assert not await store.put_hold("route:a", "template_refused", NOW + 20, NOW + 30), "a person set it"
    claimed = await store.claim_due("gallabox", NOW + 10_000, 200, 30_000)
    assert len(claimed) == 100
    assert await store.claim_due("gallabox", NOW + 10_000, 200, 30_000) == []
    counts = await store.count_deliveries()
    assert counts["gallabox", State.UNKNOWN] == 2
    assert counts["gallabox", State.SENDING] == 100
    assert await store.forget_records(NOW + 90 * DAY) > 0
    await store.close()


async def test_an_old_file_is_not_backed_up_without_its_mark(old_file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is of an earlier release.* copy relay\.db and relay\.db-wal together"):
        back_up(old_file, tmp_path / "copy.db", NOW)
    assert not list(tmp_path.glob("copy.db*"))


# -- killed ---------------------------------------------------------------------------------------


def migrate(path: Path, disk: Any, how: str) -> int:
    """Migrate in a process of its own; return its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.storage.migrating", str(path), how], cwd=ROOT,
        env={**os.environ, **disk.environment}, check=False, capture_output=True,
    ).returncode  # fmt: skip


@pytest.fixture
def kill_migration(old_file: Path, tmp_path: Path, failing_disk: Callable[..., Any], disk_words: Any) -> Any:
    """Return a function that kills a migration at each of the given operations and yields the file each time."""
    path = tmp_path / "new" / "relay.db"
    disk = failing_disk(path)

    def count(how: str) -> int:
        copy_file(old_file, path.parent)
        disk.arm(disk_words.BOTH, 0)
        assert migrate(path, disk, how) == 0
        counted: int = disk.count
        return counted

    def kill(points: list[int], how: str = "careful") -> Iterator[Path]:
        for number, point in enumerate(points):
            copy_file(old_file, path.parent)
            disk.arm(disk_words.BOTH, disk_words.KILL if number % 2 else disk_words.TEAR, point, point + 1)
            assert migrate(path, disk, how) == -signal.SIGKILL
            yield path

    kill.count = count  # type: ignore[attr-defined]  # both belong together
    return kill


def judge_kills(kill_migration: Any, old_file: Path, points: list[int]) -> None:
    columns = list_columns(old_file)
    before = dump(old_file, columns)
    versions = []
    for path in kill_migration(points):
        assert dump(path, columns) == before
        with read(path) as db:
            versions.append(db.execute("PRAGMA user_version").fetchone()[0])
        make_current(path)
        assert dump(path, columns) == before
        with read(path) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] == len(migrations.MIGRATIONS)
    counted = {version: versions.count(version) for version in sorted(set(versions))}
    print(f"figures: migration killed {len(points)} times, schema found after it: {counted}; 0 rows lost")  # noqa: T201  # bench/long-runs.md quotes it


@pytest.mark.timeout(120)
def test_a_migration_that_is_killed_loses_nothing_and_goes_on(kill_migration: Any, old_file: Path, seed: int) -> None:
    print(f"seed={seed}")  # noqa: T201  # to be run again
    last = kill_migration.count("careful")
    points = sorted(random.Random(seed).sample(range(1, last + 1), 20))  # noqa: S311  # no secret
    judge_kills(kill_migration, old_file, points)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_migration_that_is_killed_at_every_write_loses_nothing_and_goes_on(
    kill_migration: Any, old_file: Path
) -> None:
    last = kill_migration.count("careful")
    judge_kills(kill_migration, old_file, ([*range(1, last + 1)] * 200)[: max(200, 2 * last - last % 2 + 1)])


@pytest.mark.timeout(120)
def test_a_migration_without_a_transaction_would_be_noticed(kill_migration: Any) -> None:
    """The known-bad control."""
    last = kill_migration.count("careless")
    failed = 0
    for path in kill_migration([*range(last // 4, last, max(last // 6, 1))], "careless"):
        try:
            make_current(path)
        except Exception:  # noqa: BLE001  # whatever it is, it does not open any more
            failed += 1
    assert failed
