"""The one thread that writes the file; of a batch whose commit fails it finds out whose fault it was."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.errors import StoreBroken, StoreBusy, StoreError, StoreFull
from app.outbox.batches import BATCH_LIMIT, QUEUE_LIMIT, BatchWriter, Waiting, fail
from app.outbox.move import write_counts
from app.outbox.sqlite.file import BUSY_TIMEOUT_MS, explain_failure, wait_for_lock
from app.outbox.sqlite.tx import SqliteTx
from app.outbox.store import run_together

# While another program keeps the file locked: once the first batch has waited in vain, the others only look.
IMPATIENT_MS = 100
RESERVE_BYTES = 1024 * 1024


class Reserve:
    """A file of 1 MiB that can be given up once and is taken again when there is space.

    On a full disk SQLite can neither insert, update nor delete; without this, sends that were under way could not be
    recorded as done and would be sent again after a restart.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        """Keep `size` bytes at `path`; nothing is written before `restore`."""
        self._path = path
        self._size = size
        self.whole = False

    def restore(self) -> bool:
        """Take the space; False if the disk has none."""
        try:
            if not self._path.exists() or self._path.stat().st_size < self._size:
                self._fill()
        except OSError:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)  # a part of it would only take the space away
            self.whole = False
            return False
        self.whole = True
        return True

    def release(self) -> bool:
        """Give the space up; False if it was given up before."""
        if not self.whole:
            return False
        self.whole = False
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return True

    def _fill(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            left = memoryview(os.urandom(self._size))  # not zeros: a compressing file system would keep no space
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Writer(BatchWriter):
    """Owns the writing connection from construction to `close`."""

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
        self.start()

    def _release(self) -> None:
        with suppress(sqlite3.Error):  # the write-ahead log stays then, and is read at the next start
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._db.close()

    def _settle_together(self, batch: Sequence[Waiting]) -> None:
        """Settle a batch; while the reserve is gone, what space is left belongs to outcomes."""
        admitted = [waiting for waiting in batch if waiting.essential]
        if len(admitted) < len(batch):
            if self._reserve.whole or self._reserve.restore():
                admitted = list(batch)
            else:
                _refuse_others(batch)
        if admitted:
            self._settle(admitted)

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
        db = self._db
        self._begin()
        try:
            tx = self._open_tx(db)
            results = run_together(tx, [waiting.job for waiting in batch])
            write_counts(tx)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite has rolled back by itself after some errors
                db.execute("ROLLBACK")
            raise
        self._watch()  # after the commit: what went into a file that is gone is not acknowledged
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result

    def _begin(self) -> None:
        """Take the file's lock. Raises SQLITE_BUSY, after BUSY_TIMEOUT_MS the first time and IMPATIENT_MS then."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if isinstance(explain_failure(error), StoreBusy) and not self._impatient:
                self._impatient = True
                wait_for_lock(self._db, IMPATIENT_MS)
            raise
        if self._impatient:
            self._impatient = False
            wait_for_lock(self._db, BUSY_TIMEOUT_MS)

    def _run_alone(self, waiting: Waiting) -> None:
        try:
            waiting.result = waiting.job(self._db)
        except Exception as error:  # noqa: BLE001 - as in _settle
            waiting.error = self._explain(error) or error

    def _explain(self, error: Exception) -> StoreError | None:
        failure = explain_failure(error)
        if isinstance(failure, StoreBroken):
            self.broken = failure
        return failure


def _refuse_others(batch: Sequence[Waiting]) -> None:
    fail([waiting for waiting in batch if not waiting.essential], StoreFull("the disk under the outbox is full"))
