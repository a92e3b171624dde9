"""Makes an outbox of an earlier schema with a million finished deliveries, opens it, and tells how long that takes.

    python -m bench.migrating --folder DIR [--rows 1000000] [--version 3]

A tenth of the rows still has its body and message, as on a day when the rest was wiped. DIR needs a real disk and
some GB; the file and its copy are left there for a second look.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from app.outbox.sqlite import file as opening
from app.outbox.sqlite import migrations
from app.outbox.sqlite.store import SqliteStore

ROWS, VERSION = 1_000_000, 3
NOW = 1_790_000_000_000
BATCH = 50_000
SETTINGS = ("journal_mode = WAL", "synchronous = OFF", "cache_size = -200000")
# Two receipts and four rows of timeline each: claimed, accepted, sent, delivered.
FILL = (
    """
    WITH RECURSIVE counted (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1 + ?2 - 1)
    INSERT INTO events (seq, id, source, source_delivery_id, topic, received_at, body)
    SELECT n, printf('01990000-0000-7000-8000-%012d', n), 'nector', 'nector-' || n, 'coupon_create', ?3 + n,
        iif(n % 10 = 0, randomblob(600), NULL)
    FROM counted
    """,
    """
    INSERT INTO deliveries (seq, id, event_seq, route, provider, template, rank, recipient, message, checksum, state,
        detail, due_at, deadline_at, created_at, updated_at, on_unknown, config_hash, attempts, provider_message_id)
    SELECT seq, printf('01990000-0000-7000-9000-%012d', seq), seq, 'route-' || (seq % 20), 'gallabox', 'coupon_ready',
        0, iif(body IS NULL, '', printf('+9198000%05d', seq % 100)), iif(body IS NULL, NULL, randomblob(400)), NULL,
        'accepted', '', NULL, received_at + 86400000, received_at, received_at, 'hold', '0123456789abcdef', 1,
        lower(hex(randomblob(16)))
    FROM events WHERE seq BETWEEN ?1 AND ?1 + ?2 - 1 AND ?3 > 0
    """,
    """
    INSERT INTO attempts SELECT seq, 1, created_at, created_at + 300, 'accepted', NULL, '', 1
    FROM deliveries WHERE seq BETWEEN ?1 AND ?1 + ?2 - 1 AND ?3 > 0
    """,
    """
    INSERT OR REPLACE INTO timeline SELECT seq, n, created_at + n, iif(n < 4, 'state', 'receipt'),
        (CASE n WHEN 1 THEN 'pending' WHEN 2 THEN 'sending' WHEN 3 THEN 'accepted' ELSE 'sent' END), NULL, ''
    FROM deliveries, (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4)
    WHERE seq BETWEEN ?1 AND ?1 + ?2 - 1 AND ?3 > 0
    """,
    """
    INSERT INTO receipts SELECT seq, status, created_at, created_at, NULL, ''
    FROM deliveries, (SELECT 'sent' AS status UNION SELECT 'delivered')
    WHERE seq BETWEEN ?1 AND ?1 + ?2 - 1 AND ?3 > 0
    """,
)


def make_file(path: Path, rows: int, version: int) -> None:
    """Make an outbox as a release of this schema version left it when it stopped."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for setting in SETTINGS:
            db.execute(f"PRAGMA {setting}").fetchall()
        opening.create_schema(db)
        opening.add_functions(db)
        for script in migrations.MIGRATIONS[:version]:
            for statement in opening.split_statements(opening.make_strict(script, sqlite3.sqlite_version_info)):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        for first in range(1, rows + 1, BATCH):
            db.execute("BEGIN")
            for statement in FILL:
                db.execute(statement, (first, min(BATCH, rows + 1 - first), NOW))
            db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def take_time(work: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def main() -> None:
    """Make the file, then time what the first start of a new release does, and what a later start does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--version", type=int, default=VERSION)
    given = parser.parse_args()
    path = given.folder / f"million-{given.version}.db"
    made_s = take_time(lambda: make_file(path, given.rows, given.version))
    size_mb = path.stat().st_size / 1_000_000
    print(f"made: {given.rows} rows of version {given.version}, {size_mb:.0f} MB in {made_s:.1f} s", flush=True)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        check_s = take_time(lambda: db.execute("PRAGMA quick_check(1)").fetchall())
    print(f"figures: reading it for damage {check_s:.1f} s", flush=True)
    started_s = take_time(lambda: SqliteStore(path))
    print(f"figures: first start {started_s:.1f} s in all", flush=True)


if __name__ == "__main__":
    main()
