"""The store in one SQLite file: one process, one writing connection, no server to look after."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from app.clock import Clock, read_clock
from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.batch import BATCH_LIMIT, QUEUE_LIMIT, BatchWriter, Waiting, fail, run_together
from app.outbox.move import write_counts, write_unwritten
from app.outbox.sqlite.backup import Migration, set_aside
from app.outbox.sqlite.file import (
    BUSY_TIMEOUT_MS,
    explain_failure,
    is_missing,
    leave_trace,
    open_reading,
    open_writing,
    prepare_place,
    read_key,
)
from app.outbox.sqlite.sidecars import ProcessLock, Reserve, clear_gaps, wait_for_lock
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.store import Job, Tx

T = TypeVar("T")

COMMIT_TIMEOUT_S = 2.0
_COUNT_COMMIT = "UPDATE commits SET n = n + 1"
# While another program keeps the file locked: once the first batch has waited in vain, the others only look.
IMPATIENT_MS = 100
# A backup or a report reads the log now and then: it is waited for, and not by the thread that writes.
LOG_TRIES, LOG_AGAIN_S = 25, 0.2


class Reader:
    """Owns a read-only connection from construction to `close`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Start the thread on its first use. `db` must allow use from another thread."""
        self._db = db
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox-reader")
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on one snapshot and return its value. Raises StoreError."""
        if self._closed:
            raise StoreError("the outbox is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, query)

    async def close(self) -> None:
        """Let the query under way end and close the connection. May be called again."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._db.execute("BEGIN")
            try:
                return query(self._db)
            finally:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            failure = explain_failure(error)
            if failure is None:
                raise
            raise failure from error


class LateReader:
    """A reader for what may take seconds, so that nothing else waits for it. Opens the file when it is first asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` after those that were asked before; see Reader."""
        if self._closed:
            raise StoreError("the outbox is closed")
        if self._reader is None:
            try:
                self._reader = Reader(open_reading(self._path))
            except sqlite3.Error as error:  # too many files are open, perhaps: the next one tries again
                raise StoreError("the outbox cannot be opened once more at the moment") from error
        return await self._reader.run(query)

    async def close(self) -> None:
        """See Reader. Opens the file no more."""
        self._closed = True
        if self._reader is not None:
            await self._reader.close()


class Writer(BatchWriter):
    """Owns the writing connection from construction to `close`."""

    # With nothing to do they are over at once; on a busy loop 50 jobs share a commit and not 25. Where other threads
    # want the interpreter, too, as PostgreSQL's do, each turn may wait for it.
    turns = 8

    def __init__(
        self,
        db: sqlite3.Connection,
        reserve: Reserve,
        begin: Callable[[sqlite3.Connection], SqliteTx],
        queue_limit: int = QUEUE_LIMIT,
        batch_limit: int = BATCH_LIMIT,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the thread. `db` must allow use from another thread and have no transaction open.

        `begin` returns what the jobs of a transaction are given. `watch` raises StoreBroken when the file is no longer
        the one that everybody else sees.
        """
        super().__init__(queue_limit, batch_limit)
        self._db = db
        self._open_tx = begin
        self._watch = watch
        self._reserve = reserve
        self._impatient = False
        self._begun: bool | Exception = False  # a batch was run on the loop and is still to be committed, or failed
        wait_for_lock(db, 0)  # so long waits the loop
        self.start()

    def _release(self) -> None:
        with suppress(sqlite3.Error):  # the write-ahead log stays then, and is read at the next start
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._db.close()

    def _prepare(self, batch: Sequence[Waiting]) -> None:
        """Run a batch of short jobs here, and leave the commit to the thread.

        With a second core free, a thread that runs statements would fight with the loop for the interpreter at each.
        While the file is locked, or the disk full, the thread does it all.
        """
        if not (batch and self._reserve.whole and all(isinstance(waiting.job, Job) for waiting in batch)):
            return
        if self._impatient or self.broken is not None:
            return
        try:
            self._open_transaction()
        except (sqlite3.Error, MemoryError):
            return
        try:
            self._run(batch, unwritten=[])
            self._begun = True
        except Exception as error:  # noqa: BLE001 - the thread goes on as if it had run them
            self._begun = error
            with suppress(sqlite3.Error):
                self._roll_back()

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        """Settle a batch; while the reserve is gone, what space is left belongs to outcomes."""
        if not self._reserve.whole:
            admitted = [waiting for waiting in batch if waiting.essential]
            if len(admitted) < len(batch) and not self._reserve.restore():
                _refuse_others(batch)
                batch = admitted
        if batch:
            self._settle(batch)

    def _settle(self, batch: Sequence[Waiting]) -> None:
        """Give each of the batch its result or its error."""
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever a job raised belongs to its caller, not to this thread
            failure = self._explain(error)
            if isinstance(failure, StoreFull):
                self._settle_on_full_disk(batch, failure)
            elif failure is not None or len(batch) == 1:
                fail(batch, failure or error)
            else:
                for waiting in batch:
                    self._settle([waiting])

    def _settle_on_full_disk(self, batch: Sequence[Waiting], failure: StoreFull) -> None:
        """Record outcomes at any price: give up the reserve, and try them once more."""
        outcomes = [waiting for waiting in batch if waiting.essential]
        others = [waiting for waiting in batch if not waiting.essential]
        # With others in the batch, perhaps it was those that did not fit.
        if outcomes and (others or self._reserve.release()):
            self._settle(outcomes)
        else:
            fail(outcomes, failure)
        if len(batch) == 1 or not self._reserve.whole:
            fail(others, failure)
        else:
            for waiting in others:
                self._settle([waiting])

    def _transact(self, batch: Sequence[Waiting]) -> None:
        if self.broken is not None:
            raise StoreBroken(str(self.broken))
        begun, self._begun = self._begun, False
        if isinstance(begun, Exception):
            raise begun
        try:
            if not begun:
                self._take_lock()
                self._run(batch)
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._watch()  # after the commit: what went into a file that is gone is not acknowledged

    def _run(self, batch: Sequence[Waiting], unwritten: list[dict[str, Any]] | None = None) -> None:
        tx = self._open_tx(self._db)
        tx.unwritten = unwritten
        results = run_together(tx, [waiting.job for waiting in batch])
        if unwritten:
            write_unwritten(tx)
        write_counts(tx)
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # SQLite has rolled back by itself after some errors
            self._db.execute("ROLLBACK")

    def _take_lock(self) -> None:
        """Take the file's lock. Raises SQLITE_BUSY, after BUSY_TIMEOUT_MS the first time and IMPATIENT_MS then."""
        wait_for_lock(self._db, IMPATIENT_MS if self._impatient else BUSY_TIMEOUT_MS)
        try:
            self._open_transaction()
        except sqlite3.Error as error:
            self._impatient = isinstance(explain_failure(error), StoreBusy)
            raise
        finally:
            wait_for_lock(self._db, 0)
        self._impatient = False

    def _open_transaction(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _run_alone(self, waiting: Waiting) -> None:
        wait_for_lock(self._db, BUSY_TIMEOUT_MS)
        try:
            waiting.result = waiting.job(self._db)
        except Exception as error:  # noqa: BLE001 - as in _settle
            waiting.error = self._explain(error) or error
        finally:
            wait_for_lock(self._db, 0)

    def _explain(self, error: Exception) -> StoreError | None:
        failure = explain_failure(error)
        if isinstance(failure, StoreBroken):
            self.broken = failure
        return failure


def _refuse_others(batch: Sequence[Waiting]) -> None:
    fail([waiting for waiting in batch if not waiting.essential], StoreFull("the disk under the outbox is full"))


class SqliteStore:
    """A `Store`.

    Blocks while it opens: it reads the whole file for damage. Raises StoreInUse if another process has it,
    StoreBroken if it is damaged, foreign, from a newer release or cannot be used.
    """

    fleet = None

    def __init__(self, path: Path, clock: Clock = read_clock, queue_limit: int = QUEUE_LIMIT) -> None:
        """Open or create the database at `path`."""
        path = self.path = prepare_place(path)
        self.was_missing = is_missing(path)
        self.migration: Migration | None = None
        self._clock = clock
        self._lock = ProcessLock(path)
        with ExitStack() as undo:
            undo.callback(self._lock.close)  # last, as POSIX wants it
            db = open_writing(path, self._lock, self._set_aside)
            undo.callback(db.close)
            self._reader = Reader(open_reading(path))
            undo.pop_all()
        leave_trace(path)
        self._late_reader = LateReader(path)
        reserve = Reserve(path.with_name(f"{path.name}.reserve"))
        reserve.restore()
        self._people_key = read_key(db)
        self._writer = Writer(db, reserve, self._begin, queue_limit, watch=self._lock.watch)

    @property
    def broken(self) -> StoreBroken | None:
        """Return the error that ended this store's use; the process must then end, too (exit 74)."""
        return self._writer.broken

    def write(self, job: Callable[[Tx], T], *, essential: bool = False) -> Awaitable[T]:
        """See Store. Raises StoreBusy, StoreFull, StoreBroken, or what the job raised."""
        return self._writer.run(job, essential=essential)

    async def read(self, query: Callable[[Tx], T], *, slow: bool = False) -> T:
        """See Store."""
        reader = self._late_reader if slow else self._reader
        return await reader.run(lambda db: query(self._begin(db)))

    async def can_commit(self) -> bool:
        """See Store."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._writer.run(lambda tx: tx.run(_COUNT_COMMIT))
        except (StoreError, TimeoutError):
            return False
        return True

    async def empty_log(self) -> bool:
        """See Store. Write the log back and truncate it, and overwrite what SQLite has left in the file's pages."""
        page, tries = 0, 0
        while tries < LOG_TRIES:
            after = await self._writer.run_alone(partial(self._clear_gaps, first=page))
            if after == 0:
                return True
            if after is None:
                tries += 1
                await asyncio.sleep(LOG_AGAIN_S)
            else:
                page, tries = after, 0
        return False

    async def close(self) -> None:
        """See Store."""
        await self._reader.close()
        await self._late_reader.close()
        await self._writer.close()
        self._lock.close()

    def _set_aside(self, version: int) -> None:
        self.migration = set_aside(self.path, version, self._clock())

    def _clear_gaps(self, db: sqlite3.Connection, first: int) -> int | None:
        return clear_gaps(db, self._lock, self.path.with_name(f"{self.path.name}-wal"), first)

    def _begin(self, db: sqlite3.Connection) -> SqliteTx:
        return SqliteTx(db, self._clock(), self._people_key)
