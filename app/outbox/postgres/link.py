"""A connection that is opened when it is needed, and again when it broke: a database that is away is waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.postgres.clock import DatabaseClock
from app.outbox.postgres.tx import CleanText
from app.values.address import PostgresAddress

Connection: TypeAlias = psycopg.Connection[Any]

CONNECT_TIMEOUT_S = 3
LONGEST_WAIT_S = 4.0
# A peer that stopped in the middle of a transaction must not keep a lane from the others, nor a lock a webhook.
_LOCK_TIMEOUT_MS, _IDLE_TIMEOUT_MS = 5_000, 10_000
# Through a pooler of transactions a session's settings are nobody's, so each transaction brings its own; all in the one
# round trip that begins it.
_BEGIN = """BEGIN {mode}; SELECT set_config('search_path', '{schema}', true),
set_config('lock_timeout', '{lock}', true), set_config('idle_in_transaction_session_timeout', '{idle}', true),
CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"""
_READ_ONLY = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITING = "ISOLATION LEVEL READ COMMITTED READ WRITE"
# A network that swallows everything is noticed within some 15 s.
_OPTIONS = {
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "application_name": "nector-relay",
}
_AWAY = ("08", "57P", "53300", "25006", "25P03")
"""Whose connection is of no use any more: it broke, the server goes down or takes no more, or is a standby by now."""
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("53100", StoreFull, "the disk under the database is full; free some space there"),
    ("53", StoreError, "the database has not enough of something"),
    ("55P03", StoreBusy, "somebody else keeps a lock in the database"),
    ("40", StoreBusy, "others write the same in the database at the moment"),
    ("42501", StoreError, "the database's user may not do that; make it the owner of the schema"),
    ("3F", StoreError, "the schema is gone from the database; put it back, or restore a dump"),
    ("42P01", StoreError, "a table is gone from the database; put it back, or restore a dump"),
)


class DatabaseAway(StoreError):
    """The database cannot be reached at the moment."""


class Link:
    """One connection to `address`. `greet` is given each new one before anybody uses it, outside a transaction."""

    def __init__(self, address: PostgresAddress, clock: DatabaseClock, greet: Callable[[Connection], None]) -> None:
        self.address = address
        self._clock = clock
        self._greet = greet
        self._db: Connection | None = None
        self._failures = 0
        self._not_before = 0.0

    def begin(self, *, reading: bool = False) -> tuple[Connection, int]:
        """Begin a transaction; return the connection, and the database's time. Raises StoreError, psycopg.Error."""
        if self._db is not None:
            try:
                return self._db, self._begin(self._db, reading=reading)
            except psycopg.Error:
                self.drop()  # it broke while nobody used it: nothing was asked through it yet
        return self._open(), self._begin(self._open(), reading=reading)

    def end(self, db: Connection) -> None:
        """Leave no transaction open, whatever became of it."""
        try:
            db.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """Close the connection; the next one is opened when it is needed."""
        if self._db is not None:
            with suppress(psycopg.Error):
                self._db.close()
            self._db = None

    def _open(self) -> Connection:
        if self._db is not None:
            return self._db
        if time.monotonic() < self._not_before:
            raise DatabaseAway(f"the database {self.address.place} is away")
        try:
            db = connect(self.address)
            try:
                self._greet(db)
            except BaseException:
                db.close()
                raise
        except (psycopg.Error, StoreError) as error:
            self._failures += 1
            # Not all replicas at once, and not all of the time.
            self._not_before = time.monotonic() + random.uniform(0.1, min(0.2 * 2**self._failures, LONGEST_WAIT_S))  # noqa: S311  # jitter
            failure = explain_failure(error)
            # A server that may not be used by now ends no process that runs: it may be another one tomorrow.
            raise StoreError(str(error)) if isinstance(failure, StoreBroken) else failure or error from error
        self._failures, self._db = 0, db
        return db

    def _begin(self, db: Connection, *, reading: bool) -> int:
        asked_at = self._clock.read_uptime()
        now = begin(db, self.address.schema, _READ_ONLY if reading else _WRITING)
        self._clock.note(now, asked_at)
        return now


def connect(address: PostgresAddress) -> Connection:
    """Return a new connection. Nothing is prepared on it: a pooler would give the next statement another one."""
    options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, **_OPTIONS}
    db = psycopg.connect(address.url, autocommit=True, prepare_threshold=None, **options)
    db.adapters.register_dumper(str, CleanText)
    return db


def begin(db: Connection, schema: str, mode: str = _WRITING) -> int:
    """Begin a transaction in a schema; return the database's time."""
    cursor = db.execute(_BEGIN.format(mode=mode, schema=schema, lock=_LOCK_TIMEOUT_MS, idle=_IDLE_TIMEOUT_MS))
    while cursor.nextset():
        pass
    (row,) = cursor.fetchall()
    return int(row[-1])


def is_away(error: Exception) -> bool:
    """Tell whether a failure means that the connection is of no use any more."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, DatabaseAway)
    if error.sqlstate is None:  # of the client's own: lost on the way, or never made
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_AWAY)


def is_conflict(error: Exception) -> bool:
    """Tell whether a transaction met another one, so that the same again will do: what is there then is seen."""
    met = psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation
    return isinstance(error, met)


def explain_failure(error: Exception) -> StoreError | None:
    """Return what a failure says about the database; None if it is about one job only (a constraint, a bug)."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, MemoryError):
        return StoreError("there is not enough memory to write it")
    state = getattr(error, "sqlstate", None) or ""
    if is_away(error):
        why = str(error).strip().splitlines()[:1]  # of a connection: it names the host and the user, and no value
        return DatabaseAway(f"the database is away ({state or ''.join(why)[:200]})")
    for prefix, kind, text in _MEANINGS:
        if state.startswith(prefix):
            return kind(f"{text} ({state})")
    return None
