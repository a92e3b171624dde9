"""What SQLite's errors mean to us (result codes: https://www.sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull

_DAMAGED = "the outbox's file is damaged; restore a backup"
_PRIMARY_CODE = 0xFF  # extended codes keep the primary one in the low byte

_MEANINGS: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "the disk under the outbox is full; free some space"),
    sqlite3.SQLITE_BUSY: (StoreBusy, "another program holds the outbox's file locked"),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "another program holds the outbox's file locked"),
    sqlite3.SQLITE_IOERR: (StoreBroken, "the disk under the outbox fails"),
    sqlite3.SQLITE_CORRUPT: (StoreBroken, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (StoreBroken, "the outbox's file is not a database; restore a backup"),
    sqlite3.SQLITE_READONLY: (StoreBroken, "the outbox's file cannot be written; check its owner, mode and mount"),
    sqlite3.SQLITE_CANTOPEN: (StoreBroken, "the outbox's file cannot be opened; check its folder, owner and mode"),
    sqlite3.SQLITE_PERM: (StoreBroken, "the outbox's file may not be used; check its owner and mode"),
}


def explain_failure(error: Exception) -> StoreError | None:
    """Return what a failure says about the store; None if it is about one job only (a constraint, a bug)."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, UnicodeDecodeError):  # SQLite names what is damaged, and that name is damaged, too
        return StoreBroken(_DAMAGED)
    meaning = _MEANINGS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE)
    if meaning is None:
        return None
    kind, text = meaning
    return kind(f"{text} ({getattr(error, 'sqlite_errorname', '')})")
