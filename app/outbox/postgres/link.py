"""A connection that is opened when it is needed, and again when it broke: a database that is away is waited for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg

from app.clock import Clock
from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.batch import BatchWriter, Waiting, fail, run_together
from app.outbox.move import write_counts
from app.outbox.postgres.tx import CleanText, PostgresTx
from app.values.address import PostgresAddress

Connection: TypeAlias = psycopg.Connection[Any]
ReadNow: TypeAlias = Callable[[], int]

TRIES = 5  # of a transaction that met another one, so that the same again will do: what is there then is seen
_CONFLICTS = psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation
LONGEST_PAUSE_S = 0.05

LONGEST_WAIT_S = 4.0
# Through a pooler of transactions a session's settings are nobody's, so each transaction brings its own, in the
# round trip of its first statement. A peer that stopped in the middle of one must not keep a lane from the others, nor
# a lock a webhook.
_SETTINGS = """SELECT set_config('search_path', %s, true), set_config('jit', 'off', true),
set_config('lock_timeout', '5s', true), set_config('idle_in_transaction_session_timeout', '10s', true),
CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"""
_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
# A network that swallows everything is noticed within some 15 s.
_OPTIONS: Mapping[str, Any] = {
    "connect_timeout": 3,
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
    ("42883", StoreError, "a function is gone from the database; restart this replica, which makes it anew"),
    ("42P01", StoreError, "a table is gone from the database; put it back, or restore a dump"),
)


class DatabaseAway(StoreError):
    """The database cannot be reached at the moment."""


class DatabaseClock:
    """The database's time: a `Clock` that nobody can set is put right by each answer. A replica's own may be off."""

    def __init__(self, read_uptime: Clock) -> None:
        self.read_uptime = read_uptime
        self._ahead: int | None = None  # the database's time is so much more than the uptime

    def __call__(self) -> int:
        """Return now. Nothing is reckoned from it before the first answer."""
        return self.read_uptime() + (self._ahead or 0)

    def note(self, at: int, asked_at: int) -> None:
        """The database has shown `at`, some time after it was asked (by the uptime)."""
        least, most = at - self.read_uptime(), at - asked_at
        # No further than the answer proves: so a slow one puts nothing wrong.
        self._ahead = most if self._ahead is None else min(max(self._ahead, least), most)


class PostgresWriter(BatchWriter):
    """Owns a connection. Whoever waits longer than they can is not waited for: their job is not begun.

    `greet` is given each new connection before anybody uses it, outside a transaction. `reading`: each job is on one
    snapshot, and changes nothing. `limits`: of its queue and its batches, see BatchWriter.
    """

    def __init__(
        self,
        address: PostgresAddress,
        clock: DatabaseClock,
        greet: Callable[[Connection], None],
        open_tx: Callable[[Connection, ReadNow], PostgresTx],
        *limits: int,
        reading: bool = False,
    ) -> None:
        super().__init__(*limits)
        self.address, self._clock = address, clock
        self._greet, self._open_tx, self._reading = greet, open_tx, reading
        self._db: Connection | None = None
        self._is_answered = False  # of the transaction under way
        self._failures, self._not_before = 0, 0.0

    def transact(self, jobs: Sequence[Callable[[PostgresTx], Any]]) -> list[Any]:
        """Return what jobs make of one transaction, once that is committed. Raises StoreError, psycopg.Error.

        All goes through a pipeline: what nobody waits for leaves with whatever is asked next.
        """
        is_new = self._db is None
        try:
            return self._transact_once(self._open(), jobs)
        except Exception as error:
            if is_new or self._is_answered or not is_away(error):
                raise  # else it broke while nobody used it
        return self._transact_once(self._open(), jobs)

    def _transact_once(self, db: Connection, jobs: Sequence[Callable[[PostgresTx], Any]]) -> list[Any]:
        asked_at, self._is_answered = self._clock.read_uptime(), False
        failure: BaseException | None = None

        def read_now() -> int:
            now = int(begun.fetchall()[0][-1])
            self._is_answered = True
            self._clock.note(now, asked_at)
            return now

        try:
            with db.pipeline():
                try:
                    begun = begin(db, self.address.schema, reading=self._reading)
                    tx = self._open_tx(db, read_now)
                    results = run_together(tx, jobs)
                    write_counts(tx)
                    db.execute("COMMIT")
                except BaseException as error:  # noqa: BLE001  # raised below: the pipeline's end would log a second one
                    failure = error
        except psycopg.Error as error:
            failure = failure or error
        if failure is None:
            if not self._is_answered:
                read_now()
            return results
        if isinstance(failure, Exception) and is_away(failure):
            self.drop()
        else:
            self._end(db)
        raise failure

    def _end(self, db: Connection) -> None:
        """Leave no transaction open, whatever became of it."""
        try:
            db.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()

    def drop(self) -> None:
        """Close the connection; the next one is opened when it is needed."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(psycopg.Error):
                db.close()

    _release = drop

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

    def _settle_together(self, batch: Sequence[Waiting], tries: int = TRIES) -> None:
        wanted = [waiting for waiting in batch if not waiting.future.cancelled()]
        try:
            results = self.transact([waiting.job for waiting in wanted]) if wanted else ()
        except Exception as error:  # noqa: BLE001 - whatever a job raised belongs to its caller, not to this thread
            failure = explain_failure(error)
            if isinstance(error, _CONFLICTS) and tries > 1:
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))  # noqa: S311  # jitter
                self._settle_together(wanted, tries - 1)
            elif len(wanted) == 1 or is_away(error) or (failure is not None and failure is not error):
                fail(wanted, failure or error)
            else:
                for waiting in wanted:
                    self._settle_together([waiting])
        else:
            for waiting, result in zip(wanted, results, strict=True):
                waiting.result = result


def connect(address: PostgresAddress) -> Connection:
    """Return a new connection. Nothing is prepared on it: a pooler would give the next statement another one.

    https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
    """
    db = psycopg.connect(address.url, autocommit=True, prepare_threshold=None, **_OPTIONS)
    db.adapters.register_dumper(str, CleanText)
    return db


def begin(db: Connection, schema: str, *, reading: bool = False) -> psycopg.Cursor[Any]:
    """Begin a transaction in a schema; the last column of the answer is the database's time."""
    db.execute(_READ_ONLY if reading else _WRITING)
    return db.execute(_SETTINGS, (f'"{schema}"',))


def is_away(error: Exception) -> bool:
    """Tell whether a failure means that the connection is of no use any more."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, DatabaseAway)
    if error.sqlstate is None:  # of the client's own: lost on the way, or never made
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_AWAY)


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
