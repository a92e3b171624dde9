"""The child of test_migrations.py: migrates a file, and is killed in the middle of it.

Run as `python -m tests.faults.storage.migrating DATABASE careful|careless`.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from app.outbox.sqlite import file as opening
from app.outbox.sqlite import migrations, sidecars


def migrate_without_transaction(db: sqlite3.Connection) -> None:
    opening.add_functions(db)
    for version in range(opening.read_version(db), len(migrations.MIGRATIONS)):
        for statement in opening.split_statements(opening.make_strict(migrations.MIGRATIONS[version], (3, 40))):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version + 1}")


if __name__ == "__main__":
    if sys.argv[2] == "careless":
        setattr(opening, "migrate_schema", migrate_without_transaction)  # noqa: B010  # as the file finds it
    path = Path(sys.argv[1])
    opening.open_writing(path, sidecars.ProcessLock(path)).close()
