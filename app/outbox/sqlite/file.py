"""Opening the SQLite file: checked before it is touched, created whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull, StoreInUse
from app.outbox.people import hash_message_id, hash_person
from app.outbox.sqlite import migrations
from app.outbox.sqlite.sidecars import ProcessLock, wait_for_lock

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
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


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


# Nector gives up after 10 s. Who comes just after a write began to wait has waited for that one and then for his own.
BUSY_TIMEOUT_MS = 3_000
# Most commits change a row in each of twenty trees, and write the whole page of each, twice: 62 KB an event at 100/s,
# with SQLite's 4 KiB 105. With 1 KiB 40, but half as many write calls more. An older file keeps what it has.
PAGE_BYTES = 2_048
CHECKPOINT_BYTES = 16_000_000  # of the log; after 8 MB each, 0.5 write calls an event more
JOURNAL_LIMIT_BYTES = 24 * 1024 * 1024
CACHE_KIB = 16 * 1024
_MAGIC = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", ".reserve")
HEADER_BYTES, WRITE_VERSION_AT, ROLLBACK = 100, 18, 1  # of a file in WAL mode the write version is 2

# One damaged text must not keep a lane from its other rows; a message's checksum tells what is no longer as it was.
_read_text = partial(str, encoding="utf-8", errors="replace")

# FULL: with NORMAL, 1,571 of 2,000 simulated power cuts lost acknowledged rows; with FULL none of 20,000.
# secure_delete: what is wiped must not stay readable in free pages.
# mmap_size 0: an I/O error on mapped memory is a crash instead of an error code.
_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA mmap_size = 0",
    f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}",
    f"PRAGMA cache_size = -{CACHE_KIB}",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)


def prepare_place(path: Path) -> Path:
    """Make the file's folder, for us alone; return where the file really lies. Raises StoreBroken."""
    try:
        path = path.resolve()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        raise StoreBroken(f"the outbox's folder {path.parent} cannot be made: {error}") from error
    return path


def is_missing(path: Path) -> bool:
    """Tell whether there is no file where an outbox has been."""
    return not path.exists() and any(place.exists() for place in _list_traces(path))


def leave_trace(path: Path) -> None:
    """See to it that a later start can tell that an outbox was here."""
    with suppress(OSError):
        _list_traces(path)[0].touch(0o600)


def _list_traces(path: Path) -> list[Path]:
    """Return what tells of an outbox. The first is ours; no `rm relay.db*` or `rm *` takes it along."""
    return [path.with_name(f".{path.name}.made"), *(path.with_name(path.name + end) for end in _BESIDE)]


def open_writing(
    path: Path, lock: ProcessLock, set_aside: Callable[[int], None] = lambda _version: None
) -> sqlite3.Connection:
    """Check or create the database at `path` and return the one connection that may write it.

    Raises StoreBroken, and leaves the file as it is, if it is damaged, foreign or from a newer release; StoreInUse
    if another process holds it locked. `lock` holds the name; it gets the file, too. Before a file of an earlier schema
    is changed, `set_aside` is given its version.
    """
    try:
        if not path.exists():
            _create_file(path)
        lock.hold_file()
        _roll_back(path)
        check_file(path, lock)
        return _open_checked(path, set_aside)
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        failure = explain_failure(error) or error
        if isinstance(failure, StoreBusy):
            raise StoreInUse(f"{path}: {failure}; stop that one first") from error
        raise _name_file(path, failure) from error
    except StoreBroken as error:
        raise _name_file(path, error) from error


def open_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that sees every commit and can make none."""
    db = connect(path, "ro")
    add_functions(db)
    db.execute("PRAGMA query_only = ON")
    return db


def check_file(path: Path, lock: ProcessLock) -> None:
    """Read the whole database for damage, through a connection that cannot change it. Raises StoreBroken."""
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreBroken("cannot be read and written; check its owner and mode")
    _refuse_foreign(path, lock.read(HEADER_BYTES))
    with closing(connect(path, "ro")) as db:
        version = read_version(db)
        check_damage(db)
        if version >= KEYS_SINCE:
            read_key(db)


def check_damage(db: sqlite3.Connection) -> None:
    """Read the whole database. Raises StoreBroken if it is damaged."""
    found = [str(row[0]) for row in db.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise StoreBroken("is damaged; restore a backup, or rescue it with `sqlite3 FILE .recover`")


def _roll_back(path: Path) -> None:
    """Let SQLite undo what a kill or a power cut has interrupted; the check, which cannot write, would refuse the file.

    Only on its way into WAL mode has a file of ours such a journal: in its first start, or a restored backup's. The
    cut may have come while the header was written, so that alone does not tell ours from another's.
    """
    if path.with_name(f"{path.name}-journal").exists():
        with suppress(sqlite3.Error), closing(connect(path, "rw")) as db:  # the check will say what is wrong
            db.execute("PRAGMA user_version").fetchone()


def _refuse_foreign(path: Path, header: bytes) -> None:
    """Refuse what is no database (https://www.sqlite.org/fileformat.html), and a backup beside the log of another file.

    SQLite would write that log into it.
    """
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not header.startswith(_MAGIC):
        if has_log:
            return  # torn while the log was written back: SQLite reads the first page from the log then, or refuses it
        raise StoreBroken("is not an SQLite database; move it away or restore a backup")
    if header[WRITE_VERSION_AT] == ROLLBACK and has_log:
        raise StoreBroken(
            f"is a backup, but {log.name} beside it is the log of another file; move {log.name} and -shm away"
        )


def _create_file(path: Path) -> None:
    """Create the database aside and move it in place: an empty file is then never one of ours."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreBroken(f"is missing, but its log {log.name} is there: restore both, or move the log away")
    aside = path.with_name(f"{path.name}.new")
    for left in (aside, aside.with_name(f"{aside.name}-journal")):
        left.unlink(missing_ok=True)  # of a start that was killed; nothing was acknowledged from it
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(connect(aside, "rw")) as db:
        create_schema(db)
        migrate_schema(db)
    aside.rename(path)
    flush_file(path.parent)


def _open_checked(path: Path, set_aside: Callable[[int], None]) -> sqlite3.Connection:
    db = connect(path, "rw")
    try:
        for setting in (*_SETTINGS, f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // _pragma(db, 'page_size')}"):
            db.execute(setting).fetchall()
        _enter_wal(db)
        if (version := read_version(db)) < len(migrations.MIGRATIONS):
            set_aside(version)
            migrate_schema(db)
    except BaseException:
        db.close()
        raise
    return db


def _enter_wal(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreBroken("cannot be put into WAL mode; a network file system will not do")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection to a file that is there, to read it (`ro`) or to write it, too (`rw`)."""
    db = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        isolation_level=None,  # transactions are ours to begin
        check_same_thread=False,  # opened here, then used by one thread only
        cached_statements=512,
    )
    db.text_factory = _read_text
    wait_for_lock(db, BUSY_TIMEOUT_MS)
    return db


def flush_file(path: Path) -> None:
    """Flush a file to the disk, or a folder, from which a power cut may else take the name of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name_file(path: Path, error: Exception) -> StoreBroken:
    text = str(error).removeprefix("the outbox's file ")
    return StoreBroken(f"{path}: {text}")


# -- what SQLite's errors mean to us (https://www.sqlite.org/rescode.html) --------------------------

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
    if isinstance(error, MemoryError):  # SQLITE_NOMEM, too
        return StoreError("there is not enough memory to write it")
    if isinstance(error, UnicodeDecodeError):  # SQLite names what is damaged, and that name is damaged, too
        return StoreBroken(_DAMAGED)
    meaning = _MEANINGS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE)
    if meaning is None:
        return None
    kind, text = meaning
    return kind(f"{text} ({getattr(error, 'sqlite_errorname', '')})")
