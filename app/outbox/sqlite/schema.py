"""Making a file ours, and bringing one of an earlier release forward: the tables themselves are in migrations.py."""

from __future__ import annotations

import sqlite3

from app.errors import StoreBroken
from app.outbox.people import hash_message_id, hash_person
from app.outbox.sqlite import migrations

APPLICATION_ID = 0x4E524C59  # "NRLY", so that a foreign database is told apart
KEYS_SINCE = 3  # the version
STRICT_SINCE = (3, 37, 0)  # https://www.sqlite.org/stricttables.html


def read_version(db: sqlite3.Connection) -> int:
    """Return the schema version. Raises StoreBroken for a foreign database or one from a newer release."""
    foreign = "is a database, but not one of nector-relay; point RELAY_DATABASE_URL elsewhere"
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise StoreBroken(foreign)
    version = _pragma(db, "user_version")
    if version > len(migrations.MIGRATIONS):
        raise StoreBroken(
            f"was written by a newer nector-relay (schema {version}, this one knows {len(migrations.MIGRATIONS)}); "
            "start that release again"
        )
    return version


def read_key(db: sqlite3.Connection) -> bytes:
    """Return the key of this file. Raises StoreBroken if it is lost: nobody in it could be told from another."""
    found = db.execute("SELECT value FROM keys WHERE name = 'people'").fetchone()
    if found is None or not isinstance(found[0], bytes):
        raise StoreBroken("has lost the key by which it knows people; restore a backup")
    return found[0]


def create_schema(db: sqlite3.Connection) -> None:
    """Make an empty database ours, at version 0."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def find_outdated(db: sqlite3.Connection) -> int | None:
    """Return the version of a database that is to be migrated, None of one that is current. Raises StoreBroken."""
    version = read_version(db)
    return version if version < len(migrations.MIGRATIONS) else None


def migrate_schema(db: sqlite3.Connection) -> None:
    """Bring a database of ours to the newest version, each step in a transaction of its own."""
    add_functions(db)
    for version in range(read_version(db), len(migrations.MIGRATIONS)):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in split_statements(make_strict(migrations.MIGRATIONS[version], sqlite3.sqlite_version_info)):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def add_functions(db: sqlite3.Connection) -> None:
    """Give a connection the functions that migrations and queries call."""
    db.create_function("hash_person", 2, hash_person, deterministic=True)
    db.create_function("hash_message_id", 2, hash_message_id, deterministic=True)


def make_strict(script: str, sqlite_version: tuple[int, ...]) -> str:
    """Let SQLite hold column types, where it knows how to."""
    if sqlite_version < STRICT_SINCE:
        return script
    return script.replace("/*strict*/", "STRICT").replace("/*, strict*/", ", STRICT")


def split_statements(script: str) -> list[str]:
    """Cut a script into statements (executescript would commit the transaction it finds)."""
    statements: list[str] = []
    lines: list[str] = []
    for line in script.splitlines(keepends=True):
        lines.append(line)
        if line.split("--")[0].rstrip().endswith(";") and sqlite3.complete_statement("".join(lines)):
            statements.append("".join(lines))
            lines.clear()
    return statements


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
